//! The parts that only some messages have beside their record: a tag, a partition key, a handle.

use std::ops::Range;
use std::sync::Arc;

use crate::fate::slot::{Page, Slot};
use crate::ids::PartitionId;

/// The extra of one message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// The user's tag, 0 if there is none.
    pub tag: u64,
    /// The bytes that choose the partition in place of the key.
    pub partition_key: Option<&'a [u8]>,
    /// The place where its handle waits for its fate.
    pub slot: Option<Slot<'a>>,
    /// `true` once its handle was told its fate.
    pub told: bool,
}

/// The extras of the messages of a chunk or a batch. A message with a handle is lost if its extra is dropped, it has no
/// fate, and no other chunk, batch or fate has it.
#[derive(Debug, Default)]
pub struct Extras {
    /// Ascending by index.
    rows: Vec<Row>,
    /// The bytes that they take.
    bytes: usize,
    has_slots: bool,
}

/// The extra of one message, or of several with handles in a row: a caller that takes the places of its page one after
/// the other makes one for the whole page.
#[derive(Debug)]
struct Row {
    /// The index of the first message in its chunk or batch, and the number of messages.
    first: u32,
    count: u32,
    /// The page where their handles wait, and the index of the first place in it.
    page: Option<Arc<Page>>,
    place: u32,
    /// A bit for each message whose handle was told its fate. There are no more messages than places in a page.
    told: u32,
    tag: u64,
    partition_key: Option<Box<[u8]>>,
}

impl Extras {
    /// Adds the extra of a message that comes from its caller, behind all that are there.
    #[inline]
    pub fn push(&mut self, index: u32, extra: &Extra<'_>) {
        self.bytes += extra.bytes();
        match self.last_row_for(index, extra) {
            Some(row) => row.count += 1,
            None => self.push_row(index, extra),
        }
    }

    /// Adds the extra of a message that is still in another chunk or batch.
    pub fn push_copy(&mut self, index: u32, extra: Option<&Extra<'_>>) {
        if let Some(extra) = extra {
            self.push(index, extra);
            extra.slot.inspect(|slot| slot.enter());
        }
    }

    /// The last row, if this message and its slot come right behind those in it.
    #[inline]
    fn last_row_for(&mut self, index: u32, extra: &Extra<'_>) -> Option<&mut Row> {
        let (row, slot) = (self.rows.last_mut()?, extra.slot?);
        let behind = row.end() == index && row.place + row.count == slot.index();
        let alike = row.tag == extra.tag && row.partition_key.is_none() && extra.partition_key.is_none();
        (behind && alike && Arc::ptr_eq(row.page.as_ref()?, slot.page())).then_some(row)
    }

    #[inline(never)]
    fn push_row(&mut self, index: u32, extra: &Extra<'_>) {
        self.has_slots |= extra.slot.is_some();
        self.rows.push(Row {
            first: index,
            count: 1,
            page: extra.slot.map(|slot| Arc::clone(slot.page())),
            place: extra.slot.map_or(0, Slot::index),
            told: 0,
            tag: extra.tag,
            partition_key: extra.partition_key.map(Box::from),
        });
    }

    /// The extra of a message, if it has one. `row` is where to look: 0 at first, and moved on for messages in order.
    #[inline]
    #[must_use]
    pub fn of(&self, index: u32, row: &mut usize) -> Option<Extra<'_>> {
        while self.rows.get(*row)?.end() <= index {
            *row += 1;
        }
        let row = self.rows.get(*row).filter(|row| row.first <= index)?;
        Some(row.extra(index))
    }

    /// The slots of all handles, in the order of their messages, for the simulation.
    #[cfg(feature = "_internal")]
    pub fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        self.rows.iter().flat_map(|row| row.indexes().filter_map(|index| row.slot(index)))
    }

    /// `true` if any message has a handle.
    #[must_use]
    pub fn has_slots(&self) -> bool {
        self.has_slots
    }

    /// The number of messages whose handles were told their fates.
    #[must_use]
    pub fn told(&self) -> usize {
        self.rows.iter().map(|row| row.told.count_ones() as usize).sum()
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that it keeps for further extras.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
    }

    /// Tells the handles that their messages were written, the first message with this offset.
    pub fn deliver(&mut self, partition: PartitionId, base_offset: Option<i64>, log_append_time: Option<i64>) {
        for row in &mut self.rows {
            let Some(slot) = row.slot(row.first) else { continue };
            let offset = base_offset.map(|base| base.saturating_add(i64::from(row.first)));
            slot.deliver(row.count, partition.0, offset, log_append_time);
            row.told = row.all();
        }
    }

    /// Calls `tell` for each message whose handle is still there, and notes its answer: `true` if the handle was told.
    pub fn tell(&mut self, mut tell: impl FnMut(u32, &Extra<'_>, Slot<'_>) -> bool) {
        for row in &mut self.rows {
            for index in row.indexes() {
                let extra = row.extra(index);
                let Some(slot) = extra.slot.filter(|slot| !extra.told && slot.has_handle()) else { continue };
                if tell(index, &extra, slot) {
                    row.told |= row.bit(index);
                }
            }
        }
    }

    /// Lets all go; the memory stays.
    pub fn clear(&mut self) {
        self.rows.clear();
        (self.bytes, self.has_slots) = (0, false);
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if self.page.is_some() && self.told != self.all() {
            let untold = self.indexes().filter(|index| self.told & self.bit(*index) == 0);
            untold.filter_map(|index| self.slot(index)).for_each(Slot::leave);
        }
    }
}

impl Row {
    fn end(&self) -> u32 {
        self.first + self.count
    }

    /// The indexes of its messages.
    fn indexes(&self) -> Range<u32> {
        self.first..self.end()
    }

    fn bit(&self, index: u32) -> u32 {
        1 << (index - self.first)
    }

    /// The bits of all.
    fn all(&self) -> u32 {
        (1 << self.count) - 1
    }

    fn slot(&self, index: u32) -> Option<Slot<'_>> {
        Some(Slot::of(self.page.as_ref()?, self.place + (index - self.first)))
    }

    fn extra(&self, index: u32) -> Extra<'_> {
        let (slot, told) = (self.slot(index), self.told & self.bit(index) != 0);
        Extra { tag: self.tag, partition_key: self.partition_key.as_deref(), slot, told }
    }
}

impl<'a> Extra<'a> {
    /// The extra of a message, if it has one of these.
    #[inline]
    #[must_use]
    pub fn of(tag: u64, partition_key: Option<&'a [u8]>, slot: Option<Slot<'a>>) -> Option<Self> {
        let some = tag != 0 || partition_key.is_some() || slot.is_some();
        some.then_some(Self { tag, partition_key, slot, told: false })
    }

    /// Bytes that it takes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        EXTRA + self.partition_key.map_or(0, <[u8]>::len)
    }
}

/// Bytes that a chunk and a batch keep for a message with a tag, a partition key or a handle, and the place for its
/// fate.
pub const EXTRA: usize = 96;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::mpsc::TryRecvError;

    use super::*;
    use crate::fate::Receipt;
    use crate::fate::slot::Awaited;
    use crate::fate::slot::testing::{deliver, of_nobody};
    use crate::message::Timestamp;

    #[test]
    fn a_message_that_goes_away_without_a_fate_is_lost() {
        for end in [drop, |mut extras: Extras| extras.clear()] {
            let [mut told, mut lost] = of_nobody();
            let extras = of(&[(2, &told), (6, &lost)]);
            deliver(told.slot(), RECEIPT);
            end(extras);
            assert!(matches!(told.look(), Ok(Ok(RECEIPT))));
            assert!(matches!(lost.look(), Err(TryRecvError::Disconnected)));
        }
    }

    #[test]
    fn what_was_cleared_takes_nothing_and_is_not_there() {
        let [first, second] = of_nobody();
        let mut extras = of(&[(2, &first), (6, &second)]);
        extras.push(8, &Extra { partition_key: Some(&[0; 10]), ..with_tag(1) });
        assert_eq!((indexes(&extras), extras.bytes(), extras.has_slots()), (vec![2, 6, 8], 3 * EXTRA + 10, true));
        extras.clear();
        assert_eq!((indexes(&extras), extras.bytes(), extras.has_slots()), (vec![], 0, false));
    }

    #[test]
    fn what_was_written_is_told_to_each_handle_with_its_offset() {
        let [mut first, mut second, mut third] = of_nobody();
        let handles = [(2, &first), (3, &second), (5, &third)];
        handles.iter().zip(5..).for_each(|((_, awaited), time)| awaited.slot().note_time(time));
        let mut extras = of(&handles[..2]);
        extras.push(4, &with_tag(1));
        extras.push(5, &of_handle(&third));
        extras.deliver(PartitionId(7), Some(i64::MAX - 4), None);
        assert_eq!(told(&extras), [true, true, false, true]);
        drop(extras);
        for (awaited, offset, time) in
            [(&mut first, i64::MAX - 2, 5), (&mut second, i64::MAX - 1, 6), (&mut third, i64::MAX, 7)]
        {
            let timestamp = Some(Timestamp::from_millis(time));
            let receipt = Receipt { partition: 7, offset: Some(offset), timestamp };
            assert!(matches!(awaited.look(), Ok(Ok(seen)) if seen == receipt));
        }
    }

    #[test]
    fn an_error_is_told_once_and_only_where_somebody_has_the_handle() {
        let [first, dropped, last] = of_nobody();
        let mut extras = of(&[(0, &first), (1, &dropped), (2, &last)]);
        drop(dropped);
        for expected in [vec![0, 2], vec![]] {
            let mut indexes = Vec::new();
            extras.tell(|index, _, _| {
                indexes.push(index);
                true
            });
            assert_eq!(indexes, expected);
        }
        assert_eq!((told(&extras), extras.told()), (vec![true, false, true], 2));
    }

    #[test]
    fn a_message_in_two_places_is_lost_with_the_second() {
        let [mut awaited] = of_nobody();
        let (first, mut second) = (of(&[(0, &awaited)]), Extras::default());
        second.push_copy(0, None);
        assert!(indexes(&second).is_empty(), "nothing is beside this one");
        second.push_copy(1, first.of(0, &mut 0).as_ref());
        drop(first);
        assert!(matches!(awaited.look(), Err(TryRecvError::Empty)));
        drop(second);
        assert!(matches!(awaited.look(), Err(TryRecvError::Disconnected)));
    }

    #[test]
    fn handles_in_a_row_share_a_page_and_each_message_has_its_own() {
        let (here, there) = (of_nobody::<5>(), of_nobody::<4>());
        let turns = [&here[0], &here[1], &here[2], &there[0], &here[3], &there[1], &there[3], &here[4]];
        let mut extras = Extras::default();
        // Between them is a message without an extra.
        let index = |at: usize| at as u32 + u32::from(at > 2);
        (0..).zip(turns).for_each(|(at, awaited)| extras.push(index(at), &of_handle(awaited)));
        for (at, awaited) in turns.into_iter().enumerate() {
            let slot = extras.of(index(at), &mut 0).and_then(|extra| extra.slot).expect("it has a handle");
            assert!(
                Arc::ptr_eq(slot.page(), awaited.slot().page()) && slot.index() == awaited.slot().index(),
                "{slot:?}"
            );
        }
        assert!(extras.of(3, &mut 0).is_none());
        let shares = Arc::strong_count(here[0].slot().page()) - here.len();
        assert_eq!(shares, 3, "one for the first three, and one for each that is alone");
    }

    #[test]
    fn a_row_has_one_tag_and_no_partition_key() {
        let handles = of_nobody::<5>();
        let mut extras = Extras::default();
        let all = [(0, None), (0, Some(&b"k"[..])), (0, None), (7, None), (7, None)];
        for (index, (awaited, (tag, partition_key))) in (0..).zip(handles.iter().zip(all)) {
            extras.push(index, &Extra { tag, partition_key, ..of_handle(awaited) });
        }
        let mut row = 0;
        for (index, expected) in (0..).zip(all) {
            let extra = extras.of(index, &mut row).expect("it has a handle");
            assert_eq!((extra.tag, extra.partition_key), expected);
        }
        assert_eq!(extras.rows.len(), 4);
    }

    fn of(handles: &[(u32, &Awaited)]) -> Extras {
        let mut extras = Extras::default();
        handles.iter().for_each(|(index, awaited)| extras.push(*index, &of_handle(awaited)));
        extras
    }

    fn of_handle(awaited: &Awaited) -> Extra<'_> {
        Extra { slot: Some(awaited.slot()), ..Extra::default() }
    }

    fn with_tag(tag: u64) -> Extra<'static> {
        Extra { tag, ..Extra::default() }
    }

    fn indexes(extras: &Extras) -> Vec<u32> {
        (0..100).filter(|index| extras.of(*index, &mut 0).is_some()).collect()
    }

    fn told(extras: &Extras) -> Vec<bool> {
        (0..100).filter_map(|index| extras.of(index, &mut 0)).map(|extra| extra.told).collect()
    }

    const RECEIPT: Receipt = Receipt { partition: 3, offset: Some(4), timestamp: Some(Timestamp::from_millis(5)) };
}
