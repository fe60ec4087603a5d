//! What an error code in a Produce response means: one row for each.

use crate::wire::error_code::ErrorCode;

/// What to do with a batch that was refused with some code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub action: Action,
    /// Whether the code proves that this attempt appended nothing. It says nothing of earlier attempts.
    pub proves_not_appended: bool,
}

/// What to do with a refused batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was appended, now or before.
    Delivered,
    /// Send it again after a pause.
    Retry,
    /// Ask for metadata, then send it again.
    Refresh,
    /// Cut it into smaller ones.
    Split,
    /// Fail the records that the broker named, and send the others again.
    Records,
    /// The broker does not follow this sequence: once nothing is in flight, go on under the next epoch.
    NextEpoch,
    /// Fail it.
    Fail,
    /// Fail everything: the producer cannot go on.
    Fatal,
    /// Nobody knows what it means: send it once more with the same sequence, then fail it.
    RetryOnce,
}

impl Verdict {
    /// The verdict for a code.
    #[must_use]
    pub fn of(code: ErrorCode) -> Self {
        let (action, proves_not_appended) = match code {
            // No current broker answers DUPLICATE_SEQUENCE_NUMBER: a repeat of the last five gets NONE.
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => (Action::Delivered, false),

            ErrorCode::CORRUPT_MESSAGE | ErrorCode::NOT_ENOUGH_REPLICAS => (Action::Retry, true),
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::CONCURRENT_TRANSACTIONS
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED => (Action::Retry, false),

            // These can come after the append: a leader may lose its place while it waits for its followers.
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::BROKER_NOT_AVAILABLE
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::LISTENER_NOT_FOUND
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID => (Action::Refresh, false),

            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => (Action::Split, true),
            // KIP-467: the broker names the records that it refuses.
            ErrorCode::INVALID_RECORD | ErrorCode::INVALID_TIMESTAMP => (Action::Records, true),

            // KIP-360: the broker lost or never had the state that the sequence needs.
            // All three are found before the append.
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::UNKNOWN_PRODUCER_ID => (Action::NextEpoch, true),

            ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
            | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE => (Action::Fail, true),
            ErrorCode::INVALID_TOPIC_EXCEPTION
            | ErrorCode::INVALID_REQUIRED_ACKS
            | ErrorCode::INVALID_REQUEST
            | ErrorCode::POLICY_VIOLATION => (Action::Fail, false),

            ErrorCode::CLUSTER_AUTHORIZATION_FAILED | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
                (Action::Fatal, true)
            }
            ErrorCode::PRODUCER_FENCED => (Action::Fatal, false),

            _ => (Action::RetryOnce, false),
        };
        Self { action, proves_not_appended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_follow_an_append_proves_nothing() {
        for code in [
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode::KAFKA_STORAGE_ERROR,
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::UNKNOWN_SERVER_ERROR,
            ErrorCode(9999),
        ] {
            assert!(!Verdict::of(code).proves_not_appended, "{}", code.name());
        }
    }

    #[test]
    fn only_these_prove_that_nothing_was_appended() {
        let proving: Vec<i16> = (-2..300).filter(|code| Verdict::of(ErrorCode(*code)).proves_not_appended).collect();
        assert_eq!(proving, [2, 10, 18, 19, 29, 31, 32, 35, 43, 45, 47, 53, 59, 76, 87]);
    }

    #[test]
    fn an_unknown_code_is_tried_once_more() {
        assert_eq!(Verdict::of(ErrorCode::UNKNOWN_SERVER_ERROR).action, Action::RetryOnce);
        assert_eq!(Verdict::of(ErrorCode(9999)).action, Action::RetryOnce);
    }
}
