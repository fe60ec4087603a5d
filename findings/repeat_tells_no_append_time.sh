#!/usr/bin/env bash
# The answer to a repeated batch has an append time on a topic that keeps none.
#
# Apache Kafka 4.3.1, one node. A topic with message.timestamp.type=CreateTime, the default. An idempotent batch of
# three records is produced: log_append_time is -1, as the protocol says for such a topic. The same batch again, as
# after a lost answer: no error, the same base offset, and log_append_time is the greatest create time in the batch. A
# client that takes log_append_time for the time of each record, when it is not -1, tells two wrong times.
# Source: run by this script. It fails if the behaviour changes.

. "$(dirname "$0")/kafka.sh"
start_kafka 4.3.1
kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic t --partitions 1

cat >"$folder/Repeat.java" <<'EOF'
import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.requests.*;

class Repeat {
    public static void main(String[] address) throws Exception {
        long now = System.currentTimeMillis();
        var records = MemoryRecords.withIdempotentRecords(Compression.NONE, 1000, (short) 0, 0,
            new SimpleRecord(now, null, "one".getBytes()),
            new SimpleRecord(now + 7, null, "two".getBytes()),
            new SimpleRecord(now + 3, null, "three".getBytes()));
        for (var time : List.of("first", "again")) {
            var answer = produce(address, records);
            var append = answer.logAppendTimeMs() == now + 7 ? "that of the second" : answer.logAppendTimeMs();
            System.out.printf("%s: %s at %d, append time %s%n", time, Errors.forCode(answer.errorCode()),
                answer.baseOffset(), append);
        }
    }

    // One Produce request for partition 0, with acks=all; its answer.
    static ProduceResponseData.PartitionProduceResponse produce(String[] address, MemoryRecords records)
            throws Exception {
        var partition = new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records);
        var topic = new ProduceRequestData.TopicProduceData().setName("t").setPartitionData(List.of(partition));
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
            return answer.data().responses().iterator().next().partitionResponses().get(0);
        }
    }
}
EOF
expect 'first: NONE at 0, append time -1
again: NONE at 0, append time that of the second' "$(kafka "$folder/Repeat.java" ${address/:/ })"
