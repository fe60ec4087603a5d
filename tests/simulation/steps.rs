//! Steps of the worker, the delivery thread and callers in an order that once went wrong.

use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use crate::unthreaded::{Asked, Totals, Turn, Unthreaded};
use bytes::Bytes;
use ottla::config::{ClientConfig, ProducerConfig, QueueConfig};
use ottla::engine::Action;
use ottla::fate::Receipt;
use ottla::fate::slot::{Awaited, Slot};
use ottla::net::Event;
use ottla::testing::Cluster;
use ottla::testing::requests::Reply;
use ottla::testing::state::ClusterState;
use ottla::wire::frame::ConnId;
use ottla::{ConnectionErrorKind, Message, Persistence, Timestamp};

use crate::ledger::Ledger;

#[test]
fn a_purged_message_whose_handle_was_dropped_comes_back() {
    let mut side = start(false);
    let lookout = side.lookout();
    produce(&side, Some(lookout.slot()));
    drop(lookout);
    let purge = side.begin_purge().expect("it runs");
    turn(&mut side);
    turn(&mut side);
    let purged = side.end_purge(purge).expect("it is done");
    assert_eq!(purged.into_iter().flatten().count(), 1);
}

#[test]
fn a_flush_returns_with_the_counts_of_what_it_waited_for() {
    let mut side = start(true);
    produce(&side, None);
    let flush = side.begin_flush().expect("there is something to wait for");
    let _purge = side.begin_purge();
    let ended = (0..5).find_map(|_| {
        turn(&mut side);
        side.call();
        side.end_flush(flush, false)
    });
    assert_eq!(ended, Some(Ok(Totals { failed: 1, ..Totals::default() })));
}

#[test]
fn a_worker_that_gave_up_holds_no_queue_place() {
    let mut side = start(false);
    produce(&side, None);
    side.deliver();
    turn(&mut side);
    let last = (0..8).map(|_| side.survive("a test")).last();
    assert_eq!(last, Some(Turn::Ended));
    assert_eq!(side.queue(|queue| (queue.held(), queue.bytes())), (0, 0));
    assert_eq!(side.counts(), Totals { failed: 1, ..Totals::default() });
}

#[test]
fn what_a_socket_took_behind_a_bad_answer_is_possibly_written() {
    let mut met = Met::new();
    met.produce(0, None);
    let first = met.send();
    met.wrote(first.0);
    met.produce(1, None);
    let second = met.send();
    let (conn, request) = first;
    let mut answer = met.ask(&request);
    answer[0] ^= 1;
    // In the order in which sockets tell it: they are read, and then written.
    met.events.push(Event::Response(conn, answer));
    met.wrote(second.0);
    met.turn();
    met.side.close();
    met.side.abandon(true);
    met.turn();
    let left = met.side.remains().undelivered;
    let left: Vec<_> = left.into_iter().flatten().map(|error| error.persistence()).collect();
    assert_eq!(left, [Persistence::Possibly; 2]);
}

#[test]
fn an_answer_of_a_connection_that_was_replaced_is_nobodys() {
    for timed_out in [false, true] {
        let mut met = Met::new();
        let mut lookout = met.produce_with_handle(0);
        let (old, request) = met.send();
        met.wrote(old);
        let late = met.ask(&request);
        if timed_out {
            met.turn();
            met.now += ClientConfig::new(Vec::new()).socket_timeout;
        } else {
            met.events.push(Event::Closed(old, ConnectionErrorKind::Closed));
        }
        let (new, again) = met.send();
        assert_ne!(old, new);
        met.wrote(new);
        // Its correlation id is that of a request of the new connection, or of none.
        met.events.push(Event::Response(old, late.clone()));
        met.turn();
        assert!(matches!(lookout.look(), Err(TryRecvError::Empty)));
        let answer = met.ask(&again);
        met.events.push(Event::Response(new, answer));
        met.events.push(Event::Response(old, late));
        met.turn();
        met.turn();
        assert_eq!(delivered(&mut lookout).offset, Some(0));
        assert_eq!((met.side.counts().delivered, met.cluster.count("orders")), (1, 1));
    }
}

#[test]
fn an_answer_that_comes_twice_completes_once_and_ends_the_connection() {
    let mut met = Met::new();
    let mut lookout = met.produce_with_handle(0);
    let (conn, request) = met.send();
    met.wrote(conn);
    let answer = met.ask(&request);
    met.events.push(Event::Response(conn, answer.clone()));
    met.events.push(Event::Response(conn, answer));
    met.turn();
    met.turn();
    assert_eq!(delivered(&mut lookout).offset, Some(0));
    assert!(matches!(lookout.look(), Err(TryRecvError::Empty)));
    assert_eq!(met.side.counts(), Totals { delivered: 1, ..Totals::default() });
    assert_eq!(met.closed, [conn]);
}

#[test]
fn swapped_answers_are_not_believed() {
    let mut met = Met::new();
    let mut first_lookout = met.produce_with_handle(0);
    let first = met.send();
    met.wrote(first.0);
    let mut second_lookout = met.produce_with_handle(1);
    let second = met.send();
    met.wrote(second.0);
    assert_eq!(first.0, second.0, "one connection");
    let answers = [met.ask(&first.1), met.ask(&second.1)];
    for answer in answers.into_iter().rev() {
        met.events.push(Event::Response(first.0, answer));
    }
    met.turn();
    assert!(
        matches!(first_lookout.look(), Err(TryRecvError::Empty))
            && matches!(second_lookout.look(), Err(TryRecvError::Empty))
    );
    assert_eq!(met.closed, [first.0]);
    while met.side.counts().delivered < 2 {
        let (conn, request) = met.send();
        met.wrote(conn);
        let answer = met.ask(&request);
        met.events.push(Event::Response(conn, answer));
        met.turn();
        met.turn();
    }
    for (lookout, partition) in [&mut first_lookout, &mut second_lookout].into_iter().zip(0..) {
        let delivered = delivered(lookout);
        assert_eq!((delivered.partition, delivered.offset), (partition, Some(0)));
    }
    assert_eq!(met.cluster.count("orders"), 2);
}

#[test]
fn a_message_that_is_held_for_longer_than_its_delivery_timeout_is_delivered() {
    let mut met = Met::new();
    let mut lookout = met.side.lookout();
    let message = Message::new("orders", "value").with_partition(0);
    met.side.offer(&message, Some(lookout.slot()), Timestamp::from_millis(1_700_000_000_000)).expect("accepted");
    // Its time begins when it is due: until then somebody holds it on purpose.
    for _ in 0..3 {
        met.turn();
        met.now += ProducerConfig::default().delivery_timeout;
    }
    assert!(matches!(lookout.look(), Err(TryRecvError::Empty)));
    met.side.deliver();
    let (conn, request) = met.send();
    met.wrote(conn);
    let answer = met.ask(&request);
    met.events.push(Event::Response(conn, answer));
    met.turn();
    met.turn();
    assert_eq!(delivered(&mut lookout).offset, Some(0));
}

#[test]
fn an_answer_that_was_there_in_time_is_read_before_its_time_is_judged() {
    let (client, producer) = (ClientConfig::new(Vec::new()), ProducerConfig::default());
    // However late the worker is: past the time for answers, and past that of the message.
    for late in [client.socket_timeout, producer.delivery_timeout] {
        let mut met = Met::new();
        let mut lookout = met.produce_with_handle(0);
        let (conn, request) = met.send();
        met.wrote(conn);
        met.turn();
        let answer = met.ask(&request);
        met.events.push(Event::Response(conn, answer));
        met.now += late + Duration::from_secs(1);
        met.turn();
        met.turn();
        assert_eq!(delivered(&mut lookout).offset, Some(0), "after {late:?}");
        assert_eq!(met.closed, [], "after {late:?}");
    }
}

#[test]
fn an_answer_that_came_behind_the_last_look_is_read_before_anything_is_given_up() {
    let mut met = Met::new();
    let mut lookout = met.produce_with_handle(0);
    let (conn, request) = met.send();
    met.wrote(conn);
    met.turn();
    let answer = met.ask(&request);
    met.side.close();
    met.side.abandon(true);
    // As when the process is stopped between the two.
    met.side.wires().came.push(Event::Response(conn, answer));
    met.turn();
    assert_eq!(delivered(&mut lookout).offset, Some(0));
    assert_eq!(met.side.counts(), Totals { delivered: 1, ..Totals::default() });
}

/// A producer that has met a broker with two partitions of a topic.
struct Met {
    side: Unthreaded,
    cluster: ClusterState,
    now: Instant,
    events: Vec<Event>,
    sent: Vec<(ConnId, Bytes)>,
    /// Connections that the producer closed.
    closed: Vec<ConnId>,
}

impl Met {
    fn new() -> Self {
        let builder = Cluster::builder().topic("orders", 2);
        let cluster = ClusterState::new(builder, &[9]).expect("the topic is good");
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let now = Instant::now();
        Self { side: start(false), cluster, now, events: Vec::new(), sent: Vec::new(), closed: Vec::new() }
    }

    fn produce(&self, partition: i32, slot: Option<Slot<'_>>) {
        let message = Message::new("orders", "value").with_partition(partition);
        self.side.produce(message, slot, Timestamp::from_millis(1_700_000_000_000)).expect("accepted");
        self.side.deliver();
    }

    fn produce_with_handle(&self, partition: i32) -> Awaited {
        let lookout = self.side.lookout();
        self.produce(partition, Some(lookout.slot()));
        lookout
    }

    /// The next Produce request, whose bytes no socket has taken yet; all others are answered.
    fn send(&mut self) -> (ConnId, Bytes) {
        for _ in 0..50 {
            if !self.sent.is_empty() {
                return self.sent.remove(0);
            }
            self.turn();
            self.now += Duration::from_millis(100);
        }
        panic!("nothing was sent");
    }

    fn wrote(&mut self, conn: ConnId) {
        self.events.push(Event::Wrote { conn, started: 1, finished: 1 });
    }

    fn ask(&mut self, request: &Bytes) -> Vec<u8> {
        match self.cluster.receive(1, request, Timestamp::from_millis(1_700_000_000_000)) {
            Reply::Send { bytes, .. } => bytes[4..].to_vec(),
            Reply::Park(_) => panic!("parked"),
        }
    }

    fn turn(&mut self) {
        Unthreaded::set_clock(self.now);
        let events = std::mem::take(&mut self.events);
        self.side.turn(events.into_iter(), self.now, &mut ());
        for asked in std::mem::take(&mut self.side.wires().asked) {
            match asked {
                Asked::Do(Action::Connect { conn, .. }) => self.events.push(Event::Connected(conn)),
                Asked::Do(Action::Send { conn, frame }) => {
                    let request = Bytes::from(frame.to_vec()).slice(4..);
                    if request[..2] == [0, 0] {
                        self.sent.push((conn, request));
                        continue;
                    }
                    let answer = self.ask(&request);
                    self.events.push(Event::Wrote { conn, started: 1, finished: 1 });
                    self.events.push(Event::Response(conn, answer));
                }
                Asked::Do(Action::Close { conn }) => self.closed.push(conn),
                _ => {}
            }
        }
    }
}

fn start(callbacks: bool) -> Unthreaded {
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    Unthreaded::set_clock(Instant::now());
    let client = ClientConfig::new(vec!["127.0.0.1:9".parse().expect("an address")]);
    let callback = callbacks.then(|| Ledger::default().callback());
    Unthreaded::new(Arc::new(client), Arc::new(ProducerConfig::default()), &QueueConfig::default(), callback, 7)
}

fn delivered(lookout: &mut Awaited) -> Receipt {
    let Ok(Ok(receipt)) = lookout.look() else { panic!("it is not delivered") };
    receipt
}

fn produce(side: &Unthreaded, slot: Option<Slot<'_>>) {
    let message = Message::new("orders", "value");
    side.produce(message, slot, Timestamp::from_millis(0)).expect("accepted");
}

fn turn(side: &mut Unthreaded) {
    #[expect(clippy::disallowed_methods, reason = "the clock is set, and it stands")]
    let now = Instant::now();
    let turn = side.turn(std::iter::empty(), now, &mut ());
    assert!(matches!(turn, Turn::Wait(_)), "{turn:?}");
}
