#!/usr/bin/env bash
# kfake ends the connection on a wrong password, and says nothing.
#
# kfake of franz-go, v0.0.0-20260918054303-01f206a7e32c, with the client v1.22.3; PLAIN, SCRAM-SHA-256 and
# SCRAM-SHA-512. Since KIP-152 a broker answers SaslAuthenticate with code 58 and a text, and closes then; Apache Kafka
# 4.3.1 does so. kfake closes without an answer, so a client sees the end of the stream, and a test against kfake cannot
# tell a wrong password from a broken connection.
# Source: run by this script. It fails if the behaviour changes. Needs Go 1.26.

set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
cat >main.go <<'EOF'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func main() {
	changed := false
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		right, wrong := login(mechanism, "secret"), login(mechanism, "another")
		silent := errors.Is(wrong, io.EOF) && !errors.Is(wrong, kerr.SaslAuthenticationFailed)
		fmt.Printf("%s: right password: %v; wrong password: %v\n", mechanism, right, wrong)
		changed = changed || right != nil || !silent
	}
	if changed {
		os.Exit(1)
	}
}

func login(mechanism, password string) error {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "admin", "secret"))
	if err != nil {
		return err
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.SASL(by(mechanism, password)))
	if err != nil {
		return err
	}
	defer client.Close()
	within, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return client.Ping(within)
}

func by(mechanism, password string) sasl.Mechanism {
	switch mechanism {
	case "SCRAM-SHA-256":
		return scram.Auth{User: "admin", Pass: password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: "admin", Pass: password}.AsSha512Mechanism()
	}
	return plain.Auth{User: "admin", Pass: password}.AsMechanism()
}
EOF
{
    go mod init kfake_closes
    go get github.com/twmb/franz-go@v1.22.3 github.com/twmb/franz-go/pkg/kfake@v0.0.0-20260918054303-01f206a7e32c
    go mod tidy
} >log 2>&1 || { cat log; exit 1; }
go run .
