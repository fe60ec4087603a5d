//! What only some messages have beside their record: a tag, a partition key, a handle.

use std::mem;
use std::ops::Deref;

use super::entry::Entry;
use crate::fate::slot::{Pages, Seat, Slot};

/// What messages of a chunk or a batch have, ascending by index. A message with a handle that goes away with it without
/// a fate, and is in no other, is lost.
#[derive(Debug, Default)]
pub struct Extras {
    list: Vec<Extra>,
    /// What they take.
    bytes: usize,
    pages: Pages,
}

/// What a message has.
#[derive(Debug)]
pub struct Extra {
    /// Index of the message in its chunk or batch.
    pub index: u32,
    /// Where a handle waits for its fate.
    seat: Option<Seat>,
    /// The user's tag.
    pub tag: u64,
    /// What chose the partition in place of the key.
    pub partition_key: Option<Box<[u8]>>,
    /// Whether its handle was told its fate.
    pub told: bool,
}

impl Extras {
    /// Adds what a message has that comes from its caller; its slot knows its time.
    #[inline(always)]
    pub fn push(&mut self, index: u32, tag: u64, partition_key: Option<&[u8]>, slot: Option<Slot<'_>>) {
        let seat = slot.map(|slot| self.pages.keep(slot));
        self.list.push(Extra { index, seat, tag, partition_key: partition_key.map(Box::from), told: false });
        self.bytes += EXTRA + partition_key.map_or(0, <[u8]>::len);
    }

    /// Adds what a message has that is still in another chunk or batch.
    #[inline]
    pub fn push_copy(&mut self, index: u32, entry: &Entry<'_>, slot: Option<Slot<'_>>) {
        if entry.tag != 0 || entry.partition_key.is_some() || slot.is_some() {
            self.push(index, entry.tag, entry.partition_key, slot);
            slot.inspect(|slot| slot.enter());
        }
    }

    /// Where the handle of a message waits.
    #[inline]
    #[must_use]
    pub fn slot(&self, extra: Option<&Extra>) -> Option<Slot<'_>> {
        Some(self.pages.slot(extra?.seat?))
    }

    /// Whether any message has a handle.
    #[must_use]
    pub fn has_slots(&self) -> bool {
        !self.pages.is_empty()
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that it keeps for others.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.list.capacity() * size_of::<Extra>()
    }

    /// Tells all with a handle that they were written, the first message with this offset.
    pub fn deliver(&mut self, partition: i32, base_offset: Option<i64>, log_append_time: Option<i64>) {
        let waking = self.pages.waking();
        for extra in self.list.iter_mut().filter(|extra| !extra.told) {
            let Some(seat) = extra.seat else { continue };
            let offset = base_offset.map(|base| base.saturating_add(i64::from(extra.index)));
            waking.deliver(seat, partition, offset, log_append_time);
            extra.told = true;
        }
    }

    /// Calls `tell` for each with a handle that somebody still has, and keeps in mind whether it says that it was told.
    pub fn tell(&mut self, mut tell: impl FnMut(&Extra, Slot<'_>) -> bool) {
        for extra in self.list.iter_mut().filter(|extra| !extra.told) {
            if let Some(slot) = extra.seat.map(|seat| self.pages.slot(seat)).filter(|slot| slot.has_handle()) {
                extra.told = tell(extra, slot);
            }
        }
    }

    /// Lets those of messages before this one go.
    pub fn forget_before(&mut self, index: usize) {
        let rest = self.list.split_off(self.list.partition_point(|extra| (extra.index as usize) < index));
        let gone = mem::replace(&mut self.list, rest);
        self.bytes -= gone.iter().map(Extra::bytes).sum::<usize>();
        leave(&gone, &self.pages);
    }

    /// Lets all go; the memory stays.
    pub fn clear(&mut self) {
        leave(&self.list, &self.pages);
        self.list.clear();
        self.pages.clear();
        self.bytes = 0;
    }
}

impl Deref for Extras {
    type Target = [Extra];

    fn deref(&self) -> &[Extra] {
        &self.list
    }
}

impl Drop for Extras {
    fn drop(&mut self) {
        leave(&self.list, &self.pages);
    }
}

impl Extra {
    /// Whether the message was given a handle.
    #[must_use]
    pub fn has_handle(&self) -> bool {
        self.seat.is_some()
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        EXTRA + self.partition_key.as_ref().map_or(0, |key| key.len())
    }
}

fn leave(list: &[Extra], pages: &Pages) {
    list.iter().filter(|extra| !extra.told).filter_map(|extra| extra.seat).for_each(|seat| pages.slot(seat).leave());
}

/// What a chunk and a batch keep for a message with a tag, a partition key or a handle, and the place for its fate.
pub const EXTRA: usize = 96;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::fate::Receipt;
    use crate::fate::slot::{self, Lookout, Sight};
    use crate::message::Timestamp;

    #[test]
    fn a_message_that_goes_away_without_a_fate_is_lost() {
        for end in [drop, |mut extras: Extras| extras.clear(), |mut extras: Extras| extras.forget_before(7)] {
            let [mut told, mut lost] = slot::of_nobody();
            let extras = of(&[(2, &told), (6, &lost)]);
            told.slot().deliver(RECEIPT);
            end(extras);
            assert!(matches!(told.look(), Sight::Fate(Ok(RECEIPT))));
            assert!(matches!(lost.look(), Sight::Lost));
        }
    }

    #[test]
    fn what_is_forgotten_is_what_came_before() {
        let [mut before, mut behind] = slot::of_nobody();
        let mut extras = of(&[(2, &before), (6, &behind)]);
        extras.push(8, 1, Some(&[0; 10]), None);
        extras.forget_before(6);
        assert!(matches!((before.look(), behind.look()), (Sight::Lost, Sight::Nothing)));
        assert_eq!(extras.iter().map(|extra| extra.index).collect::<Vec<_>>(), [6, 8]);
        assert_eq!(extras.bytes(), 2 * EXTRA + 10);
        extras.slot(extras.first()).expect("it has a handle").deliver(RECEIPT);
        assert!(matches!(behind.look(), Sight::Fate(Ok(RECEIPT))));
        extras.clear();
        assert_eq!((extras.len(), extras.bytes(), extras.has_slots()), (0, 0, false));
    }

    #[test]
    fn a_message_leaves_each_place_once() {
        for forget in [true, false] {
            let [mut lookout] = slot::of_nobody();
            let (mut first, mut second) = (of(&[(0, &lookout)]), Extras::default());
            second.push_copy(0, &ENTRY, first.slot(first.first()));
            if forget {
                first.forget_before(1);
            } else {
                first.clear();
            }
            drop(first);
            assert!(matches!(lookout.look(), Sight::Nothing), "{forget}");
            drop(second);
            assert!(matches!(lookout.look(), Sight::Lost));
        }
    }

    #[test]
    fn what_was_written_is_told_to_each_handle_with_its_offset() {
        let [mut first, mut second] = slot::of_nobody();
        [&first, &second].into_iter().zip(5..).for_each(|(lookout, time)| lookout.slot().note_time(time));
        let mut extras = of(&[(2, &first)]);
        extras.push(3, 1, None, None);
        extras.push(4, 1, None, Some(second.slot()));
        extras.deliver(7, Some(i64::MAX - 3), None);
        assert_eq!(extras.iter().map(|extra| extra.told).collect::<Vec<_>>(), [true, false, true]);
        drop(extras);
        for (lookout, offset, time) in [(&mut first, i64::MAX - 1, 5), (&mut second, i64::MAX, 6)] {
            let timestamp = Some(Timestamp::from_millis(time));
            let receipt = Receipt { partition: 7, offset: Some(offset), timestamp };
            assert!(matches!(lookout.look(), Sight::Fate(Ok(seen)) if seen == receipt));
        }
    }

    #[test]
    fn an_error_is_told_once_and_only_where_somebody_has_the_handle() {
        let [told, dropped] = slot::of_nobody();
        let mut extras = of(&[(0, &told), (1, &dropped)]);
        drop(dropped);
        for expected in [vec![0], vec![]] {
            let mut indexes = Vec::new();
            extras.tell(|extra, _| {
                indexes.push(extra.index);
                true
            });
            assert_eq!(indexes, expected);
        }
        assert_eq!(extras.iter().map(|extra| extra.told).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_message_in_two_places_is_lost_with_the_second() {
        let [mut lookout] = slot::of_nobody();
        let (first, mut second) = (of(&[(0, &lookout)]), Extras::default());
        second.push_copy(0, &ENTRY, None);
        assert!(second.is_empty(), "nothing is beside this one");
        second.push_copy(1, &ENTRY, first.slot(first.first()));
        drop(first);
        assert!(matches!(lookout.look(), Sight::Nothing));
        drop(second);
        assert!(matches!(lookout.look(), Sight::Lost));
    }

    fn of(handles: &[(u32, &Lookout)]) -> Extras {
        let mut extras = Extras::default();
        handles.iter().for_each(|(index, lookout)| extras.push(*index, 0, None, Some(lookout.slot())));
        extras
    }

    const ENTRY: Entry<'_> =
        Entry { topic: 0, partition: None, create_time: 0, tag: 0, partition_key: None, tail: &[] };
    const RECEIPT: Receipt = Receipt { partition: 3, offset: Some(4), timestamp: Some(Timestamp::from_millis(5)) };
}
