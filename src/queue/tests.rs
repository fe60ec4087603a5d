//! The queue by itself: its bounds, what is due when, and a plain model of all of it.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::chunk::Chunk;
use super::offer::Accepted;
use super::places::LEAST_HEAD;
use super::*;
use crate::deadline::Deadline;
use crate::error::DeliveryErrorKind;
use crate::fate::slot::{Awaited, Slot, testing};
use crate::ids::TopicIndex;
use crate::message::{Message, Timestamp, Topic};
use crate::partitioner::Partitioner;
use crate::queue::entry;
use crate::queue::filling::{BEHIND, SUMMED_TOGETHER};
use crate::queue::prepared::ENCODED_BEFORE;
use crate::record::batch::BatchBuilder;
use crate::record::tail;

#[test]
fn refuses_exactly_at_its_bound_and_takes_again_after_a_release() {
    let mut queue = queue(3, 1_000_000);
    for _ in 0..3 {
        assert!(offer(&mut queue, "orders", 1).is_ok());
    }
    let full = full(offer(&mut queue, "orders", 1));
    assert_eq!((full.queued, full.limit, full.bytes), (3, 3, false));
    let mut out = VecDeque::new();
    assert!(queue.take_due(&mut out), "a full queue is due");
    assert!(offer(&mut queue, "orders", 1).is_err(), "taken is not written");
    queue.release(1, 20);
    assert!(offer(&mut queue, "orders", 1).is_ok());
    assert!(offer(&mut queue, "orders", 1).is_err());
}

#[test]
fn bytes_bound_it_too_but_a_message_alone_always_fits() {
    let mut queue = queue(100, 1000);
    assert!(offer(&mut queue, "orders", 5000).is_ok());
    let full = full(offer(&mut queue, "orders", 1));
    assert_eq!((full.queued, full.limit, full.bytes), (1, 1000, true));
}

#[test]
fn a_topic_that_is_held_up_fills_half_of_the_places_while_there_are_others() {
    let why = || Some(Arc::new(DeliveryErrorKind::Purged));
    for (messages, bytes, limit, by_bytes) in [(10, 1_000_000, 5, false), (100, 1000, 500, true)] {
        let mut queue = queue(messages, bytes);
        let offer_all = |queue: &mut Queue, topic: &str| (0..).map_while(|_| offer(queue, topic, 60).ok()).count();
        assert!(offer(&mut queue, "bad", 60).is_ok());
        queue.hold_up(TopicIndex(0), why());
        let whole = offer_all(&mut queue, "bad") + 1;
        assert_eq!(whole, 10, "it is alone");
        queue.deliver_and_release(whole as u64 - 1);
        assert!(offer(&mut queue, "good", 60).is_ok());
        let bad = offer_all(&mut queue, "bad");
        assert_eq!(bad, 3, "half is full with them and one of another topic");
        let refused = full(offer(&mut queue, "bad", 60));
        assert_eq!((refused.limit, refused.bytes, refused.held_up.is_some()), (limit, by_bytes, true));
        assert_eq!(offer_all(&mut queue, "good"), 5, "the other half is for the others");
        assert!(full(offer(&mut queue, "good", 60)).held_up.is_none());
        assert!(full(offer(&mut queue, "bad", 60)).held_up.is_none(), "the whole queue is full");
        queue.deliver_and_release(5);
        assert!(offer(&mut queue, "bad", 60).is_err());
        queue.hold_up(TopicIndex(0), None);
        assert_eq!(offer_all(&mut queue, "bad"), 5, "something can be sent to it again");
        queue.deliver_and_release(10);
        TopicIndex::below(2).for_each(|topic| queue.hold_up(topic, why()));
        assert_eq!(offer_all(&mut queue, "good"), 10, "no topic is better than another");
    }
}

#[test]
fn a_message_to_a_topic_that_is_held_up_passes_once_none_is_left() {
    let mut queue = queue(10, 1_000_000);
    let why = Arc::new(DeliveryErrorKind::Purged);
    assert!(offer(&mut queue, "bad", 1).is_ok());
    (0..6).for_each(|_| assert!(offer(&mut queue, "good", 1).is_ok()));
    queue.hold_up(TopicIndex(0), Some(Arc::clone(&why)));
    assert!(full(offer(&mut queue, "bad", 1)).held_up.is_some());
    for _ in 0..2 {
        // Told again: it has no message.
        queue.hold_up(TopicIndex(0), Some(Arc::clone(&why)));
        assert!(offer(&mut queue, "bad", 1).is_ok());
        assert!(full(offer(&mut queue, "bad", 1)).held_up.is_some());
    }
    queue.hold_up(TopicIndex(0), Some(Arc::new(DeliveryErrorKind::Purged)));
    assert!(offer(&mut queue, "bad", 1).is_err(), "another reason is none to look");
}

#[test]
fn a_refusal_for_a_topic_that_is_held_up_leaves_what_others_wait_for() {
    let mut queue = queue(1000, 1_000_000);
    assert!(offer(&mut queue, "bad", 1).is_ok());
    (0..499).for_each(|_| assert!(offer(&mut queue, "good", 1).is_ok()));
    queue.hold_up(TopicIndex(0), Some(Arc::new(DeliveryErrorKind::Purged)));
    assert!(full(offer(&mut queue, "bad", 1)).held_up.is_some());
    assert_eq!(queue.due_upto, 500, "too few were due, and half of the queue is full");
    assert!(offer(&mut queue, "good", 1).is_ok());
    let due = queue.due_upto;
    assert!(full(offer(&mut queue, "bad", 1)).held_up.is_some());
    assert_eq!((due, queue.due_upto), (500, 500));
}

#[test]
fn nothing_goes_quietly_to_a_topic_that_is_held_up() {
    let mut queue = queue(1000, 1_000_000);
    let [bad, good] = ["bad", "good"].map(|name| Topic::new(name).expect("a good name"));
    assert!(offer(&mut queue, "good", 1).is_ok());
    assert!(offer_message(&mut queue, &Message::new(&bad, "v"), None, now).is_ok());
    queue.hold_up(TopicIndex(1), Some(Arc::new(DeliveryErrorKind::Purged)));
    for topic in [&bad, &good, &bad] {
        assert!(offer_message(&mut queue, &Message::new(topic, "v"), None, now).is_ok());
        let quiet = quietly(&mut queue, &Message::new(topic, "v")).is_some();
        assert_eq!(quiet, topic == &good);
    }
}

impl Both {
    fn deliver_and_release(&mut self, messages: u64) {
        let _ = self.deliver();
        self.take_due(&mut VecDeque::new());
        let bytes = self.bytes() / self.held() * messages as usize;
        self.release(messages, bytes);
    }
}

#[test]
fn a_refused_call_wakes_a_sleeping_worker_once() {
    let mut queue = queue(100, 1000);
    queue.sleep();
    assert!(!offer(&mut queue, "orders", 900).expect("accepted").wake);
    assert!(full(offer(&mut queue, "orders", 900)).wake, "what is queued is due now");
    assert!(!full(offer(&mut queue, "orders", 900)).wake, "the worker is awake");
    queue.take_due(&mut VecDeque::new());
    queue.sleep();
    assert!(!full(offer(&mut queue, "orders", 900)).wake, "the worker has it all");
}

#[test]
fn a_large_message_travels_alone_and_in_order() {
    let mut queue = queue(100, 1_000_000);
    for len in [1, 20_000, 2] {
        offer(&mut queue, "orders", len).expect("accepted");
    }
    let mut out = VecDeque::new();
    assert!(!queue.deliver(), "it was never asleep");
    queue.take_due(&mut out);
    let seen: Vec<(u64, usize)> = out.iter().map(|chunk| (chunk.first, chunk.len())).collect();
    assert_eq!(seen, [(0, 1), (1, 1), (2, 1)]);
    assert!(out[1].records.len() > 20_000);
}

/// While the worker does not come for long, chunks wait for a slot as open ones, and the places stay exact.
#[test]
fn a_channel_without_a_slot_left_costs_no_place_and_no_order() {
    const MESSAGES: usize = 5000;
    for kind in 0..4 {
        let mut queue = Both::new(Limits { batch_bytes: 75, ..limits(MESSAGES, 1 << 26) });
        queue.place_by(&Partitioner::crc32());
        queue.start();
        let topic = Topic::new("orders").expect("a good name");
        queue.topic(topic.name()).expect("a good name");
        queue.tell_partitions(TopicIndex(0), 3);
        for ticket in 0..MESSAGES {
            let mut value = ticket.to_string().into_bytes();
            if kind == 2 && ticket % 3 > 0 {
                value.resize(17_000, b' ');
            }
            let mut message = Message::new(&topic, value).with_create_time(Timestamp::from_millis(0));
            if kind == 1 || (kind == 2 && ticket % 2 == 0) {
                message = message.with_key(vec![b'k'; ticket % 5]);
            }
            if kind == 3 {
                message = message.with_create_time(Timestamp::from_millis([0, i64::MIN, i64::MAX][ticket / 1050 % 3]));
            }
            if quietly(&mut queue, &message).is_none() {
                let offered = offer_message(&mut queue, &message, None, now);
                assert!(offered.is_ok(), "{kind}: {ticket} {offered:?}");
            }
        }
        assert_eq!(full(offer(&mut queue, "orders", 1)).queued, MESSAGES, "the bound is exact");
        let mut out = VecDeque::new();
        assert!(queue.take_due(&mut out) && queue.sealed.0.is_empty());
        assert!(out.len() > 900, "{kind}: {}", out.len());
        let mut seen = Vec::new();
        let mut last = HashMap::new();
        for chunk in &mut out {
            let lane = chunk.lane;
            for entry in chunk.entries() {
                let tail = tail::Tail::read(entry.tail).expect("a tail");
                let value = std::str::from_utf8(tail.value.expect("a value")).expect("a number");
                let ticket: usize = value.trim_end().parse().expect("a number");
                let key = tail.key.map(<[u8]>::to_vec);
                assert!(last.insert(key, ticket) < Some(ticket), "{kind}: {lane:?} {ticket}");
                seen.push(ticket);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>(), "{kind}");
    }
}

#[test]
fn callers_compute_checksums_of_runs_when_much_waits_before_them() {
    fn fill(queue: &mut Both, topic: &Topic, messages: usize) -> Chunk {
        let value = [0; 1000];
        let message = Message::new(topic, &value[..]);
        for _ in 0..messages {
            if quietly(queue, &message).is_none() {
                offer_message(queue, &message, None, now).expect("room");
            }
        }
        let mut out = VecDeque::new();
        assert!(!queue.deliver(), "it was never asleep");
        queue.take_due(&mut out);
        out.pop_back().expect("a chunk")
    }
    let mut queue = queue(1_000_000, 2 * BEHIND);
    let orders = Topic::new("orders").expect("a good name");
    let first = fill(&mut queue, &orders, 80).records;
    assert_eq!(first.summed_len(), BatchBuilder::default().len(), "nothing waits: the worker does it");
    fill(&mut queue, &orders, BEHIND / 1000);
    let late = fill(&mut queue, &orders, 80).records;
    assert!(late.len() > 80_000 && late.len() - late.summed_len() < SUMMED_TOGETHER + 2000);
}

#[test]
fn topics_are_numbered_as_they_come_and_bad_names_come_back() {
    let mut queue = queue(100, 1_000_000);
    let checked = Topic::new("parcels").expect("a good name");
    offer(&mut queue, "orders", 1).expect("accepted");
    for _ in 0..2 {
        let message = Message::new(&checked, "v");
        offer_message(&mut queue, &message, None, now).expect("accepted");
    }
    offer(&mut queue, "orders", 1).expect("accepted");
    offer(&mut queue, "parcels", 1).expect("accepted");
    assert!(matches!(offer(&mut queue, "no topic!", 1), Err(Refused::InvalidTopic(_))));
    assert_eq!(queue.topics(), [Topic::trusted("orders"), Topic::trusted("parcels")]);
    assert!(!queue.deliver(), "it was never asleep");
    let mut out = VecDeque::new();
    queue.take_due(&mut out);
    let topics: Vec<u32> =
        out.iter_mut().flat_map(|chunk| chunk.entries().map(|entry| entry.topic.0).collect::<Vec<_>>()).collect();
    assert_eq!(topics, [0, 1, 1, 0, 1]);
}

#[test]
fn handles_keep_the_index_of_their_message() {
    let mut queue = queue(8, 1_000_000);
    let lookouts = testing::of_nobody::<2>();
    let [first, second] = lookouts.each_ref().map(Awaited::slot);
    for (len, slot) in [(1, None), (2, Some(first)), (30_000, Some(second))] {
        let value = vec![0; len];
        let message = Message::new("orders", &value);
        offer_message(&mut queue, &message, slot, now).expect("accepted");
    }
    assert!(!queue.deliver(), "it was never asleep");
    let mut out = VecDeque::new();
    queue.take_due(&mut out);
    let indexes: Vec<Vec<u32>> =
        out.iter().map(|chunk| chunk.extras.iter().map(|extra| extra.index).collect()).collect();
    assert_eq!(indexes, [vec![1], vec![0]], "the first two fill a chunk of a queue this small");
}

#[test]
fn the_timer_is_armed_once_and_fires_for_the_oldest() {
    let mut queue = Both::new(Limits { interval: Duration::from_secs(5), ..limits(100, 1_000_000) });
    queue.start();
    let at = start();
    let later = |seconds| at + Duration::from_secs(seconds);
    assert_eq!(queue.tick(at), (Deadline::NEVER, false), "nothing waits");
    let put = |queue: &mut Queue, seconds| {
        let message = Message::new("orders", "v");
        offer_message(queue, &message, None, || Some(later(seconds))).expect("accepted").arm
    };
    assert!(put(&mut queue, 1));
    assert!(!put(&mut queue, 2), "it is armed");
    assert_eq!(queue.tick(later(2)), (Deadline::at(later(6)), false));
    queue.sleep();
    assert_eq!(queue.tick(later(6)), (Deadline::NEVER, true), "it fires, and wakes the worker");
    assert!(queue.take_due(&mut VecDeque::new()));
    assert_eq!(queue.tick(later(20)), (Deadline::NEVER, false), "once");
    assert!(put(&mut queue, 30));
    assert_eq!(queue.tick(later(30)), (Deadline::at(later(35)), false));
}

#[test]
fn an_endless_interval_does_not_overflow() {
    let mut queue = Both::new(Limits { interval: Duration::MAX, ..limits(100, 1_000_000) });
    queue.start();
    assert!(offer(&mut queue, "orders", 1).expect("accepted").arm);
    assert_eq!(queue.tick(start()), (Deadline::NEVER, false));
    assert!(!offer(&mut queue, "orders", 1).expect("accepted").arm, "armed, if for a moment that never comes");
}

#[test]
fn nothing_is_accepted_before_the_start_and_after_the_end() {
    let mut queue = Both::new(limits(3, 1000));
    assert!(matches!(offer(&mut queue, "orders", 1), Err(Refused::Idle)));
    queue.start();
    offer(&mut queue, "orders", 1).expect("accepted");
    queue.close();
    queue.start();
    assert!(matches!(offer(&mut queue, "orders", 1), Err(Refused::Closed)));
    assert!(queue.take_due(&mut VecDeque::new()), "what was accepted is due");
}

#[test]
fn what_a_message_takes_is_known_before() {
    let plain = Message::new("orders", "value");
    let rich = plain.clone().with_key("k").with_tag(7).with_partition_key("pk").with_header("h", "v");
    for message in [plain, rich] {
        let chunk = Chunk::of(0, TopicIndex(0), &message, Timestamp::from_millis(0));
        let (_, tail) = chunk.records.record_at(0);
        assert_eq!(prepare(&message).record.tail_len, tail.len());
        assert_eq!(chunk.cost, entry::cost(tail.len(), chunk.extras.first()));
    }
}

#[test]
fn a_run_that_fills_a_batch_is_due_and_leaves_the_next_one_behind() {
    let mut queue = Both::new(Limits { batch_bytes: 5_000, ..limits(1_000, 1_000_000) });
    queue.start();
    queue.sleep();
    let mut count = 0;
    while !offer(&mut queue, "orders", 100).expect("accepted").wake {
        count += 1;
    }
    let mut out = VecDeque::new();
    assert!(queue.take_due(&mut out));
    let [run] = out.make_contiguous() else { panic!("{out:?}") };
    assert_eq!((run.run(), run.len()), (Some(TopicIndex(0)), count));
    assert!((4_850..=5_000).contains(&run.records.len()), "{} bytes", run.records.len());
    assert_eq!(queue.accepted() - queue.taken(), 1, "the message that did not fit");
    assert!(!queue.take_due(&mut out));
}

#[test]
fn what_names_a_key_or_a_partition_or_another_topic_ends_a_run_and_no_chunk() {
    let plain = Message::new("orders", "v");
    let others = [
        plain.clone().with_key("k"),
        plain.clone().with_partition(3),
        plain.clone().with_partition_key("k"),
        Message::new("parcels", "v"),
    ];
    for other in others {
        let mut queue = queue(100, 1_000_000);
        for message in [&plain, &plain, &other, &plain] {
            offer_message(&mut queue, message, None, now).expect("accepted");
        }
        assert!(!queue.deliver(), "it was never asleep");
        let mut out = VecDeque::new();
        queue.take_due(&mut out);
        let [chunk] = out.make_contiguous() else { panic!("{out:?}") };
        assert_eq!(chunk.run(), None);
        let seen: Vec<_> = chunk.entries().map(|entry| (entry.partition, tail::key(entry.tail).is_some())).collect();
        let kind = (other.partition(), other.key().is_some());
        assert_eq!(seen, [(None, false), (None, false), kind, (None, false)]);
    }
}

#[test]
fn with_a_partitioner_of_the_users_nothing_is_a_run() {
    let mut queue = Both::new(Limits { spreads: false, ..limits(100, 1_000_000) });
    queue.start();
    offer(&mut queue, "orders", 1).expect("accepted");
    assert!(!queue.deliver(), "it was never asleep");
    let mut out = VecDeque::new();
    queue.take_due(&mut out);
    assert_eq!(out[0].run(), None);
}

#[test]
fn most_of_many_plain_messages_are_taken_quietly() {
    let mut queue = Both::new(Limits { batch_bytes: 100_000, ..limits(100_000, 100_000_000) });
    queue.start();
    let topic = Topic::new("orders").expect("a good name");
    let message = Message::new(&topic, "a value");
    let quiet = (0..50_000)
        .filter(|_| quietly(&mut queue, &message).is_some() || offer_message(&mut queue, &message, None, now).is_err());
    let quiet = quiet.count();
    assert!(quiet > 49_900, "{quiet}");
    assert_eq!(queue.accepted(), 50_000);
}

#[test]
fn another_process_gets_nothing_in() {
    let mut queue = queue(100, 1_000_000);
    let message = Message::new("orders", "v");
    assert!(matches!(offer_message(&mut queue, &message, None, || None), Err(Refused::Forked)));
    assert_eq!((queue.accepted(), queue.oldest()), (0, None));
}

/// The same queue, written as slowly and plainly as possible. All messages are of one run.
struct Model {
    limits: Limits,
    messages: Vec<Told>,
    /// The number of the open chunk.
    chunk: usize,
    asleep: bool,
    armed: bool,
    closed: bool,
}

struct Told {
    tail_len: usize,
    cost: usize,
    chunk: usize,
    due: bool,
    taken: bool,
    released: bool,
}

impl Model {
    fn held(&self) -> (usize, usize) {
        let held = self.messages.iter().filter(|message| !message.released);
        (held.clone().count(), held.map(|message| message.cost).sum())
    }

    fn all_due(&mut self) {
        self.messages.iter_mut().for_each(|message| message.due = true);
    }

    fn wake(&mut self) -> bool {
        let wake = self.asleep && self.messages.iter().any(|message| message.due && !message.taken);
        self.asleep &= !wake;
        wake
    }

    fn of_chunk(&self, chunk: usize) -> impl Iterator<Item = &Told> + Clone {
        self.messages.iter().filter(move |message| message.chunk == chunk)
    }

    /// A chunk that holds a due message is all due once nothing more can come into it.
    fn seal(&mut self) {
        if self.of_chunk(self.chunk).any(|message| message.due) {
            self.all_due();
        }
        self.chunk += 1;
    }

    /// Bytes of the open chunk as a batch, with this message. A message's time is its ticket.
    fn batch_with(&self, tail_len: usize) -> usize {
        let mut batch = BatchBuilder::default();
        for (ticket, message) in (0..).zip(&self.messages).filter(|(_, message)| message.chunk == self.chunk) {
            batch.append(ticket, &vec![0; message.tail_len]);
        }
        batch.append(self.messages.len() as i64, &vec![0; tail_len]);
        batch.len()
    }

    /// Accepted, and whether the worker and the timer must be woken.
    fn offer(&mut self, tail_len: usize, cost: usize) -> (bool, bool, bool) {
        let (count, bytes) = self.held();
        if self.closed {
            return (false, false, false);
        }
        if count >= self.limits.messages || (count > 0 && bytes + cost > self.limits.bytes) {
            self.all_due();
            return (false, self.wake(), false);
        }
        let large = tail_len > ENCODED_BEFORE;
        let begun = self.of_chunk(self.chunk).next().is_some();
        if begun && !large && self.batch_with(tail_len) > self.limits.batch_bytes {
            self.all_due();
            self.seal();
        } else if large {
            self.seal();
        }
        let chunk = self.chunk;
        self.messages.push(Told { tail_len, cost, chunk, due: false, taken: false, released: false });
        if large {
            self.chunk += 1;
        } else if self.of_chunk(chunk).count() >= (self.limits.messages / 4).max(1) {
            self.seal();
        }
        let waiting = self.messages.iter().filter(|message| !message.due);
        let enough = (self.limits.threshold > 0 && waiting.clone().count() >= self.limits.threshold)
            || waiting.map(|message| message.tail_len + LEAST_HEAD).sum::<usize>() >= self.limits.batch_bytes
            || self.held().0 == self.limits.messages;
        if enough {
            self.all_due();
        }
        let wake = self.wake();
        let arm = !self.armed && self.messages.iter().any(|message| !message.due);
        self.armed |= arm;
        (true, wake, arm)
    }

    fn take(&mut self) -> Vec<u64> {
        let due = self.messages.iter().filter(|message| message.due && !message.taken);
        let Some(last) = due.map(|message| message.chunk).max() else { return Vec::new() };
        let mut tickets = Vec::new();
        for (ticket, message) in (0..).zip(&mut self.messages) {
            if !message.taken && message.chunk <= last {
                (message.due, message.taken) = (true, true);
                tickets.push(ticket);
            }
        }
        if last == self.chunk {
            self.chunk += 1;
        }
        tickets
    }
}

#[derive(Clone, Debug)]
enum Op {
    Offer(usize),
    Due(u64),
    Deliver,
    Take,
    TakeAndSleep,
    Rouse,
    Release(u64),
    Tick,
    Close,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        24 => (0usize..80).prop_map(Op::Offer),
        1 => (17_000usize..18_000).prop_map(Op::Offer),
        2 => (0u64..40).prop_map(Op::Due),
        1 => Just(Op::Deliver),
        2 => Just(Op::Take),
        6 => Just(Op::TakeAndSleep),
        1 => Just(Op::Rouse),
        4 => (1u64..6).prop_map(Op::Release),
        2 => Just(Op::Tick),
        1 => Just(Op::Close),
    ];
    prop::collection::vec(op, 1..120)
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (1usize..60, 60usize..9000, prop_oneof![Just(0usize), 1usize..20], 30usize..2000).prop_map(
        |(messages, bytes, threshold, batch_bytes)| {
            let interval = Duration::from_secs(1);
            Limits { messages, bytes, threshold, interval, batch_bytes, spreads: true }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_behaves_as_the_plain_model(limits in any_limits(), ops in ops()) {
        let mut queue = Both::new(limits);
        queue.start();
        let messages = Vec::new();
        let mut model = Model { limits, messages, chunk: 0, asleep: false, armed: false, closed: false };
        let at = start();
        let topic = Topic::new("orders").expect("a good name");
        for op in ops {
            match op {
                Op::Offer(len) => {
                    let value = vec![7; len];
                    let ticket = queue.accepted();
                    let time = Timestamp::from_millis(ticket as i64);
                    let message = Message::new(&topic, &value).with_create_time(time);
                    let prepared = prepare(&message);
                    let expected = model.offer(prepared.record.tail_len, prepared.cost(false));
                    let seen = if quietly(&mut queue, &message) == Some(ticket) {
                        (true, false, false)
                    } else {
                        match offer_message(&mut queue, &message, None, || Some(at)) {
                            Ok(accepted) => {
                                prop_assert_eq!(accepted.ticket, ticket);
                                (true, accepted.wake, accepted.arm)
                            }
                            Err(Refused::Full(full)) => (false, full.wake, false),
                            Err(_) => (false, false, false),
                        }
                    };
                    prop_assert_eq!(seen, expected);
                }
                Op::Due(ticket) => {
                    if model.messages.get(ticket as usize).is_some_and(|message| !message.taken) {
                        model.all_due();
                    }
                    prop_assert_eq!(queue.due(ticket), model.wake());
                }
                Op::Deliver => {
                    model.all_due();
                    prop_assert_eq!(queue.deliver(), model.wake());
                }
                Op::Take | Op::TakeAndSleep => {
                    let mut out = VecDeque::new();
                    let took = queue.take_due(&mut out);
                    let expected = model.take();
                    prop_assert_eq!(took, !expected.is_empty());
                    let mut tickets = Vec::new();
                    for chunk in &mut out {
                        let first = chunk.first;
                        for (ticket, entry) in (first..).zip(chunk.entries()) {
                            prop_assert_eq!(entry.create_time, ticket as i64);
                            tickets.push(ticket);
                        }
                    }
                    prop_assert_eq!(tickets, expected);
                    out.into_iter().for_each(|chunk| queue.recycle(chunk));
                    if matches!(op, Op::TakeAndSleep) {
                        queue.sleep();
                        model.asleep = true;
                    }
                }
                Op::Rouse => {
                    prop_assert_eq!(queue.rouse(), model.asleep);
                    model.asleep = false;
                }
                Op::Release(most) => {
                    let leave = model.messages.iter_mut().filter(|message| message.taken && !message.released);
                    let (mut count, mut bytes) = (0, 0);
                    for message in leave.take(most as usize) {
                        message.released = true;
                        count += 1;
                        bytes += message.cost;
                    }
                    queue.release(count, bytes);
                }
                Op::Tick => {
                    // A moment before or after every message's interval has ended.
                    let late = queue.accepted() % 2 == 0;
                    let now = if late { at + Duration::from_secs(1) } else { at };
                    let waits = model.messages.iter().any(|message| !message.due);
                    if late {
                        model.all_due();
                    }
                    model.armed = waits && !late;
                    let next = if model.armed { Deadline::at(at + Duration::from_secs(1)) } else { Deadline::NEVER };
                    prop_assert_eq!(queue.tick(now), (next, model.wake()));
                }
                Op::Close => {
                    queue.close();
                    model.all_due();
                    model.closed = true;
                }
            }
            prop_assert_eq!((queue.held(), queue.bytes()), model.held());
            prop_assert_eq!(queue.oldest().is_some(), queue.held() > 0);
            let waits = model.messages.iter().any(|message| !message.due);
            prop_assert_eq!(queue.oldest_waiting().is_some(), waits);
        }
    }
}

fn queue(messages: usize, bytes: usize) -> Both {
    let mut queue = Both::new(limits(messages, bytes));
    queue.start();
    queue
}

fn limits(messages: usize, bytes: usize) -> Limits {
    let (threshold, interval, batch_bytes) = (0, Duration::ZERO, usize::MAX);
    Limits { messages, bytes, threshold, interval, batch_bytes, spreads: true }
}

/// A queue, and the worker's end of its channel.
pub(super) struct Both {
    queue: Queue,
    pub sealed: Sealed,
}

impl Both {
    pub fn new(limits: Limits) -> Self {
        let (queue, sealed) = Queue::new(limits);
        Self { queue, sealed }
    }

    pub fn take_due(&mut self, out: &mut VecDeque<Chunk>) -> bool {
        self.queue.take_due(&self.sealed, out)
    }
}

impl Deref for Both {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl DerefMut for Both {
    fn deref_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }
}

fn offer(queue: &mut Queue, topic: &str, len: usize) -> Result<Accepted, Refused> {
    let value = vec![0; len];
    let message = Message::new(topic, &value);
    offer_message(queue, &message, None, now)
}

fn offer_message(
    queue: &mut Queue,
    message: &Message<'_>,
    slot: Option<Slot<'_>>,
    clock: impl FnOnce() -> Option<Instant>,
) -> Result<Accepted, Refused> {
    let message = prepare(message);
    queue.offer(&message, &mut message.encode_large(), slot, clock)
}

fn quietly(queue: &mut Queue, message: &Message<'_>) -> Option<u64> {
    let message = prepare(message);
    if message.is_good(Prepared::good_bytes(1_000_000)) { queue.append_like_last(&message, None) } else { None }
}

fn prepare<'m, 'd>(message: &'m Message<'d>) -> Prepared<'m, 'd> {
    Prepared::new(message, 1_000_000, Timestamp::from_millis(0)).expect("a good message")
}

fn full(outcome: Result<Accepted, Refused>) -> Full {
    match outcome {
        Err(Refused::Full(full)) => full,
        other => panic!("not full: {other:?}"),
    }
}

fn now() -> Option<Instant> {
    Some(start())
}

#[expect(clippy::disallowed_methods, reason = "there is no other way to get a first moment")]
fn start() -> Instant {
    Instant::now()
}
