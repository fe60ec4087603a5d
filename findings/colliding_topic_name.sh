#!/usr/bin/env bash
# A topic whose name collides is unknown for ever, for those who wait for its creation.
#
# Apache Kafka 4.3.1, one node, which creates topics on demand. There is a topic a.b. Metadata is asked for a_b and
# for c: c is there after a moment; a_b stays UNKNOWN_TOPIC_OR_PARTITION, which clients take for "not yet", because
# both names would be a_b in names of metrics. CreateTopics says so (INVALID_TOPIC_EXCEPTION, "collides with existing
# topic"), Metadata never does. One would expect INVALID_TOPIC_EXCEPTION from Metadata, too.
# Source: run by this script. It fails if the behaviour changes.

. "$(dirname "$0")/kafka.sh"
start_kafka 4.3.1
kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic a.b --partitions 1 2>&1

cat >"$folder/Collide.java" <<'EOF'
import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.requests.*;

class Collide {
    public static void main(String[] address) throws Exception {
        for (var name : List.of("c", "a_b")) {
            var seen = new ArrayList<Errors>();
            for (int time = 0; time < 50 && !seen.contains(Errors.NONE); time++) {
                seen.add(metadata(address, name));
                Thread.sleep(100);
            }
            System.out.println(name + ": " + new TreeSet<>(seen));
        }
    }

    // What Metadata says about a topic that may be created.
    static Errors metadata(String[] address, String name) throws Exception {
        var header = new RequestHeader(ApiKeys.METADATA, (short) 12, "findings", 1);
        var bytes = new MetadataRequest.Builder(List.of(name), true).build((short) 12).serializeWithHeader(header);
        try (var socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            var out = new DataOutputStream(socket.getOutputStream());
            out.writeInt(bytes.remaining());
            out.write(bytes.array(), bytes.position(), bytes.remaining());
            var in = new DataInputStream(socket.getInputStream());
            var answer = ByteBuffer.wrap(in.readNBytes(in.readInt()));
            var metadata = (MetadataResponse) AbstractResponse.parseResponse(answer, header);
            return metadata.topicMetadata().iterator().next().error();
        }
    }
}
EOF
expect 'c: [NONE, UNKNOWN_TOPIC_OR_PARTITION]
a_b: [UNKNOWN_TOPIC_OR_PARTITION]' "$(kafka "$folder/Collide.java" ${address/:/ })"
if kafka org.apache.kafka.tools.TopicCommand --bootstrap-server "$address" --create --topic a_b \
    >"$folder/refused" 2>&1; then
    echo "it was created"
    exit 1
fi
grep -o "Topic 'a_b' collides with existing topic: a.b" "$folder/refused" | head -n 1
