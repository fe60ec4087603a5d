//! InitProducerId: a fresh id for every idempotent producer that asks.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::context::{Asked, Context, Response};
use crate::testing::state::ClusterState;
use crate::wire::bounds::{Shape, int16, int32, int64, text};

pub(super) const REQUEST: Shape = &[
    text("transactional_id"),
    int32("transaction_timeout_ms"),
    int64("producer_id").since(3),
    int16("producer_epoch").since(3),
];

impl Asked for InitProducerIdRequest {
    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response {
        let response = InitProducerIdResponse::default().with_throttle_time_ms(context.hits.throttle_ms);
        let refused = |code| {
            let response = response.clone().with_error_code(code);
            context.answer(&response.with_producer_id((-1).into()).with_producer_epoch(-1))
        };
        let errors = context.hits.errors();
        if let Some(code) = errors.before {
            return refused(code);
        }
        if self.transactional_id.is_some() {
            let (node, what) = (context.node, "a producer asks for transactions, which this cluster does not know");
            state.lines.note(log::Level::Warn, format_args!("broker {node}: {what}"));
            return refused(ResponseError::InvalidRequest.code());
        }
        // A producer that names its old id (KIP-360) also gets a new one: only transactions keep theirs.
        let Some(id) = state.producer_id(context.node, context.now) else {
            return refused(ResponseError::CoordinatorLoadInProgress.code());
        };
        match errors.after {
            Some(code) => refused(code),
            None => context.answer(&response.clone().with_producer_id(id.into()).with_producer_epoch(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;
    use std::time::Duration;

    use super::*;
    use crate::message::Timestamp;
    use crate::testing::ClusterBuilder;
    use crate::testing::asking::{Asking, has_its_bounds};

    fn ask(asking: &mut Asking, node: i32) -> (i16, i64, i16) {
        let answer = asking.ask(node, 4, &InitProducerIdRequest::default().with_transactional_id(None));
        (answer.error_code, *answer.producer_id, answer.producer_epoch)
    }

    fn later(asking: &mut Asking, millis: i64) {
        asking.now = Timestamp::from_millis(asking.now.as_millis() + millis);
    }

    #[test]
    fn a_broker_that_has_started_has_no_ids_for_a_moment() {
        let loading = (ResponseError::CoordinatorLoadInProgress.code(), -1, -1);
        let mut asking = Asking::with(ClusterBuilder::new().brokers(2).loading_time(Duration::from_millis(30)));
        // It fetches ids when the first producer asks, however long it is up by then.
        later(&mut asking, 1000);
        assert_eq!(ask(&mut asking, 1), loading);
        later(&mut asking, 29);
        assert_eq!(ask(&mut asking, 1), loading);
        later(&mut asking, 1);
        assert_eq!(ask(&mut asking, 1), (0, 1000, 0));
        assert_eq!(ask(&mut asking, 2), loading);
        asking.state.broker_stops(1);
        asking.state.broker_starts(1);
        assert_eq!(ask(&mut asking, 1), loading);
    }

    #[test]
    fn without_a_loading_time_the_ids_are_there() {
        let mut asking = Asking::one_broker();
        assert_eq!([ask(&mut asking, 1), ask(&mut asking, 1)], [(0, 1000, 0), (0, 1001, 0)]);
    }

    #[test]
    fn every_version_has_its_bounds() {
        has_its_bounds(REQUEST, |_| {
            let id = StrBytes::from_static_str("a transaction");
            InitProducerIdRequest::default().with_transactional_id(Some(id.into()))
        });
    }
}
