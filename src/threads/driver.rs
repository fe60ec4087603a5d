//! Connects an engine to the sockets: the steps of a loop, whatever the engine is for. The only place that knows both
//! `engine` and `net`. Never decides anything: it carries. It reaches the sockets through the trait `Network`, so that
//! the simulation drives it without sockets.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::mem;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock;
#[cfg(feature = "sasl")]
use super::tokens::Tokens;
use super::watch::Watch;
use crate::config::{BrokerAddress, ClientConfig};
use crate::deadline::Deadline;
use crate::engine::{Action, Engine};
use crate::net::Event;
#[cfg(not(all(test, shuttle)))]
pub(super) use crate::net::Net;
#[cfg(all(test, shuttle))]
pub(super) use crate::net::model::Net;
use crate::sync::Waker;
use crate::wire::frame::{ConnId, Frame};

/// Carries frames, and tells what came.
pub trait Network {
    fn connect(&mut self, conn: ConnId, address: &BrokerAddress, within: Duration, all_addresses: bool, now: Instant);
    fn send(&mut self, conn: ConnId, frame: Frame, events: &mut Vec<Event>);
    fn close(&mut self, conn: ConnId);
    fn limit_responses(&mut self, conn: ConnId, max: usize);
    /// Reads all that has come by now, without a wait.
    fn look(&mut self, events: &mut Vec<Event>);
    /// Forgets all connections; nothing more is heard of them.
    fn renew(&mut self, client: &ClientConfig);
    /// The waker that ends its wait from another thread, if it waits at all.
    fn waker(&self) -> Option<Arc<Waker>>;
}

/// An engine, its sockets, and the time that it is told.
pub struct Driver<E, N = Net> {
    client: Arc<ClientConfig>,
    pub engine: E,
    net: N,
    /// The watches of waits for an answer, and for a caller's next message or request.
    answers: Watch,
    callers: Watch,
    events: Vec<Event>,
    #[cfg(feature = "sasl")]
    tokens: Tokens,
    /// `true` if the engine was told something since it last decided.
    told: bool,
    /// The time at which the sockets were last read. Deadlines are judged by this time, never by a later one, so that
    /// an answer that was there in time is seen in time, however late this thread was.
    now: Instant,
    /// The moment until which a caller waits, and a note if that was put off.
    until: Deadline,
    put_off: bool,
}

impl<E: Engine> Driver<E> {
    /// Over sockets.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new(client: Arc<ClientConfig>, engine: E) -> io::Result<Self> {
        Ok(Self::over(new_net(&client)?, client, engine))
    }

    /// Waits for the sockets, the waker or the engine's next deadline, for at most `wait`, and tells the engine what
    /// happened. Does not wait if the engine has something to decide. If somebody waits for an answer or a message, it
    /// may watch the sockets for a moment before it sleeps.
    ///
    /// # Errors
    /// The system cannot wait.
    pub fn poll(&mut self, wait: Deadline, somebody_waits: bool) -> io::Result<()> {
        let until = self.next_look(wait);
        let wait = if self.told { Some(Duration::ZERO) } else { until.moment().and_then(|_| until.left(clock::now())) };
        let polled = if somebody_waits && wait != Some(Duration::ZERO) {
            self.watch_and_poll(wait)
        } else {
            self.net.poll(wait, &mut self.events)
        };
        let now = clock::now();
        let deadline = if is_late(self.now, until, now) { Deadline::at(now) } else { self.engine.next_deadline() };
        let read = read_up(now, deadline, || {
            self.net.poll(Some(Duration::ZERO), &mut self.events).map(|()| self.net.has_more())
        });
        self.hear(until, now);
        polled.and(read)
    }

    fn watch_and_poll(&mut self, mut wait: Option<Duration>) -> io::Result<()> {
        let watch = if self.engine.is_busy() { &mut self.answers } else { &mut self.callers };
        if let Some(longest) = watch.begin() {
            let within = wait.map_or(longest, |wait| wait.min(longest));
            let found = self.net.watch(within, &mut self.events)?;
            watch.end(found);
            if found {
                return Ok(());
            }
            wait = wait.map(|wait| wait.saturating_sub(within));
        }
        self.net.poll(wait, &mut self.events)
    }
}

impl<E: Engine, N: Network> Driver<E, N> {
    /// A driver over a network that exists already.
    pub fn over(net: N, client: Arc<ClientConfig>, engine: E) -> Self {
        Self {
            client,
            engine,
            net,
            answers: Watch::default(),
            callers: Watch::default(),
            events: Vec::new(),
            #[cfg(feature = "sasl")]
            tokens: Tokens::default(),
            told: false,
            now: clock::now(),
            until: Deadline::NEVER,
            put_off: false,
        }
    }

    /// The network that carries the frames.
    #[cfg(all(feature = "_internal", not(all(test, shuttle))))]
    pub fn network(&mut self) -> &mut N {
        &mut self.net
    }

    /// The events that the network will tell with the next `hear`.
    #[cfg(all(feature = "_internal", not(all(test, shuttle))))]
    pub fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }

    /// The moment of the next look at the sockets: at once if the engine has something to decide, else with its next
    /// deadline, and at the latest after `wait`.
    pub fn next_look(&self, wait: Deadline) -> Deadline {
        if self.told { Deadline::at(self.now) } else { wait.min(self.engine.next_deadline()) }
    }

    /// Tells the engine all that the network told, before any deadline is judged. This look was planned for `until`.
    pub fn hear(&mut self, until: Deadline, now: Instant) {
        let late = is_late(self.now, until, now);
        self.now = now;
        self.feed();
        #[cfg(feature = "sasl")]
        if let Some(token) = self.tokens.take() {
            self.told = true;
            self.engine.token(token, now);
        }
        if late {
            self.extend_timeouts();
        }
    }

    /// Tells the engine of all that has come since the last look, before messages under way are given up.
    pub fn look(&mut self) {
        self.net.look(&mut self.events);
        self.hear(Deadline::NEVER, clock::now());
    }

    /// The last look was late: what is under way has a while from now, because what was sent just before this process
    /// was stopped, or after, could not be answered yet, nor could a request that is half written.
    fn extend_timeouts(&mut self) {
        let until = self.now + ANSWERED_WITHIN;
        self.engine.extend_timeouts(until);
        if self.until.passed(until) && !self.put_off {
            (self.until, self.put_off) = (Deadline::at(until), true);
        }
    }

    /// A caller waits from here on, until this moment: a late look puts it off once, as it does the time of messages.
    pub fn begin(&mut self, until: Deadline) {
        (self.until, self.put_off) = (until, false);
    }

    /// The moment until which the caller waits.
    pub fn until(&self) -> Deadline {
        self.until
    }

    /// `true` if the caller's time is up.
    pub fn is_overdue(&self) -> bool {
        self.until.passed(self.now)
    }

    pub fn waker(&self) -> Option<Arc<Waker>> {
        self.net.waker()
    }

    /// The time at which the sockets were last read.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Lets the engine decide, and carries out its actions; sockets that take bytes at once get them.
    pub fn go(&mut self) {
        self.told = false;
        self.engine.advance(self.now);
        while let Some(action) = self.engine.next_action() {
            self.act(action);
        }
        self.feed();
    }

    /// Puts a new engine and new connections in the place of the broken ones, and gives the broken engine.
    pub fn replace(&mut self, engine: E) -> E {
        self.events.clear();
        self.told = true;
        self.net.renew(&self.client);
        mem::replace(&mut self.engine, engine)
    }

    /// Closes the connections, and gives the engine.
    pub fn into_engine(self) -> E {
        self.engine
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect { conn, address, within } => {
                self.net.connect(conn, &address, within, self.client.resolve_all_addresses, clock::now());
            }
            Action::Send { conn, frame } => self.net.send(conn, frame, &mut self.events),
            #[cfg(feature = "sasl")]
            Action::AskForToken => {
                let provider = self.client.sasl.as_ref().and_then(crate::config::sasl::Sasl::provider);
                if let Some(provider) = provider {
                    self.tokens.ask(provider, self.net.waker());
                }
            }
            Action::Close { conn } => self.net.close(conn),
            Action::Limit { conn, max_response_bytes } => self.net.limit_responses(conn, max_response_bytes),
        }
    }

    fn feed(&mut self) {
        self.told |= self.events.iter().any(|event| !matches!(event, Event::Wrote { .. }));
        // Bytes that a socket took may be written, even if an answer that was read just before ends the connection: so
        // the engine hears of them first.
        for event in &self.events {
            if let Event::Wrote { conn, started, finished } = *event {
                self.told |= self.engine.wrote(conn, started, finished, self.now);
            }
        }
        for event in self.events.drain(..) {
            match event {
                Event::Connected(conn) => self.engine.connected(conn, self.now),
                Event::Response(conn, frame) => self.engine.response(conn, &frame, self.now),
                Event::Wrote { .. } => {}
                Event::Closed(conn, why) => self.engine.closed(conn, why, self.now),
            }
        }
    }
}

impl Network for Net {
    fn connect(&mut self, conn: ConnId, address: &BrokerAddress, within: Duration, all_addresses: bool, now: Instant) {
        Self::connect(self, conn, address, within, all_addresses, now);
    }

    fn send(&mut self, conn: ConnId, frame: Frame, events: &mut Vec<Event>) {
        Self::send(self, conn, frame, events);
    }

    fn close(&mut self, conn: ConnId) {
        Self::close(self, conn);
    }

    fn limit_responses(&mut self, conn: ConnId, max: usize) {
        Self::limit_responses(self, conn, max);
    }

    fn look(&mut self, events: &mut Vec<Event>) {
        let now = clock::now();
        // A response that cannot be read has not come.
        let _ = read_up(now, Deadline::at(now), || self.poll(Some(Duration::ZERO), events).map(|()| self.has_more()));
    }

    fn renew(&mut self, client: &ClientConfig) {
        match new_net(client) {
            Ok(net) => *self = net,
            Err(_) => self.close_all(),
        }
    }

    fn waker(&self) -> Option<Arc<Waker>> {
        Some(Self::waker(self))
    }
}

/// Before a deadline is judged to have passed by `now`, reads all that had come by then: since the sockets were looked
/// at, this process may have been stopped for long, at any moment. `read` says if there is more than it took.
fn read_up(now: Instant, deadline: Deadline, mut read: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let mut turns = if deadline.passed(now) { MOST_TURNS } else { 0 };
    while turns > 0 && read()? {
        turns -= 1;
    }
    Ok(())
}

/// `true` if the sockets were looked at long after the planned time: this process was stopped, or something held up
/// this thread. Then answers may be unseen in the sockets, and others may not have come yet.
fn is_late(last: Instant, until: Deadline, now: Instant) -> bool {
    until.moment().is_some_and(|until| now.saturating_duration_since(until.max(last)) >= LATE)
}

/// Longer than a thread waits for its turn on most machines.
const LATE: Duration = Duration::from_millis(100);

/// Long enough for most brokers to answer requests that they get only now, and short beside most time limits.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// More than all sockets hold; a peer that sends without end must not stop the time.
const MOST_TURNS: u32 = 64;

/// Begins each engine differently: for jitter, not for secrets.
pub(crate) fn new_seed() -> u64 {
    seed_of(&RandomState::new(), process::id())
}

/// The standard library draws the state once for each thread and then counts on, so children that were forked from one
/// thread have the same. Without their number they would come back to a broker in step.
fn seed_of(state: &RandomState, process: u32) -> u64 {
    state.hash_one(process)
}

impl<E: std::fmt::Debug, N> std::fmt::Debug for Driver<E, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("engine", &self.engine).finish_non_exhaustive()
    }
}

fn new_net(client: &ClientConfig) -> io::Result<Net> {
    let net = match &client.resolver.0 {
        None => Net::new(),
        Some(look_up) => {
            let look_up = Arc::clone(look_up);
            Net::with_resolver(Arc::new(move |host: &str| look_up(host)))
        }
    };
    Ok(net?.encrypted(client.encryption.clone()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::producer::ProducerEngine;

    #[test]
    fn children_of_one_thread_begin_differently() {
        let of_the_parent = RandomState::new();
        assert_ne!(seed_of(&of_the_parent, 7), seed_of(&of_the_parent, 8));
    }

    #[test]
    fn a_look_is_late_when_it_comes_long_after_it_was_to_be() {
        let start = crate::engine::test_clock();
        let at = |millis| start + Duration::from_millis(millis);
        for (last, until, now, late) in [
            // It waited as long as it was to, and a little longer.
            (0, 5000, 5000, false),
            (0, 5000, 5099, false),
            // It was stopped while it waited, or before.
            (0, 5000, 8000, true),
            // It was to look at once.
            (1000, 1000, 1099, false),
            (1000, 0, 1099, false),
            (1000, 0, 4000, true),
            // It was woken before its time.
            (0, 5000, 4000, false),
        ] {
            assert_eq!(is_late(at(last), Deadline::at(at(until)), at(now)), late, "{last} {until} {now}");
        }
        assert!(!is_late(start, Deadline::NEVER, at(3_600_000)), "it was to look at no time");
    }

    #[test]
    fn the_time_of_a_caller_is_put_off_once_by_a_late_look() {
        let start = crate::engine::test_clock();
        let (at, deadline) = (
            |millis| start + Duration::from_millis(millis),
            |millis| Deadline::after(start, Duration::from_millis(millis)),
        );
        let client = Arc::new(ClientConfig::new(Vec::new()));
        let engine = ProducerEngine::new(Arc::clone(&client), Arc::default(), 0);
        let mut driver = Driver::over(Nowhere, client, engine);
        driver.hear(deadline(0), at(0));
        driver.begin(deadline(9000));
        // It has time enough, and its respite is still to come.
        driver.hear(deadline(1000), at(5000));
        assert_eq!((driver.until(), driver.is_overdue()), (deadline(9000), false));
        driver.hear(deadline(6000), at(10_000));
        assert_eq!((driver.until(), driver.is_overdue()), (deadline(11_000), false));
        driver.hear(deadline(10_100), at(10_900));
        assert_eq!(driver.until(), deadline(11_000), "not twice");
        driver.hear(deadline(11_000), at(11_000));
        assert!(driver.is_overdue());
        driver.begin(deadline(12_000));
        driver.hear(deadline(11_100), at(13_000));
        assert_eq!(driver.until(), deadline(14_000), "the next call");
        driver.begin(Deadline::NEVER);
        driver.hear(deadline(13_100), at(20_000));
        assert_eq!(driver.until(), Deadline::NEVER);
    }

    /// No network.
    pub struct Nowhere;

    impl Network for Nowhere {
        fn connect(&mut self, _: ConnId, _: &BrokerAddress, _: Duration, _: bool, _: Instant) {}
        fn send(&mut self, _: ConnId, _: Frame, _: &mut Vec<Event>) {}
        fn close(&mut self, _: ConnId) {}
        fn limit_responses(&mut self, _: ConnId, _: usize) {}
        fn look(&mut self, _: &mut Vec<Event>) {}
        fn renew(&mut self, _: &ClientConfig) {}
        fn waker(&self) -> Option<Arc<Waker>> {
            None
        }
    }

    #[test]
    fn all_that_came_is_read_before_a_deadline_is_judged_however_late_it_is() {
        let start = crate::engine::test_clock();
        let deadline = Deadline::after(start, Duration::from_secs(1));
        for (now, pieces, reads) in [(0, 3, 0), (1, 1, 1), (3600, 1, 1), (3600, 6, 6), (3600, u32::MAX, MOST_TURNS)] {
            let mut done = 0;
            let read = read_up(start + Duration::from_secs(now), deadline, || {
                done += 1;
                Ok(done < pieces)
            });
            assert!(read.is_ok());
            assert_eq!(done, reads, "after {now} s, in {pieces} pieces");
        }
    }
}
