//! InitProducerId: a fresh id for every idempotent producer that asks.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Context, Outcome};
use crate::testing::state::ClusterState;

pub(super) fn handle(state: &mut ClusterState, context: &Context<'_>, request: &InitProducerIdRequest) -> Outcome {
    let response = InitProducerIdResponse::default().with_throttle_time_ms(context.hits.throttle_ms);
    let refused = |code| {
        let response = response.clone().with_error_code(code);
        context.answer(&response.with_producer_id((-1).into()).with_producer_epoch(-1))
    };
    let errors = context.hits.errors();
    if let Some(code) = errors.before {
        return refused(code);
    }
    if request.transactional_id.is_some() {
        log::warn!("broker {}: a producer asks for transactions, which this cluster does not know", context.node);
        return refused(ResponseError::InvalidRequest.code());
    }
    // A producer that names its old id (KIP-360) also gets a new one: only transactions keep theirs.
    let id = state.next_producer_id;
    state.next_producer_id += 1;
    match errors.after {
        Some(code) => refused(code),
        None => context.answer(&response.clone().with_producer_id(id.into()).with_producer_epoch(0)),
    }
}
