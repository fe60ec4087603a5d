//! Whether bytes that a producer sent are a batch that a broker appends.

use kafka_protocol::ResponseError;

use super::producers::Numbered;
use crate::record::RecordError;
use crate::record::batch_reader::Batch;

/// A batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sound {
    pub count: i32,
    pub max_timestamp: i64,
}

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub error: ResponseError,
    pub why: String,
    /// The records that are to blame, by index, where only some are (KIP-467).
    pub records: Vec<(i32, String)>,
}

impl Refusal {
    pub fn new(error: ResponseError, why: impl Into<String>) -> Self {
        Self { error, why: why.into(), records: Vec::new() }
    }
}

/// What a topic asks of its batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub max_message_bytes: usize,
    pub compacted: bool,
    /// Times later than this, in milliseconds, are refused; `None` where the broker writes the time itself.
    pub latest: Option<i64>,
}

/// Checks what a producer sent for one partition, in the order in which Kafka's brokers do it.
pub(super) fn check(bytes: &[u8], rules: Rules) -> Result<(Sound, Option<Numbered>), Refusal> {
    let batch = one_batch(bytes, rules.max_message_bytes)?;
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

fn one_batch(bytes: &[u8], max_message_bytes: usize) -> Result<Batch<'_>, Refusal> {
    if bytes.len() > max_message_bytes {
        let why = format!("the batch has {} bytes, allowed are {max_message_bytes}", bytes.len());
        return Err(Refusal::new(ResponseError::MessageTooLarge, why));
    }
    let (batch, rest) = Batch::read(bytes).map_err(|error| match error {
        RecordError::Magic(_) | RecordError::Implausible { what: "record count", .. } => invalid(error.to_string()),
        error => Refusal::new(ResponseError::CorruptMessage, error.to_string()),
    })?;
    if rest.is_empty() { Ok(batch) } else { Err(invalid("more than one batch for a partition")) }
}

fn check_header(batch: &Batch<'_>) -> Result<(), Refusal> {
    if batch.attributes & TRANSACTIONAL != 0 {
        return Err(Refusal::new(ResponseError::InvalidTxnState, "this cluster knows no transactions"));
    }
    if batch.attributes & CONTROL != 0 {
        return Err(invalid("clients must not write control records"));
    }
    if batch.base_offset != 0 {
        return Err(invalid(format!("base offset {} from a producer, not 0", batch.base_offset)));
    }
    if !batch.is_contiguous() {
        let (count, last) = (batch.record_count, batch.last_offset_delta);
        return Err(invalid(format!("{count} records with last offset delta {last}")));
    }
    if batch.producer_id >= 0 && (batch.base_sequence < 0 || batch.producer_epoch < 0) {
        return Err(invalid("a producer id without epoch and sequence"));
    }
    Ok(())
}

/// Gives the latest time of a record.
fn check_records(batch: &Batch<'_>, rules: Rules) -> Result<i64, Refusal> {
    let mut keyless = Vec::new();
    let mut latest = i64::MIN;
    let mut in_future = Vec::new();
    for (index, record) in (0..).zip(batch.records()) {
        let record = record.map_err(|error| match error {
            RecordError::Compressed(_) => Refusal::new(
                ResponseError::UnsupportedCompressionType,
                format!("{error}, which this cluster cannot read"),
            ),
            error => invalid(error.to_string()),
        })?;
        if let Some(error) = record.headers.clone().find_map(Result::err) {
            return Err(invalid(format!("record {index}: {error}")));
        }
        if record.offset_delta != index {
            return Err(invalid(format!("record {index} has offset delta {}", record.offset_delta)));
        }
        if rules.compacted && record.key.is_none() {
            keyless.push((index, "compacted topic cannot accept message without key".to_owned()));
        }
        latest = latest.max(record.timestamp);
        if rules.latest.is_some_and(|latest| record.timestamp > latest) {
            in_future.push((index, format!("time {} is too far in the future", record.timestamp)));
        }
    }
    let blame = |error, why: &str, records| Err(Refusal { error, why: why.to_owned(), records });
    if !keyless.is_empty() {
        return blame(ResponseError::InvalidRecord, "one or more records have been rejected", keyless);
    }
    if !in_future.is_empty() {
        let why = "one or more records have been rejected due to invalid timestamp";
        return blame(ResponseError::InvalidTimestamp, why, in_future);
    }
    Ok(latest)
}

fn invalid(why: impl Into<String>) -> Refusal {
    Refusal::new(ResponseError::InvalidRecord, why)
}

const TRANSACTIONAL: i16 = 0b1_0000;
const CONTROL: i16 = 0b10_0000;
