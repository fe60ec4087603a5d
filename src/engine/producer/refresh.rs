//! When to ask for metadata, whom, and about which topics.
//!
//! A *round* asks about every topic that something waits for, or, when metadata has become old, about every topic in
//! use; in pieces, so that neither a request nor its answer grows with the number of topics.

use std::time::{Duration, Instant};

use super::ProducerEngine;
use super::metadata::Cluster;
use super::topic::TopicState;
use crate::config::ClientConfig;
use crate::deadline::Deadline;
use crate::engine::cluster::in_flight::Purpose;
use crate::engine::cluster::link::Peer;
use crate::error::ConnectionErrorKind;
use crate::message::Topic;
use crate::wire::frame::ConnId;
use crate::wire::{Api, metadata};

/// When to ask for metadata.
#[derive(Debug)]
pub struct Refresh {
    wanted: bool,
    /// Whether a caller wants it, although no message does.
    asked_for: bool,
    asked: Option<ConnId>,
    /// The number of the round, and the topic that its next piece begins with: 0 if a new round is next.
    round: u32,
    next_topic: u32,
    /// Whether the round is about all topics in use, because metadata is old.
    all: bool,
    /// When the last round about all topics in use ended: their age counts from then.
    last_all: Option<Instant>,
    /// Since when nobody gave a good answer although one was wanted.
    fruitless_since: Option<Instant>,
    not_before: Deadline,
    /// What was asked last keeps another question back until then, whatever it is about.
    not_at_once: Deadline,
    /// Rounds in a row that did not have what was wanted.
    failures: u32,
    max_age: Duration,
    min_age: Duration,
    pub(super) cluster: Option<Cluster>,
}

/// For how long a caller's wish to know a topic keeps the engine asking; the driver repeats it.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// How many topics one request asks about. With hundreds of partitions each, on three replicas, the answer is still
/// below the limit of 16 MiB for a response.
const TOPICS_IN_A_REQUEST: usize = 400;

/// KIP-1102: brokers that tell nothing for so long are left for the bootstrap addresses, although they are reachable.
const BEGIN_ANEW_AFTER: Duration = Duration::from_secs(300);

impl Refresh {
    pub(super) fn new(client: &ClientConfig) -> Self {
        Self {
            wanted: false,
            asked_for: false,
            asked: None,
            round: 0,
            next_topic: 0,
            all: false,
            last_all: None,
            fruitless_since: None,
            not_before: Deadline::NEVER,
            not_at_once: Deadline::NEVER,
            failures: 0,
            max_age: client.metadata_max_age,
            min_age: client.metadata_min_age,
            cluster: None,
        }
    }

    /// Asks for metadata as soon as that is allowed.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// The id of the cluster, as it was told last.
    pub(super) fn cluster_id(&self) -> Option<Box<str>> {
        self.cluster.as_ref()?.id.clone()
    }

    /// The same for a topic or broker: if that is new, it does not wait for the pause that follows from others, which
    /// were asked about in vain.
    pub(super) fn want_for(&mut self, is_new: bool) {
        self.wanted = true;
        if is_new && self.not_before != Deadline::NEVER {
            self.not_before = self.not_before.min(self.not_at_once);
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted && self.asked.is_none()
    }

    /// Whether it is wanted or asked for.
    pub(super) fn is_open(&self) -> bool {
        self.wanted || self.asked.is_some()
    }

    fn is_pausing(&self, now: Instant) -> bool {
        self.not_before != Deadline::NEVER && !self.not_before.passed(now)
    }
}

impl ProducerEngine {
    /// Makes the engine fetch metadata, whether or not it needs any.
    pub fn ask_for_metadata(&mut self) {
        self.refresh.asked_for = true;
        self.refresh.want();
    }

    /// What the last metadata said of the cluster.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.refresh.cluster.as_ref()
    }

    /// How many partitions the topic has; `None` while that is not known. Asking makes the engine find out, for
    /// some seconds.
    pub fn partition_count(&mut self, topic: u32, now: Instant) -> Option<i32> {
        let state = self.topics.get_mut(topic as usize)?;
        if state.is_known() {
            return Some(state.partitions.len() as i32);
        }
        if state.asked_until.is_none_or(|until| until <= now) {
            self.refresh.want();
        }
        state.asked_until = now.checked_add(ASKED_FOR);
        None
    }

    /// Sends a request for metadata, if one is wanted and allowed.
    pub(super) fn refresh_metadata(&mut self, now: Instant) {
        let refresh = &mut self.refresh;
        let old = refresh.last_all.is_some_and(|last| now.saturating_duration_since(last) >= refresh.max_age);
        if old && self.unfinished > 0 {
            refresh.want();
        }
        if !refresh.is_wanted() || refresh.is_pausing(now) {
            return;
        }
        let idle = self.unfinished == 0 && !self.topics.iter().any(|topic| topic.is_waiting(now));
        if idle && !refresh.asked_for {
            // Nothing needs it any more: dead brokers are left alone until something does.
            (refresh.wanted, refresh.next_topic, refresh.fruitless_since) = (false, 0, None);
            return;
        }
        let since = *refresh.fruitless_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= BEGIN_ANEW_AFTER {
            refresh.fruitless_since = Some(now);
            self.begin_anew("nobody has answered with metadata for minutes", now);
        }
        let Some(peer) = self.any_ready() else { return };
        if self.refresh.next_topic == 0 {
            self.refresh.round = self.refresh.round.wrapping_add(1);
            // A topic that is waited for may have to be made; those that are only old must not be.
            self.refresh.all = old && !self.topics.iter().any(|topic| topic.is_waiting(now));
        }
        let names = self.next_piece(now);
        let names: Vec<&str> = names.iter().map(Topic::name).collect();
        let create = self.config.allow_auto_topic_creation && !self.refresh.all;
        let conn = self.request(peer, Api::Metadata, Purpose::Metadata, now, |version, correlation, client| {
            metadata::request(version, correlation, client, &names, create)
        });
        if conn.is_some() {
            self.refresh.wanted = false;
            self.refresh.asked = conn;
            self.refresh.not_at_once = Deadline::after(now, self.refresh.min_age);
            self.refresh.not_before = self.refresh.not_at_once;
        }
    }

    pub(super) fn refresh_deadline(&self) -> Deadline {
        if self.refresh.is_wanted() {
            // Without a connection it is that which has to be waited for.
            return if self.any_ready().is_some() { self.refresh.not_before } else { Deadline::NEVER };
        }
        match self.refresh.last_all {
            Some(last) if self.unfinished > 0 && self.refresh.asked.is_none() => {
                Deadline::after(last, self.refresh.max_age)
            }
            _ => Deadline::NEVER,
        }
    }

    pub(super) fn metadata_lost(&mut self, conn: ConnId) {
        if self.refresh.asked == Some(conn) {
            self.refresh.asked = None;
            self.refresh.want();
        }
    }

    /// A good answer was taken in: goes on with the round, or decides when the next one is due.
    pub(super) fn refreshed(&mut self, now: Instant) {
        let refresh = &mut self.refresh;
        (refresh.asked, refresh.asked_for, refresh.fruitless_since) = (None, false, None);
        if refresh.next_topic > 0 {
            refresh.not_before = Deadline::NEVER;
            return refresh.want();
        }
        if refresh.all || refresh.last_all.is_none() {
            refresh.last_all = Some(now);
        }
        let round = refresh.round;
        let (mut unresolved, mut unasked) = (refresh.wanted, false);
        for topic in self.topics.iter().filter(|topic| topic.lacks_metadata(now)) {
            // A topic that came up after the round began is simply not in it.
            let asked = topic.asked_in == round;
            (unresolved, unasked) = (unresolved || asked, unasked || !asked);
        }
        match (unasked, unresolved) {
            (true, _) => self.refresh.want(),
            (false, true) => self.ask_again(now),
            (false, false) => self.refresh.failures = 0,
        }
    }

    /// The answer did not have what was wanted: another round after a pause.
    pub(super) fn ask_again(&mut self, now: Instant) {
        self.refresh.failures = self.refresh.failures.saturating_add(1);
        let pause = self.retry.pause(self.refresh.failures, self.random.u64(..)).max(self.refresh.min_age);
        self.refresh.not_before = Deadline::after(now, pause);
        (self.refresh.asked, self.refresh.next_topic) = (None, 0);
        self.refresh.want();
    }

    /// Leaves all brokers that the cluster told of for the addresses that the user gave (KIP-899, KIP-1102).
    ///
    /// Leaders keep their node ids: what is for them waits until metadata says again where they are.
    pub(super) fn begin_anew(&mut self, why: &str, now: Instant) {
        log::info!("asking the bootstrap addresses again: {why}");
        let peers: Vec<Peer> = self.brokers.links.keys().copied().collect();
        for peer in peers {
            self.fail_link(peer, ConnectionErrorKind::GivenUp("the bootstrap addresses are asked again"), now);
            if matches!(peer, Peer::Node(_)) {
                self.brokers.links.remove(&peer);
            }
        }
    }

    /// The topics that the next request of the round is about.
    fn next_piece(&mut self, now: Instant) -> Vec<Topic> {
        let (round, all) = (self.refresh.round, self.refresh.all);
        let from = self.refresh.next_topic as usize;
        let is_in = |topic: &TopicState| match all {
            true => topic.is_known() && (topic.used || topic.has_messages()),
            // Only what something waits for: to ask for a topic may make it, also one that was deleted on purpose.
            false => topic.has_messages() || topic.is_waiting(now),
        };
        let mut names = Vec::new();
        self.refresh.next_topic = 0;
        for (index, topic) in self.topics.iter_mut().enumerate().skip(from).filter(|(_, topic)| is_in(topic)) {
            if names.len() == TOPICS_IN_A_REQUEST {
                self.refresh.next_topic = index as u32;
                break;
            }
            topic.asked_in = round;
            names.push(topic.name.clone());
        }
        names
    }
}
