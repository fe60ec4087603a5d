//! The limits of options, alone and together. Each builder calls it once; it finds every problem, so that a user
//! repairs all of them at once.

use std::time::Duration;

use super::{ClientConfig, ProducerConfig, QueueConfig, RequiredAcks};
use crate::error::ConfigProblem;

/// The longest duration of an option, one year, so that no sum or product of them overflows.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The longest `client_id`, in bytes, the same as for names of topics.
const MAX_CLIENT_ID: usize = 249;

/// Below this not even the list of versions and a small cluster's metadata could be read.
const MIN_RESPONSE_BYTES: usize = 16 * 1024;

/// The size of a frame is a signed 32-bit number in the protocol.
const MAX_RESPONSE_BYTES: usize = i32::MAX as usize;

/// `ack_timeout` is a signed 32-bit number of milliseconds in the protocol.
const MAX_ACK_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// Batches that a broker remembers per producer and partition (KIP-98, since Kafka 1.0).
const MAX_IN_FLIGHT: usize = 5;

/// The header of a batch takes 61 bytes, and one record with a short key some more.
const MIN_MESSAGE_BYTES: usize = 128;

/// The most bytes of a Produce request around its only batch: header, client id, topic name.
const REQUEST_OVERHEAD: usize = 1024;

/// The largest request that brokers read by default (`socket.request.max.bytes`).
const MAX_REQUEST_BYTES: usize = 100 * 1024 * 1024;

/// As in librdkafka (`queue.buffering.max.messages`).
const MAX_QUEUE_SIZE: usize = i32::MAX as usize;

/// 64 GiB, or as near as a small machine's addresses come. Room for chunks is reserved in proportion.
const MAX_BYTESIZE: usize = if usize::BITS > 36 { (64_u64 << 30) as usize } else { usize::MAX / 4 };

/// `true` if idempotence is on. If it was not asked for, it is on exactly when all replicas acknowledge.
pub(crate) fn resolve_idempotence(asked: Option<bool>, acks: RequiredAcks, problems: &mut Vec<ConfigProblem>) -> bool {
    if asked == Some(true) && acks != RequiredAcks::All {
        problems.push(ConfigProblem::new(
            &["idempotent", "required_acks"],
            format!(
                "idempotent(true) needs required_acks All, not {acks:?}: \
                 set required_acks to All, or leave idempotent out"
            ),
        ));
    }
    asked.unwrap_or(acks == RequiredAcks::All)
}

impl ClientConfig {
    /// Adds the faults of these options to `problems`.
    pub(crate) fn check(&self, problems: &mut Vec<ConfigProblem>) {
        let client_id = &self.client_id;
        let id_is_good = client_id.len() <= MAX_CLIENT_ID && !client_id.chars().any(char::is_control);
        require(id_is_good, &["client_id"], problems, || {
            format!(
                "client_id must have at most {MAX_CLIENT_ID} bytes and no control characters, \
                 this one has {} bytes: choose a short name",
                client_id.len()
            )
        });
        wait("connect_timeout", self.connect_timeout, problems);
        wait("socket_timeout", self.socket_timeout, problems);
        wait("connections_max_idle", self.connections_max_idle, problems);
        backoff(
            ["reconnect_backoff", "reconnect_backoff_max"],
            [self.reconnect_backoff, self.reconnect_backoff_max],
            problems,
        );
        let (min, max) = (self.metadata_min_age, self.metadata_max_age);
        wait("metadata_max_age", max, problems);
        wait("metadata_min_age", min, problems);
        require(min <= max, &["metadata_min_age", "metadata_max_age"], problems, || {
            format!(
                "metadata_min_age ({min:?}) must not be above metadata_max_age ({max:?}): \
                     lower the first or raise the second"
            )
        });
        let bytes = self.max_response_bytes;
        require((MIN_RESPONSE_BYTES..=MAX_RESPONSE_BYTES).contains(&bytes), &["max_response_bytes"], problems, || {
            format!(
                "max_response_bytes is {bytes}: \
                     choose from {MIN_RESPONSE_BYTES} to {MAX_RESPONSE_BYTES} bytes"
            )
        });
    }

    /// Adds the faults of the login to `problems`.
    #[cfg(feature = "sasl")]
    pub(crate) fn check_login(&self, is_encrypted: bool, problems: &mut Vec<ConfigProblem>) {
        if let Some(sasl) = &self.sasl {
            sasl.check(problems);
            require(is_encrypted || !self.sasl_over_ssl, &["sasl", "sasl_over_ssl"], problems, || {
                "the login (sasl) would go over a connection without encryption, where others can read it: \
                 use TLS, or set sasl_over_ssl(false) if the network is trusted"
                    .into()
            });
        }
    }
}

impl ProducerConfig {
    /// Adds the faults of these options, alone and with the client's, to `problems`.
    ///
    /// `max_in_flight` is looked at as it was asked for, before it is forced to 1 without idempotence.
    pub(crate) fn check(&self, client: &ClientConfig, problems: &mut Vec<ConfigProblem>) {
        self.check_deadlines(client, problems);
        self.check_sizes(problems);
    }

    fn check_deadlines(&self, client: &ClientConfig, problems: &mut Vec<ConfigProblem>) {
        let (ack, socket) = (self.ack_timeout, client.socket_timeout);
        require((Duration::from_millis(1)..=MAX_ACK_TIMEOUT).contains(&ack), &["ack_timeout"], problems, || {
            format!("ack_timeout is {ack:?}: choose from 1ms to {MAX_ACK_TIMEOUT:?}")
        });
        require(ack < socket, &["ack_timeout", "socket_timeout"], problems, || {
            format!(
                "ack_timeout ({ack:?}) must be below the client's socket_timeout ({socket:?}), \
                     or a slow answer is taken for a lost one: lower the first or raise the second"
            )
        });
        let in_flight = self.max_in_flight;
        require(in_flight > 0, &["max_in_flight"], problems, || {
            format!("max_in_flight is 0: choose from 1 to {MAX_IN_FLIGHT}")
        });
        require(!self.idempotent || in_flight <= MAX_IN_FLIGHT, &["max_in_flight", "idempotent"], problems, || {
            format!(
                "max_in_flight is {in_flight}, with idempotent on it can be at most \
                     {MAX_IN_FLIGHT}, which is what brokers remember: lower it"
            )
        });
        positive("delivery_timeout", self.delivery_timeout, problems);
        backoff(["retry_backoff", "retry_backoff_max"], [self.retry_backoff, self.retry_backoff_max], problems);
        bounded("unknown_topic_grace", self.unknown_topic_grace, problems);
    }

    fn check_sizes(&self, problems: &mut Vec<ConfigProblem>) {
        let (message, batch) = (self.max_message_bytes, self.max_batch_bytes);
        let (request, buffer) = (self.max_request_bytes, self.max_buffer_bytesize);
        require(self.max_buffer_size != Some(0), &["max_buffer_size"], problems, || {
            "max_buffer_size is 0, so nothing could be sent: choose at least 1, \
                 or None to bound the buffer by max_buffer_bytesize alone"
                .into()
        });
        at_most_64_gib("max_buffer_bytesize", buffer, problems);
        require(message >= MIN_MESSAGE_BYTES, &["max_message_bytes"], problems, || {
            format!("max_message_bytes is {message}: choose at least {MIN_MESSAGE_BYTES}")
        });
        not_above(("max_message_bytes", message), ("max_batch_bytes", batch), problems);
        not_above(("max_message_bytes", message), ("max_buffer_bytesize", buffer), problems);
        require(request <= MAX_REQUEST_BYTES, &["max_request_bytes"], problems, || {
            format!(
                "max_request_bytes is {request}: choose at most {MAX_REQUEST_BYTES}, \
                     above which brokers close the connection"
            )
        });
        require(
            batch.saturating_add(REQUEST_OVERHEAD) <= request,
            &["max_batch_bytes", "max_request_bytes"],
            problems,
            || {
                format!(
                    "max_request_bytes ({request}) must be at least {REQUEST_OVERHEAD} bytes above \
                     max_batch_bytes ({batch}): raise the first or lower the second"
                )
            },
        );
    }
}

impl QueueConfig {
    /// Adds the faults of these options, alone and with the producer's, to `problems`.
    pub(crate) fn check(&self, producer: &ProducerConfig, problems: &mut Vec<ConfigProblem>) {
        let size = self.max_queue_size;
        require((1..=MAX_QUEUE_SIZE).contains(&size), &["max_queue_size"], problems, || {
            format!("max_queue_size is {size}: choose from 1 to {MAX_QUEUE_SIZE} messages")
        });
        at_most_64_gib("max_queue_bytesize", self.max_queue_bytesize, problems);
        not_above(
            ("max_message_bytes", producer.max_message_bytes),
            ("max_queue_bytesize", self.max_queue_bytesize),
            problems,
        );
        bounded("drop_timeout", self.drop_timeout, problems);
    }
}

fn require(holds: bool, options: &[&'static str], problems: &mut Vec<ConfigProblem>, text: impl FnOnce() -> String) {
    if !holds {
        problems.push(ConfigProblem::new(options, text()));
    }
}

/// Neither zero nor above one year.
fn wait(option: &'static str, value: Duration, problems: &mut Vec<ConfigProblem>) {
    positive(option, value, problems);
    bounded(option, value, problems);
}

fn positive(option: &'static str, value: Duration, problems: &mut Vec<ConfigProblem>) {
    require(!value.is_zero(), &[option], problems, || format!("{option} is zero: choose a longer time"));
}

fn bounded(option: &'static str, value: Duration, problems: &mut Vec<ConfigProblem>) {
    require(value <= MAX_DURATION, &[option], problems, || {
        format!("{option} is {value:?}: choose at most one year ({MAX_DURATION:?})")
    });
}

fn backoff(
    [first, max]: [&'static str; 2],
    [first_pause, max_pause]: [Duration; 2],
    problems: &mut Vec<ConfigProblem>,
) {
    wait(first, first_pause, problems);
    wait(max, max_pause, problems);
    require(first_pause <= max_pause, &[first, max], problems, || {
        format!(
            "{first} ({first_pause:?}) must not be above {max} ({max_pause:?}): \
             lower the first or raise the second"
        )
    });
}

fn not_above(
    (small, small_bytes): (&'static str, usize),
    (large, large_bytes): (&'static str, usize),
    problems: &mut Vec<ConfigProblem>,
) {
    require(small_bytes <= large_bytes, &[small, large], problems, || {
        format!(
            "{small} ({small_bytes}) must not be above {large} ({large_bytes}): \
                 lower the first or raise the second"
        )
    });
}

fn at_most_64_gib(option: &'static str, bytes: usize, problems: &mut Vec<ConfigProblem>) {
    require(bytes <= MAX_BYTESIZE, &[option], problems, || {
        format!("{option} is {bytes}: choose at most {MAX_BYTESIZE} bytes")
    });
}
