#!/usr/bin/env bash
# min.insync.replicas above the number of replicas refuses nothing.
#
# Apache Kafka 4.3.1, one node. A topic with one replica and min.insync.replicas=2 (and another with 5) takes a record
# with acks=all, although a second copy can never be there: the broker compares the replicas in sync with the smaller
# one of the setting and the number of replicas. So the setting alone does not promise two copies, and a topic that
# was made with too few replicas by mistake is not noticed. One would expect NOT_ENOUGH_REPLICAS.
# Source: KAFKA-15583, and run by this script. It fails if the behaviour changes.

. "$(dirname "$0")/kafka.sh"
start_kafka 4.3.1

for least in 2 5; do
    kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic "least-$least" \
        --partitions 1 --replication-factor 1 --config "min.insync.replicas=$least"
    echo one | kafka org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$address" --topic "least-$least" \
        --command-property acks=all
    expect "least-$least:0:1" \
        "$(kafka org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$address" --topic "least-$least")"
done
