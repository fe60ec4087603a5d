#!/usr/bin/env bash
# librdkafka loses records of a gzip batch with two members, without an error.
#
# librdkafka 2.16.1, by confluent-kafka for Python; Apache Kafka 4.3.1. A gzip stream may have several members, one
# after the other (RFC 1952), and Kafka's broker takes such a batch. Of 300 records, 150 in each member, Kafka's own
# consumer gives 300. librdkafka gives the 150 of the first member, goes on behind the batch, and reports nothing.
# Source: run by this script. It fails if the behaviour changes.

. "$(dirname "$0")/kafka.sh"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check confluent-kafka==2.16.1
start_kafka 4.3.1
kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic t --partitions 1

cat >"$folder/Members.java" <<'EOF'
import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.*;
import java.util.stream.IntStream;
import java.util.zip.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.requests.*;

class Members {
    public static void main(String[] address) throws Exception {
        var values = IntStream.range(0, 300).mapToObj(number -> new SimpleRecord(new byte[100]));
        var plain = MemoryRecords.withRecords(Compression.NONE, values.toArray(SimpleRecord[]::new)).buffer();
        // All records are of the same length but for the numbers in front, and none is cut by the end of a member.
        var header = new byte[61];
        plain.get(header);
        var records = new byte[plain.remaining()];
        plain.get(records);
        var middle = 0;
        for (var number = 0; number < 150; number++) {
            middle += lengthOf(records, middle);
        }
        var members = new ByteArrayOutputStream();
        members.write(gzip(Arrays.copyOfRange(records, 0, middle)));
        members.write(gzip(Arrays.copyOfRange(records, middle, records.length)));
        var batch = ByteBuffer.allocate(61 + members.size());
        batch.put(header).put(members.toByteArray());
        batch.putInt(8, batch.capacity() - 12);
        batch.putShort(21, (short) 1); // gzip
        var checksum = new CRC32C();
        checksum.update(batch.array(), 21, batch.capacity() - 21);
        batch.putInt(17, (int) checksum.getValue());
        batch.flip();
        System.out.println("the broker: " + produce(address, MemoryRecords.readableRecords(batch)));
    }

    // The length of the record there, with its own length in front (a zigzag varint of two bytes).
    static int lengthOf(byte[] records, int at) {
        return 2 + (((records[at] & 0x7f) | records[at + 1] << 7) >>> 1);
    }

    static byte[] gzip(byte[] bytes) throws IOException {
        var member = new ByteArrayOutputStream();
        try (var stream = new GZIPOutputStream(member)) {
            stream.write(bytes);
        }
        return member.toByteArray();
    }

    static Errors produce(String[] address, MemoryRecords records) throws Exception {
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
            return Errors.forCode(answer.data().responses().iterator().next().partitionResponses().get(0).errorCode());
        }
    }
}
EOF
expect 'the broker: NONE' "$(kafka "$folder/Members.java" ${address/:/ })"
expect 'Java: 300' "Java: $(kafka org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$address" \
    --topic t --partition 0 --offset earliest --max-messages 300 2>"$folder/errors" | wc -l)"

# One more record behind, to see that nothing of the first batch comes later.
echo last | kafka org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$address" --topic t
cat >"$folder/read.py" <<'EOF'
import sys
from confluent_kafka import Consumer, TopicPartition

consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "g"})
consumer.assign([TopicPartition("t", 0, 0)])
count = 0
while message := consumer.poll(60):
    if message.error():
        print(message.error())
    if message.value() == b"last":
        break
    count += 1
print(f"librdkafka: {count}, then offset {message.offset()}")
consumer.close()
EOF
expect 'librdkafka: 150, then offset 300' "$("$folder/venv/bin/python" "$folder/read.py" "$address")"
