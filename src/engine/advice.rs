//! Advice for the user about an error code of a broker, in any response. The tests of `producer::verdict` have every
//! code of Kafka's by name.

use crate::error::ErrorCode;

/// Advice for the user about a code, in any response.
#[must_use]
pub fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::CORRUPT_MESSAGE => "it was damaged on its way; check the network between, or report it",
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            "fewer replicas are in sync than min.insync.replicas of the topic; bring brokers back"
        }
        ErrorCode::REQUEST_TIMED_OUT => {
            "the replicas did not confirm within ack_timeout; check the load of the brokers, and that as many replicas \
             are in sync as min.insync.replicas of the topic asks for"
        }
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::INCONSISTENT_TOPIC_ID => {
            "check that the topic still exists"
        }
        ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::BROKER_NOT_AVAILABLE
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH => "if that lasts, check that the brokers with its replicas are up",
        ErrorCode::LISTENER_NOT_FOUND => "check that every broker has the listener that this client uses",
        ErrorCode::KAFKA_STORAGE_ERROR => "check the disks of the broker",
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
            "make the message smaller, or raise max.message.bytes of the topic"
        }
        ErrorCode::INVALID_RECORD => "a compacted topic takes no message without a key; else see the broker's log",
        ErrorCode::INVALID_TIMESTAMP => {
            "check create_time and the clocks (message.timestamp.after.max.ms of the topic), and, where the topic is \
             compacted, that there is a key"
        }
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        | ErrorCode::INVALID_PRODUCER_EPOCH
        | ErrorCode::UNKNOWN_PRODUCER_ID => {
            "the broker does not have what this producer wrote last; if that repeats, check the replicas of the topic"
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => "grant this client Describe and Write on the topic",
        // KIP-679: Write on any topic is enough.
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            "grant this client Write on the topic; brokers before Kafka 2.8 want IdempotentWrite on the cluster too"
        }
        ErrorCode::GROUP_AUTHORIZATION_FAILED => "grant this client Read on its group",
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => "grant this client Write on its transactional id",
        ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE => "upgrade the brokers",
        ErrorCode::INVALID_TOPIC_EXCEPTION => "check its name; topics that Kafka keeps for itself cannot be written to",
        ErrorCode::INVALID_REPLICATION_FACTOR => "there are fewer brokers than a new topic has replicas",
        ErrorCode::POLICY_VIOLATION => "ask those who run the cluster what its policy allows",
        ErrorCode::INVALID_REQUIRED_ACKS | ErrorCode::INVALID_REQUEST => "please report it",
        _ => "see the broker's log",
    }
}
