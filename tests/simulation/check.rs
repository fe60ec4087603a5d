//! Compares what the engine said of each message with what is in the brokers' logs.

use std::collections::HashMap;

use ottla::Persistence;
use ottla::testing::StoredMessage;

use crate::messages::id_of;

/// What the engine said of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Delivered { partition: i32, offset: Option<i64> },
    Failed(Persistence),
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
}

/// Names what is wrong, in Jepsen's words. A topic that was deleted has a log of its own.
pub fn check(produced: u64, said: &HashMap<u64, Vec<Said>>, logs: &[Vec<StoredMessage>], rules: Rules) -> Vec<String> {
    let mut problems = Vec::new();
    let mut found: HashMap<u64, Vec<(i32, i64)>> = HashMap::new();
    for log in logs {
        let mut last: HashMap<i32, u64> = HashMap::new();
        let mut seen: HashMap<u64, (i32, i64)> = HashMap::new();
        for message in log {
            let (id, place) = (id_of(message.value.as_deref()), (message.partition, message.offset));
            found.entry(id).or_default().push(place);
            if let Some(before) = seen.insert(id, place) {
                if rules.idempotent {
                    problems.push(format!("duplicate: {id} at {before:?} and {place:?}"));
                }
                continue;
            }
            let failed = matches!(said.get(&id).map(Vec::as_slice), Some([Said::Failed(_)]));
            if rules.late_copies && failed {
                continue;
            }
            let before = last.insert(message.partition, id);
            if rules.acknowledged && before.is_some_and(|before| before > id) {
                problems.push(format!("reordering: {id} behind {before:?} in partition {}", message.partition));
            }
        }
    }
    for id in 0..produced {
        let places = found.get(&id).map_or(&[][..], Vec::as_slice);
        match said.get(&id).map_or(&[][..], Vec::as_slice) {
            [] => problems.push(format!("no outcome: {id}")),
            [one] => match *one {
                Said::Delivered { .. } if !rules.acknowledged => {}
                Said::Delivered { .. } if places.is_empty() => problems.push(format!("lost write: {id}")),
                Said::Delivered { partition, offset } => {
                    let there = places.iter().any(|(p, o)| *p == partition && offset.is_none_or(|offset| *o == offset));
                    if !there {
                        problems.push(format!("inconsistent offset: {id} said {one:?}, is at {places:?}"));
                    }
                }
                Said::Failed(Persistence::No) if !places.is_empty() => {
                    problems.push(format!("false \"not persisted\": {id} is at {places:?}"));
                }
                Said::Failed(_) => {}
            },
            more => problems.push(format!("two outcomes: {id} {more:?}")),
        }
    }
    problems
}
