//! The meaning of each error code in the responses to Produce, Metadata and InitProducerId: one row for each code. The
//! tests have every code of Kafka's by name.

use crate::engine::advice::advice;
use crate::error::ErrorCode;

/// The reaction to the answer to a batch with some code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The reaction.
    pub action: Reaction,
    /// The doubt that the code leaves about this attempt. It says nothing of earlier attempts.
    pub doubt: Doubt,
    /// The advice for the user.
    pub advice: &'static str,
}

/// The logs in which an attempt that was not acknowledged may have appended the batch all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// Nowhere: this is proven.
    None,
    /// In no topic that is there now under its name, but perhaps in one that was deleted.
    Deleted,
    /// Anywhere.
    Any,
}

/// The reaction to a refused batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
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

/// The meaning of an error code for a topic in a Metadata response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicVerdict {
    /// Its partitions are there.
    Known,
    /// It does not exist; it may appear.
    Missing,
    /// It exists, and has no leaders yet.
    Coming,
    /// The messages that wait for it fail.
    Fail,
    /// Ask again: the messages that wait for it have until their `delivery_timeout`.
    Wait,
}

/// The meaning of an error code in an InitProducerId response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdVerdict {
    /// There is an id.
    Given,
    /// The cluster has just started: ask again.
    Loading,
    /// Ask again: nothing is sent without an id, so nothing can be repeated.
    Retry,
    /// This client may not have one: the messages that wait fail, and a later message asks again.
    Denied,
    /// Another producer took this one's place: it cannot go on.
    Fatal,
}

impl Verdict {
    /// The verdict for a code in a Produce response.
    #[must_use]
    pub fn of(code: ErrorCode) -> Self {
        let (action, doubt) = match code {
            // No current broker answers DUPLICATE_SEQUENCE_NUMBER: a repeat of the last five gets NONE.
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => (Reaction::Delivered, Doubt::Any),

            ErrorCode::CORRUPT_MESSAGE | ErrorCode::NOT_ENOUGH_REPLICAS => (Reaction::Retry, Doubt::None),
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::CONCURRENT_TRANSACTIONS
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED => (Reaction::Retry, Doubt::Any),

            // KIP-516: a broker resolves the id before it appends, and looks for the partition by name afterwards.
            ErrorCode::UNKNOWN_TOPIC_ID => (Reaction::Refresh, Doubt::None),
            // These can come after the append: a topic may be deleted while its leader waits for the followers, and a
            // leader may lose its place.
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => (Reaction::Refresh, Doubt::Deleted),
            ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::BROKER_NOT_AVAILABLE
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::LISTENER_NOT_FOUND
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::INCONSISTENT_TOPIC_ID => (Reaction::Refresh, Doubt::Any),

            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => (Reaction::Split, Doubt::None),
            // KIP-467: the broker names the records that it refuses.
            ErrorCode::INVALID_RECORD | ErrorCode::INVALID_TIMESTAMP => (Reaction::Records, Doubt::None),

            // KIP-360: the broker lost or never had the state that the sequence needs.
            // All three are found before the append.
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::UNKNOWN_PRODUCER_ID => (Reaction::NextEpoch, Doubt::None),

            code if code.speaks_of_rights() => (Reaction::Fail, Doubt::None),
            ErrorCode::UNSUPPORTED_VERSION
            | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
            | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
            | ErrorCode::INVALID_TOPIC_EXCEPTION
            | ErrorCode::INVALID_REQUIRED_ACKS
            | ErrorCode::INVALID_REQUEST => (Reaction::Fail, Doubt::None),
            // No code of Kafka's own is about a policy here, so nobody knows at which point another broker would send
            // this one.
            ErrorCode::POLICY_VIOLATION => (Reaction::Fail, Doubt::Any),

            // The epoch is compared before the append.
            ErrorCode::PRODUCER_FENCED => (Reaction::Fatal, Doubt::None),

            _ => (Reaction::RetryOnce, Doubt::Any),
        };
        Self { action, doubt, advice: advice(code) }
    }
}

impl TopicVerdict {
    /// The verdict for a code that a Metadata response has for a topic.
    #[must_use]
    pub fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NONE => Self::Known,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => Self::Missing,
            ErrorCode::LEADER_NOT_AVAILABLE => Self::Coming,
            code if code == ErrorCode::INVALID_TOPIC_EXCEPTION || code.speaks_of_rights() => Self::Fail,
            _ => Self::Wait,
        }
    }

    /// `true` if a partition with this code can have the leader that the response names. Other codes are about its
    /// replicas.
    #[must_use]
    pub fn has_leader(code: ErrorCode) -> bool {
        let none = [ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::LISTENER_NOT_FOUND, ErrorCode::BROKER_NOT_AVAILABLE];
        !none.contains(&code) && matches!(Self::of(code), Self::Known | Self::Wait)
    }
}

impl IdVerdict {
    /// The verdict for a code in an InitProducerId response.
    #[must_use]
    pub fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NONE => Self::Given,
            ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => Self::Loading,
            // An epoch that a coordinator calls old is that of a producer that was fenced (KIP-588).
            ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => Self::Fatal,
            code if code.speaks_of_rights() => Self::Denied,
            _ => Self::Retry,
        }
    }
}

/// The advice for the user when the producer cannot go on.
pub const FENCED: &str = "another producer took its place; make a new one, unless that was meant";

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code of Kafka's, by the reaction to a batch that was answered with it.
    const BATCHES: [(Reaction, &str); 9] = [
        (Reaction::Delivered, "NONE DUPLICATE_SEQUENCE_NUMBER"),
        (
            Reaction::Retry,
            "CORRUPT_MESSAGE NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND REQUEST_TIMED_OUT NETWORK_EXCEPTION
             COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR CONCURRENT_TRANSACTIONS
             THROTTLING_QUOTA_EXCEEDED",
        ),
        (
            Reaction::Refresh,
            "UNKNOWN_TOPIC_OR_PARTITION LEADER_NOT_AVAILABLE NOT_LEADER_OR_FOLLOWER BROKER_NOT_AVAILABLE
             REPLICA_NOT_AVAILABLE KAFKA_STORAGE_ERROR LISTENER_NOT_FOUND FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH
             UNKNOWN_TOPIC_ID INCONSISTENT_TOPIC_ID",
        ),
        (Reaction::Split, "MESSAGE_TOO_LARGE RECORD_LIST_TOO_LARGE"),
        (Reaction::Records, "INVALID_RECORD INVALID_TIMESTAMP"),
        (Reaction::NextEpoch, "OUT_OF_ORDER_SEQUENCE_NUMBER INVALID_PRODUCER_EPOCH UNKNOWN_PRODUCER_ID"),
        (
            Reaction::Fail,
            "TOPIC_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED
             TRANSACTIONAL_ID_AUTHORIZATION_FAILED DELEGATION_TOKEN_AUTHORIZATION_FAILED
             UNSUPPORTED_VERSION UNSUPPORTED_FOR_MESSAGE_FORMAT UNSUPPORTED_COMPRESSION_TYPE
             INVALID_TOPIC_EXCEPTION INVALID_REQUIRED_ACKS INVALID_REQUEST POLICY_VIOLATION",
        ),
        (Reaction::Fatal, "PRODUCER_FENCED"),
        // No broker answers a Produce request of this producer with these.
        (
            Reaction::RetryOnce,
            "UNKNOWN_SERVER_ERROR OFFSET_OUT_OF_RANGE INVALID_FETCH_SIZE STALE_CONTROLLER_EPOCH
             OFFSET_METADATA_TOO_LARGE ILLEGAL_GENERATION INCONSISTENT_GROUP_PROTOCOL INVALID_GROUP_ID
             UNKNOWN_MEMBER_ID INVALID_SESSION_TIMEOUT REBALANCE_IN_PROGRESS INVALID_COMMIT_OFFSET_SIZE
             UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE TOPIC_ALREADY_EXISTS
             INVALID_PARTITIONS INVALID_REPLICATION_FACTOR INVALID_REPLICA_ASSIGNMENT INVALID_CONFIG NOT_CONTROLLER
             INVALID_TXN_STATE INVALID_PRODUCER_ID_MAPPING INVALID_TRANSACTION_TIMEOUT TRANSACTION_COORDINATOR_FENCED
             SECURITY_DISABLED OPERATION_NOT_ATTEMPTED LOG_DIR_NOT_FOUND SASL_AUTHENTICATION_FAILED
             REASSIGNMENT_IN_PROGRESS DELEGATION_TOKEN_AUTH_DISABLED DELEGATION_TOKEN_NOT_FOUND
             DELEGATION_TOKEN_OWNER_MISMATCH DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
             DELEGATION_TOKEN_EXPIRED INVALID_PRINCIPAL_TYPE NON_EMPTY_GROUP
             GROUP_ID_NOT_FOUND FETCH_SESSION_ID_NOT_FOUND INVALID_FETCH_SESSION_EPOCH TOPIC_DELETION_DISABLED
             STALE_BROKER_EPOCH OFFSET_NOT_AVAILABLE MEMBER_ID_REQUIRED PREFERRED_LEADER_NOT_AVAILABLE
             GROUP_MAX_SIZE_REACHED FENCED_INSTANCE_ID ELIGIBLE_LEADERS_NOT_AVAILABLE ELECTION_NOT_NEEDED
             NO_REASSIGNMENT_IN_PROGRESS GROUP_SUBSCRIBED_TO_TOPIC UNSTABLE_OFFSET_COMMIT RESOURCE_NOT_FOUND
             DUPLICATE_RESOURCE UNACCEPTABLE_CREDENTIAL INCONSISTENT_VOTER_SET INVALID_UPDATE_VERSION
             FEATURE_UPDATE_FAILED PRINCIPAL_DESERIALIZATION_FAILURE SNAPSHOT_NOT_FOUND POSITION_OUT_OF_RANGE
             DUPLICATE_BROKER_REGISTRATION BROKER_ID_NOT_REGISTERED INCONSISTENT_CLUSTER_ID
             TRANSACTIONAL_ID_NOT_FOUND FETCH_SESSION_TOPIC_ID_ERROR INELIGIBLE_REPLICA NEW_LEADER_ELECTED
             OFFSET_MOVED_TO_TIERED_STORAGE FENCED_MEMBER_EPOCH UNRELEASED_INSTANCE_ID UNSUPPORTED_ASSIGNOR
             STALE_MEMBER_EPOCH MISMATCHED_ENDPOINT_TYPE UNSUPPORTED_ENDPOINT_TYPE UNKNOWN_CONTROLLER_ID
             UNKNOWN_SUBSCRIPTION_ID TELEMETRY_TOO_LARGE INVALID_REGISTRATION TRANSACTION_ABORTABLE
             INVALID_RECORD_STATE SHARE_SESSION_NOT_FOUND INVALID_SHARE_SESSION_EPOCH FENCED_STATE_EPOCH
             INVALID_VOTER_KEY DUPLICATE_VOTER VOTER_NOT_FOUND INVALID_REGULAR_EXPRESSION REBOOTSTRAP_REQUIRED
             STREAMS_INVALID_TOPOLOGY STREAMS_INVALID_TOPOLOGY_EPOCH STREAMS_TOPOLOGY_FENCED
             SHARE_SESSION_LIMIT_REACHED",
        ),
    ];

    fn codes() -> impl Iterator<Item = ErrorCode> {
        (-300..=3000).map(ErrorCode).filter(|code| code.name() != "UNKNOWN_ERROR_CODE")
    }

    #[test]
    fn every_code_has_its_verdict() {
        let mut named = Vec::new();
        for (action, names) in BATCHES {
            for name in names.split_whitespace() {
                let code = codes().find(|code| code.name() == name).unwrap_or_else(|| panic!("{name} is no code"));
                assert_eq!(Verdict::of(code).action, action, "{name}");
                named.push(code);
            }
        }
        assert_eq!(named.len(), codes().count(), "a code stands here twice");
        for code in codes() {
            assert!(named.contains(&code), "{} is new: decide what it means, then name it here", code.name());
        }
    }

    #[test]
    fn every_verdict_says_what_to_do() {
        for code in codes() {
            let text = Verdict::of(code).advice;
            crate::error::tests::assert_reads_well(text);
            assert!(text.len() > 10, "{}", code.name());
        }
    }

    #[test]
    fn advice_names_only_options_that_there_are() {
        let options = concat!(
            include_str!("../../client.rs"),
            include_str!("../../producer/options.rs"),
            include_str!("../../producer/config/mod.rs"),
            include_str!("../../message/mod.rs"),
        );
        for text in codes().map(advice).chain([FENCED]) {
            for word in text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').filter(|it| it.contains('_')) {
                let there = [format!("fn {word}("), format!("fn with_{word}(")];
                assert!(there.iter().any(|it| options.contains(it)), "{word} in {text:?}");
            }
        }
    }

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
            assert_ne!(Verdict::of(code).doubt, Doubt::None, "{}", code.name());
        }
    }

    #[test]
    fn only_one_tells_that_the_topic_is_not_there_and_may_follow_an_append() {
        let deleted: Vec<&str> =
            codes().filter(|code| Verdict::of(*code).doubt == Doubt::Deleted).map(ErrorCode::name).collect();
        assert_eq!(deleted, ["UNKNOWN_TOPIC_OR_PARTITION"]);
    }

    #[test]
    fn only_these_prove_that_nothing_was_appended() {
        let proving: Vec<i16> = (-2..300).filter(|code| Verdict::of(ErrorCode(*code)).doubt == Doubt::None).collect();
        assert_eq!(proving, [2, 10, 17, 18, 19, 21, 29, 30, 31, 32, 35, 42, 43, 45, 47, 53, 59, 65, 76, 87, 90, 100]);
    }

    #[test]
    fn an_unknown_code_is_tried_once_more() {
        assert_eq!(Verdict::of(ErrorCode::UNKNOWN_SERVER_ERROR).action, Reaction::RetryOnce);
        assert_eq!(Verdict::of(ErrorCode(9999)).action, Reaction::RetryOnce);
    }

    #[test]
    fn a_topic_fails_at_once_only_where_waiting_cannot_help() {
        let with = |verdict| -> Vec<&str> {
            codes().filter(|code| TopicVerdict::of(*code) == verdict).map(ErrorCode::name).collect()
        };
        assert_eq!(with(TopicVerdict::Known), ["NONE"]);
        assert_eq!(with(TopicVerdict::Missing), ["UNKNOWN_TOPIC_OR_PARTITION", "UNKNOWN_TOPIC_ID"]);
        assert_eq!(with(TopicVerdict::Coming), ["LEADER_NOT_AVAILABLE"]);
        let rights: Vec<&str> = codes().filter(|code| code.speaks_of_rights()).map(ErrorCode::name).collect();
        assert_eq!(with(TopicVerdict::Fail), [&["INVALID_TOPIC_EXCEPTION"], &rights[..]].concat());
        assert_eq!(with(TopicVerdict::Wait).len(), codes().count() - 5 - rights.len());
        // A replica that is down takes no leader away.
        assert!(TopicVerdict::has_leader(ErrorCode::REPLICA_NOT_AVAILABLE));
        assert!(!TopicVerdict::has_leader(ErrorCode::LEADER_NOT_AVAILABLE));
    }

    #[test]
    fn an_id_is_asked_for_again_except_where_another_producer_took_its_place() {
        let with = |verdict| -> Vec<&str> {
            codes().filter(|code| IdVerdict::of(*code) == verdict).map(ErrorCode::name).collect()
        };
        assert_eq!(with(IdVerdict::Fatal), ["INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED"]);
        let rights: Vec<&str> = codes().filter(|code| code.speaks_of_rights()).map(ErrorCode::name).collect();
        assert_eq!(with(IdVerdict::Denied), rights);
        assert_eq!(IdVerdict::of(ErrorCode::NONE), IdVerdict::Given);
        for code in [ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::NOT_COORDINATOR, ErrorCode(9999)] {
            assert_eq!(IdVerdict::of(code), IdVerdict::Retry, "{}", code.name());
        }
    }
}
