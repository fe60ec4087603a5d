//! ListOffsets: the first offset, the next one, or the one at a time.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Context, Outcome};
use crate::testing::state::ClusterState;

pub(super) fn handle(state: &ClusterState, context: &Context<'_>, request: &ListOffsetsRequest) -> Outcome {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| one(state, context, &topic.name, asked));
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    let response = ListOffsetsResponse::default().with_topics(topics.collect());
    context.answer(&match context.version() {
        2.. => response.with_throttle_time_ms(context.hits.throttle_ms),
        _ => response,
    })
}

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
        Ok(Found { offset, timestamp, epoch }) => {
            let response = response.with_offset(offset).with_timestamp(timestamp);
            if context.version() >= 4 { response.with_leader_epoch(epoch) } else { response }
        }
    }
}

struct Found {
    offset: i64,
    timestamp: i64,
    epoch: i32,
}

fn find(
    state: &ClusterState,
    context: &Context<'_>,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<Found, ResponseError> {
    let partition = state.led_partition(context.node, topic, asked.partition_index, asked.current_leader_epoch)?;
    let log = &partition.log;
    let (offset, timestamp) = match asked.timestamp {
        LATEST => (log.next_offset(), -1),
        EARLIEST | EARLIEST_LOCAL => (0, -1),
        MAX_TIMESTAMP => log.latest().unwrap_or((-1, -1)),
        millis if millis >= 0 => log.at_or_after(millis).unwrap_or((-1, -1)),
        // What is asked of tiered storage, which is not there.
        _ => (-1, -1),
    };
    Ok(Found { offset, timestamp, epoch: partition.leader_epoch })
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
// KIP-734.
const MAX_TIMESTAMP: i64 = -3;
// KIP-405.
const EARLIEST_LOCAL: i64 = -4;

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;

    use super::*;
    use crate::testing::asking::{Asking, NOW, batch, name};

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
        let cases = [
            (EARLIEST, (0, -1)),
            (LATEST, (6, -1)),
            (0, (0, at(0))),
            (at(1), (2, at(20))),
            (at(20), (2, at(20))),
            (at(21), (-1, -1)),
            (MAX_TIMESTAMP, (2, at(20))),
            (EARLIEST_LOCAL, (0, -1)),
            (-5, (-1, -1)),
        ];
        for version in 1..=10 {
            for (timestamp, found) in cases {
                let answer = list(&mut asking, version, 0, timestamp);
                let place = (answer.offset, answer.timestamp);
                assert_eq!((answer.error_code, place), (0, found), "version {version}, time {timestamp}");
            }
            assert_eq!(list(&mut asking, version, 1, LATEST).error_code, 3);
        }
    }
}
