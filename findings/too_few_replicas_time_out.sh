#!/usr/bin/env bash
# A batch that was appended by too few replicas is answered with REQUEST_TIMED_OUT and an offset.
#
# Apache Kafka 4.3.1, two nodes. A topic with two replicas and min.insync.replicas=2; its follower is frozen. A batch
# with acks=all and a timeout of one second: REQUEST_TIMED_OUT, with the base offset where the leader appended it. The
# protocol has NOT_ENOUGH_REPLICAS_AFTER_APPEND for this, which did not come. Once the follower's session is over
# (nine seconds) there is NOT_ENOUGH_REPLICAS, without one.
# Source: run by this script. It fails if the behaviour changes.

. "$(dirname "$0")/kafka.sh"
start_kafka 4.3.1
start_node 2 process.roles=broker "listeners=PLAINTEXT://127.0.0.1:$(free_port)"
kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic t --replica-assignment 1:2 \
    --config min.insync.replicas=2

cat >"$folder/Frozen.java" <<'EOF'
import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.requests.*;

class Frozen {
    public static void main(String[] address) throws Exception {
        new ProcessBuilder("kill", "-STOP", address[2]).start().waitFor();
        var last = "";
        for (long offset = 0; !last.equals("NOT_ENOUGH_REPLICAS at -1"); offset++) {
            var records = MemoryRecords.withRecords(Compression.NONE, new SimpleRecord("one".getBytes()));
            var answer = produce(address, records);
            var place = answer.baseOffset() == offset ? "the next offset" : answer.baseOffset();
            var now = Errors.forCode(answer.errorCode()) + " at " + place;
            if (!now.equals(last)) {
                System.out.println(now);
            }
            last = now;
        }
    }

    // One Produce request for partition 0, with acks=all; its answer.
    static ProduceResponseData.PartitionProduceResponse produce(String[] address, MemoryRecords records)
            throws Exception {
        var partition = new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records);
        var topic = new ProduceRequestData.TopicProduceData().setName("t").setPartitionData(List.of(partition));
        var topics = new ProduceRequestData.TopicProduceDataCollection(List.of(topic).iterator());
        var data = new ProduceRequestData().setAcks((short) -1).setTimeoutMs(1_000).setTopicData(topics);
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
expect 'REQUEST_TIMED_OUT at the next offset
NOT_ENOUGH_REPLICAS at -1' "$(kafka "$folder/Frozen.java" ${address/:/ } "${brokers[1]}")"
