# Apache Kafka for the scripts beside this one: a folder that goes with the script, and brokers that end with it.
#
#     . "$(dirname "$0")/kafka.sh"
#     start_kafka 4.3.1 [LINE OF server.properties]...
#
# Needs Java 17 and Maven. Afterwards $jars is Kafka's class path and $address where it listens.

set -euo pipefail
folder=$(mktemp -d)
brokers=()

end() {
    local broker
    for broker in "${brokers[@]}"; do
        kill -KILL "$broker" && wait "$broker" || true
    done 2>/dev/null
    rm -rf "$folder"
}
trap end EXIT

free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

start_kafka() {
    local version=$1
    shift
    {
        echo '<project><modelVersion>4.0.0</modelVersion>'
        echo '<groupId>findings</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>'
        echo '<dependencies>'
        printf '<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n' \
            org.apache.kafka kafka_2.13 "$version" org.apache.kafka kafka-tools "$version" org.slf4j slf4j-simple 1.7.36
        echo '</dependencies></project>'
    } >"$folder/pom.xml"
    mvn -q -B -f "$folder/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DoutputDirectory="$folder/jars"
    jars=$folder/jars/*
    address=127.0.0.1:$(free_port)
    controller=127.0.0.1:$(free_port)
    start_node 1 process.roles=broker,controller "listeners=PLAINTEXT://$address,CONTROLLER://$controller" "$@"
}

# Another node of the cluster: start_node ID LINE...
start_node() {
    local id=$1
    shift
    printf '%s\n' "node.id=$id" "controller.quorum.voters=1@$controller" controller.listener.names=CONTROLLER \
        "log.dirs=$folder/$id" offsets.topic.replication.factor=1 "$@" >"$folder/$id.properties"
    kafka kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$folder/$id.properties" >/dev/null
    java -Xmx512m -cp "$jars" kafka.Kafka "$folder/$id.properties" >"$folder/$id.log" 2>&1 &
    brokers+=($!)
    until grep -qs 'Kafka Server started' "$folder/$id.log"; do
        kill -0 "${brokers[-1]}" 2>/dev/null || { tail -n 20 "$folder/$id.log"; exit 1; }
        sleep 0.2
    done
}

# One of Kafka's own programs: kafka CLASS ARGUMENT...
kafka() {
    java -Xmx256m -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$jars" "$@"
}

# Fails with both texts if they differ: expect WHAT WAS EXPECTED WHAT WAS SEEN
expect() {
    printf '%s\n' "$2"
    [ "$1" = "$2" ] || { printf 'this was found before:\n%s\n' "$1"; exit 1; }
}
