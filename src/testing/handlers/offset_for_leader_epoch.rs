//! OffsetForLeaderEpoch: the end of a leader's epoch (KIP-320).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::context::{Asked, Context, Response, targets_of};
use crate::testing::fault::FaultTarget;
use crate::testing::state::ClusterState;
use crate::wire::bounds::{Shape, array, int32, text};

pub(super) const REQUEST: Shape =
    &[int32("replica_id").since(3), array("topics", &[text("topic"), array("partitions", PARTITION)])];

impl Asked for OffsetForLeaderEpochRequest {
    fn targets(&self, _state: &ClusterState) -> Vec<FaultTarget> {
        let topics = self.topics.iter();
        topics.flat_map(|topic| targets_of(&topic.topic, topic.partitions.iter().map(|it| it.partition))).collect()
    }

    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response {
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| one(state, context, &topic.topic, asked));
            OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
        });
        let response = OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
        context.answer(&response.with_throttle_time_ms(context.hits.throttle_ms))
    }
}

const PARTITION: Shape = &[int32("partition"), int32("current_leader_epoch"), int32("leader_epoch")];

fn one(state: &ClusterState, context: &Context<'_>, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let errors = context.errors_for(topic, asked.partition);
    let found = match errors.before.or(errors.after) {
        Some(code) => Err(code),
        None => find(state, context, topic, asked).map_err(|error| error.code()),
    };
    let response = EpochEndOffset::default().with_partition(asked.partition);
    match found {
        Ok((epoch, end_offset)) => response.with_leader_epoch(epoch).with_end_offset(end_offset),
        Err(code) => response.with_error_code(code).with_leader_epoch(-1).with_end_offset(-1),
    }
}

fn find(
    state: &ClusterState,
    context: &Context<'_>,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ResponseError> {
    let partition = state.led_partition(context.node, topic, asked.partition, asked.current_leader_epoch)?;
    if asked.leader_epoch == partition.leader_epoch {
        return Ok((asked.leader_epoch, partition.log.next_offset()));
    }
    Ok(partition.log.end_of_epoch(asked.leader_epoch).unwrap_or((-1, -1)))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;

    use super::*;
    use crate::testing::ClusterBuilder;
    use crate::testing::asking::{Asking, batch, has_its_bounds, name};

    #[test]
    fn every_version_finds_the_end_of_an_epoch() {
        let mut asking = Asking::with(ClusterBuilder::new().brokers(2).topic("t", 1));
        // Epochs 0 and 2 write 2 records each, epoch 3 leads and has written nothing.
        asking.produce(9, "t", 0, batch(2).bytes());
        asking.state.move_leader("t", 0, 2);
        asking.state.move_leader("t", 0, 1);
        asking.produce(9, "t", 0, batch(2).bytes());
        asking.state.move_leader("t", 0, 2);
        for version in 2..=4 {
            for (epoch, found) in [(0, (0, 2)), (1, (0, 2)), (2, (2, 4)), (3, (3, 4)), (9, (2, 4))] {
                let partition = OffsetForLeaderPartition::default().with_partition(0).with_leader_epoch(epoch);
                let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
                let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
                let answer = asking.ask(2, version, &request).topics.remove(0).partitions.remove(0);
                let place = (answer.leader_epoch, answer.end_offset);
                assert_eq!((answer.error_code, place), (0, found), "version {version}, epoch {epoch}");
                let other = asking.ask(1, version, &request).topics.remove(0).partitions.remove(0);
                assert_eq!(other.error_code, ResponseError::NotLeaderOrFollower.code());
            }
        }
    }

    #[test]
    fn every_version_has_its_bounds() {
        has_its_bounds(REQUEST, |_| {
            let topic = OffsetForLeaderTopic::default().with_partitions(vec![OffsetForLeaderPartition::default(); 2]);
            OffsetForLeaderEpochRequest::default().with_topics(vec![topic; 2])
        });
    }
}
