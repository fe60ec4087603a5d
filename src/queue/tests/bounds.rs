//! How many messages and bytes it takes, and whom it refuses.

use super::*;
use crate::error::DeliveryErrorKind;

#[test]
fn refuses_exactly_at_its_bound_and_takes_again_after_a_release() {
    let mut queue = queue(3, 1_000_000);
    for _ in 0..3 {
        assert!(offer(&mut queue, "orders", 1).is_ok());
    }
    let full = full(offer(&mut queue, "orders", 1));
    assert_eq!((full.queued, full.limit), (3, Limit::Messages(3)));
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
    assert_eq!((full.queued, full.limit), (1, Limit::Bytes(1000)));
}

#[test]
fn a_topic_that_is_held_up_fills_half_of_the_places_while_there_are_others() {
    let why = || Some(Arc::new(DeliveryErrorKind::Purged));
    for (messages, bytes, limit) in [(10, 1_000_000, Limit::Messages(5)), (100, 1000, Limit::Bytes(500))] {
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
        assert_eq!((refused.limit, refused.held_up.is_some()), (limit, true));
        assert_eq!(offer_all(&mut queue, "good"), 5, "the other half is for the others");
        assert!(full(offer(&mut queue, "good", 60)).held_up.is_none());
        assert!(full(offer(&mut queue, "bad", 60)).held_up.is_none(), "the whole queue is full");
        queue.deliver_and_release(5);
        assert!(offer(&mut queue, "bad", 60).is_err());
        queue.hold_up(TopicIndex(0), None);
        assert_eq!(offer_all(&mut queue, "bad"), 5, "something can be sent to it again");
        queue.deliver_and_release(10);
        TopicIndex::below(2).for_each(|topic| drop(queue.hold_up(topic, why())));
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
    for len in [1, 20_000] {
        // Told again: it has no message.
        queue.hold_up(TopicIndex(0), Some(Arc::clone(&why)));
        assert!(offer(&mut queue, "bad", len).is_ok());
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
fn another_process_gets_nothing_in() {
    let mut queue = queue(100, 1_000_000);
    let message = Message::new("orders", "v");
    assert!(matches!(offer_message(&mut queue, &message, None, || None), Err(Refused::Forked)));
    assert_eq!((queue.accepted(), queue.oldest()), (0, None));
}
