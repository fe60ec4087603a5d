#!/usr/bin/env bash
# The Rust crate kafka-protocol drops record headers whose name comes again.
#
# kafka-protocol 0.18.0. Kafka's records may have several headers of one name, in an order, and its clients show them
# all. This crate keeps a record's headers in a map: of two headers with one name the decoder gives one, with no
# error. So what is decoded and encoded again has lost data, and nothing can be written with a name twice.
# Source: run by this script. It fails if the behaviour changes.

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'EOF'
[package]
name = "headers"
version = "0.0.0"
edition = "2024"

[dependencies]
bytes = "=1.11.1"
crc32c = "=0.6.8"
kafka-protocol = { version = "=0.18.0", default-features = false, features = ["client", "broker"] }

[workspace]
EOF
cat >"$folder/src/main.rs" <<'EOF'
use bytes::BytesMut;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::*;

fn main() {
    let header = |name| (StrBytes::from_static_str(name), Some("value".into()));
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: NO_SEQUENCE,
        timestamp: 0,
        key: None,
        value: None,
        headers: [header("trace"), header("other")].into_iter().collect(),
    };
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, [&record], &options).expect("encoded");
    // Now the other header is called trace, too: the same bytes but for the name and the checksum behind it.
    let other = batch.windows(5).position(|bytes| bytes == b"other").expect("the name");
    batch[other..other + 5].copy_from_slice(b"trace");
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    let records = RecordBatchDecoder::decode(&mut batch.freeze()).expect("decoded").records;
    println!("headers written: 2, decoded: {}", records[0].headers.len());
}
EOF
seen=$(cargo run -q --manifest-path "$folder/Cargo.toml" --target-dir "$folder/target")
echo "$seen"
[ "$seen" = 'headers written: 2, decoded: 1' ]
