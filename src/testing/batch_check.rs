//! Checks that the bytes of a producer are a batch that a broker appends.

use kafka_protocol::ResponseError;

use super::producers::Numbered;
use crate::record::RecordError;
use crate::record::batch_reader::{Record, RecordBatch};

/// A batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sound {
    pub count: i32,
    pub max_timestamp: i64,
}

/// The reason why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub error: ResponseError,
    /// For the log; the producer is told the [`text`](Self::text), if there is one.
    pub why: String,
    /// The records that are to blame, by index, if only some are (KIP-467).
    pub records: Vec<(i32, String)>,
    /// `true` if the broker looked at the partition at all: else its answer has another form.
    pub reached_partition: bool,
}

impl Refusal {
    pub fn new(error: ResponseError, why: impl Into<String>) -> Self {
        Self { error, why: why.into(), records: Vec::new(), reached_partition: true }
    }

    /// Before the broker looked at the partition.
    pub fn at_the_door(error: ResponseError, why: impl Into<String>) -> Self {
        Self { reached_partition: false, ..Self::new(error, why) }
    }

    /// The words that the producer is told. Kafka's brokers give them where single records are to blame, and where the
    /// bytes are no batch at all; this cluster also where it can do less than they can.
    pub fn text(&self) -> Option<&str> {
        let is_no_batch = !self.reached_partition && self.error == ResponseError::CorruptMessage;
        let not_able = self.error == ResponseError::UnsupportedCompressionType;
        (!self.records.is_empty() || is_no_batch || not_able).then_some(&self.why)
    }
}

/// The rules of a partition for its batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchRules<'a> {
    /// The partition, for texts: `orders-7`.
    pub name: &'a str,
    pub max_message_bytes: usize,
    pub compacted: bool,
    /// The time now in milliseconds, of which records may be an hour ahead; `None` where the broker writes the time.
    pub now: Option<i64>,
}

/// Checks that the bytes are one batch in the format of today, all of it. Kafka's brokers look at that before they look
/// at the partition.
pub(super) fn check_shape(bytes: &[u8]) -> Result<(), Refusal> {
    let refuse = |error, why: String| Err(Refusal::at_the_door(error, why));
    let Some(start) = bytes.first_chunk::<17>() else {
        return refuse(ResponseError::InvalidRecord, format!("no batch in {} bytes", bytes.len()));
    };
    let length = i32::from_be_bytes([start[8], start[9], start[10], start[11]]);
    let magic = i8::from_be_bytes([start[16]]);
    let Some(length) = usize::try_from(length).ok().filter(|length| *length >= SHORTEST) else {
        let why = format!("Record size {length} is less than the minimum record overhead ({SHORTEST})");
        return refuse(ResponseError::CorruptMessage, why);
    };
    let bytes_behind = bytes.len().checked_sub(BEFORE_LENGTH_END + length);
    match (magic, bytes_behind) {
        (..0 | 3.., _) => refuse(ResponseError::CorruptMessage, format!("Invalid magic found in record: {magic}")),
        (_, None) => refuse(ResponseError::InvalidRecord, format!("a batch cut after {} bytes", bytes.len())),
        (0 | 1, _) => refuse(ResponseError::InvalidRecord, format!("a batch of format {magic}")),
        (_, Some(1..)) => refuse(ResponseError::InvalidRecord, "more than one batch for a partition".to_owned()),
        (_, Some(0)) => Ok(()),
    }
}

/// `true` if the bytes begin with a batch of a transaction.
pub(super) fn is_transactional(bytes: &[u8]) -> bool {
    check_shape(bytes).is_ok() && bytes.get(22).is_some_and(|attributes| attributes & TRANSACTIONAL != 0)
}

/// Checks a batch of sound shape, in the order in which Kafka's brokers do it.
pub(super) fn check(bytes: &[u8], rules: BatchRules<'_>) -> Result<(Sound, Option<Numbered>), Refusal> {
    if !bytes.starts_with(&[0; 8]) {
        return Err(invalid("a base offset from a producer, not 0"));
    }
    if bytes.len() > rules.max_message_bytes {
        let why = format!("the batch has {} bytes, allowed are {}", bytes.len(), rules.max_message_bytes);
        return Err(Refusal::new(ResponseError::MessageTooLarge, why));
    }
    let (batch, _) = RecordBatch::read(bytes).map_err(|error| match error {
        RecordError::Implausible { what: "record count", .. } => invalid(error.to_string()),
        error => Refusal::new(ResponseError::CorruptMessage, error.to_string()),
    })?;
    check_header(&batch)?;
    let max_timestamp = check_records(&batch, rules)?;
    let numbered = (batch.producer_id >= 0).then_some(Numbered {
        producer_id: batch.producer_id,
        epoch: batch.producer_epoch,
        first_sequence: batch.base_sequence,
        count: batch.record_count,
    });
    Ok((Sound { count: batch.record_count, max_timestamp }, numbered))
}

fn check_header(batch: &RecordBatch<'_>) -> Result<(), Refusal> {
    if batch.attributes & CONTROL != 0 {
        return Err(invalid("clients must not write control records"));
    }
    if !batch.is_contiguous() {
        let (count, last) = (batch.record_count, batch.last_offset_delta);
        return Err(invalid(format!("{count} records with last offset delta {last}")));
    }
    if batch.producer_id >= 0 && batch.base_sequence < 0 {
        return Err(invalid("a producer id without a sequence"));
    }
    Ok(())
}

/// Gives the latest time of a record.
fn check_records(batch: &RecordBatch<'_>, rules: BatchRules<'_>) -> Result<i64, Refusal> {
    let mut latest = i64::MIN;
    let mut culprits = Vec::new();
    let mut any_too_late = false;
    for (index, record) in (0..).zip(batch.records()) {
        let record = record.map_err(|error| unreadable(batch, &error))?;
        if let Some(error) = record.headers.clone().find_map(Result::err) {
            return Err(invalid(format!("record {index}: {error}")));
        }
        latest = latest.max(record.timestamp);
        let allowed = rules.now.map(|now| (now - i64::MAX, now.saturating_add(AHEAD_MS)));
        // In a record with both faults Kafka's brokers see the first.
        if rules.compacted && record.key.is_none() {
            let place = rules.name;
            let why = format!("Compacted topic cannot accept message without key in topic partition {place}");
            culprits.push((index, why));
        } else if let Some((first, last)) = allowed.filter(|(_, last)| record.timestamp > *last) {
            let Record { timestamp, offset_delta, .. } = record;
            let why = format!(
                "Timestamp {timestamp} of message with offset {offset_delta} is out of range. The timestamp should be \
                 within [{first}, {last}]"
            );
            culprits.push((index, why));
            any_too_late = true;
        }
    }
    if culprits.is_empty() { Ok(latest) } else { Err(blame(culprits, any_too_late)) }
}

fn blame(records: Vec<(i32, String)>, any_too_late: bool) -> Refusal {
    let start = "One or more records have been rejected due to";
    let (error, why) = if any_too_late {
        (ResponseError::InvalidTimestamp, format!("{start} invalid timestamp"))
    } else {
        let named = records.iter().take(3).map(|(at, why)| format!("RecordError(batchIndex={at}, message='{why}')"));
        let named = named.collect::<Vec<_>>().join(", ");
        let count = records.len();
        let why = format!(
            "{start} {count} record errors in total, and only showing the first three errors at most: [{named}]"
        );
        (ResponseError::InvalidRecord, why)
    };
    Refusal { records, ..Refusal::new(error, why) }
}

fn unreadable(batch: &RecordBatch<'_>, error: &RecordError) -> Refusal {
    match error {
        RecordError::Compressed(codec) if is_compressed(*codec, batch.records) => {
            Refusal::new(ResponseError::UnsupportedCompressionType, format!("{error}, which this cluster cannot read"))
        }
        RecordError::Compressed(_) => {
            Refusal::new(ResponseError::UnknownServerError, "compressed records that are none")
        }
        error => invalid(error.to_string()),
    }
}

/// `true` if the bytes begin as those of the codec do; the output of snappy may begin with any byte.
fn is_compressed(codec: u8, bytes: &[u8]) -> bool {
    match codec {
        1 => bytes.starts_with(b"\x1f\x8b"),
        2 => true,
        3 => bytes.starts_with(b"\x04\x22\x4d\x18"),
        4 => bytes.starts_with(b"\x28\xb5\x2f\xfd"),
        _ => false,
    }
}

fn invalid(why: impl Into<String>) -> Refusal {
    Refusal::new(ResponseError::InvalidRecord, why)
}

const TRANSACTIONAL: u8 = 0b1_0000;
const CONTROL: i16 = 0b10_0000;
// Base offset and length come before the bytes that the length counts.
const BEFORE_LENGTH_END: usize = 12;
// The overhead of a record of format 0: nothing shorter is taken for a batch.
const SHORTEST: usize = 14;
// message.timestamp.after.max.ms of Kafka 4; message.timestamp.before.max.ms is the largest number.
const AHEAD_MS: i64 = 3_600_000;
