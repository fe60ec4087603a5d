//! Record batches: bytes that should be some, and messages that become some.

use bytes::Bytes;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::RecordBatchDecoder;
use ottla::ids::TopicIndex;
use ottla::queue::chunk::Chunk;
use ottla::record::batch::{BatchBuilder, Stamp, len_of_one};
use ottla::record::batch_reader::{Record, RecordBatch};
use ottla::{Message, Payload, Timestamp};

use super::input::Input;

/// A byte that says what is repaired in the first batch, so that noise gets behind the checksum; then batches.
pub fn record_batch_decode(data: &[u8]) {
    let mut input = Input::new(data);
    let repair = input.byte();
    let mut bytes = input.rest().to_vec();
    if repair & 1 == 1 && bytes.len() >= HEADER {
        bytes[16] = 2;
        if repair & 2 == 2 {
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }
        if repair & 4 == 4 {
            bytes[21..23].copy_from_slice(&[0, 0]);
        }
        let length = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let end = usize::try_from(length).map_or(bytes.len(), |length| (12 + length).clamp(21, bytes.len()));
        let crc = crc32c::crc32c(&bytes[21..end]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    let mut rest = &bytes[..];
    while let Ok((batch, behind)) = RecordBatch::read(rest) {
        assert!(behind.len() + HEADER <= rest.len(), "it takes at least a header");
        assert!(batch.records.len() + HEADER + behind.len() == rest.len(), "and all that its length says");
        let whole = &rest[..rest.len() - behind.len()];
        rest = behind;
        if let Some(records) = read_all(&batch) {
            as_kafka_protocol_reads(whole, &batch, &records);
        }
    }
}

/// Reads records until one is broken; gives them if none was.
fn read_all<'a>(batch: &RecordBatch<'a>) -> Option<Vec<Record<'a>>> {
    let mut records = Vec::new();
    let mut size = 0;
    let mut sound = true;
    let mut all = batch.records();
    for record in &mut all {
        let Ok(record) = record else {
            sound = false;
            break;
        };
        size += 7 + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        let mut headers = record.headers.clone();
        assert!(headers.len() * 2 <= batch.records.len(), "{} headers", headers.len());
        for header in &mut headers {
            match header {
                Ok((name, value)) => size += 2 + name.len() + value.map_or(0, <[u8]>::len),
                Err(_) => sound = false,
            }
        }
        assert!(headers.next().is_none(), "an error is the last");
        records.push(record);
    }
    assert!(all.next().is_none(), "an error is the last");
    assert!(size <= batch.records.len(), "{size} bytes out of {}", batch.records.len());
    assert!(!sound || records.len() as i32 == batch.record_count, "as many as the header says");
    sound.then_some(records)
}

fn as_kafka_protocol_reads(whole: &[u8], batch: &RecordBatch<'_>, ours: &[Record<'_>]) {
    let last = ours.iter().map(|record| i64::from(record.offset_delta)).max().unwrap_or(0);
    // It adds without a look, and does not know the time of the broker.
    let overflows = batch.base_offset.checked_add(last).is_none();
    if overflows || batch.attributes & LOG_APPEND_TIME != 0 {
        return;
    }
    let theirs = match RecordBatchDecoder::decode(&mut Bytes::copy_from_slice(whole)) {
        Ok(theirs) => theirs.records,
        // Brokers keep an empty batch after compaction, and producers may leave bits for later versions of Kafka.
        Err(error) => panic!("kafka-protocol refuses it: {error:#}"),
    };
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(batch.base_offset + i64::from(ours.offset_delta), theirs.offset);
        assert_eq!(ours.timestamp, theirs.timestamp);
        assert_eq!((ours.key, ours.value), (theirs.key.as_deref(), theirs.value.as_deref()));
        same_headers(ours, &theirs.headers);
        let numbers = (theirs.producer_id, theirs.producer_epoch, theirs.partition_leader_epoch);
        assert_eq!((batch.producer_id, batch.producer_epoch, batch.partition_leader_epoch), numbers);
    }
}

/// Theirs are a map: of a repeated name it has the last value.
fn same_headers(ours: &Record<'_>, theirs: &IndexMap<StrBytes, Option<Bytes>>) {
    let ours: Vec<_> = ours.headers.clone().map(|header| header.expect("they were read before")).collect();
    for (name, value) in theirs {
        let last = ours.iter().rev().find(|(ours, _)| *ours == name.as_str());
        assert_eq!(last.map(|(_, value)| *value), Some(value.as_deref()), "header {name:?}");
    }
    let mut distinct: Vec<_> = ours.iter().map(|(name, _)| *name).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), theirs.len());
}

/// A stamp, then messages: they go the way of a producer's, from the queue's entry into a batch, and come back.
pub fn record_batch_roundtrip(data: &[u8]) {
    let mut input = Input::new(data);
    let stamp = Stamp { producer_id: input.i64(), epoch: input.i16(), base_sequence: input.i32() };
    let mut batch = BatchBuilder::new(Vec::new());
    let mut messages = Vec::new();
    while !input.is_empty() {
        let message = message(&mut input);
        let time = message.create_time().expect("it has one");
        let mut chunk = Chunk::of(0, TopicIndex(7), &message, time);
        let cost = chunk.cost;
        let entry = chunk.entries().next().expect("one message");
        assert_eq!((entry.topic, entry.partition.map(|it| it.0)), (TopicIndex(7), message.partition()));
        let extra = entry.extra.unwrap_or_default();
        assert_eq!((extra.tag, extra.partition_key), (message.tag(), message.partition_key()));
        assert_eq!(entry.cost(), cost, "what it takes is known before");
        // A time too far from the first has no place in this batch.
        let Some(length) = batch.len_with(entry.create_time, entry.tail.len()) else { continue };
        if batch.is_empty() {
            assert_eq!(length, len_of_one(entry.tail.len()));
        }
        batch.append(entry.create_time, entry.tail);
        assert_eq!(batch.len(), length, "its length is known before");
        messages.push(message);
    }
    assert_eq!(batch.count() as usize, messages.len());
    if messages.is_empty() {
        return;
    }
    let records = batch.finish();
    let bytes = [&records.header(stamp)[..], &records.shared()].concat();
    assert_eq!(bytes.len(), records.len());
    let times = messages.iter().map(|message| message.create_time().expect("it has one").as_millis());
    assert!(records.create_times().eq(times));
    for (record, message) in records.iter().zip(&messages) {
        same_message(&record, message);
    }

    let (batch, rest) = RecordBatch::read(&bytes).expect("we read what we write");
    assert!(rest.is_empty() && batch.is_contiguous());
    assert_eq!(
        Stamp { producer_id: batch.producer_id, epoch: batch.producer_epoch, base_sequence: batch.base_sequence },
        stamp
    );
    let read = read_all(&batch).expect("we read what we write");
    assert_eq!(read.len(), messages.len());
    for ((record, message), index) in read.iter().zip(&messages).zip(0..) {
        assert_eq!(record.offset_delta, index);
        same_message(record, message);
    }
    as_kafka_protocol_reads(&bytes, &batch, &read);
}

fn message<'a>(input: &mut Input<'a>) -> Message<'a> {
    let mut message = match input.maybe_piece() {
        Some(value) => Message::new("t", value),
        None => Message::tombstone("t", &b""[..]),
    };
    if let Some(key) = input.maybe_piece() {
        message = message.with_key(key);
    }
    for _ in 0..input.below(4) {
        message = message.with_header(input.text(), input.maybe_piece().map(Payload::from));
    }
    if input.flag() {
        message = message.with_partition(input.i32().max(0)).with_tag(input.i64() as u64);
        message = message.with_partition_key(input.piece());
    }
    message.with_create_time(Timestamp::from_millis(input.i64()))
}

fn same_message(record: &Record<'_>, message: &Message<'_>) {
    assert_eq!(Some(Timestamp::from_millis(record.timestamp)), message.create_time());
    assert_eq!((record.key, record.value), (message.key(), message.value()));
    assert!(record.headers.clone().map(|header| header.expect("we read what we write")).eq(message.headers()));
}

const HEADER: usize = 61;
const LOG_APPEND_TIME: i16 = 0b1000;
