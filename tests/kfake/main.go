// A kfake cluster (franz-go's fake Kafka) with three brokers, and a franz-go consumer that reads from it.
//
// Prints the brokers' addresses in the first line. Each line of the input, `TOPIC COUNT`, is answered with so many
// records of that topic, from its beginning, and an empty line. Ends with its input. Topics are made with the first
// message, with three partitions. With the argument `sasl` the brokers let in admin with the password secret only.
//
// A record is `partition offset timestamp key value header=value header=value ...`. Bytes are hexadecimal with an x in
// front, so that null is the empty word and nothing is x.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

func main() {
	options := []kfake.Opt{kfake.NumBrokers(3), kfake.DefaultNumPartitions(3), kfake.AllowAutoTopicCreation()}
	reader := []kgo.Opt{}
	if len(os.Args) > 1 && os.Args[1] == "sasl" {
		options = append(options, kfake.EnableSASL())
		for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
			options = append(options, kfake.Superuser(mechanism, "admin", "secret"))
		}
		reader = append(reader, kgo.SASL(plain.Auth{User: "admin", Pass: "secret"}.AsMechanism()))
	}
	cluster, err := kfake.NewCluster(options...)
	check(err)
	defer cluster.Close()
	fmt.Println(strings.Join(cluster.ListenAddrs(), ","))
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		var topic string
		var count int
		_, err := fmt.Sscan(input.Text(), &topic, &count)
		check(err)
		read(reader, cluster.ListenAddrs(), topic, count)
	}
}

// Prints exactly count records, or fails: none may be missing, none too many.
func read(options []kgo.Opt, addresses []string, topic string, count int) {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(addresses...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	check(err)
	defer client.Close()
	output := bufio.NewWriter(os.Stdout)
	found := poll(client, output, count, 30*time.Second)
	found += poll(client, output, 1, 200*time.Millisecond)
	if found != count {
		check(fmt.Errorf("%d records in %s, not %d", found, topic, count))
	}
	fmt.Fprintln(output)
	check(output.Flush())
}

// Prints records until there are at least count, or the time is over.
func poll(client *kgo.Client, output *bufio.Writer, count int, limit time.Duration) int {
	context, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	found := 0
	for found < count && context.Err() == nil {
		client.PollFetches(context).EachRecord(func(record *kgo.Record) {
			fmt.Fprintf(output, "%d %d %d %s %s", record.Partition, record.Offset, record.Timestamp.UnixMilli(),
				word(record.Key), word(record.Value))
			for _, header := range record.Headers {
				fmt.Fprintf(output, " %s=%s", word([]byte(header.Key)), word(header.Value))
			}
			fmt.Fprintln(output)
			found++
		})
	}
	return found
}

func word(bytes []byte) string {
	if bytes == nil {
		return ""
	}
	return "x" + hex.EncodeToString(bytes)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
