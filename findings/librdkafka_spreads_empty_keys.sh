#!/usr/bin/env bash
# librdkafka's default partitioner spreads messages with an empty key over all partitions.
#
# librdkafka 2.16.1, by confluent-kafka for Python, against its own mock cluster. A key of one byte goes to one
# partition; an empty key goes to all, as if it were null, with partitioner=consistent_random, which is the default.
# Java's default partitioner hashes an empty key as any other: there such messages are in one partition and in order.
# Source: CONFIGURATION.md of librdkafka, what is in brackets at "partitioner"; run by this script. It fails if the behaviour changes.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.16.1

"$folder/venv/bin/python" - >"$folder/seen" <<'EOF'
from confluent_kafka import Producer

# Without the pause in which keyless messages stay with one partition.
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "127.0.0.1", "sticky.partitioning.linger.ms": 0})
for name, key in ("one byte", b"k"), ("empty", b""), ("null", None):
    seen = set()
    for _ in range(1000):
        producer.produce("t", b"v", key, on_delivery=lambda error, message: seen.add(message.partition()))
    assert producer.flush(60) == 0
    print(f"{name}: {'one partition' if len(seen) == 1 else 'all partitions' if len(seen) == 4 else seen}")
EOF
cat "$folder/seen"
diff - "$folder/seen" <<'EOF'
one byte: one partition
empty: all partitions
null: all partitions
EOF
