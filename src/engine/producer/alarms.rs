//! The moments at which to look at a partition again, or at a topic that waits for metadata: one moment for each.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::deadline::Deadline;
use crate::ids::Destination;

/// The moments, the earliest first. The partition or topic of a moment keeps it, too.
#[derive(Debug, Default)]
pub struct Alarms {
    set: BTreeSet<(Instant, Destination)>,
}

impl Alarms {
    /// Sets the one alarm of a partition or a topic, which keeps it in `alarm`, to a moment, unless it goes off before
    /// that anyway.
    pub fn set(&mut self, alarm: &mut Option<Instant>, moment: Instant, of: Destination) {
        if alarm.is_none_or(|set| moment < set) {
            if let Some(before) = alarm.replace(moment) {
                self.set.remove(&(before, of));
            }
            self.set.insert((moment, of));
        }
    }

    /// The next partition or topic to look at now, once for each alarm.
    pub fn next_due(&mut self, now: Instant) -> Option<Destination> {
        let &(moment, of) = self.set.first()?;
        if moment > now {
            return None;
        }
        self.set.pop_first();
        Some(of)
    }

    /// The moment at which the next one goes off.
    #[must_use]
    pub fn next_deadline(&self) -> Deadline {
        self.set.first().map_or(Deadline::NEVER, |(moment, ..)| Deadline::at(*moment))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{PartitionId, TopicIndex};

    #[test]
    fn an_earlier_alarm_takes_the_place_of_the_later_one() {
        let start = crate::engine::test_clock();
        let (mut alarms, mut alarm) = (Alarms::default(), None);
        let of = Destination::new(TopicIndex(7), Some(PartitionId(3)));
        for seconds in [120, 3, 60, 1] {
            alarms.set(&mut alarm, start + Duration::from_secs(seconds), of);
        }
        let first = start + Duration::from_secs(1);
        assert_eq!((alarm, alarms.next_deadline()), (Some(first), Deadline::at(first)));
        assert_eq!(alarms.next_due(start), None);
        assert_eq!(alarms.next_due(first), Some(of));
        assert_eq!((alarms.next_due(first), alarms.next_deadline()), (None, Deadline::NEVER), "once");
    }
}
