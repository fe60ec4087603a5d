//! Who leads what, asked by hand over a socket: Kafka's own programs need seconds to say it, and tests ask often.
//!
//! Encodes with kafka-protocol. Nothing here uses ottla, and nothing here judges what was delivered.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Request, StrBytes, encode_request_header_into_buffer};

/// A partition as a node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The node that leads it.
    pub leader: Option<usize>,
    /// How many replicas are in sync.
    pub in_sync: usize,
}

/// The partitions of a topic in their order, from the first of these nodes that answers; empty if none does.
pub fn partitions(addresses: &[String], topic: &str) -> Vec<Partition> {
    let Some(answer) = addresses.iter().find_map(|address| ask(address, topic).ok()) else { return Vec::new() };
    let mut found = answer.topics.into_iter().next().map(|topic| topic.partitions).unwrap_or_default();
    found.sort_unstable_by_key(|partition| partition.partition_index);
    let leader = |node: i32| usize::try_from(node).ok();
    found.iter().map(|it| Partition { leader: leader(it.leader_id.0), in_sync: it.isr_nodes.len() }).collect()
}

fn ask(address: &str, topic: &str) -> io::Result<MetadataResponse> {
    const VERSION: i16 = 12;
    let mut stream = TcpStream::connect(address)?;
    // A frozen node takes the connection and says nothing.
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let topic = StrBytes::from_string(topic.to_owned()).into();
    let request = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic))]))
        .with_allow_auto_topic_creation(false);
    let header = RequestHeader::default()
        .with_request_api_key(MetadataRequest::KEY)
        .with_request_api_version(VERSION)
        .with_client_id(Some(StrBytes::from_static_str("by hand")));
    let mut bytes = BytesMut::new();
    encode_request_header_into_buffer(&mut bytes, &header).map_err(io::Error::other)?;
    kafka_protocol::protocol::Encodable::encode(&request, &mut bytes, VERSION).map_err(io::Error::other)?;
    let size = i32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&size.to_be_bytes(), &bytes[..]].concat())?;

    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).map_err(io::Error::other)?];
    stream.read_exact(&mut frame)?;
    let mut frame = Bytes::from(frame);
    let version = ApiKey::Metadata.response_header_version(VERSION);
    ResponseHeader::decode(&mut frame, version).map_err(io::Error::other)?;
    MetadataResponse::decode(&mut frame, VERSION).map_err(io::Error::other)
}
