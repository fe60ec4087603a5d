#!/usr/bin/env bash
# A Produce request that names a partition twice loses the first batch, and reports success.
#
# Apache Kafka 4.3.1, one node. One request, two entries for the same partition, one record in each. The answer has
# one entry, without an error, with base offset 0. The log has one record, the second. The protocol does not say that
# a partition may be named only once.
# Source: run by this script. It fails if the behaviour changes.

. "$(dirname "$0")/kafka.sh"
start_kafka 4.3.1
kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic t --partitions 1

cat >"$folder/Twice.java" <<'E2'
import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.requests.*;

class Twice {
    public static void main(String[] address) throws Exception {
        var topic = new ProduceRequestData.TopicProduceData().setName("t");
        for (var value : List.of("first", "second")) {
            var records = MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(value.getBytes()));
            topic.partitionData().add(new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records));
        }
        var topics = new ProduceRequestData.TopicProduceDataCollection(List.of(topic).iterator());
        var data = new ProduceRequestData().setAcks((short) -1).setTimeoutMs(10_000).setTopicData(topics);
        var header = new RequestHeader(ApiKeys.PRODUCE, (short) 12, "findings", 1);
        var request = new ProduceRequest(data, (short) 12).serializeWithHeader(header);
        try (var socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            var out = new DataOutputStream(socket.getOutputStream());
            out.writeInt(request.remaining());
            out.write(request.array(), request.position(), request.remaining());
            var in = new DataInputStream(socket.getInputStream());
            var bytes = ByteBuffer.wrap(in.readNBytes(in.readInt()));
            var answer = (ProduceResponse) AbstractResponse.parseResponse(bytes, header);
            for (var entry : answer.data().responses().iterator().next().partitionResponses()) {
                System.out.println(Errors.forCode(entry.errorCode()) + " at " + entry.baseOffset());
            }
        }
    }
}
E2
expect 'NONE at 0' "$(kafka "$folder/Twice.java" ${address/:/ })"
expect 't:0:1' "$(kafka org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$address" --topic t)"
expect 'second' "$(kafka org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$address" --topic t \
    --from-beginning --max-messages 1 2>"$folder/errors")"
