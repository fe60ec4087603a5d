//! Records for the tests of this folder, and the bytes of batches that hold them.

use proptest::prelude::*;

use super::batch::{BatchBuilder, Records, Stamp};
use super::batch_reader::Record;
use super::tail;

/// A record, owned.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) time: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Sample {
    pub(super) fn at(time: i64) -> Self {
        Self { time, ..Self::default() }
    }

    pub(super) fn key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(super) fn value(mut self, value: &str) -> Self {
        self.value = Some(value.into());
        self
    }

    pub(super) fn header(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers.push((name.into(), value.map(Into::into)));
        self
    }

    pub(super) fn read(record: Record<'_>) -> Self {
        let headers = record.headers.map(|header| header.map(|(name, value)| (name.into(), value.map(Into::into))));
        Self {
            time: record.timestamp,
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: headers.collect::<Result<_, _>>().unwrap(),
        }
    }

    pub(super) fn header_slices(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (&**name, value.as_deref()))
    }

    pub(super) fn tail(&self) -> Vec<u8> {
        let mut out = Vec::new();
        tail::put(&mut out, self.key.as_deref(), self.value.as_deref(), self.header_slices());
        out
    }
}

pub(super) fn finish(samples: &[Sample]) -> Records {
    let mut batch = BatchBuilder::new(Vec::new());
    for sample in samples {
        batch.append(sample.time, &sample.tail());
    }
    batch.finish()
}

pub(super) fn encode(samples: &[Sample]) -> Vec<u8> {
    let records = finish(samples);
    let mut bytes = records.header(Stamp { producer_id: 7, epoch: 2, base_sequence: 5 }).to_vec();
    bytes.extend_from_slice(&records.shared());
    bytes
}

/// Records with times of `times`, repeated header names included.
pub(super) fn any_samples(times: impl Strategy<Value = i64>) -> impl Strategy<Value = Vec<Sample>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let headers = prop::collection::vec(("[a-cß]{0,2}", bytes()), 0..4);
    let sample = (times, bytes(), bytes(), headers);
    let sample = sample.prop_map(|(time, key, value, headers)| Sample { time, key, value, headers });
    prop::collection::vec(sample, 1..80)
}
