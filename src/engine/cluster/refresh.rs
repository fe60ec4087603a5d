//! Decides when to ask for metadata, and about which topics.
//!
//! A *round* asks about every topic that something waits for, or, when metadata has become old, about every topic in
//! use; in pieces, so that neither a request nor its answer grows with the number of topics.

use std::time::{Duration, Instant};

use super::demand::{Demand, TopicDemand};
use crate::config::ClientConfig;
use crate::deadline::Deadline;
use crate::engine::backoff::Backoff;
use crate::ids::TopicIndex;
use crate::message::Topic;
use crate::wire::frame::ConnId;

/// The state of the questions for metadata.
#[derive(Debug)]
pub struct Refresh {
    wanted: bool,
    /// `true` if a caller wants it, although nothing else does.
    asked_for: bool,
    asked: Option<ConnId>,
    /// The topics that the round has asked about, ascending.
    round: Vec<TopicIndex>,
    /// The topic that the next piece of the round begins with; none if a new round is next.
    next_topic: Option<TopicIndex>,
    /// `true` if the round is about all topics in use, because metadata is old.
    all: bool,
    /// The time at which the last round about all topics in use ended: their age counts from then.
    last_all: Option<Instant>,
    /// The time since which nobody has given a good answer although one was wanted.
    fruitless_since: Option<Instant>,
    not_before: Deadline,
    /// The last question keeps another one back until then, whatever its topics.
    not_at_once: Deadline,
    /// Rounds in a row that did not bring the wanted metadata.
    failures: u32,
    retry: Backoff,
    max_age: Duration,
    min_age: Duration,
}

/// The topics that one request asks about.
#[derive(Debug)]
pub struct Question {
    /// The topics.
    pub topics: Vec<Topic>,
    /// `true` if it is about topics that are only old; the question must not create them.
    pub all: bool,
}

/// The number of topics that one request asks about. With hundreds of partitions each, on three replicas, the answer is
/// still below the limit of 16 MiB for a response.
const TOPICS_IN_A_REQUEST: usize = 400;

/// KIP-1102: brokers that give no good answer for this time are left for the bootstrap addresses, although they are
/// reachable.
const BEGIN_ANEW_AFTER: Duration = Duration::from_secs(300);

impl Refresh {
    /// Nothing was asked yet. `retry` is the pause between rounds that do not bring the wanted metadata.
    #[must_use]
    pub fn new(client: &ClientConfig, retry: Backoff) -> Self {
        Self {
            wanted: false,
            asked_for: false,
            asked: None,
            round: Vec::new(),
            next_topic: None,
            all: false,
            last_all: None,
            fruitless_since: None,
            not_before: Deadline::NEVER,
            not_at_once: Deadline::NEVER,
            failures: 0,
            retry,
            max_age: client.metadata_max_age,
            min_age: client.metadata_min_age,
        }
    }

    /// Asks for metadata as soon as that is allowed.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// The same for a topic or broker: if that is new, it does not wait for the pause that follows from others, which
    /// were asked about in vain.
    pub fn want_for(&mut self, is_new: bool) {
        self.wanted = true;
        if is_new && self.not_before != Deadline::NEVER {
            self.not_before = self.not_before.min(self.not_at_once);
        }
    }

    /// The same for a caller, whether or not anything else needs it.
    pub fn ask_for(&mut self) {
        self.asked_for = true;
        self.want();
    }

    /// `true` if it is wanted, and no answer is awaited.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted && self.asked.is_none()
    }

    /// `true` if it is wanted or asked for.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.wanted || self.asked.is_some()
    }

    /// `true` if it is time to ask, if a broker is there.
    pub fn is_due(&mut self, demand: &impl Demand, now: Instant) -> bool {
        if self.is_old(now) && demand.is_busy() {
            self.want();
        }
        if !self.is_wanted() || self.is_pausing(now) {
            return false;
        }
        let idle = !demand.is_busy() && !awaits_topics(demand, now);
        if idle && !self.asked_for {
            // Nothing needs it any more: dead brokers are left alone until something does.
            (self.wanted, self.next_topic, self.fruitless_since) = (false, None, None);
            return false;
        }
        true
    }

    /// `true` if nobody has given a good answer for minutes; if so, the minutes count anew.
    pub fn is_fruitless(&mut self, now: Instant) -> bool {
        let since = *self.fruitless_since.get_or_insert(now);
        let fruitless = now.saturating_duration_since(since) >= BEGIN_ANEW_AFTER;
        if fruitless {
            self.fruitless_since = Some(now);
        }
        fruitless
    }

    /// The next question: the next piece of the round, or the first of another round.
    pub fn next_question(&mut self, demand: &impl Demand, now: Instant) -> Question {
        if self.next_topic.is_none() {
            self.round.clear();
            // A topic that is waited for may have to be made; those that are only old must not be.
            self.all = self.is_old(now) && !awaits_topics(demand, now);
        }
        let wanted = if self.all { TopicDemand::InUse } else { TopicDemand::Wanted };
        let mut topics = Vec::new();
        let from = self.next_topic.take().unwrap_or_default();
        let rest = TopicIndex::below(demand.topic_count()).skip(from.get());
        for index in rest.filter(|index| demand.is_topic(*index, wanted, now)) {
            if topics.len() == TOPICS_IN_A_REQUEST {
                self.next_topic = Some(index);
                break;
            }
            self.round.push(index);
            topics.extend(demand.topic_name(index).cloned());
        }
        Question { topics, all: self.all }
    }

    /// The question was sent on this connection.
    pub fn asked(&mut self, conn: ConnId, now: Instant) {
        self.wanted = false;
        self.asked = Some(conn);
        self.not_at_once = Deadline::after(now, self.min_age);
        self.not_before = self.not_at_once;
    }

    /// The moment to ask, if nothing happens before; `ready` says that a broker is there to be asked.
    #[must_use]
    pub fn next_deadline(&self, demand: &impl Demand, ready: bool) -> Deadline {
        if self.is_wanted() {
            // Without a connection the wait is for the connection.
            return if ready { self.not_before } else { Deadline::NEVER };
        }
        match self.last_all {
            Some(last) if demand.is_busy() && self.asked.is_none() => Deadline::after(last, self.max_age),
            _ => Deadline::NEVER,
        }
    }

    /// The connection ended; if the question was on it, it is asked again.
    pub fn lost(&mut self, conn: ConnId) {
        if self.asked == Some(conn) {
            self.asked = None;
            self.want();
        }
    }

    /// A good answer was taken in: goes on with the round, or decides when the next one is due.
    pub fn answered(&mut self, demand: &impl Demand, now: Instant, random: u64) {
        (self.asked, self.asked_for, self.fruitless_since) = (None, false, None);
        if self.next_topic.is_some() {
            self.not_before = Deadline::NEVER;
            return self.want();
        }
        if self.all || self.last_all.is_none() {
            self.last_all = Some(now);
        }
        let (mut unresolved, mut unasked) = (self.wanted, false);
        let topics = TopicIndex::below(demand.topic_count());
        for topic in topics.filter(|topic| demand.is_topic(*topic, TopicDemand::Lacking, now)) {
            // A topic that came up after the round began is simply not in it.
            let asked = self.round.binary_search(&topic).is_ok();
            (unresolved, unasked) = (unresolved || asked, unasked || !asked);
        }
        match (unasked, unresolved) {
            (true, _) => self.want(),
            (false, true) => self.ask_again(now, random),
            (false, false) => self.failures = 0,
        }
    }

    /// The answer did not bring the wanted metadata: another round follows after a pause.
    pub fn ask_again(&mut self, now: Instant, random: u64) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.retry.pause(self.failures, random).max(self.min_age);
        self.not_before = Deadline::after(now, pause);
        (self.asked, self.next_topic) = (None, None);
        self.want();
    }

    fn is_pausing(&self, now: Instant) -> bool {
        self.not_before != Deadline::NEVER && !self.not_before.passed(now)
    }

    fn is_old(&self, now: Instant) -> bool {
        self.last_all.is_some_and(|last| now.saturating_duration_since(last) >= self.max_age)
    }
}

fn awaits_topics(demand: &impl Demand, now: Instant) -> bool {
    TopicIndex::below(demand.topic_count()).any(|topic| demand.is_topic(topic, TopicDemand::Awaited, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cluster::causes::{Standing, Subject};
    use crate::ids::NodeId;

    /// Topics, each with the statements that hold for it.
    struct Topics(Vec<(Topic, Vec<TopicDemand>)>);

    impl Topics {
        fn new(count: usize, demands: &[TopicDemand]) -> Self {
            Self((0..count).map(|at| (Topic::new(format!("t{at}")).unwrap(), demands.to_vec())).collect())
        }
    }

    impl Demand for Topics {
        fn is_busy(&self) -> bool {
            !self.0.is_empty()
        }

        fn needs_any_broker(&self) -> bool {
            false
        }

        fn next_node(&self, _: Option<NodeId>) -> Option<NodeId> {
            None
        }

        fn needs_node(&self, _: NodeId) -> bool {
            false
        }

        fn topic_count(&self) -> usize {
            self.0.len()
        }

        fn topic_name(&self, topic: TopicIndex) -> Option<&Topic> {
            self.0.get(topic.get()).map(|(name, _)| name)
        }

        fn is_topic(&self, topic: TopicIndex, demand: TopicDemand, _: Instant) -> bool {
            self.0[topic.get()].1.contains(&demand)
        }

        fn standing(&self, _: Subject, _: Instant) -> Standing {
            Standing::Over
        }
    }

    fn refresh() -> Refresh {
        let retry = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        Refresh::new(&ClientConfig::new(Vec::new()), retry)
    }

    /// Asks until nothing is due, and answers; returns the number of topics of each question.
    fn ask(refresh: &mut Refresh, topics: &Topics, now: &mut Instant) -> Vec<usize> {
        let mut asked = Vec::new();
        while refresh.is_due(topics, *now) {
            asked.push(refresh.next_question(topics, *now).topics.len());
            refresh.asked(ConnId(1), *now);
            *now += Duration::from_millis(1);
            refresh.answered(topics, *now, 0);
        }
        asked
    }

    #[test]
    fn a_round_goes_in_pieces_without_a_pause_between_and_ends() {
        let (mut refresh, mut now) = (refresh(), crate::engine::test_clock());
        let topics = Topics::new(1000, &[TopicDemand::Wanted]);
        refresh.want();
        assert_eq!(ask(&mut refresh, &topics, &mut now), [400, 400, 200]);
        assert!(!refresh.is_open());
    }

    #[test]
    fn what_an_answer_lacks_is_asked_for_again_after_a_pause() {
        let (mut refresh, mut now) = (refresh(), crate::engine::test_clock());
        let topics = Topics::new(3, &[TopicDemand::Wanted, TopicDemand::Awaited, TopicDemand::Lacking]);
        refresh.want();
        assert_eq!(ask(&mut refresh, &topics, &mut now), [3]);
        assert!(refresh.is_wanted() && !refresh.is_due(&topics, now));
        let next = refresh.next_deadline(&topics, true).moment().unwrap();
        assert!(next - now >= Duration::from_millis(80), "{:?}", next - now);
        assert_eq!(refresh.next_deadline(&topics, false), Deadline::NEVER, "a connection is what it waits for");
        now = next;
        assert_eq!(ask(&mut refresh, &topics, &mut now), [3]);
    }

    #[test]
    fn old_metadata_is_asked_for_where_topics_are_in_use_and_makes_none() {
        let (mut refresh, mut now) = (refresh(), crate::engine::test_clock());
        refresh.want();
        assert_eq!(ask(&mut refresh, &Topics::new(1, &[TopicDemand::Wanted]), &mut now), [1]);
        let mut topics = Topics::new(3, &[TopicDemand::Wanted]);
        topics.0[1].1.push(TopicDemand::InUse);
        now = refresh.next_deadline(&topics, true).moment().unwrap();
        assert!(refresh.is_due(&topics, now));
        let question = refresh.next_question(&topics, now);
        let names: Vec<&str> = question.topics.iter().map(Topic::name).collect();
        assert_eq!((names, question.all), (vec!["t1"], true));
        // A topic that is waited for may have to be made, and is asked for first.
        topics.0[2].1.push(TopicDemand::Awaited);
        let question = refresh.next_question(&topics, now);
        assert_eq!((question.topics.len(), question.all), (3, false));
    }

    #[test]
    fn what_nobody_needs_any_more_is_not_asked_for_except_for_a_caller() {
        let (mut refresh, now) = (refresh(), crate::engine::test_clock());
        let nothing = Topics::new(0, &[]);
        refresh.want();
        assert!(!refresh.is_due(&nothing, now) && !refresh.is_open());
        refresh.ask_for();
        assert!(refresh.is_due(&nothing, now));
    }
}
