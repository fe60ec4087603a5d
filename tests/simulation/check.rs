//! Compares what callers were told of each message with what is in the brokers' logs, and names what is wrong.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use ottla::Persistence;

use crate::ledger::{Eyes, Sent};

/// What can be wrong. The first seven have Jepsen's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    LostWrite,
    Duplicate,
    Reordering,
    FalseNotPersisted,
    InconsistentOffset,
    NoOutcome,
    TwoOutcomes,
    /// A message is said to be possibly written, and the answer was there that it is.
    FalseDoubt,
    /// A message failed for what is wrong with another one.
    FalseBlame,
    /// More messages hold a place than there are places, or places are never given back.
    WrongPlaces,
    /// Something is due, and nobody is awake.
    LostWakeUp,
    /// What is counted differs from what there is.
    WrongCount,
    /// It goes on for ever without getting further.
    Spin,
    Panic,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LostWrite => "lost write",
            Self::Duplicate => "duplicate",
            Self::Reordering => "reordering",
            Self::FalseNotPersisted => "false \"not persisted\"",
            Self::InconsistentOffset => "inconsistent offset",
            Self::NoOutcome => "no outcome",
            Self::TwoOutcomes => "two outcomes",
            Self::FalseDoubt => "false doubt",
            Self::FalseBlame => "false blame",
            Self::WrongPlaces => "wrong places",
            Self::LostWakeUp => "lost wake-up",
            Self::WrongCount => "wrong count",
            Self::Spin => "spin",
            Self::Panic => "panic",
        })
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub anomaly: Anomaly,
    pub what: String,
}

impl Problem {
    pub fn new(anomaly: Anomaly, what: impl Into<String>) -> Self {
        Self { anomaly, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.anomaly, self.what)
    }
}

/// What a caller was told of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Delivered {
        partition: i32,
        offset: Option<i64>,
    },
    /// Failed, given up, or handed back by a purge, which is `No`.
    Failed(Persistence),
}

/// A message in a log.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    pub id: u64,
    pub partition: i32,
    pub offset: i64,
}

/// What holds in a run.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// No message is in a log twice.
    pub idempotent: bool,
    /// What was delivered is in the log, and in order. Without acks a connection that ended may hold frames that reach
    /// the broker behind those of the next.
    pub acknowledged: bool,
    /// A copy of a message that was given up as possibly written may still arrive, late.
    pub late_copies: bool,
    /// So many failures nobody was told of: those of messages without handle and callback, beyond what is kept.
    pub untold: u64,
}

/// Names what is wrong. Each log has one life of a topic's partitions; a topic that was made anew has another.
pub fn check(sent: &[Sent], logs: &[Vec<Stored>], rules: Rules) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut found: HashMap<u64, Vec<(i32, i64)>> = HashMap::new();
    for log in logs {
        look_at_log(log, sent, rules, &mut found, &mut problems);
    }
    let mut missing = Vec::new();
    for (id, sent) in (0u64..).zip(sent) {
        let places = found.get(&id).map_or(&[][..], Vec::as_slice);
        let mut wrong = |anomaly, what: String| problems.push(Problem::new(anomaly, what));
        if !sent.accepted {
            if !places.is_empty() {
                wrong(Anomaly::FalseNotPersisted, format!("{id} was refused and is at {places:?}"));
            }
            continue;
        }
        match sent.said[..] {
            [] if sent.eyes == Eyes::None => {
                if places.is_empty() && rules.acknowledged {
                    missing.push(id);
                }
            }
            [] => wrong(Anomaly::NoOutcome, format!("{id}")),
            [Said::Delivered { .. }] if !rules.acknowledged => {}
            [Said::Delivered { .. }] if places.is_empty() => wrong(Anomaly::LostWrite, format!("{id}")),
            [Said::Delivered { partition, offset }] => {
                if !places.iter().any(|(p, o)| *p == partition && offset.is_none_or(|offset| *o == offset)) {
                    let said = (partition, offset);
                    wrong(Anomaly::InconsistentOffset, format!("{id} said to be at {said:?}, is at {places:?}"));
                }
            }
            [Said::Failed(Persistence::No)] if !places.is_empty() => {
                wrong(Anomaly::FalseNotPersisted, format!("{id} is at {places:?}"));
            }
            [Said::Failed(_)] => {}
            ref more => wrong(Anomaly::TwoOutcomes, format!("{id}: {more:?}")),
        }
    }
    if missing.len() as u64 > rules.untold {
        let what = format!("{missing:?} are in no log and in no report, which left out {}", rules.untold);
        problems.push(Problem::new(Anomaly::LostWrite, what));
    }
    problems
}

fn look_at_log(
    log: &[Stored],
    sent: &[Sent],
    rules: Rules,
    found: &mut HashMap<u64, Vec<(i32, i64)>>,
    problems: &mut Vec<Problem>,
) {
    let mut last: BTreeMap<(i32, usize), u64> = BTreeMap::new();
    let mut seen: HashMap<u64, (i32, i64)> = HashMap::new();
    for message in log {
        let (id, place) = (message.id, (message.partition, message.offset));
        let places = found.entry(id).or_default();
        places.push(place);
        if !rules.idempotent && places.len() > 1 {
            // Without sequences. A request whose connection ended may come to the topic that was made anew, too.
            continue;
        }
        if let Some(before) = seen.insert(id, place) {
            problems.push(Problem::new(Anomaly::Duplicate, format!("{id} at {before:?} and {place:?}")));
            continue;
        }
        let Some(sent) = sent.get(id as usize) else {
            problems.push(Problem::new(Anomaly::WrongCount, format!("{id} at {place:?} was never produced")));
            continue;
        };
        let failed = matches!(sent.said[..], [Said::Failed(_)]) || (sent.said.is_empty() && rules.untold > 0);
        if rules.late_copies && failed {
            continue;
        }
        let before = last.insert((message.partition, sent.caller), id);
        if rules.acknowledged && before.is_some_and(|before| before > id) {
            let what = format!("{id} behind {before:?} of the same caller in partition {}", message.partition);
            problems.push(Problem::new(Anomaly::Reordering, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { idempotent: true, acknowledged: true, late_copies: false, untold: 0 };

    #[test]
    fn a_good_history_has_no_problem() {
        let sent = [delivered(0), delivered(1), failed(Persistence::No), failed(Persistence::Possibly)];
        assert_eq!(names(&sent, &[(0, 0), (1, 1), (3, 2)], RULES), []);
    }

    #[test]
    fn a_delivered_message_that_is_nowhere_is_a_lost_write() {
        assert_eq!(names(&[delivered(0)], &[], RULES), [Anomaly::LostWrite]);
    }

    #[test]
    fn a_message_without_eyes_that_is_nowhere_is_a_lost_write() {
        let unseen = || Sent { eyes: Eyes::None, ..told(Vec::new()) };
        assert_eq!(names(&[unseen()], &[], RULES), [Anomaly::LostWrite]);
        assert_eq!(names(&[unseen()], &[(0, 0)], RULES), []);
        assert_eq!(names(&[unseen()], &[], Rules { untold: 1, ..RULES }), [], "its failure was left out");
        assert_eq!(names(&[unseen(), unseen()], &[], Rules { untold: 1, ..RULES }), [Anomaly::LostWrite]);
    }

    #[test]
    fn a_message_that_is_there_twice_is_a_duplicate_if_sequences_forbid_it() {
        let log = [(0, 0), (0, 1)];
        assert_eq!(names(&[delivered(0)], &log, RULES), [Anomaly::Duplicate]);
        assert_eq!(names(&[delivered(0)], &log, Rules { idempotent: false, ..RULES }), []);
    }

    #[test]
    fn a_late_copy_in_the_next_life_of_a_topic_is_no_reordering_without_sequences() {
        let (sent, stored) = ([delivered(0), delivered(0)], |id| Stored { id, partition: 0, offset: 0 });
        let logs = [vec![stored(0)], vec![stored(1), Stored { offset: 1, ..stored(0) }]];
        let found = |rules| check(&sent, &logs, rules).iter().map(|problem| problem.anomaly).collect::<Vec<_>>();
        assert_eq!(found(RULES), [Anomaly::Reordering]);
        assert_eq!(found(Rules { idempotent: false, ..RULES }), []);
    }

    #[test]
    fn a_message_behind_a_later_one_of_its_caller_is_a_reordering() {
        let sent = [delivered(1), delivered(0)];
        assert_eq!(names(&sent, &[(1, 0), (0, 1)], RULES), [Anomaly::Reordering]);
        let [first, second] = sent;
        let of_two = [first, Sent { caller: 1, ..second }];
        assert_eq!(names(&of_two, &[(1, 0), (0, 1)], RULES), [], "callers have no order among each other");
    }

    #[test]
    fn a_late_copy_of_what_failed_is_no_reordering_after_a_panic() {
        let sent = [failed(Persistence::Possibly), delivered(0)];
        let log = [(1, 0), (0, 1)];
        assert_eq!(names(&sent, &log, RULES), [Anomaly::Reordering]);
        assert_eq!(names(&sent, &log, Rules { late_copies: true, ..RULES }), []);
    }

    #[test]
    fn a_message_that_failed_for_certain_and_is_there_is_a_false_not_persisted() {
        assert_eq!(names(&[failed(Persistence::No)], &[(0, 0)], RULES), [Anomaly::FalseNotPersisted]);
        let refused = Sent { accepted: false, ..told(Vec::new()) };
        assert_eq!(names(&[refused], &[(0, 0)], RULES), [Anomaly::FalseNotPersisted]);
    }

    #[test]
    fn another_offset_or_partition_than_was_said_is_an_inconsistent_offset() {
        assert_eq!(names(&[delivered(1)], &[(0, 0)], RULES), [Anomaly::InconsistentOffset]);
        let elsewhere = told(vec![Said::Delivered { partition: 1, offset: Some(0) }]);
        assert_eq!(names(&[elsewhere], &[(0, 0)], RULES), [Anomaly::InconsistentOffset]);
        let unknown = told(vec![Said::Delivered { partition: 0, offset: None }]);
        assert_eq!(names(&[unknown], &[(0, 7)], RULES), []);
    }

    #[test]
    fn a_message_that_nobody_hears_of_has_no_outcome() {
        assert_eq!(names(&[told(Vec::new())], &[(0, 0)], RULES), [Anomaly::NoOutcome]);
    }

    #[test]
    fn a_message_that_is_told_of_twice_has_two_outcomes() {
        let twice = Said::Delivered { partition: 0, offset: Some(0) };
        assert_eq!(names(&[told(vec![twice, twice])], &[(0, 0)], RULES), [Anomaly::TwoOutcomes]);
        let both = told(vec![Said::Failed(Persistence::Possibly), twice]);
        assert_eq!(names(&[both], &[(0, 0)], RULES), [Anomaly::TwoOutcomes]);
    }

    #[test]
    fn without_acks_nothing_is_promised_of_the_log_but_outcomes_are() {
        let rules = Rules { acknowledged: false, idempotent: false, ..RULES };
        let unknown = || told(vec![Said::Delivered { partition: 0, offset: None }]);
        assert_eq!(names(&[unknown(), unknown()], &[(1, 0), (0, 1)], rules), []);
        assert_eq!(names(&[told(Vec::new())], &[], rules), [Anomaly::NoOutcome]);
    }

    fn delivered(offset: i64) -> Sent {
        told(vec![Said::Delivered { partition: 0, offset: Some(offset) }])
    }

    fn failed(persistence: Persistence) -> Sent {
        told(vec![Said::Failed(persistence)])
    }

    fn told(said: Vec<Said>) -> Sent {
        Sent { accepted: true, eyes: Eyes::Handle, said, ..Sent::default() }
    }

    /// The anomalies of a history with one log of one partition: ids and offsets.
    fn names(sent: &[Sent], log: &[(u64, i64)], rules: Rules) -> Vec<Anomaly> {
        let stored = |(id, offset): &(u64, i64)| Stored { id: *id, partition: 0, offset: *offset };
        let log: Vec<_> = log.iter().map(stored).collect();
        check(sent, &[log], rules).into_iter().map(|problem| problem.anomaly).collect()
    }
}
