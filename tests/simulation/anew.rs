//! Topics that are deleted and made anew while they are written to, and clusters that are replaced by others.

use std::time::Duration;

use ottla::config::RequiredAcks;
use ottla::testing::{Api, Fault};
use ottla::{DeliveryErrorKind, Message, Persistence};

use crate::bench::Bench;
use crate::check::{Anomaly, Said};
use crate::world::{Happening, TOPICS, TROUBLE, World};

impl World {
    /// Chooses when something is made anew, and what else goes wrong.
    pub fn plan_anew(&mut self) {
        for _ in 0..=self.below(5) {
            let at = self.within(TROUBLE);
            let cluster = !self.calm && self.below(5) == 0;
            self.at(at, if cluster { Happening::ClusterAnew } else { Happening::Recreate });
        }
        let troubles = if self.calm { 0 } else { self.below(6) };
        for _ in 0..troubles {
            let at = self.within(TROUBLE);
            let happening = if self.below(3) == 0 { Happening::Move } else { Happening::Cut };
            self.at(at, happening);
        }
    }

    /// Deletes a topic; it comes again at once or later, with as many partitions, with more, or with fewer.
    pub fn recreate(&mut self) {
        let topic = self.below(2) as usize;
        self.delete(topic);
        self.make_soon(topic);
    }

    /// Other brokers listen where these did: with the same topics, which are empty, and without a memory of producers.
    pub fn cluster_anew(&mut self) {
        for node in 1..=self.brokers {
            self.cut_all(node);
        }
        self.deafen();
        self.replaced = true;
        (0..TOPICS.len()).for_each(|topic| self.delete(topic));
        self.cluster.replace();
        (0..TOPICS.len()).for_each(|topic| self.make_soon(topic));
    }

    /// Makes a topic, if it is not there. One that was deleted again meanwhile has perhaps grown.
    pub fn make(&mut self, topic: usize, partitions: i32) {
        let partitions = if self.calm { self.partitions } else { partitions };
        self.cluster.make_topic(TOPICS[topic], partitions);
    }

    fn make_soon(&mut self, topic: usize) {
        let more = self.below(3) as i32;
        let partitions = if self.calm { self.partitions + more } else { 1 + self.below(4) as i32 };
        if self.calm {
            self.partitions = partitions;
        }
        let pause = if self.below(3) == 0 { Duration::ZERO } else { self.within(Duration::from_secs(4)) };
        self.at(self.elapsed() + pause, Happening::Make(topic, partitions));
    }

    /// Where no connection is lost every batch is answered, and where topics have ids each answer proves what became of
    /// it: nothing is possibly in a log.
    pub fn check_calm(&mut self) {
        if !self.calm || self.by_name {
            return;
        }
        let possibly = |said: &[Said]| said.contains(&Said::Failed(Persistence::Possibly));
        if let Some(id) = self.ledger.sent.iter().position(|sent| possibly(&sent.said)) {
            self.wrong(Anomaly::LostWrite, format!("{id} is possibly written, although all was answered"));
        }
    }
}

/// How brokers are told of topics: by id; by name, where they have ids; by name, without ids.
const WAYS: [(i16, i16); 3] = [(13, 13), (12, 13), (12, 9)];

/// Engines of each kind, and brokers with a topic of three partitions, which is made only on purpose.
fn benches() -> impl Iterator<Item = (Bench, String)> {
    let kinds = [(true, RequiredAcks::All), (false, RequiredAcks::All), (false, RequiredAcks::Leader)];
    WAYS.into_iter().flat_map(move |way| kinds.map(|kind| (way, kind))).map(
        |((produce, metadata), (idempotent, acks))| {
            let bench = Bench::with(
                1,
                |cluster| {
                    let cluster = cluster.topic("a", 3).auto_create(false).api_version(Api::Produce, 0, produce);
                    cluster.api_version(Api::Metadata, 0, metadata)
                },
                |config| (config.idempotent, config.required_acks) = (idempotent, acks),
            );
            (bench, format!("Produce {produce}, Metadata {metadata}, idempotent: {idempotent}, {acks:?}"))
        },
    )
}

/// Three messages to each of so many partitions.
fn append(bench: &mut Bench, partitions: i32, from: i32) {
    for n in from..from + 3 {
        for partition in 0..partitions {
            bench.append(&Message::new("a", n.to_string()).with_partition(partition));
        }
    }
}

/// Each partition has these numbers, in order and once.
fn assert_stored(bench: &Bench, partitions: i32, numbers: std::ops::Range<i32>, what: &str) {
    let log = bench.cluster.messages("a");
    for partition in 0..partitions {
        let stored: Vec<_> = log.iter().filter(|it| it.partition == partition).map(|it| it.value_str()).collect();
        let expected: Vec<_> = numbers.clone().map(|n| n.to_string()).collect();
        assert_eq!(stored, expected.iter().map(|it| Some(&**it)).collect::<Vec<_>>(), "{what}: partition {partition}");
    }
}

#[test]
fn an_idle_producer_loses_nothing_when_its_topic_is_made_anew() {
    for partitions in [3, 5] {
        for (mut bench, what) in benches() {
            append(&mut bench, 3, 0);
            bench.pass(secs(1));
            assert_eq!(bench.delivered.len(), 9, "{what}");
            bench.cluster.delete_topic("a");
            bench.cluster.make_topic("a", partitions);
            bench.pass(secs(3));
            append(&mut bench, 3, 3);
            bench.pass(secs(5));
            assert_eq!((bench.delivered.len(), bench.failed.len()), (18, 0), "{what}: {:?}", bench.failed);
            assert_stored(&bench, 3, 3..6, &what);
        }
    }
}

#[test]
fn what_is_produced_while_a_topic_is_away_goes_to_the_one_that_comes() {
    for (mut bench, what) in benches() {
        append(&mut bench, 3, 0);
        bench.pass(secs(1));
        bench.cluster.delete_topic("a");
        append(&mut bench, 3, 3);
        bench.pass(secs(5));
        append(&mut bench, 3, 6);
        bench.cluster.make_topic("a", 3);
        bench.pass(secs(5));
        assert_eq!((bench.delivered.len(), bench.failed.len()), (27, 0), "{what}: {:?}", bench.failed);
        assert_stored(&bench, 3, 3..9, &what);
    }
}

#[test]
fn batches_in_flight_when_their_topic_is_deleted_go_to_the_new_one_in_order() {
    for (produce, metadata) in WAYS {
        let mut bench = Bench::new(2, |cluster| {
            let cluster = cluster.topic("a", 1).auto_create(false).api_version(Api::Produce, 0, produce);
            cluster.api_version(Api::Metadata, 0, metadata)
        });
        bench.append(&Message::new("a", "to the old one"));
        bench.pass(secs(1));
        bench.far.insert(1);
        for n in 0..5 {
            bench.send(&Message::new("a", n.to_string()));
        }
        assert_eq!(bench.on_the_way(), 5);
        bench.append(&Message::new("a", "5"));
        // The other broker tells of the new one before the first says what became of them.
        bench.cluster.delete_topic("a");
        bench.cluster.make_topic("a", 2);
        bench.engine.ask_for_metadata();
        bench.pass(ms(1));
        bench.far.clear();
        bench.arrive();
        bench.pass(secs(5));
        assert_eq!((bench.delivered.len(), bench.failed.len()), (7, 0), "Produce {produce}: {:?}", bench.failed);
        assert_stored(&bench, 1, 0..6, &format!("Produce {produce}"));
    }
}

#[test]
fn only_what_went_unanswered_is_possibly_in_the_topic_that_is_gone() {
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 1).auto_create(false));
    bench.append(&Message::new("a", "to the old one"));
    bench.pass(secs(1));
    bench.cluster.inject(Fault::on(Api::Produce).times(1).cut_after());
    bench.far.insert(1);
    for n in 0..5 {
        bench.send(&Message::new("a", n.to_string()));
    }
    // The answer to the first is lost with its connection, and what was behind it was never served.
    bench.append(&Message::new("a", "5"));
    bench.let_one_arrive();
    bench.cluster.delete_topic("a");
    bench.cluster.make_topic("a", 1);
    bench.far.clear();
    bench.arrive();
    bench.pass(secs(5));
    assert_eq!(bench.failed.len() + bench.delivered.len(), 7);
    for error in &bench.failed {
        assert!(matches!(error.kind(), DeliveryErrorKind::TopicRecreated { .. }), "{error}");
        assert_eq!(error.persistence(), Persistence::Possibly);
    }
    assert_stored(&bench, 1, 5..6, "what was not sent follows the name");
}

#[test]
fn a_producer_without_acks_goes_on_with_the_new_topic() {
    for (produce, metadata) in WAYS {
        let mut bench = Bench::with(
            1,
            |cluster| {
                let cluster = cluster.topic("a", 1).auto_create(false).api_version(Api::Produce, 0, produce);
                cluster.api_version(Api::Metadata, 0, metadata)
            },
            |config| (config.idempotent, config.required_acks) = (false, RequiredAcks::None),
        );
        bench.append(&Message::new("a", "to the old one"));
        bench.pass(secs(1));
        bench.cluster.delete_topic("a");
        bench.cluster.make_topic("a", 1);
        // By id the first finds no topic, and all that its broker says is the end of the connection.
        bench.append(&Message::new("a", "perhaps"));
        bench.pass(secs(2));
        for n in 0..3 {
            bench.append(&Message::new("a", n.to_string()));
            bench.pass(secs(1));
        }
        let log = bench.cluster.messages("a");
        let numbers: Vec<_> = log.iter().filter_map(|it| it.value_str()).filter(|it| *it != "perhaps").collect();
        assert_eq!(numbers, ["0", "1", "2"], "Produce {produce}");
        assert_eq!((bench.delivered.len(), bench.failed.len()), (5, 0));
    }
}

#[test]
fn a_cluster_made_anew_at_the_same_addresses_gets_what_an_idle_producer_sends() {
    for (mut bench, what) in benches() {
        bench.cluster.move_leader("a", 0, 1);
        append(&mut bench, 3, 0);
        bench.pass(secs(1));
        // It gives out the same producer ids again, and its leaders begin at epoch 0.
        bench.stop(1);
        bench.cluster.broker_starts(1);
        bench.cluster.replace();
        bench.cluster.make_topic("a", 3);
        let before = bench.requests(Api::InitProducerId);
        append(&mut bench, 3, 3);
        bench.pass(secs(10));
        assert_eq!((bench.delivered.len(), bench.failed.len()), (18, 0), "{what}: {:?}", bench.failed);
        assert_stored(&bench, 3, 3..6, &what);
        // It learns of the other cluster with the next metadata at the latest.
        bench.engine.ask_for_metadata();
        bench.pass(secs(1));
        append(&mut bench, 3, 6);
        bench.pass(secs(5));
        assert_stored(&bench, 3, 3..9, &what);
        let asked = bench.requests(Api::InitProducerId) - before;
        assert_eq!(asked, usize::from(what.contains("idempotent: true")), "{what}: the id may be another's there");
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
