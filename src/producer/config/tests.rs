//! Defaults, limits and contradictions of the producers' options.

use std::sync::Mutex;

use super::*;
use crate::config::BrokerAddress;
use crate::error::tests::assert_reads_well;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn client() -> Arc<ClientConfig> {
    let seed: BrokerAddress = "a:1".parse().unwrap();
    Arc::new(ClientConfig::new(vec![seed]))
}

fn sync_builder() -> ProducerBuilder {
    ProducerBuilder::new(client())
}

fn builder() -> AsyncProducerBuilder {
    AsyncProducerBuilder::new(client())
}

fn checked(builder: AsyncProducerBuilder) -> (ProducerConfig, QueueConfig) {
    let (_, producer, queue, _) = builder.check().unwrap_or_else(|error| panic!("{error}"));
    (producer, queue)
}

fn options(error: &ConfigError) -> Vec<&[&str]> {
    let problems = error.problems().iter();
    problems.map(crate::error::ConfigProblem::options).collect()
}

fn error(builder: AsyncProducerBuilder) -> ConfigError {
    let error = builder.build().expect_err("these options are wrong");
    assert_reads_well(&error.to_string());
    for problem in error.problems() {
        for option in problem.options() {
            assert!(problem.to_string().contains(option), "{problem}");
        }
    }
    error
}

fn assert_producer_defaults(config: &ProducerConfig) {
    assert_eq!(config.required_acks, RequiredAcks::All);
    assert_eq!(config.ack_timeout, Duration::from_secs(5));
    assert!(config.idempotent);
    assert_eq!(config.max_in_flight, 5);
    assert_eq!(config.delivery_timeout, Duration::from_secs(120));
    assert_eq!(config.max_retries, None);
    assert_eq!(config.retry_backoff, Duration::from_millis(100));
    assert_eq!(config.retry_backoff_max, Duration::from_secs(1));
    assert_eq!(config.max_buffer_size, None);
    assert_eq!(config.max_buffer_bytesize, 33_554_432);
    assert_eq!(config.max_message_bytes, 1_000_000);
    assert_eq!(config.max_batch_bytes, 1_000_000);
    assert_eq!(config.max_request_bytes, 8_388_608);
    assert_eq!(config.unknown_topic_grace, Duration::from_secs(30));
    assert!(config.allow_auto_topic_creation);
}

#[test]
fn the_defaults_are_these() {
    assert_producer_defaults(&sync_builder().check().unwrap().1);
    let (producer, queue) = checked(builder());
    assert_producer_defaults(&producer);
    assert_eq!(queue.max_queue_size, 1000);
    assert_eq!(queue.max_queue_bytesize, 33_554_432);
    assert_eq!(queue.delivery_threshold, 0);
    assert_eq!(queue.delivery_interval, Duration::ZERO);
    assert_eq!(queue.shutdown_timeout, None);
    assert_eq!(queue.drop_timeout, Duration::from_secs(5));
    assert_eq!(queue.on_overflow, OnOverflow::Refuse);
}

/// Sets every shared option to a value that no other has, in either builder.
macro_rules! set_all {
    ($builder:expr) => {
        $builder
            .required_acks(RequiredAcks::All)
            .ack_timeout(Duration::from_secs(1))
            .idempotent(true)
            .max_in_flight(3)
            .delivery_timeout(Duration::from_secs(4))
            .max_retries(5)
            .retry_backoff(Duration::from_secs(6))
            .retry_backoff_max(Duration::from_secs(7))
            .max_buffer_size(8)
            .max_buffer_bytesize(9_000)
            .max_message_bytes(1_000)
            .max_batch_bytes(1_100)
            .max_request_bytes(12_000)
            .partitioner(Partitioner::default())
            .unknown_topic_grace(Duration::from_secs(13))
            .allow_auto_topic_creation(false)
    };
}

fn assert_all_set(config: &ProducerConfig) {
    assert_eq!(config.required_acks, RequiredAcks::All);
    assert_eq!(config.ack_timeout, Duration::from_secs(1));
    assert!(config.idempotent);
    assert_eq!(config.max_in_flight, 3);
    assert_eq!(config.delivery_timeout, Duration::from_secs(4));
    assert_eq!(config.max_retries, Some(5));
    assert_eq!(config.retry_backoff, Duration::from_secs(6));
    assert_eq!(config.retry_backoff_max, Duration::from_secs(7));
    assert_eq!(config.max_buffer_size, Some(8));
    assert_eq!(config.max_buffer_bytesize, 9_000);
    assert_eq!(config.max_message_bytes, 1_000);
    assert_eq!(config.max_batch_bytes, 1_100);
    assert_eq!(config.max_request_bytes, 12_000);
    assert_eq!(config.unknown_topic_grace, Duration::from_secs(13));
    assert!(!config.allow_auto_topic_creation);
}

#[test]
fn every_setter_sets_its_own_option() {
    assert_all_set(&set_all!(sync_builder()).check().unwrap().1);
    let (producer, queue) = checked(
        set_all!(builder())
            .max_queue_size(14)
            .max_queue_bytesize(15_000)
            .delivery_threshold(16)
            .delivery_interval(Duration::from_secs(17))
            .on_overflow(OnOverflow::Block(Duration::from_secs(18)))
            .shutdown_timeout(Duration::from_secs(19))
            .drop_timeout(Duration::from_secs(20)),
    );
    assert_all_set(&producer);
    assert_eq!(queue.max_queue_size, 14);
    assert_eq!(queue.max_queue_bytesize, 15_000);
    assert_eq!(queue.delivery_threshold, 16);
    assert_eq!(queue.delivery_interval, Duration::from_secs(17));
    assert_eq!(queue.on_overflow, OnOverflow::Block(Duration::from_secs(18)));
    assert_eq!(queue.shutdown_timeout, Some(Duration::from_secs(19)));
    assert_eq!(queue.drop_timeout, Duration::from_secs(20));
}

#[test]
fn what_is_optional_can_be_set_back_to_none() {
    let builder = builder().max_retries(1).max_retries(None).max_buffer_size(1).max_buffer_size(None);
    let builder = builder.shutdown_timeout(Duration::ZERO).shutdown_timeout(None);
    let (producer, queue) = checked(builder);
    assert_eq!(producer.max_retries, None);
    assert_eq!(producer.max_buffer_size, None);
    assert_eq!(queue.shutdown_timeout, None);
}

#[test]
fn streaming_sets_three_options_and_what_follows_it_wins() {
    let (_, queue) = checked(builder().delivery_threshold(7).streaming());
    assert_eq!(queue.delivery_interval, Duration::from_millis(5));
    assert_eq!(queue.delivery_threshold, 10_000);
    assert_eq!(queue.max_queue_size, 100_000);
    assert_eq!(queue.max_queue_bytesize, 33_554_432);
    let (_, queue) = checked(builder().streaming().max_queue_size(5));
    assert_eq!(queue.max_queue_size, 5);
}

#[test]
fn idempotence_follows_required_acks_unless_it_is_asked_for() {
    use RequiredAcks::{All, Leader, None};
    for (acks, asked, idempotent, in_flight) in [
        (All, Option::None, true, 5),
        (Leader, Option::None, false, 1),
        (None, Option::None, false, 1),
        (All, Some(true), true, 5),
        (All, Some(false), false, 1),
        (Leader, Some(false), false, 1),
    ] {
        let mut builder = builder().required_acks(acks);
        if let Some(asked) = asked {
            builder = builder.idempotent(asked);
        }
        let (producer, _) = checked(builder);
        assert_eq!(producer.idempotent, idempotent, "{acks:?} {asked:?}");
        assert_eq!(producer.max_in_flight, in_flight, "{acks:?} {asked:?}");
    }
}

#[test]
fn idempotence_asked_for_with_fewer_acks_is_a_contradiction_that_names_both() {
    for acks in [RequiredAcks::Leader, RequiredAcks::None] {
        let error = error(builder().idempotent(true).required_acks(acks));
        assert_eq!(options(&error), [["idempotent", "required_acks"]]);
    }
}

#[test]
fn more_than_five_in_flight_is_a_problem_only_with_idempotence() {
    let too_many = error(builder().max_in_flight(6));
    assert_eq!(options(&too_many), [["max_in_flight", "idempotent"]]);
    let (producer, _) = checked(builder().max_in_flight(6).idempotent(false));
    assert_eq!(producer.max_in_flight, 1);
    for idempotent in [true, false] {
        let none = error(builder().max_in_flight(0).idempotent(idempotent));
        assert_eq!(options(&none), [["max_in_flight"]]);
    }
}

#[test]
fn all_problems_are_listed_at_once() {
    let error = error(
        builder()
            .required_acks(RequiredAcks::Leader)
            .idempotent(true)
            .ack_timeout(Duration::from_secs(30))
            .max_in_flight(9)
            .delivery_timeout(Duration::ZERO)
            .retry_backoff(Duration::from_secs(2))
            .unknown_topic_grace(Duration::MAX)
            .max_buffer_size(0)
            .max_buffer_bytesize(1000)
            .max_batch_bytes(200_000_000)
            .max_message_bytes(200_000_001)
            .max_request_bytes(200_000_000)
            .max_queue_size(0)
            .max_queue_bytesize(0)
            .drop_timeout(Duration::MAX),
    );
    let expected: [&[&str]; 14] = [
        &["idempotent", "required_acks"],
        &["ack_timeout", "socket_timeout"],
        &["max_in_flight", "idempotent"],
        &["delivery_timeout"],
        &["retry_backoff", "retry_backoff_max"],
        &["unknown_topic_grace"],
        &["max_buffer_size"],
        &["max_message_bytes", "max_batch_bytes"],
        &["max_message_bytes", "max_buffer_bytesize"],
        &["max_request_bytes"],
        &["max_batch_bytes", "max_request_bytes"],
        &["max_queue_size"],
        &["max_message_bytes", "max_queue_bytesize"],
        &["drop_timeout"],
    ];
    assert_eq!(options(&error), expected);
}

#[test]
fn the_sync_builder_checks_too() {
    let error = sync_builder().max_in_flight(6).max_buffer_size(0).build().unwrap_err();
    assert_eq!(options(&error), [&["max_in_flight", "idempotent"][..], &["max_buffer_size"]]);
}

#[test]
fn every_single_limit_is_kept() {
    let zero = Duration::ZERO;
    let above = YEAR + Duration::from_nanos(1);
    let mebi = 1024 * 1024;
    let cases: Vec<(AsyncProducerBuilder, &[&str])> = vec![
        (builder().ack_timeout(Duration::from_micros(999)), &["ack_timeout"]),
        (builder().ack_timeout(Duration::from_secs(30)), &["ack_timeout", "socket_timeout"]),
        (builder().delivery_timeout(zero), &["delivery_timeout"]),
        (builder().retry_backoff(zero), &["retry_backoff"]),
        (builder().retry_backoff_max(above), &["retry_backoff_max"]),
        (builder().unknown_topic_grace(above), &["unknown_topic_grace"]),
        (builder().max_buffer_size(0), &["max_buffer_size"]),
        (builder().max_buffer_bytesize(usize::MAX), &["max_buffer_bytesize"]),
        (builder().max_buffer_bytesize(999_999), &["max_message_bytes", "max_buffer_bytesize"]),
        (builder().max_message_bytes(127), &["max_message_bytes"]),
        (builder().max_message_bytes(1_000_001), &["max_message_bytes", "max_batch_bytes"]),
        (builder().max_batch_bytes(999_999), &["max_message_bytes", "max_batch_bytes"]),
        (builder().max_batch_bytes(usize::MAX), &["max_batch_bytes", "max_request_bytes"]),
        (builder().max_request_bytes(1_001_023), &["max_batch_bytes", "max_request_bytes"]),
        (builder().max_request_bytes(100 * mebi + 1), &["max_request_bytes"]),
        (builder().max_queue_size(0), &["max_queue_size"]),
        (builder().max_queue_size(usize::MAX), &["max_queue_size"]),
        (builder().max_queue_bytesize(usize::MAX), &["max_queue_bytesize"]),
        (builder().max_queue_bytesize(999_999), &["max_message_bytes", "max_queue_bytesize"]),
        (builder().drop_timeout(above), &["drop_timeout"]),
    ];
    for (wrong, names) in cases {
        let error = error(wrong);
        assert_eq!(options(&error), [names], "{error}");
    }
}

#[test]
fn an_ack_timeout_that_the_protocol_cannot_say_is_a_problem() {
    let mut patient = ClientConfig::clone(&client());
    patient.socket_timeout = YEAR;
    let builder = AsyncProducerBuilder::new(Arc::new(patient)).ack_timeout(YEAR / 2);
    assert_eq!(options(&error(builder)), [["ack_timeout"]]);
}

#[test]
fn the_limits_themselves_are_legal() {
    let shortest = Duration::from_nanos(1);
    let (producer, _) = checked(
        builder()
            .ack_timeout(Duration::from_millis(1))
            .delivery_timeout(shortest)
            .retry_backoff(shortest)
            .retry_backoff_max(shortest)
            .max_retries(0)
            .max_in_flight(1)
            .max_buffer_size(1)
            .max_message_bytes(128)
            .max_batch_bytes(128)
            .max_buffer_bytesize(128)
            .max_queue_bytesize(128)
            .max_request_bytes(128 + 1024)
            .max_queue_size(1)
            .unknown_topic_grace(Duration::ZERO)
            .drop_timeout(Duration::ZERO),
    );
    assert_eq!(producer.max_retries, Some(0));
    let (producer, queue) = checked(
        builder()
            .ack_timeout(Duration::from_secs(30) - shortest)
            .retry_backoff(YEAR)
            .retry_backoff_max(YEAR)
            .max_retries(u32::MAX)
            .max_buffer_size(usize::MAX)
            .max_batch_bytes(100 * 1024 * 1024 - 1024)
            .max_request_bytes(100 * 1024 * 1024)
            .unknown_topic_grace(YEAR)
            .drop_timeout(YEAR)
            .max_queue_size(i32::MAX as usize),
    );
    assert_eq!(producer.max_buffer_size, Some(usize::MAX));
    assert_eq!(queue.drop_timeout, YEAR);
}

#[test]
fn never_and_at_once_are_legal_where_they_make_sense() {
    let (producer, queue) = checked(
        builder()
            .delivery_timeout(Duration::MAX)
            .delivery_interval(Duration::MAX)
            .delivery_threshold(usize::MAX)
            .shutdown_timeout(Duration::MAX)
            .on_overflow(OnOverflow::Block(Duration::MAX)),
    );
    assert_eq!(producer.delivery_timeout, Duration::MAX);
    assert_eq!(queue.delivery_interval, Duration::MAX);
    assert_eq!(queue.delivery_threshold, usize::MAX);
    assert_eq!(queue.shutdown_timeout, Some(Duration::MAX));
    let (_, queue) = checked(
        builder()
            .delivery_interval(Duration::from_nanos(1))
            .delivery_threshold(1)
            .shutdown_timeout(Duration::ZERO)
            .on_overflow(OnOverflow::Block(Duration::ZERO)),
    );
    assert_eq!(queue.delivery_interval, Duration::from_nanos(1));
}

#[test]
fn a_builder_from_a_producer_keeps_its_options() {
    let (client, producer) = set_all!(sync_builder()).check().unwrap();
    let (kept, producer, queue, callback) =
        AsyncProducerBuilder::from_parts(Arc::clone(&client), producer).check().unwrap();
    assert!(Arc::ptr_eq(&client, &kept));
    assert_all_set(&producer);
    assert_eq!(queue.max_queue_size, 1000);
    assert!(callback.is_none());
}

#[test]
fn a_builder_from_a_producer_keeps_idempotence_off_where_it_was_asked_for() {
    for (acks, asked) in [(RequiredAcks::All, Some(false)), (RequiredAcks::Leader, None), (RequiredAcks::All, None)] {
        let mut builder = sync_builder().required_acks(acks);
        if let Some(asked) = asked {
            builder = builder.idempotent(asked);
        }
        let (client, before) = builder.check().unwrap();
        let again = AsyncProducerBuilder::from_parts(client, before.clone());
        let (after, _) = checked(again);
        assert_eq!(after.idempotent, before.idempotent, "{acks:?} {asked:?}");
        assert_eq!(after.max_in_flight, before.max_in_flight);
    }
}

#[test]
fn the_last_callback_is_kept_and_can_be_called() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (Arc::clone(&calls), Arc::clone(&calls));
    let builder = builder()
        .on_delivery(move |_| first.lock().unwrap().push(1))
        .on_delivery(move |fate| second.lock().unwrap().push(fate.unwrap().tag));
    assert!(format!("{builder:?}").contains("on_delivery: true"));
    let (_, _, _, callback) = builder.check().unwrap();
    let delivered =
        Delivered { topic: crate::Topic::new("t").unwrap(), partition: 0, offset: None, timestamp: None, tag: 7 };
    callback.expect("it was set")(Ok(&delivered));
    assert_eq!(*calls.lock().unwrap(), [7]);
}
