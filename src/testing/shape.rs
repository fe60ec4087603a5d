//! Whether the bytes of a request have the shape of one, so that it is safe to decode them.
//!
//! kafka-protocol reserves memory for as many elements as a count on the wire says, however few bytes follow; a few
//! bad bytes would end the process. So every count is walked here first.

use super::Api;

/// Whether a request body has all that its counts and lengths say.
pub(super) fn is_sound(api: Api, version: i16, body: &[u8]) -> bool {
    let mut walk = Walk { rest: body, flexible: api.is_flexible(version) };
    let walked = match api {
        Api::Produce => produce(&mut walk, version),
        Api::Fetch => fetch(&mut walk, version),
        Api::ListOffsets => list_offsets(&mut walk, version),
        Api::Metadata => metadata(&mut walk, version),
        Api::OffsetForLeaderEpoch => offset_for_leader_epoch(&mut walk, version),
        Api::ApiVersions => api_versions(&mut walk, version),
        Api::InitProducerId => init_producer_id(&mut walk, version),
    };
    walked.is_some()
}

fn produce(walk: &mut Walk<'_>, version: i16) -> Option<()> {
    walk.string()?;
    walk.skip(6)?;
    walk.array(|topic| {
        topic.topic(version >= 13)?;
        topic.array(|partition| {
            partition.skip(4)?;
            partition.bytes()?;
            partition.tags()
        })?;
        topic.tags()
    })?;
    walk.tags()
}

fn fetch(walk: &mut Walk<'_>, version: i16) -> Option<()> {
    walk.skip(if version <= 14 { 4 } else { 0 })?;
    walk.skip(4 + 4 + 4 + 1)?;
    walk.skip(if version >= 7 { 8 } else { 0 })?;
    let after_index = match version {
        ..=4 => 12,
        5..=8 => 20,
        9..=11 => 24,
        _ => 28,
    };
    walk.array(|topic| {
        topic.topic(version >= 13)?;
        topic.array(|partition| {
            partition.skip(4 + after_index)?;
            partition.tags_where(|tag, size| match tag {
                REPLICA_DIRECTORY_ID => size == 16,
                HIGH_WATERMARK => size == 8,
                _ => true,
            })
        })?;
        topic.tags()
    })?;
    if version >= 7 {
        walk.array(|topic| {
            topic.topic(version >= 13)?;
            topic.array(|partition| partition.skip(4))?;
            topic.tags()
        })?;
    }
    if version >= 11 {
        walk.string()?;
    }
    walk.tags()
}

fn list_offsets(walk: &mut Walk<'_>, version: i16) -> Option<()> {
    walk.skip(4)?;
    walk.skip(if version >= 2 { 1 } else { 0 })?;
    walk.array(|topic| {
        topic.string()?;
        topic.array(|partition| {
            partition.skip(if version >= 4 { 16 } else { 12 })?;
            partition.tags()
        })?;
        topic.tags()
    })?;
    walk.skip(if version >= 10 { 4 } else { 0 })?;
    walk.tags()
}

fn metadata(walk: &mut Walk<'_>, version: i16) -> Option<()> {
    walk.array(|topic| {
        topic.skip(if version >= 10 { 16 } else { 0 })?;
        topic.string()?;
        topic.tags()
    })?;
    walk.skip(if version >= 4 { 1 } else { 0 })?;
    walk.skip(match version {
        8..=10 => 2,
        11.. => 1,
        _ => 0,
    })?;
    walk.tags()
}

fn offset_for_leader_epoch(walk: &mut Walk<'_>, version: i16) -> Option<()> {
    walk.skip(if version >= 3 { 4 } else { 0 })?;
    walk.array(|topic| {
        topic.string()?;
        topic.array(|partition| {
            partition.skip(12)?;
            partition.tags()
        })?;
        topic.tags()
    })?;
    walk.tags()
}

fn api_versions(walk: &mut Walk<'_>, version: i16) -> Option<()> {
    if version >= 3 {
        walk.string()?;
        walk.string()?;
    }
    walk.tags()
}

fn init_producer_id(walk: &mut Walk<'_>, version: i16) -> Option<()> {
    walk.string()?;
    walk.skip(if version >= 3 { 14 } else { 4 })?;
    walk.tags()
}

/// A way through the bytes of a message; every step is `None` where they end too early.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Walk<'a> {
    pub fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self { rest: bytes, flexible }
    }

    /// What was not walked yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn skip(&mut self, bytes: usize) -> Option<()> {
        self.take(bytes).map(drop)
    }

    /// A nullable string with two bytes of length, as in every request header.
    pub fn short_string(&mut self) -> Option<Option<&'a [u8]>> {
        match self.i16()? {
            -1 => Some(None),
            length => self.take(usize::try_from(length).ok()?).map(Some),
        }
    }

    pub fn i16(&mut self) -> Option<i16> {
        self.take(2).map(|bytes| i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.take(4).map(|bytes| i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// The tagged fields that end every struct of a flexible version.
    pub fn tags(&mut self) -> Option<()> {
        self.tags_where(|_, _| true)
    }

    // kafka-protocol decodes the tags that it knows without a look at their size.
    fn tags_where(&mut self, sound: impl Fn(u32, u32) -> bool) -> Option<()> {
        if self.flexible {
            for _ in 0..self.varint()? {
                let (tag, size) = (self.varint()?, self.varint()?);
                if !sound(tag, size) {
                    return None;
                }
                self.skip(usize::try_from(size).ok()?)?;
            }
        }
        Some(())
    }

    fn topic(&mut self, by_id: bool) -> Option<()> {
        if by_id { self.skip(16) } else { self.string() }
    }

    fn string(&mut self) -> Option<()> {
        if self.flexible { self.compact() } else { self.short_string().map(drop) }
    }

    fn bytes(&mut self) -> Option<()> {
        if self.flexible {
            return self.compact();
        }
        match self.i32()? {
            -1 => Some(()),
            length => self.skip(usize::try_from(length).ok()?),
        }
    }

    fn compact(&mut self) -> Option<()> {
        match self.varint()? {
            0 => Some(()),
            length => self.skip(usize::try_from(length - 1).ok()?),
        }
    }

    fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        let count =
            if self.flexible { self.varint()?.saturating_sub(1) } else { u32::try_from(self.i32()?.max(0)).ok()? };
        // Every element has at least one byte, so this ends with the bytes at the latest.
        (0..count).try_for_each(|_| element(self))
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 28 && byte > 0x0f {
                return None;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }
}

const REPLICA_DIRECTORY_ID: u32 = 0;
const HIGH_WATERMARK: u32 = 1;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{
        ApiVersionsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
        OffsetForLeaderEpochRequest, ProduceRequest,
    };
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;
    use crate::testing::asking::name;

    /// A request of every kind and version, with two elements in every list.
    fn examples() -> Vec<(Api, i16, Vec<u8>)> {
        let mut examples = Vec::new();
        for api in Api::ALL.iter().copied() {
            for version in api.of_the_cluster().min..=api.of_the_cluster().max {
                examples.push((api, version, example(api, version)));
            }
        }
        examples
    }

    fn example(api: Api, version: i16) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let encoded = match api {
            Api::Produce => {
                let partition = PartitionProduceData::default().with_records(Some(vec![1, 2, 3].into()));
                let topic = TopicProduceData::default().with_partition_data(vec![partition; 2]);
                let topic = if version < 13 { topic.with_name(name("t")) } else { topic };
                ProduceRequest::default().with_topic_data(vec![topic; 2]).encode(&mut bytes, version)
            }
            Api::Fetch => {
                let topic = FetchTopic::default().with_partitions(vec![FetchPartition::default(); 2]);
                let forgotten = ForgottenTopic::default().with_partitions(vec![1, 2]);
                let request = FetchRequest::default().with_topics(vec![topic; 2]);
                let request =
                    if version < 7 { request } else { request.with_forgotten_topics_data(vec![forgotten; 2]) };
                request.encode(&mut bytes, version)
            }
            Api::ListOffsets => {
                let topic = ListOffsetsTopic::default().with_partitions(vec![ListOffsetsPartition::default(); 2]);
                let version = api.version_in_kafka_protocol(version);
                ListOffsetsRequest::default().with_topics(vec![topic; 2]).encode(&mut bytes, version)
            }
            Api::Metadata => {
                let topic = MetadataRequestTopic::default().with_name(Some(name("t")));
                MetadataRequest::default().with_topics(Some(vec![topic; 2])).encode(&mut bytes, version)
            }
            Api::OffsetForLeaderEpoch => {
                let topic =
                    OffsetForLeaderTopic::default().with_partitions(vec![OffsetForLeaderPartition::default(); 2]);
                OffsetForLeaderEpochRequest::default().with_topics(vec![topic; 2]).encode(&mut bytes, version)
            }
            Api::ApiVersions => {
                let client = StrBytes::from_static_str("a-client");
                ApiVersionsRequest::default().with_client_software_name(client).encode(&mut bytes, version)
            }
            Api::InitProducerId => InitProducerIdRequest::default().encode(&mut bytes, version),
        };
        encoded.unwrap();
        bytes.to_vec()
    }

    #[test]
    fn every_request_of_every_version_has_its_shape_to_the_last_byte() {
        for (api, version, bytes) in examples() {
            assert!(is_sound(api, version, &bytes), "{api} v{version}");
            for end in 0..bytes.len() {
                assert!(!is_sound(api, version, &bytes[..end]), "{api} v{version}, {end} of {} bytes", bytes.len());
            }
        }
    }

    #[test]
    fn hostile_length() {
        // Some thousand in the place of each small number in turn: where that is a count or a length, the bytes for it
        // are not there.
        let mut refused = 0;
        for (api, version, bytes) in examples() {
            let small_number = |at: &usize| bytes[*at] != 0 && bytes[*at - 1] == 0;
            for at in (1..bytes.len()).filter(small_number) {
                let mut hostile = bytes.clone();
                hostile[at - 1] = 0x13;
                let header = crate::testing::frame::Header { api, version, correlation_id: 0, client_id: None };
                // What passes is decoded, and must not end the process.
                let read = crate::testing::frame::read_body(&header, hostile.into());
                refused += i32::from(read.is_err());
            }
        }
        assert!(refused > 100, "{refused}");
        assert!(!is_sound(Api::Metadata, 1, &[0, 0, 0x13, 0x88]));
        assert!(!is_sound(Api::Metadata, 9, &[0x89, 0x27]));
        assert!(!is_sound(Api::Metadata, 9, &[0x80; 40]));
    }

    #[test]
    fn a_tag_of_the_wrong_size_is_refused() {
        let mut walk = Walk::new(&[1, 0, 2, 9, 9], true);
        assert_eq!(walk.clone().tags(), Some(()));
        assert_eq!(walk.tags_where(|tag, size| tag != REPLICA_DIRECTORY_ID || size == 16), None);
    }
}
