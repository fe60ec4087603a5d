//! ListOffsets: the first offset, the next one, or the one at a time.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::context::{Asked, Context, Response, targets_of};
use crate::testing::fault::FaultTarget;
use crate::testing::log::FoundRecord;
use crate::testing::state::ClusterState;
use crate::wire::bounds::{Shape, array, int8, int32, int64, text};

pub(super) const REQUEST: Shape = &[
    int32("replica_id"),
    int8("isolation_level").since(2),
    array("topics", &[text("name"), array("partitions", PARTITION)]),
    int32("timeout_ms").since(10),
];

impl Asked for ListOffsetsRequest {
    fn targets(&self, _state: &ClusterState) -> Vec<FaultTarget> {
        let topics = self.topics.iter();
        topics.flat_map(|topic| targets_of(&topic.name, topic.partitions.iter().map(|it| it.partition_index))).collect()
    }

    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response {
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| one(state, context, &topic.name, asked));
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        let response = ListOffsetsResponse::default().with_topics(topics.collect());
        context.answer(&match context.version() {
            2.. => response.with_throttle_time_ms(context.hits.throttle_ms),
            _ => response,
        })
    }
}

const PARTITION: Shape = &[int32("partition_index"), int32("current_leader_epoch").since(4), int64("timestamp")];

fn one(
    state: &ClusterState,
    context: &Context<'_>,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let errors = context.errors_for(topic, asked.partition_index);
    let found = match errors.before.or(errors.after) {
        Some(code) => Err(code),
        None => find(state, context, topic, asked).map_err(|error| error.code()),
    };
    let response = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    match found {
        Err(code) => response.with_error_code(code).with_offset(-1).with_timestamp(-1),
        Ok(FoundRecord { offset, timestamp, epoch }) => {
            let response = response.with_offset(offset).with_timestamp(timestamp);
            if context.version() >= 4 { response.with_leader_epoch(epoch) } else { response }
        }
    }
}

fn find(
    state: &ClusterState,
    context: &Context<'_>,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<FoundRecord, ResponseError> {
    if since(asked.timestamp).is_none_or(|since| context.version() < since) {
        return Err(ResponseError::UnsupportedVersion);
    }
    let partition = state.led_partition(context.node, topic, asked.partition_index, asked.current_leader_epoch)?;
    let log = &partition.log;
    let found = match asked.timestamp {
        LATEST => Some(FoundRecord { offset: log.next_offset(), timestamp: -1, epoch: partition.leader_epoch }),
        EARLIEST | EARLIEST_LOCAL => {
            let epoch = log.first_epoch().unwrap_or(partition.leader_epoch);
            Some(FoundRecord { offset: 0, timestamp: -1, epoch })
        }
        MAX_TIMESTAMP => log.latest(),
        // For tiered storage, which the cluster does not have.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => None,
        millis => log.at_or_after(millis),
    };
    Ok(found.unwrap_or(NOWHERE))
}

/// The first version that knows this time, or `None` where none does.
fn since(timestamp: i64) -> Option<i16> {
    match timestamp {
        0.. | LATEST | EARLIEST => Some(1),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

const NOWHERE: FoundRecord = FoundRecord { offset: -1, timestamp: -1, epoch: -1 };
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
// KIP-734.
const MAX_TIMESTAMP: i64 = -3;
// KIP-405.
const EARLIEST_LOCAL: i64 = -4;
// KIP-1005.
const LATEST_TIERED: i64 = -5;
// KIP-1023.
const EARLIEST_PENDING_UPLOAD: i64 = -6;

#[cfg(test)]
mod tests {
    use ResponseError::UnsupportedVersion;
    use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;

    use super::*;
    use crate::testing::ClusterBuilder;
    use crate::testing::asking::{Asking, NOW, batch, has_its_bounds, name};

    fn list(asking: &mut Asking, version: i16, partition: i32, timestamp: i64) -> ListOffsetsPartitionResponse {
        let partition = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        asking.ask(1, version, &request).topics.remove(0).partitions.remove(0)
    }

    #[test]
    fn every_version_finds_the_first_and_the_next_offset_and_one_by_time() {
        let mut asking = Asking::one_broker();
        let at = |millis: i64| NOW.as_millis() + millis;
        for millis in [0, 20, 10] {
            asking.produce(9, "t", 0, batch(2).at(at(millis)).bytes());
        }
        // Each with the first version that knows it.
        let cases = [
            (EARLIEST, 1, (0, -1)),
            (LATEST, 1, (6, -1)),
            (0, 1, (0, at(0))),
            (at(1), 1, (2, at(20))),
            (at(20), 1, (2, at(20))),
            (at(21), 1, (-1, -1)),
            (MAX_TIMESTAMP, 7, (2, at(20))),
            (EARLIEST_LOCAL, 8, (0, -1)),
            (LATEST_TIERED, 9, (-1, -1)),
            (EARLIEST_PENDING_UPLOAD, 11, (-1, -1)),
            (-7, 12, (-1, -1)),
        ];
        for version in 1..=11 {
            for (timestamp, since, found) in cases {
                let answer = list(&mut asking, version, 0, timestamp);
                let found = if version < since { (UnsupportedVersion.code(), (-1, -1)) } else { (0, found) };
                let place = (answer.offset, answer.timestamp);
                assert_eq!((answer.error_code, place), found, "version {version}, time {timestamp}");
                let epoch = if version >= 4 && answer.offset >= 0 { 0 } else { -1 };
                assert_eq!(answer.leader_epoch, epoch, "version {version}, time {timestamp}");
            }
            assert_eq!(list(&mut asking, version, 1, LATEST).error_code, 3);
        }
    }

    #[test]
    fn the_epoch_is_that_of_the_record_that_was_found() {
        let mut asking = Asking::with(ClusterBuilder::new().brokers(2).topic("t", 1));
        let at = |millis: i64| NOW.as_millis() + millis;
        asking.produce(9, "t", 0, batch(1).at(at(0)).bytes());
        asking.state.move_leader("t", 0, 2);
        asking.state.move_leader("t", 0, 1);
        asking.produce(9, "t", 0, batch(1).at(at(5)).bytes());
        for (timestamp, epoch) in [(EARLIEST, 0), (at(0), 0), (at(1), 2), (MAX_TIMESTAMP, 2), (LATEST, 2)] {
            assert_eq!(list(&mut asking, 10, 0, timestamp).leader_epoch, epoch, "time {timestamp}");
        }
    }

    #[test]
    fn every_version_has_its_bounds() {
        has_its_bounds(REQUEST, |_| {
            let topic = ListOffsetsTopic::default().with_partitions(vec![ListOffsetsPartition::default(); 2]);
            ListOffsetsRequest::default().with_topics(vec![topic; 2])
        });
    }
}
