//! The causes that keep messages from being delivered: the last error of each topic, partition and broker until it is
//! over, and the time at which the log last told of it.
//!
//! Each cause ends with the next success of its own topic, partition or broker. With one cause for all, a success
//! elsewhere would end it, and the same error would begin it anew a moment later: callers would see it by chance, and
//! the log would tell of it each time. A cause that no success can end, because nobody produces there any more, is
//! forgotten after some seconds.
//!
//! Only the newest causes are kept, for `last_error` and the log. The failure of a message does not depend on them:
//! topics, partitions and links keep their causes, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::Peer;
use crate::error::DeliveryErrorKind;
use crate::ids::{TopicIndex, TopicPartition};

/// The subject of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Metadata as a whole.
    Metadata,
    /// The producer's id.
    Identity,
    /// The connection to a broker.
    Broker(Peer),
    /// The silence that a broker asked for, or kept.
    Quota(Peer),
    /// The metadata of a topic.
    Topic(TopicIndex),
    /// The leader of a partition.
    Leader(TopicPartition),
    /// The batches to a partition.
    Partition(TopicPartition),
}

/// The time at which the log tells of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPolicy {
    /// Now.
    AtOnce,
    /// Only after a second: topics that are just made and leaders that are just chosen end it by themselves.
    IfItLasts,
    /// Elsewhere, or not at all.
    Never,
}

/// The present weight of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Messages wait because of it.
    Waiting,
    /// Nobody knows if it is over, because nothing waits that would show it.
    Idle,
    /// It is over.
    Over,
}

/// The errors that were met last.
#[derive(Debug, Default)]
pub struct Causes {
    /// The one that was met last is the last.
    all: Vec<Cause>,
    lines: Lines,
}

#[derive(Debug)]
struct Cause {
    about: Subject,
    error: Arc<DeliveryErrorKind>,
    /// The times at which it was met first, and last.
    since: Instant,
    at: Instant,
    told: Option<Instant>,
}

/// Lines of the log, of whatever error.
#[derive(Debug, Default)]
struct Lines {
    /// The time of the first of the last lines, and their number since.
    first: Option<Instant>,
    count: u32,
    /// Errors that were not told since the last line.
    untold: u32,
}

impl Causes {
    /// Remembers an error that keeps messages from being delivered, and logs it unless that was done not long ago.
    pub fn note(&mut self, about: Subject, error: Arc<DeliveryErrorKind>, now: Instant, tell: LogPolicy) {
        if let Some(line) = self.line(about, error, now, tell) {
            log::warn!("{line}");
        }
    }

    /// Keeps an error in mind. Returns the line to log for it, or `None` if the log has spoken of it not long ago, or
    /// of many others.
    fn line(&mut self, about: Subject, error: Arc<DeliveryErrorKind>, now: Instant, tell: LogPolicy) -> Option<String> {
        let before = self.all.iter().rposition(|cause| cause.about == about).map(|at| self.all.remove(at));
        let (since, mut told) = before.map_or((now, None), |cause| (cause.since, cause.told));
        if self.all.len() >= MOST {
            // The youngest incident: the log has told of an old one, or is about to.
            let youngest = (0..self.all.len()).max_by_key(|at| self.all[*at].since);
            youngest.map(|at| self.all.remove(at));
        }
        let due = match tell {
            LogPolicy::AtOnce => true,
            LogPolicy::IfItLasts => now.saturating_duration_since(since) >= LASTS,
            LogPolicy::Never => false,
        };
        let line = if due { self.lines.line(&error, &mut told, now) } else { None };
        self.all.push(Cause { about, error, since, at: now, told });
        line
    }

    /// `true` if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The one that was met last.
    #[must_use]
    pub fn last(&self) -> Option<&Arc<DeliveryErrorKind>> {
        self.last_of(|_| true)
    }

    /// The one that was met last of those about this.
    pub fn last_of(&self, is_meant: impl Fn(Subject) -> bool) -> Option<&Arc<DeliveryErrorKind>> {
        self.all.iter().rfind(|cause| is_meant(cause.about)).map(|cause| &cause.error)
    }

    /// Ends the errors whose subjects are well again.
    pub fn end(&mut self, is_well: impl Fn(Subject) -> bool) {
        self.all.retain(|cause| !is_well(cause.about));
    }

    /// The link to a broker takes the place of another one to it.
    pub fn rename(&mut self, old: Peer, new: Peer) {
        for cause in &mut self.all {
            match &mut cause.about {
                Subject::Broker(peer) | Subject::Quota(peer) if *peer == old => *peer = new,
                _ => {}
            }
        }
    }

    /// Forgets what is over, and what nothing waits for any more since some time.
    pub fn forget(&mut self, now: Instant, standing: impl Fn(Subject) -> Standing) {
        self.all.retain(|cause| match standing(cause.about) {
            Standing::Waiting => true,
            Standing::Idle => now.saturating_duration_since(cause.at) < BETWEEN_LINES,
            Standing::Over => false,
        });
    }
}

impl Lines {
    /// The line for an error of which the log spoke at `told`.
    fn line(&mut self, error: &DeliveryErrorKind, told: &mut Option<Instant>, now: Instant) -> Option<String> {
        let recent = |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN_LINES);
        if !recent(self.first) {
            (self.first, self.count) = (Some(now), 0);
        }
        if recent(*told) || self.count >= MOST_LINES {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.count += 1;
        *told = Some(now);
        match std::mem::take(&mut self.untold) {
            0 => Some(error.to_string()),
            untold => Some(format!("{error} (and {untold} more errors since the last line)")),
        }
    }
}

/// The most errors that are kept, however many topics there are.
const MOST: usize = 100;
/// The time for which the log does not tell again of an incident that goes on, and for which an incident is kept after
/// nothing waits for it any more.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// The most lines in that time, for all errors together.
const MOST_LINES: u32 = 10;
/// The age at which a cause that often ends by itself is worth a line.
const LASTS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{NodeId, PartitionId};

    fn error(text: &str) -> Arc<DeliveryErrorKind> {
        Arc::new(DeliveryErrorKind::Partitioner { what: text.to_owned() })
    }

    fn last(causes: &Causes) -> String {
        causes.last().map_or_else(String::new, ToString::to_string)
    }

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: TopicIndex(1), partition: PartitionId(number) }
    }

    #[test]
    fn an_incident_has_a_line_and_then_one_now_and_then() {
        let start = crate::engine::test_clock();
        let mut causes = Causes::default();
        let at = |tenth: u32| start + Duration::from_millis(100) * tenth;
        let mut note = |tenth: u32| {
            causes.line(Subject::Topic(TopicIndex(0)), error(&tenth.to_string()), at(tenth), LogPolicy::AtOnce)
        };
        let lines: Vec<String> = (0..250).filter_map(&mut note).collect();
        assert_eq!(
            lines,
            [
                "the partitioner 0",
                "the partitioner 100 (and 99 more errors since the last line)",
                "the partitioner 200 (and 99 more errors since the last line)"
            ]
        );
        causes.end(|about| about == Subject::Topic(TopicIndex(0)));
        let line = causes.line(Subject::Topic(TopicIndex(0)), error("is another"), at(251), LogPolicy::AtOnce);
        assert_eq!(line.as_deref(), Some("the partitioner is another (and 49 more errors since the last line)"));
    }

    #[test]
    fn what_often_ends_by_itself_has_a_line_if_it_lasts() {
        let start = crate::engine::test_clock();
        let mut causes = Causes::default();
        let mut lines = |quarters: std::ops::Range<u32>| {
            let mut note = |quarter| {
                let now = start + Duration::from_millis(250) * quarter;
                causes.line(Subject::Leader(partition(3)), error("waits"), now, LogPolicy::IfItLasts)
            };
            let lines = quarters.filter_map(&mut note).count();
            causes.end(|about| about == Subject::Leader(partition(3)));
            lines
        };
        assert_eq!(lines(0..4), 0);
        assert_eq!(lines(4..8), 0, "it is another one");
        assert_eq!(lines(8..20), 1);
    }

    #[test]
    fn each_ends_alone_and_the_one_that_was_met_last_is_told() {
        let now = crate::engine::test_clock();
        let mut causes = Causes::default();
        let abouts = [
            Subject::Topic(TopicIndex(1)),
            Subject::Partition(partition(0)),
            Subject::Broker(Peer::Node(NodeId(1))),
            Subject::Quota(Peer::Seed(0)),
        ];
        for about in abouts {
            let _ = causes.line(about, error(&format!("met {about:?}")), now, LogPolicy::Never);
        }
        let _ = causes.line(Subject::Partition(partition(0)), error("again"), now, LogPolicy::Never);
        assert_eq!(last(&causes), "the partitioner again");
        causes.end(|about| about == Subject::Partition(partition(0)));
        assert_eq!(last(&causes), "the partitioner met Quota(Seed(0))");
        causes.rename(Peer::Seed(0), Peer::Node(NodeId(2)));
        causes.end(|about| about == Subject::Quota(Peer::Node(NodeId(2))));
        assert_eq!(last(&causes), "the partitioner met Broker(Node(NodeId(1)))");
        let later = now + Duration::from_secs(11);
        causes.forget(
            later,
            |about| if about == Subject::Topic(TopicIndex(1)) { Standing::Waiting } else { Standing::Idle },
        );
        assert_eq!(last(&causes), "the partitioner met Topic(TopicIndex(1))");
        causes.forget(later, |_| Standing::Over);
        assert!(causes.is_empty());
    }

    #[test]
    fn ten_thousand_bad_topics_take_little_memory_and_few_lines() {
        let now = crate::engine::test_clock();
        let mut causes = Causes::default();
        let note = |topic| causes.line(Subject::Topic(topic), error("is bad"), now, LogPolicy::AtOnce);
        assert_eq!(TopicIndex::below(10_000).filter_map(note).count(), MOST_LINES as usize);
        assert_eq!(causes.all.len(), MOST);
        let later = now + BETWEEN_LINES;
        let line = causes.line(Subject::Topic(TopicIndex(0)), error("is bad"), later, LogPolicy::AtOnce);
        assert_eq!(line.as_deref(), Some("the partitioner is bad (and 9990 more errors since the last line)"));
    }
}
