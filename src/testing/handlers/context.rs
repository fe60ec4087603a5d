//! The trait of every handler, its input and output, and the parts that several of them need.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{Encodable, StrBytes};

use crate::message::Timestamp;
use crate::testing::fault::{Errors, FaultTarget, Hits};
use crate::testing::frame::{self, RequestHeader};
use crate::testing::state::ClusterState;
use crate::testing::topic::{Partition, Topic, TopicId};

/// A decoded request, and how it is answered.
pub(in crate::testing) trait Asked: fmt::Debug + Send {
    /// The topics and partitions that it names; topics of unknown id are left out.
    fn targets(&self, _state: &ClusterState) -> Vec<FaultTarget> {
        Vec::new()
    }

    /// Answers it in a version that is offered.
    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response;
}

/// The context of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::testing) struct Context<'a> {
    /// The broker that was asked.
    pub node: i32,
    /// The connection on which the request came.
    #[cfg_attr(not(feature = "sasl"), expect(dead_code, reason = "only logins tell connections apart"))]
    pub connection: u64,
    pub header: &'a RequestHeader,
    pub hits: &'a Hits,
    pub now: Timestamp,
    /// The time at which the request came.
    pub arrived: Timestamp,
}

/// The response to a request.
#[derive(Debug)]
pub(in crate::testing) enum Response {
    /// A frame with its size.
    Answer(Vec<u8>),
    /// The same, and the connection ends: a login has failed, which a broker tells only after a while.
    Refusal(Vec<u8>),
    /// No answer is due.
    Silence,
    /// The connection ends.
    Close,
    /// The connection ends by this fault of the cluster itself.
    Fault(String),
    /// Nothing to answer with yet: ask again when something is new, at the latest at this time.
    WaitForNews { deadline: Timestamp },
}

impl Context<'_> {
    pub fn version(&self) -> i16 {
        self.header.version
    }

    pub fn answer(&self, body: &impl Encodable) -> Response {
        self.answer_as(body, self.version())
    }

    pub fn answer_as(&self, body: &impl Encodable, version: i16) -> Response {
        frame::write(self.header, body, version).map_or_else(Response::Fault, Response::Answer)
    }

    /// The same as the last answer on its connection.
    pub fn refusal(&self, body: &impl Encodable) -> Response {
        frame::write(self.header, body, self.version()).map_or_else(Response::Fault, Response::Refusal)
    }

    pub fn errors_for(&self, topic: &str, partition: i32) -> Errors {
        self.hits.errors_for(topic, Some(partition))
    }
}

/// Partitions that a request names, all of one topic.
pub(super) fn targets_of(topic: &str, partitions: impl Iterator<Item = i32>) -> impl Iterator<Item = FaultTarget> {
    partitions.map(move |partition| FaultTarget { topic: topic.to_owned(), partition: Some(partition) })
}

impl ClusterState {
    /// The name of the topic of this id, if there is one; else the one that was given.
    pub(super) fn name_of<'a>(&'a self, name: &'a str, id: &[u8; 16]) -> &'a str {
        self.wanted(name, id).map_or(name, |topic| &topic.name)
    }

    /// The topic of this id, or of this name where the id is nil.
    pub(super) fn wanted(&self, name: &str, id: &[u8; 16]) -> Option<&Topic> {
        if *id == [0; 16] { self.topics.get(name) } else { self.topic_by_id(id) }
    }

    /// The partition if this node leads it, under an epoch that the client agrees with if it names one.
    pub(super) fn led_partition(
        &self,
        node: i32,
        topic: &str,
        index: i32,
        epoch: i32,
    ) -> Result<&Partition, ResponseError> {
        let partition = self.topics.get(topic).and_then(|topic| topic.partition(index));
        let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
        if partition.leader != Some(node) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        // KIP-320.
        match epoch {
            ..0 => Ok(partition),
            _ if epoch < partition.leader_epoch => Err(ResponseError::FencedLeaderEpoch),
            _ if epoch > partition.leader_epoch => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(partition),
        }
    }
}

impl TopicId {
    /// As kafka-protocol has it.
    pub fn to_wire<T: TryFrom<Vec<u8>> + Default>(self) -> T {
        T::try_from(self.0.to_vec()).unwrap_or_default()
    }
}

/// A number that depends on this and on nothing else. Entries that Kafka's brokers give in the order of a hash map
/// stand in the order of such numbers here: another order in every answer, and the same whenever a test runs.
pub(super) fn shuffled(place: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(place)
}

pub(super) fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    str_bytes(name).into()
}
