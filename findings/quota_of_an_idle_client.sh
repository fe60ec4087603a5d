#!/usr/bin/env bash
# A quota lets a client that was idle write ten seconds' worth at once.
#
# Apache Kafka 4.3.1, one node, with its default quota windows (11 of one second). Clients may produce 10,000 bytes a
# second. A first request of 100 KB is answered without a silence; another client's first of 200 KB with one of about
# ten seconds. One would expect ten and twenty seconds. So a test of quotas that sends less than ten times the rate sees none.
# Source: run by this script. It fails if the behaviour changes.

. "$(dirname "$0")/kafka.sh"
start_kafka 4.3.1
kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic t --partitions 1
kafka kafka.admin.ConfigCommand --bootstrap-server "$address" --alter --entity-type clients --entity-default \
    --add-config producer_byte_rate=10000

cat >"$folder/Quota.java" <<'EOF'
import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.requests.*;

class Quota {
    public static void main(String[] address) throws Exception {
        for (int size : List.of(100_000, 200_000)) {
            var records = MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(new byte[size]));
            System.out.printf("%d bytes: %d s of silence%n", size, produce(address, "client " + size, records) / 1000);
        }
    }

    // One Produce request for partition 0, with acks=all; the silence it asks for, in ms.
    static int produce(String[] address, String client, MemoryRecords records) throws Exception {
        var partition = new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records);
        var topic = new ProduceRequestData.TopicProduceData().setName("t").setPartitionData(List.of(partition));
        var topics = new ProduceRequestData.TopicProduceDataCollection(List.of(topic).iterator());
        var data = new ProduceRequestData().setAcks((short) -1).setTimeoutMs(10_000).setTopicData(topics);
        var header = new RequestHeader(ApiKeys.PRODUCE, (short) 12, client, 1);
        var request = new ProduceRequest(data, (short) 12).serializeWithHeader(header);
        try (var socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            var out = new DataOutputStream(socket.getOutputStream());
            out.writeInt(request.remaining());
            out.write(request.array(), request.position(), request.remaining());
            var in = new DataInputStream(socket.getInputStream());
            var bytes = ByteBuffer.wrap(in.readNBytes(in.readInt()));
            var answer = (ProduceResponse) AbstractResponse.parseResponse(bytes, header);
            return answer.throttleTimeMs();
        }
    }
}
EOF
expect '100000 bytes: 0 s of silence
200000 bytes: 10 s of silence' "$(kafka "$folder/Quota.java" ${address/:/ })"
