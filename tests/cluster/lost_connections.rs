//! Connections that break, answer nonsense, or do not answer: nothing is lost, repeated or swapped.

use std::time::{Duration, Instant};

use ottla::testing::{Api, Cluster, Fault};
use ottla::{AsyncProducer, Message, Persistence};

use crate::common::*;

#[test]
fn an_answer_cut_at_any_byte_repeats_nothing() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    let fault = |at| Fault::on(Api::Produce).times(1).cut_inside(at);
    let last = survives_each(&cluster, &producer, (0..90).map(fault));
    assert!(last > 90);
}

#[test]
fn handshakes_and_metadata_cut_at_any_byte_delay_nothing_for_long() {
    let cluster = cluster(1);
    for api in [Api::ApiVersions, Api::Metadata, Api::InitProducerId] {
        for at in (0..120).step_by(3) {
            let fault = cluster.inject(Fault::on(api).times(1).cut_inside(at));
            let producer = async_producer(&cluster).build().unwrap();
            producer.produce(Message::new("orders", "v")).unwrap();
            assert_eq!(producer.shutdown().unwrap().delivered, 1, "{api} cut at {at}");
            assert_eq!(fault.hits(), 1);
        }
    }
    assert_eq!(cluster.messages("orders").len(), 120);
}

#[test]
fn connections_lost_before_and_after_the_append_are_alike() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    let mut faults = Vec::new();
    for times in 1..4 {
        faults.push(Fault::on(Api::Produce).times(times).cut_before());
        faults.push(Fault::on(Api::Produce).times(times).cut_after());
        faults.push(Fault::on_any().times(times).cut_before());
        faults.push(Fault::on_any().times(times).cut_after());
    }
    survives_each(&cluster, &producer, faults);
}

#[test]
fn answers_that_make_no_sense_are_not_believed() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    let mut faults = Vec::new();
    for api in [Api::Produce, Api::Metadata, Api::ApiVersions] {
        faults.push(Fault::on(api).times(1).wrong_correlation());
    }
    for raw in [&b""[..], b"\0", b"\0\0\0\0", b"\xff\xff\xff\xff", &[0xff; 64], &[0; 64], b"\0\0\0\x05\0\0\x13\x88"] {
        faults.push(Fault::on(Api::Produce).times(1).raw(raw));
    }
    survives_each(&cluster, &producer, faults);
    for raw in [&b""[..], b"\0\0\0\0", &[0xff; 64], &[0; 64]] {
        for api in [Api::ApiVersions, Api::Metadata, Api::InitProducerId] {
            let fault = cluster.inject(Fault::on(api).times(1).raw(raw));
            let producer = async_producer(&cluster).build().unwrap();
            producer.produce(Message::new("orders", "v")).unwrap();
            assert_eq!(producer.shutdown().unwrap().delivered, 1, "{api} answered {raw:?}");
            assert_eq!(fault.hits(), 1);
        }
    }
}

#[test]
fn slow_answers_cost_time_only() {
    let cluster = cluster(1);
    let _slow = cluster.inject(Fault::on(Api::Produce).delay(ms(10)));
    let producer = async_producer(&cluster).delivery_threshold(10).build().unwrap();
    for n in 0..300 {
        producer.produce(Message::new("orders", n.to_string())).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 300);
    assert_in_order(&cluster.messages("orders"), 300);
}

#[test]
fn a_throttled_producer_waits_for_that_broker_and_fails_nothing() {
    let cluster = Cluster::builder().brokers(2).topic("orders", 2).start().unwrap();
    let throttled = cluster.inject(Fault::on(Api::Produce).node(1).times(1).throttle(ms(700)));
    let producer = async_producer(&cluster).build().unwrap();
    let wait = |partition| {
        let began = Instant::now();
        let message = Message::new("orders", "v").with_partition(partition);
        producer.produce_with_handle(message).unwrap().wait().unwrap();
        began.elapsed()
    };
    wait(1);
    wait(0);
    assert_eq!(throttled.hits(), 1);
    let began = Instant::now();
    wait(1);
    assert!(began.elapsed() < ms(600), "the other broker did not ask for it: {:?}", began.elapsed());
    wait(0);
    assert!(began.elapsed() >= ms(500), "{:?}", began.elapsed());
    assert_eq!(producer.shutdown().unwrap().delivered, 4);

    let _throttled = cluster.inject(Fault::on(Api::Produce).throttle(Duration::from_secs(60)));
    let producer = async_producer(&cluster).build().unwrap();
    producer.produce_with_handle(Message::new("orders", "v").with_partition(0)).unwrap().wait().unwrap();
    producer.produce(Message::new("orders", "v").with_partition(0)).unwrap();
    let began = Instant::now();
    let report = producer.shutdown_within(ms(100)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let persistence: Vec<_> = report.undelivered.iter().map(|error| error.persistence()).collect();
    assert_eq!((report.given_up, &persistence[..]), (1, &[Persistence::No][..]));
}

#[test]
fn a_broker_that_does_not_answer_is_given_up_and_asked_anew() {
    for api in [Api::Produce, Api::Metadata, Api::InitProducerId] {
        let cluster = cluster(1);
        let stalled = cluster.inject(Fault::on(api).times(1).stall());
        let client = quick(&cluster.bootstrap()).socket_timeout(ms(120)).build().unwrap();
        let producer = client.async_producer().ack_timeout(ms(50)).retry_backoff(ms(5)).build().unwrap();
        producer.produce(Message::new("orders", "v")).unwrap();
        let began = Instant::now();
        assert_eq!(producer.shutdown().unwrap().delivered, 1, "{api}");
        assert_eq!(stalled.hits(), 1, "{api}");
        assert!(began.elapsed() >= ms(120), "{api}: {:?}", began.elapsed());
        assert_eq!(cluster.messages("orders").len(), 1);
    }
}

#[test]
fn a_handshake_without_an_answer_ends_with_the_connect_timeout() {
    let cluster = cluster(1);
    let stalled = cluster.inject(Fault::on(Api::ApiVersions).times(1).stall());
    let client = quick(&cluster.bootstrap()).connect_timeout(ms(120)).build().unwrap();
    let producer = client.async_producer().build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
    assert_eq!(stalled.hits(), 1);
}

#[test]
fn an_idle_connection_is_closed_and_opened_again_unseen() {
    let cluster = cluster(1);
    let client = quick(&cluster.bootstrap()).connections_max_idle(ms(50)).build().unwrap();
    let producer = client.async_producer().build().unwrap();
    for n in 0..3 {
        let fate = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap();
        assert_eq!(fate.offset, Some(n));
        wait_until("the idle connections are closed", || cluster.connections() == 0);
    }
    assert!(producer.last_error().is_none());
    assert_eq!(producer.shutdown().unwrap().delivered, 3);
}

/// Produces four messages under each fault, waits for the last, and looks at the log at the end. Returns how many
/// messages there are.
fn survives_each(cluster: &Cluster, producer: &AsyncProducer, faults: impl IntoIterator<Item = Fault>) -> usize {
    let mut count = 0;
    for (round, fault) in faults.into_iter().enumerate() {
        let guard = cluster.inject(fault);
        for _ in 0..3 {
            producer.produce(Message::new("orders", count.to_string())).unwrap();
            count += 1;
        }
        let message = Message::new("orders", count.to_string());
        let fate = producer.produce_with_handle(message).unwrap().wait().unwrap();
        assert_eq!(fate.offset, Some(count as i64), "fault {round}");
        count += 1;
        drop(guard);
    }
    assert_eq!(producer.flush(LONG).unwrap().failed, 0);
    assert_in_order(&cluster.messages("orders"), count);
    count
}
