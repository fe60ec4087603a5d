//! What brokers answer to batches, and what becomes of their messages.

use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdResponse, ProduceResponse};
use ottla::config::ProducerConfig;
use ottla::testing::{Api, ClusterBuilder, Fault};
use ottla::{DeliveryErrorKind, ErrorCode, Message, Persistence, Timestamp};

use crate::bench::{Bench, Twist};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn one_topic(cluster: ClusterBuilder) -> ClusterBuilder {
    cluster.topic("a", 1)
}

/// What is in the log of topic `a`.
fn stored(bench: &Bench) -> Vec<String> {
    bench.cluster.messages("a").iter().map(|message| message.value_str().expect("a text").to_owned()).collect()
}

/// The code of a refusal.
fn code(error: &DeliveryErrorKind) -> i16 {
    match error {
        DeliveryErrorKind::Broker(error) => error.code.0,
        other => panic!("not a broker's refusal: {other}"),
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

/// After a first message, five more are in flight, each in a request of its own.
fn five_in_flight() -> Bench {
    let mut bench = Bench::new(1, one_topic);
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.far.insert(1);
    for n in 1..6 {
        bench.send(&Message::new("a", n.to_string()));
    }
    assert_eq!(bench.on_the_way(), 5);
    bench
}

#[test]
fn the_second_of_five_in_flight_that_is_refused_goes_again_in_order() {
    for code in [2, 3, 5, 6, 7, 13, 19, 56, 9999] {
        let mut bench = five_in_flight();
        bench.cluster.inject(Fault::on(Api::Produce).skip(1).times(1).error(ErrorCode(code)));
        bench.far.clear();
        bench.arrive();
        bench.pass(secs(3));
        assert_eq!(stored(&bench), numbers(6), "error {code}");
        let offsets: Vec<_> = bench.delivered.iter().filter_map(|delivered| delivered.offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3, 4, 5], "error {code}");
    }
}

#[test]
fn a_batch_that_an_answer_leaves_out_goes_again_after_pauses_that_grow() {
    let mut bench = five_in_flight();
    bench.far.clear();
    bench.twist = Some(Twist::of(Api::Produce, |answer: &mut ProduceResponse| answer.responses.clear()));
    bench.arrive();
    let before = bench.requests(Api::Produce);
    bench.pass(secs(10));
    let again = bench.requests(Api::Produce) - before;
    assert!((5..=20).contains(&again), "{again} in ten seconds");
    bench.twist = None;
    bench.pass(secs(3));
    assert_eq!((stored(&bench), bench.delivered.len(), bench.failed.len()), (numbers(6), 6, 0));
}

#[test]
fn what_was_appended_and_refused_afterwards_is_not_appended_again() {
    // Also as DUPLICATE_SEQUENCE_NUMBER, which is a success without an offset.
    for code in [3, 6, 7, 13, 20, 46, 56, -1, 9999] {
        let mut bench = five_in_flight();
        bench.cluster.inject(Fault::on(Api::Produce).skip(1).times(1).error_after(ErrorCode(code)));
        bench.far.clear();
        bench.arrive();
        bench.pass(secs(3));
        assert_eq!(stored(&bench), numbers(6), "error {code}");
        assert_eq!((bench.delivered.len(), bench.failed.len()), (6, 0), "error {code}");
        assert_eq!(bench.delivered.iter().any(|delivered| delivered.offset.is_none()), code == 46, "error {code}");
    }
}

#[test]
fn a_broker_that_lost_the_producers_state_gets_the_rest_under_the_next_epoch() {
    // OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID: what is refused was not appended.
    for code in [45, 47, 59] {
        let mut bench = five_in_flight();
        bench.cluster.inject(Fault::on(Api::Produce).skip(1).times(4).error(ErrorCode(code)));
        bench.far.clear();
        bench.arrive();
        bench.pass(secs(3));
        assert_eq!(stored(&bench), numbers(6), "error {code}");
        let log = bench.cluster.messages("a");
        let epochs: Vec<i16> = log.iter().map(|message| message.producer_epoch).collect();
        assert_eq!(epochs, [0, 0, 1, 1, 1, 1], "error {code}");
        assert_eq!((log[2].sequence, log[0].producer_id), (0, log[5].producer_id), "of the same id");
        assert_eq!(bench.requests(Api::InitProducerId), 1, "it raises its epoch by itself");
    }
}

#[test]
fn behind_the_last_epoch_comes_another_producer_id() {
    let mut bench = Bench::new(1, one_topic);
    let mut first = true;
    bench.twist = Some(Twist::of(Api::InitProducerId, move |answer: &mut InitProducerIdResponse| {
        if std::mem::take(&mut first) {
            answer.producer_epoch = i16::MAX - 1;
        }
    }));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    for n in 1..4 {
        // OUT_OF_ORDER_SEQUENCE_NUMBER: the rest goes on under the next epoch, of which there is one more.
        bench.cluster.inject(Fault::on(Api::Produce).times(1).error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
        bench.append(&Message::new("a", n.to_string()));
        bench.pass(secs(2));
    }
    assert_eq!(stored(&bench), numbers(4), "{:?}", bench.failed);
    let log = bench.cluster.messages("a");
    let ids: Vec<_> = log.iter().map(|it| (it.producer_id - log[0].producer_id, it.producer_epoch)).collect();
    assert_eq!(ids, [(0, i16::MAX - 1), (0, i16::MAX), (1, 0), (1, 1)]);
    assert_eq!(bench.requests(Api::InitProducerId), 2);
}

#[test]
fn a_number_that_is_no_producer_id_is_told_as_a_bad_answer_and_asked_for_again() {
    let mut bench = Bench::new(1, one_topic);
    let no_id = |answer: &mut InitProducerIdResponse| answer.producer_id = (-1).into();
    bench.twist = Some(Twist::of(Api::InitProducerId, no_id));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    let said = bench.engine.last_error().expect("it waits for an id").to_string();
    let bad = "the InitProducerId response cannot be read (it gives producer id -1 with epoch 0)";
    assert!(said.contains(bad), "{said}");
    assert!(!said.contains("NONE"), "no code of a broker's: {said}");
    bench.twist = None;
    bench.pass(secs(2));
    assert_eq!(stored(&bench), numbers(1));
}

#[test]
fn what_may_be_written_is_not_sent_under_the_next_epoch() {
    let mut bench = five_in_flight();
    // The first was appended, and its answer says that nobody knows; then the state is lost.
    bench.cluster.inject(Fault::on(Api::Produce).times(1).error_after(ErrorCode::REQUEST_TIMED_OUT));
    bench.cluster.inject(Fault::on(Api::Produce).skip(1).times(5).error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    bench.far.clear();
    bench.arrive();
    bench.pass(secs(3));
    let possibly = bench.failed.iter().filter(|error| error.persistence() == Persistence::Possibly).count();
    assert!(possibly >= 1, "{:?}", bench.failed);
    let mut log = stored(&bench);
    log.dedup();
    assert_eq!(log.len(), stored(&bench).len(), "nothing twice");
    assert_eq!(bench.delivered.len() + bench.failed.len(), 6);
}

#[test]
fn a_refusal_that_proves_nothing_makes_the_timeout_doubtful() {
    for (code, persistence) in [(19, Persistence::No), (20, Persistence::Possibly), (2, Persistence::No)] {
        let mut bench = Bench::with(1, one_topic, |config| config.delivery_timeout = secs(10));
        bench.cluster.inject(Fault::on(Api::Produce).error(ErrorCode(code)));
        bench.append(&Message::new("a", "v"));
        bench.pass(secs(10));
        let error = &bench.failed[0];
        assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { .. }), "{error}");
        assert_eq!(error.persistence(), persistence, "{error}");
        let text = error.to_string();
        assert!(code == 2 || text.contains("min.insync.replicas"), "it says what to do: {text}");
    }
}

#[test]
fn retries_pause_longer_each_time_with_jitter_until_the_time_is_up() {
    for code in [2, 7, 13, 56] {
        let mut bench = Bench::with(1, one_topic, |config| config.delivery_timeout = secs(12));
        bench.cluster.inject(Fault::on(Api::Produce).error(ErrorCode(code)));
        bench.append(&Message::new("a", "v"));
        bench.pass(secs(20));
        assert_eq!(bench.failed.len(), 1);
        let requests = bench.cluster.requests();
        let times: Vec<i64> = requests.iter().filter(|it| it.api == Api::Produce).map(|it| it.at.as_millis()).collect();
        let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let middles = [100, 200, 400, 800].into_iter().chain(std::iter::repeat(1000));
        for (pause, middle) in pauses.iter().zip(middles) {
            assert!((middle * 8 / 10 - 1..=middle * 12 / 10 + 1).contains(pause), "error {code}: {pauses:?}");
        }
        assert!((11..=16).contains(&pauses.len()), "error {code}: {pauses:?}");
        let long = &pauses[4..];
        assert!(long.iter().any(|pause| (pause - long[0]).abs() > 20), "without jitter: {pauses:?}");
    }
}

#[test]
fn messages_whose_time_is_up_in_the_queue_are_not_written_and_in_flight_possibly() {
    let mut bench = Bench::with(1, one_topic, |config| config.delivery_timeout = secs(10));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.far.insert(1);
    bench.send(&Message::new("a", "1"));
    bench.pass(Duration::from_millis(9999));
    assert_eq!(bench.failed.len(), 0);
    bench.pass(ms(2));
    assert_eq!((bench.failed.len(), bench.failed[0].persistence()), (1, Persistence::Possibly));
    // Its answer comes late: nobody is told again, and the next message is behind it.
    bench.far.clear();
    bench.arrive();
    bench.append(&Message::new("a", "2"));
    bench.pass(secs(1));
    assert_eq!((bench.delivered.len(), bench.failed.len()), (2, 1));
    assert_eq!(stored(&bench), numbers(3));

    bench.stop(1);
    bench.append(&Message::new("a", "3"));
    bench.pass(secs(11));
    assert_eq!((bench.failed.len(), bench.failed[1].persistence()), (2, Persistence::No));
    assert!(bench.failed[1].to_string().contains("127.0.0.1:9000"), "{}", bench.failed[1]);
}

#[test]
fn a_broker_that_asks_for_silence_gets_it_and_others_go_on() {
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 2).topic("b", 1));
    for partition in [0, 1] {
        bench.append(&Message::new("a", "first").with_partition(partition));
    }
    bench.pass(secs(1));
    bench.cluster.inject(Fault::on(Api::Produce).node(1).times(1).throttle(secs(5)));
    bench.append(&Message::new("a", "throttled").with_partition(0));
    bench.pass(ms(10));
    assert_eq!(bench.delivered.len(), 3, "it is delivered all the same");
    let to_it = |bench: &Bench| bench.cluster.requests().iter().filter(|request| request.node == 1).count();
    let before = to_it(&bench);
    for partition in [0, 1] {
        bench.append(&Message::new("a", "second").with_partition(partition));
    }
    // Metadata is wanted, too: the other broker is asked.
    bench.engine.ask_for_metadata();
    bench.pass(ms(4900));
    assert_eq!((to_it(&bench), bench.delivered.len()), (before, 4), "only the other broker was asked");
    assert_eq!(bench.failed.len(), 0);
    let said = bench.engine.last_error().expect("what the second message to this broker waits for").to_string();
    assert!(said.contains("quota"), "{said}");
    bench.pass(ms(200));
    assert_eq!(bench.delivered.len(), 5);
    let log: Vec<_> = bench.cluster.messages("a");
    assert_eq!(log.len(), 5, "nothing was sent twice");
}

#[test]
fn the_end_of_a_producer_does_not_wait_for_a_silence() {
    let mut bench = Bench::with(1, one_topic, |config| config.delivery_timeout = secs(3));
    bench.cluster.inject(Fault::on(Api::Produce).throttle(secs(3600)));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.append(&Message::new("a", "1"));
    bench.pass(secs(3));
    assert_eq!(bench.failed.len(), 1, "delivery_timeout is the one clock");
    bench.append(&Message::new("a", "2"));
    bench.engine.abandon(bench.now());
    bench.pass(ms(1));
    assert_eq!((bench.failed.len(), bench.failed[1].persistence()), (2, Persistence::No));
}

#[test]
fn a_deleted_topic_fails_within_its_grace_and_holds_up_no_other() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 2).topic("b", 1).auto_create(false));
    bench.append(&Message::new("a", "before"));
    bench.append(&Message::new("b", "before"));
    bench.pass(secs(1));
    bench.cluster.delete_topic("a");
    for n in 0..10 {
        bench.append(&Message::new("a", "after").with_partition(n % 2));
    }
    for n in 0..29 {
        bench.append(&Message::new("b", "v"));
        bench.pass(secs(1));
        assert_eq!((bench.delivered.len(), bench.failed.len()), (3 + n, 0));
    }
    bench.pass(secs(3));
    assert_eq!(bench.failed.len(), 10);
    for error in &bench.failed {
        assert!(matches!(error.kind(), DeliveryErrorKind::UnknownTopic { .. }), "{error}");
    }
    // A topic of that name is made later: it is another one.
    assert!(bench.pass(secs(60)) < 10);
}

#[test]
fn a_topic_made_anew_with_fewer_partitions_gets_what_it_has_a_place_for() {
    let mut bench = Bench::with(2, |cluster| cluster.topic("a", 3), |config| config.max_in_flight = 1);
    for partition in 0..3 {
        bench.append(&Message::new("a", "to the old one").with_partition(partition));
    }
    bench.pass(secs(1));
    bench.cluster.move_leader("a", 1, 1);
    bench.append(&Message::new("a", "to the old one").with_partition(1));
    bench.pass(secs(1));
    bench.far.insert(1);
    for partition in 0..3 {
        bench.append(&Message::new("a", "under way").with_partition(partition));
    }
    bench.pass(ms(1));
    for partition in 0..3 {
        bench.append(&Message::new("a", partition.to_string()).with_partition(partition));
    }
    assert_eq!((bench.on_the_way(), bench.failed.len()), (1, 0), "one request for all three");
    // Made anew, as the other broker says.
    bench.cluster.delete_topic("a");
    assert!(bench.cluster.make_topic("a", 2));
    bench.engine.ask_for_metadata();
    bench.pass(ms(1));
    assert_eq!((bench.on_the_way(), bench.failed.len()), (1, 2), "what was for the partition that is gone");
    bench.far.clear();
    bench.arrive();
    let error = bench.engine.last_error();
    assert!(error.is_none(), "what is answered about the old topic is expected: {error:?}");
    bench.pass(secs(5));
    let log: Vec<_> =
        bench.cluster.messages("a").iter().map(|it| (it.partition, it.value_str().map(str::to_owned))).collect();
    let expected = [(0, "under way"), (0, "0"), (1, "under way"), (1, "1")];
    assert_eq!(log, expected.map(|(partition, value)| (partition, Some(value.to_owned()))));
    let mut said: Vec<String> = Vec::new();
    for error in &bench.failed {
        said.push(match error.kind() {
            DeliveryErrorKind::TopicRecreated { .. } => {
                assert_eq!(error.persistence(), Persistence::Possibly);
                "recreated".to_owned()
            }
            DeliveryErrorKind::UnknownPartition { partition: 2, count: 2, .. } => {
                assert_eq!(error.persistence(), Persistence::No);
                String::from_utf8_lossy(error.message().value().expect("a value")).into_owned()
            }
            other => panic!("{other}"),
        });
    }
    said.sort_unstable();
    assert_eq!(said, ["2", "recreated"]);
}

#[test]
fn messages_of_a_partition_that_is_gone_come_back_for_any_other() {
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 2));
    for partition in [0, 1] {
        bench.append(&Message::new("a", "to the old one").with_partition(partition));
    }
    bench.pass(secs(1));
    bench.far.insert(2);
    bench.send(&Message::new("a", "0").with_partition(1));
    for n in 1..8 {
        // Where there is no key it was ottla that chose the partition, or the caller: nobody remembers.
        let message = Message::new("a", n.to_string());
        bench.append(&if n % 2 == 0 { message.with_key(format!("key {n}")) } else { message.with_partition(1) });
    }
    bench.cluster.delete_topic("a");
    assert!(bench.cluster.make_topic("a", 1));
    bench.engine.ask_for_metadata();
    bench.pass(ms(1));
    assert!(bench.failed.len() >= 5, "{:?}", bench.failed);
    let (mut possibly, mut gone) = (0, 0);
    for error in std::mem::take(&mut bench.failed) {
        match error.kind() {
            DeliveryErrorKind::TopicRecreated { .. } => possibly += 1,
            DeliveryErrorKind::UnknownPartition { partition: 1, count: 1, .. } => gone += 1,
            other => panic!("{other}"),
        }
        assert_ne!(error.message().partition(), Some(1), "{error}");
        bench.append(error.message());
    }
    assert!((possibly, gone) >= (1, 4), "{possibly} and {gone}");
    bench.pass(secs(5));
    assert_eq!(bench.failed.len(), 0, "{:?}", bench.failed);
    let mut log = stored(&bench);
    log.sort_unstable();
    assert_eq!(log, numbers(8));
}

#[test]
fn a_purge_leaves_what_a_connection_has_got() {
    let mut bench = Bench::new(1, one_topic);
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    // Its socket takes nothing, and may at any moment.
    bench.stuffed = true;
    bench.send(&Message::new("a", "handed over"));
    bench.append(&Message::new("a", "waits"));
    bench.engine.purge(bench.now());
    bench.pass(ms(1));
    let purged: Vec<_> = bench.failed.iter().filter_map(|error| error.message().value()).collect();
    assert_eq!(purged, [b"waits"]);
    assert!(matches!(bench.failed[0].kind(), DeliveryErrorKind::Purged));
    // Once that connection is gone and no byte of it had left, it waits as well.
    bench.stop(1);
    bench.engine.purge(bench.now());
    bench.pass(ms(1));
    assert_eq!((bench.failed.len(), bench.failed[1].persistence()), (2, Persistence::No));
}

#[test]
fn any_create_time_goes_into_a_batch_with_any_other() {
    let mut bench = Bench::new(1, |cluster| cluster.log_append_time_topic("a", 1).topic("b", 1));
    let day = 86_400_000;
    let times = [0, i64::MIN, i64::MAX, -1, 1_700_000_000_000, 1_700_000_000_000 - 30 * day, i64::MIN + 1, 7];
    for (n, time) in times.into_iter().enumerate() {
        let message = Message::new("a", n.to_string()).with_create_time(Timestamp::from_millis(time));
        bench.append(&message);
    }
    let past = [1_700_000_000_000, i64::MIN, 0, 1_700_000_000_000 - 30 * day];
    for time in past {
        bench.append(&Message::new("b", "v").with_create_time(Timestamp::from_millis(time)));
    }
    bench.pass(secs(5));
    assert!(bench.failed.is_empty(), "{:?}", bench.failed);
    assert_eq!(stored(&bench), numbers(times.len()));
    let log = bench.cluster.messages("b");
    assert_eq!(log.iter().map(|message| message.timestamp.as_millis()).collect::<Vec<_>>(), past);
}

#[test]
fn a_repeat_is_told_with_the_times_that_are_stored() {
    // The answer to a repeat has a time on any topic: where messages keep their own, the greatest of the batch.
    for (append_time, known) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut bench = Bench::with(
            1,
            |cluster| if append_time { cluster.log_append_time_topic("a", 1) } else { cluster.topic("a", 1) },
            |config| config.retry_backoff = secs(1),
        );
        if known {
            bench.append(&Message::new("a", "first"));
            bench.pass(secs(5));
        }
        bench.cluster.inject(Fault::on(Api::Produce).times(1).error_after(ErrorCode::REQUEST_TIMED_OUT));
        for age in [3000, 1000, 2000] {
            let time = Timestamp::from_millis(1_700_000_000_000 - age);
            bench.append(&Message::new("a", age.to_string()).with_create_time(time));
        }
        bench.pass(secs(5));
        let stored: Vec<_> = bench.cluster.messages("a").iter().map(|message| Some(message.timestamp)).collect();
        let told: Vec<_> = bench.delivered.iter().map(|delivered| delivered.timestamp).collect();
        assert_eq!(told, stored, "append time: {append_time}, known: {known}");
    }
}

#[test]
fn no_batch_is_larger_than_it_may_be() {
    let limit = 2000;
    let configure = |config: &mut ProducerConfig| {
        (config.max_batch_bytes, config.max_message_bytes) = (limit, limit);
    };
    // The broker refuses a batch above the limit; then it would be split, under another epoch.
    let mut bench = Bench::with(1, |cluster| one_topic(cluster).max_message_bytes(limit), configure);
    let mut size = 1;
    for n in 0..500 {
        size = (size * 7 + n) % 1850;
        let value = format!("{n} {}", "x".repeat(size));
        bench.append(&Message::new("a", value).with_key("k").with_header("h", "v"));
    }
    bench.pass(secs(5));
    let log = bench.cluster.messages("a");
    assert_eq!((log.len(), bench.failed.len()), (500, 0));
    assert!(log.iter().all(|message| message.producer_epoch == 0));
    let batches = bench.requests(Api::Produce);
    let least = log.iter().map(|message| message.value.as_ref().map_or(0, Vec::len)).sum::<usize>() / limit;
    assert!((least..3 * least).contains(&batches), "{batches} batches where {least} would be the least");
}

#[test]
fn a_right_that_is_missing_at_the_start_fails_what_waits_and_is_asked_for_again() {
    let mut bench = Bench::with(1, one_topic, |config| config.retry_backoff_max = secs(2));
    // CLUSTER_AUTHORIZATION_FAILED, as one who may write to no topic gets it; then the right is granted.
    bench.cluster.inject(Fault::on(Api::InitProducerId).times(4).error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    for n in 0..80 {
        bench.append(&Message::new("a", n.to_string()));
        bench.pass(ms(100));
    }
    let denied: Vec<_> = bench.failed.iter().map(|error| (code(error.kind()), error.persistence())).collect();
    assert!(!denied.is_empty() && denied.iter().all(|it| *it == (31, Persistence::No)), "{denied:?}");
    assert_eq!(bench.requests(Api::InitProducerId), 5, "at most one in two seconds");
    assert_eq!(bench.delivered.len() + denied.len(), 80);
    assert!(stored(&bench).len() == bench.delivered.len() && !bench.delivered.is_empty(), "{:?}", bench.failed);
    assert!(bench.engine.fatal().is_none());
    // What is refused asks nobody without a message that wants it.
    bench.cluster.inject(Fault::on(Api::InitProducerId).error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    assert_eq!(bench.pass(secs(60)), 0);
}

#[test]
fn an_answer_that_speaks_of_rights_fails_its_messages_and_no_producer() {
    for code_of_kafka in [29, 30, 31, 53] {
        let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1).topic("b", 1));
        bench.append(&Message::new("a", "0"));
        bench.pass(secs(1));
        bench.cluster.inject(Fault::on(Api::Produce).topic("a").times(1).error(ErrorCode(code_of_kafka)));
        bench.append(&Message::new("a", "denied"));
        bench.append(&Message::new("b", "another"));
        bench.pass(secs(1));
        let failed: Vec<_> = bench.failed.iter().map(|error| (code(error.kind()), error.persistence())).collect();
        assert_eq!(failed, [(code_of_kafka, Persistence::No)]);
        bench.append(&Message::new("a", "1"));
        bench.pass(secs(1));
        assert_eq!(stored(&bench), numbers(2), "error {code_of_kafka}");
        assert!(bench.engine.fatal().is_none() && bench.cluster.count("b") == 1, "error {code_of_kafka}");
    }
}

#[test]
fn a_topic_that_may_not_be_described_fails_at_once_whatever_the_code_calls_it() {
    for code_of_kafka in [29, 30, 31, 53] {
        let mut bench = Bench::new(1, one_topic);
        bench.cluster.inject(Fault::on(Api::Metadata).topic("a").times(1).error(ErrorCode(code_of_kafka)));
        bench.append(&Message::new("a", "denied"));
        bench.pass(secs(1));
        assert_eq!(bench.failed.iter().map(|error| code(error.kind())).collect::<Vec<_>>(), [code_of_kafka]);
        bench.append(&Message::new("a", "0"));
        bench.pass(secs(1));
        assert_eq!(stored(&bench), numbers(1), "error {code_of_kafka}");
    }
}
