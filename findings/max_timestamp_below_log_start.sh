#!/usr/bin/env bash
# ListOffsets for the greatest timestamp can name an offset that was deleted.
#
# Apache Kafka 4.3.1, one node. One record; DeleteRecords up to offset 1, so that the log starts, and ends, at 1.
# Asked for the offset of the record with the greatest timestamp (-3, KIP-734), the broker says 0, which is below the
# log's start: to read from there is OFFSET_OUT_OF_RANGE. For a time (-1, -2 and 0 or more) it does look at the start.
# Source: run by this script. It fails if the behaviour changes.

. "$(dirname "$0")/kafka.sh"
start_kafka 4.3.1

kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic t --partitions 1
echo one | kafka org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$address" --topic t
echo '{"version": 1, "partitions": [{"topic": "t", "partition": 0, "offset": 1}]}' >"$folder/delete.json"
kafka org.apache.kafka.tools.DeleteRecordsCommand --bootstrap-server "$address" --offset-json-file "$folder/delete.json"
offset() {
    kafka org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$address" --topic t --time "$1"
}
expect 'earliest t:0:1, latest t:0:1, greatest timestamp t:0:0' \
    "earliest $(offset earliest), latest $(offset latest), greatest timestamp $(offset max-timestamp)"
