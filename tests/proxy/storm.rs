//! Links that last a moment: the brokers are up all the time, so what costs time is the link and not the producer.

use std::time::{Duration, Instant};

use ottla::testing::{Api, Cluster, Fault};
use ottla::{AsyncProducer, Client, Message};

use crate::common::*;
use crate::door::broker;
use crate::proxy::{Lane, Plan, Proxy};

#[test]
fn a_first_answer_that_is_cut_nine_times_comes_right_after_the_ninth() {
    let (cluster, proxy, producer) = behind(|number| (number < 9).then_some(ms(200)));
    let slow = cluster.inject(Fault::on(Api::Produce).delay(ms(300)).times(9));
    let began = Instant::now();
    let fate = producer.produce_with_handle(Message::new("orders", "first")).unwrap().wait().unwrap();
    let took = began.elapsed();
    assert_eq!((fate.offset, slow.hits()), (Some(0), 9));
    assert!((ms(1800)..ms(2800)).contains(&took), "{took:?}: the cuts alone take 1.8 s");
    assert_eq!(proxy.connections(), 10, "one for each try");
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
    assert_eq!(cluster.messages("orders").len(), 1);
}

#[test]
fn a_link_that_is_cut_all_the_time_under_load_loses_nothing_and_little_time() {
    // 20 to 400 ms, the same in each run, in which a link carries some hundred kilobytes to three megabytes: less than
    // four partitions with full batches have on their way. Not the first try alone, because the machine may be busy.
    let lasts = |number: usize| ms(20 + (number as u64 + 1) * 7919 % 381);
    for try_number in 1..=3 {
        let (calm, (stormy, connections)) = (load(|_| None).0, load(move |number| Some(lasts(number))));
        println!("without cuts {calm:?}, with them {stormy:?} over {connections} connections");
        assert!(connections > 5, "{connections}");
        if stormy < calm.mul_f64(1.2) {
            return;
        }
        assert!(try_number < 3, "without cuts {calm:?}, with them {stormy:?}");
    }
}

/// How long it takes to deliver 200,000 messages, each once and in order, and over how many connections.
fn load(lasts: impl Fn(usize) -> Option<Duration> + Send + 'static) -> (Duration, usize) {
    let (cluster, proxy, producer) = behind(lasts);
    let began = Instant::now();
    for n in 0..MESSAGES {
        let value = format!("{n:0100}");
        producer.produce_timeout(Message::new("orders", value).with_partition((n % 4) as i32), LONG).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, MESSAGES);
    let took = began.elapsed();
    let mut next = [0, 1, 2, 3];
    for message in cluster.messages("orders") {
        let n: u64 = message.value_str().unwrap().parse().unwrap();
        let next = &mut next[message.partition as usize];
        assert_eq!(n, *next, "missing, twice, or out of order");
        *next += 4;
    }
    assert_eq!(next.map(|next| next - next % 4), [MESSAGES; 4]);
    (took, proxy.connections())
}

/// A cluster behind a link that is slow and breaks, and a producer with the usual patience.
fn behind(lasts: impl Fn(usize) -> Option<Duration> + Send + 'static) -> (Cluster, Proxy, AsyncProducer) {
    let cluster = cluster(4);
    let up = Lane::rate(8_000_000);
    let proxy = Proxy::before(broker(&cluster), move |number| Plan { up, lasts: lasts(number), ..Plan::default() });
    cluster.advertise(1, "127.0.0.1", proxy.address().port());
    let client = Client::builder([proxy.address().to_string()]).build().unwrap();
    let producer = client.async_producer().streaming().build().unwrap();
    (cluster, proxy, producer)
}

const MESSAGES: u64 = 200_000;
