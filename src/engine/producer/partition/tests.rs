use std::time::Duration;

use super::*;
use crate::ids::{PartitionId, TopicIndex};
use crate::queue::entry::Entry;
use crate::record::tail;
use crate::wire::frame::{ConnId, CorrelationId};

fn on_conn(correlation: CorrelationId) -> RequestId {
    RequestId { conn: CONN, correlation }
}

const CONN: ConnId = ConnId(1);
const FIRST: Epoch = Epoch { producer_id: 7, epoch: 0 };
const SECOND: Epoch = Epoch { producer_id: 7, epoch: 1 };

/// A partition under test: messages are their own numbers, each in a batch of its own.
struct Bench {
    partition: Partition,
    now: Instant,
    next: u64,
    correlation: i32,
    out: Departures,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut PartitionRules)) -> Self {
        let mut rules = PartitionRules {
            idempotent: true,
            max_in_flight: 5,
            max_batch_bytes: 1,
            delivery_timeout: Duration::from_secs(120),
            max_retries: None,
        };
        change(&mut rules);
        let now = crate::engine::test_clock();
        Self {
            partition: Partition::new(rules, TopicPartition { topic: TopicIndex(0), partition: PartitionId(0) }),
            now,
            next: 0,
            correlation: 0,
            out: Departures::default(),
        }
    }

    fn append(&mut self, count: u64) {
        for _ in 0..count {
            let mut bytes = Vec::new();
            tail::put(&mut bytes, None, Some(&self.next.to_be_bytes()), std::iter::empty());
            let entry = Entry { topic: TopicIndex(0), partition: None, create_time: 0, extra: None, tail: &bytes };
            let arrival = NewMessage { ticket: self.next, due: self.now, queued: bytes.len() };
            self.partition.append(&entry, arrival, Vec::new);
            self.next += 1;
        }
    }

    /// Sends all that may be sent; the numbers of the requests.
    fn send(&mut self) -> Vec<CorrelationId> {
        let mut sent = Vec::new();
        while let Some(pick) = self.partition.pick(self.now) {
            let correlation = CorrelationId(self.correlation);
            self.correlation += 1;
            assert!(self.partition.send(pick, Some(FIRST), on_conn(correlation)).is_some());
            self.partition.started(on_conn(correlation));
            sent.push(correlation);
        }
        sent
    }

    fn stamp(&self, request: CorrelationId) -> (i16, i32) {
        let batch = self.partition.batch(self.at(request)).expect("in flight");
        batch.stamp.map(|stamp| (stamp.epoch, stamp.base_sequence)).expect("sent")
    }

    fn stamps(&self, requests: &[CorrelationId]) -> Vec<(i16, i32)> {
        requests.iter().map(|request| self.stamp(*request)).collect()
    }

    fn at(&self, request: CorrelationId) -> usize {
        self.partition.find(on_conn(request)).expect("in flight")
    }

    fn ack(&mut self, request: CorrelationId) {
        let ack = Ack { partition: self.partition.id.partition, base_offset: Some(0), log_append_time: None };
        self.partition.delivered(self.at(request), ack, &mut self.out);
        self.reschedule();
    }

    fn retriable(&mut self, request: CorrelationId, doubt: Doubt) {
        let index = self.at(request);
        self.partition.retry(index, doubt, why(), Deadline::NEVER, &mut self.out);
        self.reschedule();
    }

    fn out_of_order(&mut self, request: CorrelationId) {
        self.partition.out_of_order(self.at(request), Doubt::None, &why(), Deadline::NEVER, &mut self.out);
        self.reschedule();
    }

    fn lose(&mut self, request: CorrelationId) {
        self.partition.lost(on_conn(request), true, &why(), Deadline::NEVER, &mut self.out);
        self.reschedule();
    }

    fn refuse(&mut self, request: CorrelationId) {
        self.partition.refuse(self.at(request), Doubt::None, &why(), &mut self.out);
        self.reschedule();
    }

    fn expire(&mut self) {
        self.now += Duration::from_secs(200);
        self.partition.expire(self.now, |_| why(), &mut self.out);
        self.reschedule();
    }

    /// The topic was made anew.
    fn recreate(&mut self) {
        self.partition.recreated(&why());
        self.reschedule();
    }

    fn reschedule(&mut self) {
        if self.partition.needs_epoch(&mut self.out) {
            self.partition.adopt(Some(SECOND), &mut self.out);
        }
    }

    /// The fates so far, by message: `+` delivered, `-` not persisted, `?` possibly.
    fn fates(&self) -> String {
        let mut fates: Vec<(u64, char)> = Vec::new();
        for settled in &self.out.settled {
            let fate = match &settled.outcome {
                Ok(_) => '+',
                Err((_, Persistence::No)) => '-',
                Err((_, Persistence::Possibly)) => '?',
            };
            for record in settled.records.iter() {
                let value = record.value.and_then(|value| value.try_into().ok()).expect("a number");
                fates.push((u64::from_be_bytes(value), fate));
            }
        }
        fates.sort_unstable();
        fates.iter().map(|(number, fate)| format!("{number}{fate}")).collect::<Vec<_>>().join(" ")
    }
}

fn why() -> Arc<DeliveryErrorKind> {
    Arc::new(DeliveryErrorKind::Purged)
}

/// Five in flight with sequences 1 to 5, after the first was acknowledged.
fn five() -> (Bench, Vec<CorrelationId>) {
    let mut bench = Bench::new();
    bench.append(7);
    let first = bench.send();
    assert_eq!(first.len(), 1, "one batch alone until the first success");
    bench.ack(first[0]);
    let five = bench.send();
    assert_eq!(bench.stamps(&five), [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]);
    (bench, five)
}

#[test]
fn a_failed_batch_goes_again_before_those_behind_it() {
    let (mut bench, five) = five();
    bench.retriable(five[0], Doubt::None);
    assert!(bench.send().is_empty(), "four are still in flight");
    for request in &five[1..] {
        bench.out_of_order(*request);
    }
    let again = bench.send();
    assert_eq!(bench.stamps(&again), [(0, 1)], "alone, with its sequence");
    bench.ack(again[0]);
    let rest = bench.send();
    assert_eq!(bench.stamps(&rest), [(0, 2), (0, 3), (0, 4), (0, 5), (0, 6)]);
    rest.iter().for_each(|request| bench.ack(*request));
    assert_eq!(bench.fates(), "0+ 1+ 2+ 3+ 4+ 5+ 6+");
}

#[test]
fn a_lost_connection_sends_the_same_sequences_again() {
    let (mut bench, five) = five();
    five.iter().for_each(|request| bench.lose(*request));
    let again = bench.send();
    assert_eq!(bench.stamps(&again), [(0, 1)]);
    bench.ack(again[0]);
    assert_eq!(bench.send().len(), 5);
}

#[test]
fn a_refused_batch_fails_alone_and_those_behind_it_take_the_next_epoch() {
    let (mut bench, five) = five();
    bench.ack(five[0]);
    bench.refuse(five[1]);
    for request in &five[2..] {
        bench.out_of_order(*request);
    }
    let again = bench.send();
    assert_eq!(bench.stamps(&again), [(1, 0)]);
    bench.ack(again[0]);
    bench.send().iter().for_each(|request| bench.ack(*request));
    assert_eq!(bench.fates(), "0+ 1+ 2- 3+ 4+ 5+ 6+");
}

#[test]
fn a_refusal_waits_for_what_is_before_it() {
    let (mut bench, five) = five();
    bench.retriable(five[0], Doubt::Any);
    bench.refuse(five[1]);
    for request in &five[2..] {
        bench.out_of_order(*request);
    }
    let again = bench.send();
    assert_eq!(bench.stamps(&again), [(0, 1)], "its fate is settled under its old sequence first");
    bench.ack(again[0]);
    let rest = bench.send();
    assert_eq!(bench.stamps(&rest), [(1, 0)]);
}

#[test]
fn a_late_ghost_keeps_its_sequence_while_later_batches_need_it() {
    let mut bench = Bench::with(|rules| rules.delivery_timeout = Duration::from_secs(300));
    bench.append(1);
    let first = bench.send();
    bench.ack(first[0]);
    bench.append(1);
    bench.now += Duration::from_secs(150);
    bench.append(1);
    let two = bench.send();
    two.iter().for_each(|request| bench.lose(*request));
    bench.expire();
    assert_eq!(bench.fates(), "0+ 1?", "reported at once");
    let again = bench.send();
    assert_eq!(bench.stamps(&again), [(0, 1)], "and sent again, because the next one needs it");
    bench.ack(again[0]);
    let last = bench.send();
    assert_eq!(bench.stamps(&last), [(0, 2)]);
    bench.ack(last[0]);
    assert_eq!(bench.fates(), "0+ 1? 2+");
    assert!(bench.partition.is_idle());
}

#[test]
fn a_ghost_that_nobody_needs_ends_the_epoch() {
    let mut bench = Bench::new();
    bench.append(1);
    let first = bench.send();
    bench.lose(first[0]);
    bench.expire();
    assert_eq!(bench.fates(), "0?");
    bench.append(1);
    let next = bench.send();
    assert_eq!(bench.stamps(&next), [(1, 0)]);
}

#[test]
fn a_ghost_in_flight_may_still_be_answered() {
    let mut bench = Bench::new();
    bench.append(1);
    let first = bench.send();
    bench.expire();
    assert_eq!(bench.fates(), "0?");
    bench.append(1);
    assert!(bench.send().is_empty(), "its answer decides the epoch");
    bench.ack(first[0]);
    let next = bench.send();
    assert_eq!(bench.stamps(&next), [(0, 1)]);
    assert_eq!(bench.fates(), "0?", "one fate only");
}

#[test]
fn only_what_is_in_flight_is_put_off_and_only_once() {
    let (mut bench, five) = five();
    bench.lose(five[4]);
    let extend_timeouts = |bench: &mut Bench| bench.partition.extend_timeouts(bench.now + Duration::from_secs(201));
    extend_timeouts(&mut bench);
    bench.expire();
    assert_eq!(bench.fates(), "0+ 5? 6-", "what waits is as old as it is");
    bench.ack(five[0]);
    extend_timeouts(&mut bench);
    bench.expire();
    assert_eq!(bench.fates(), "0+ 1+ 2? 3? 4? 5? 6-");
}

#[test]
fn what_was_never_sent_expires_as_not_persisted() {
    let (mut bench, five) = five();
    bench.expire();
    assert_eq!(bench.fates(), "0+ 1? 2? 3? 4? 5? 6-");
    five.iter().for_each(|request| bench.lose(*request));
    assert!(bench.partition.is_idle());
}

#[test]
fn an_order_that_is_lost_after_a_success_takes_the_next_epoch() {
    let (mut bench, five) = five();
    five.iter().for_each(|request| bench.out_of_order(*request));
    let again = bench.send();
    assert_eq!(bench.stamps(&again), [(1, 0)]);
    assert_eq!(bench.fates(), "0+");
}

#[test]
fn what_may_have_been_written_never_takes_another_sequence() {
    let (mut bench, five) = five();
    five.iter().for_each(|request| bench.lose(*request));
    let again = bench.send();
    bench.out_of_order(again[0]);
    assert_eq!(bench.fates(), "0+ 1? 2? 3? 4? 5?", "they may be in the log, all of them");
    let next = bench.send();
    assert_eq!(bench.stamps(&next), [(1, 0)]);
    bench.ack(next[0]);
    assert_eq!(bench.fates(), "0+ 1? 2? 3? 4? 5? 6+");
}

#[test]
fn retries_end_with_max_retries() {
    let mut bench = Bench::with(|rules| rules.max_retries = Some(1));
    bench.append(1);
    let first = bench.send();
    bench.retriable(first[0], Doubt::None);
    let second = bench.send();
    bench.retriable(second[0], Doubt::None);
    assert_eq!(bench.fates(), "0-");
    assert!(bench.partition.is_idle());
}

#[test]
fn without_idempotence_one_batch_is_in_flight() {
    let mut bench = Bench::with(|rules| (rules.idempotent, rules.max_in_flight) = (false, 1));
    bench.append(3);
    let first = bench.send();
    assert_eq!(first.len(), 1);
    bench.lose(first[0]);
    let again = bench.send();
    assert_eq!(again.len(), 1);
    bench.refuse(again[0]);
    assert_eq!(bench.fates(), "0?");
    let next = bench.send();
    bench.ack(next[0]);
    assert_eq!(bench.fates(), "0? 1+");
}

#[test]
fn sequences_go_on_at_zero_after_the_largest() {
    let (mut bench, five) = five();
    five.iter().for_each(|request| bench.ack(*request));
    bench.partition.next_sequence = i32::MAX;
    bench.append(1);
    let requests = bench.send();
    assert_eq!(bench.stamps(&requests), [(0, i32::MAX), (0, 0)]);
}

#[test]
fn a_batch_over_the_end_of_the_sequences_is_followed_by_what_is_behind_its_last_record() {
    let mut bench = Bench::with(|rules| rules.max_batch_bytes = 10_000);
    bench.append(1);
    let first = bench.send();
    bench.ack(first[0]);
    bench.partition.next_sequence = i32::MAX - 1;
    let mut stamps = Vec::new();
    for _ in 0..2 {
        bench.append(4);
        let sent = bench.send();
        // The connection ends: the same sequence goes again.
        bench.lose(sent[0]);
        let again = bench.send();
        assert_eq!(bench.stamps(&again).len(), 1);
        stamps.extend(bench.stamps(&again));
        bench.ack(again[0]);
    }
    assert_eq!(stamps, [(0, i32::MAX - 1), (0, 2)], "2^31 - 2, 2^31 - 1, 0, 1, and then 2");
}

/// Bytes that two messages of a batch of four fit into, and not three.
fn two_of_four(len: usize) -> usize {
    61 + (len - 61) * 5 / 8
}

#[test]
fn a_split_keeps_the_order_under_the_next_epoch() {
    let mut bench = Bench::with(|rules| rules.max_batch_bytes = 10_000);
    bench.append(4);
    let first = bench.send();
    bench.append(1);
    let index = bench.at(first[0]);
    let len = bench.partition.batch(index).unwrap().len();
    bench.partition.limit_batches(two_of_four(len));
    bench.partition.split(index, &mut bench.out);
    bench.reschedule();
    let mut stamps = Vec::new();
    loop {
        let sent = bench.send();
        if sent.is_empty() {
            break;
        }
        stamps.extend(bench.stamps(&sent));
        sent.iter().for_each(|request| bench.ack(*request));
    }
    assert_eq!(stamps, [(1, 0), (1, 2), (1, 4)]);
    assert_eq!(bench.fates(), "0+ 1+ 2+ 3+ 4+");
}

#[test]
fn only_the_named_records_fail() {
    let mut bench = Bench::with(|rules| rules.max_batch_bytes = 10_000);
    bench.append(4);
    let first = bench.send();
    let index = bench.at(first[0]);
    let mut refused = Vec::new();
    bench.partition.replace(index, &mut bench.out, |batch, _| {
        let (kept, out) = batch.cut(usize::MAX, |at| at != 1 && at != 2);
        refused = out;
        kept
    });
    bench.reschedule();
    assert_eq!(refused.iter().map(Batch::count).collect::<Vec<_>>(), [1, 1]);
    let again = bench.send();
    bench.ack(again[0]);
    assert_eq!(bench.fates(), "0+ 3+");
}

#[test]
fn purge_takes_what_was_never_written() {
    let (mut bench, five) = five();
    bench.partition.purge(&why(), &mut bench.out);
    assert_eq!(bench.fates(), "0+ 6-");
    five.iter().for_each(|request| bench.ack(*request));
    assert_eq!(bench.fates(), "0+ 1+ 2+ 3+ 4+ 5+ 6-");
}

#[test]
fn a_new_leader_has_to_prove_the_order() {
    let (mut bench, five) = five();
    five.iter().for_each(|request| bench.ack(*request));
    bench.partition.lead_by(Leadership::told(2, 1));
    bench.append(3);
    assert_eq!(bench.send().len(), 1);
}

#[test]
fn a_batch_that_waits_is_cut_when_batches_become_smaller_and_keeps_its_places() {
    let mut bench = Bench::with(|rules| rules.max_batch_bytes = 10_000);
    bench.append(4);
    let queued = |bench: &Bench| bench.partition.unsent.iter().map(|batch| batch.queued.messages).collect::<Vec<_>>();
    let len = bench.partition.unsent[0].len();
    bench.partition.cut_next(usize::MAX);
    assert_eq!(queued(&bench), [4], "it is not too large");
    bench.partition.limit_batches(two_of_four(len));
    bench.partition.cut_next(usize::MAX);
    bench.partition.cut_next(usize::MAX);
    assert_eq!(queued(&bench), [2, 2]);
    bench.partition.limit_batches(1);
    bench.partition.cut_next(usize::MAX);
    bench.partition.cut_next(usize::MAX);
    assert_eq!(queued(&bench), [1, 1, 2]);
}

#[test]
fn a_purge_leaves_what_was_written_under_the_epoch_before() {
    let mut bench = Bench::new();
    bench.append(2);
    let sent = bench.send();
    let index = bench.partition.find(on_conn(sent[0])).unwrap();
    let why = Arc::new(DeliveryErrorKind::Purged);
    bench.partition.out_of_order(index, Doubt::None, &why, Deadline::NEVER, &mut bench.out);
    assert!(bench.partition.needs_epoch(&mut bench.out));
    bench.partition.adopt(Some(SECOND), &mut bench.out);
    bench.partition.purge(&why, &mut bench.out);
    assert_eq!(bench.out.settled.len(), 1, "only the second was never written");
    assert!(bench.partition.has_unsent());
}

#[test]
fn an_idle_partition_that_was_busy_takes_less_than_a_kibibyte() {
    let mut bench = Bench::new();
    bench.append(20);
    loop {
        let sent = bench.send();
        if sent.is_empty() {
            break;
        }
        sent.into_iter().for_each(|request| bench.ack(request));
    }
    assert!(bench.partition.is_idle());
    let room = bench.partition.unsent.capacity() + bench.partition.flight.capacity();
    let bytes = size_of::<Partition>() + room * size_of::<Box<Batch>>();
    assert!(bytes <= 1024, "{bytes} bytes");
}

#[test]
fn what_was_not_appended_to_a_topic_that_is_gone_goes_to_the_new_one_in_order() {
    for doubt in [Doubt::None, Doubt::Deleted] {
        let (mut bench, five) = five();
        for request in &five[..2] {
            bench.retriable(*request, doubt);
        }
        bench.recreate();
        // All batches that were sent to the old one are answered before anything goes to the new one.
        assert_eq!(bench.send(), []);
        bench.retriable(five[2], doubt);
        bench.ack(five[3]);
        bench.out_of_order(five[4]);
        let expected: &[(i16, i32)] =
            if doubt == Doubt::None { &[(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)] } else { &[] };
        let mut again = bench.send();
        assert_eq!(again.len(), 1, "one alone, until the new one took it");
        bench.ack(again[0]);
        again.extend(bench.send());
        if doubt == Doubt::None {
            assert_eq!(bench.stamps(&again[1..]), expected[1..]);
        }
        for request in &again[1..] {
            bench.ack(*request);
        }
        // By name, the fourth went to the new one, and the batches that it was let past cannot follow.
        let fates = if doubt == Doubt::None { "0+ 1+ 2+ 3+ 4+ 5+ 6+" } else { "0+ 1? 2? 3? 4+ 5+ 6+" };
        assert_eq!(bench.fates(), fates);
        assert!(bench.partition.is_idle());
    }
}

#[test]
fn what_may_be_in_the_log_of_a_topic_that_is_gone_does_not_go_to_the_new_one() {
    let (mut bench, five) = five();
    bench.lose(five[0]);
    bench.retriable(five[1], Doubt::Deleted);
    bench.recreate();
    bench.lose(five[2]);
    for request in &five[3..] {
        bench.retriable(*request, Doubt::None);
    }
    assert_eq!(bench.fates(), "0+ 1? 3?");
    let again = bench.send();
    assert_eq!(bench.stamps(&again), [(1, 0)]);
    bench.ack(again[0]);
    let rest = bench.send();
    assert_eq!(bench.stamps(&rest), [(1, 1), (1, 2), (1, 3)]);
    rest.iter().for_each(|request| bench.refuse(*request));
    assert_eq!(bench.fates(), "0+ 1? 2+ 3? 4- 5- 6-");
}

#[test]
fn what_may_be_in_an_old_log_is_said_to_be_until_it_is_delivered() {
    let fail_all = |bench: &mut Bench| {
        bench.partition.fail_all(&why(), &mut bench.out);
    };
    for end in [Bench::expire, fail_all] {
        let (mut bench, five) = five();
        bench.retriable(five[0], Doubt::Deleted);
        five[1..].iter().for_each(|request| bench.retriable(*request, Doubt::None));
        bench.recreate();
        end(&mut bench);
        assert_eq!(bench.fates(), "0+ 1? 2- 3- 4- 5- 6-");
    }
}

#[test]
fn a_producer_without_sequences_sends_all_that_was_not_acknowledged_to_the_new_topic() {
    let mut bench = Bench::with(|rules| (rules.idempotent, rules.max_in_flight) = (false, 1));
    bench.append(2);
    let first = bench.send();
    bench.recreate();
    bench.lose(first[0]);
    for _ in 0..2 {
        let sent = bench.send();
        assert_eq!(sent.len(), 1);
        bench.ack(sent[0]);
    }
    assert_eq!(bench.fates(), "0+ 1+");
}
