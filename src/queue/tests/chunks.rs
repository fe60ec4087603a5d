//! How messages lie in chunks, and the order in which these leave.

use std::collections::HashMap;

use super::*;
use crate::queue::entry;
use crate::queue::filling::{BEHIND, SUMMED_TOGETHER};
use crate::record::batch::BatchBuilder;
use crate::record::tail;

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

/// Times between which a batch has no distance.
#[test]
fn times_from_end_to_end_cost_no_chunk_for_each_message() {
    const MESSAGES: usize = 5000;
    for keys in [false, true] {
        let mut queue = queue(MESSAGES, 1 << 26);
        let topic = Topic::new("orders").expect("a good name");
        queue.topic(topic.name()).expect("a good name");
        queue.tell_partitions(TopicIndex(0), 3);
        let time = |ticket: usize| [i64::MIN, i64::MAX, 0][ticket % 3];
        for ticket in 0..MESSAGES {
            let message = Message::new(&topic, ticket.to_string());
            let message = message.with_create_time(Timestamp::from_millis(time(ticket)));
            let message = if keys { message.with_key("k") } else { message };
            let offered = offer_message(&mut queue, &message, None, now);
            assert!(offered.is_ok(), "{keys} {ticket} {offered:?}");
        }
        let mut out = VecDeque::new();
        assert!(queue.take_due(&mut out));
        assert!(keys || out.len() < 10, "{}", out.len());
        let mut seen = 0..MESSAGES;
        for chunk in &mut out {
            let run = chunk.run().is_some();
            for entry in chunk.entries() {
                let ticket = seen.next().expect("not more than were accepted");
                let value = tail::Tail::read(entry.tail).expect("a tail").value;
                assert_eq!(value, Some(ticket.to_string().as_bytes()));
                assert_eq!(entry.create_time, time(ticket), "{run}");
            }
        }
        assert_eq!(seen.len(), 0);
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
        out.iter().map(|chunk| (0..9).filter(|index| chunk.extras.of(*index, &mut 0).is_some()).collect()).collect();
    assert_eq!(indexes, [vec![1], vec![0]], "the first two fill a chunk of a queue this small");
}

#[test]
fn what_a_message_takes_is_known_before() {
    let plain = Message::new("orders", "value");
    let rich = plain.clone().with_key("k").with_tag(7).with_partition_key("pk").with_header("h", "v");
    for message in [plain, rich] {
        let chunk = Chunk::of(0, TopicIndex(0), &message, Timestamp::from_millis(0));
        let (_, tail) = chunk.records.record_at(0);
        assert_eq!(prepare(&message).record.tail_len, tail.len());
        assert_eq!(chunk.cost, entry::cost(tail.len(), chunk.extras.of(0, &mut 0).as_ref()));
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
        let seen: Vec<_> =
            chunk.entries().map(|entry| (entry.partition.map(|it| it.0), tail::key(entry.tail).is_some())).collect();
        let kind = (other.partition(), other.key().is_some());
        assert_eq!(seen, [(None, false), (None, false), kind, (None, false)]);
    }
}

#[test]
fn with_a_partitioner_of_the_users_nothing_is_a_run() {
    let mut queue = Both::placed_by(limits(100, 1_000_000), &Partitioner::custom(|_| 0));
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
