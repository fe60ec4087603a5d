//! The queue against a plain model of it, and its timer.

use proptest::prelude::*;

use super::*;
use crate::deadline::Deadline;
use crate::queue::places::LEAST_HEAD;
use crate::queue::prepared::ENCODED_BEFORE;
use crate::record::batch::BatchBuilder;

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
            Limits { messages, bytes, threshold, interval, batch_bytes }
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
                    let expected = model.offer(prepared.record.tail_len, prepared.cost(None));
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
