//! The parts that only some messages have beside their record: a tag, a partition key, a handle.

use std::mem;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;

use crate::fate::slot::{Page, Slot};

/// The extras of the messages of a chunk or a batch, ascending by index. A message with a handle is lost if its extra
/// is dropped, it has no fate, and no other chunk, batch or fate has it.
#[derive(Debug, Default)]
pub struct Extras {
    list: Vec<Extra>,
    /// The bytes that they take.
    bytes: usize,
    /// The pages of the slots: one share of each page.
    pages: Vec<Arc<Page>>,
}

/// The extra of one message.
#[derive(Debug)]
pub struct Extra {
    /// Index of the message in its chunk or batch.
    pub index: u32,
    /// The place where a handle waits for its fate: the page, counted from 1, and the index in it.
    page: Option<NonZeroU32>,
    place: u32,
    /// The user's tag.
    pub tag: u64,
    /// The bytes that chose the partition in place of the key.
    pub partition_key: Option<Box<[u8]>>,
    /// `true` once its handle was told its fate.
    pub told: bool,
}

impl Extras {
    /// Adds the extra of a message that comes from its caller; its slot knows its time.
    #[inline(always)]
    pub fn push(&mut self, index: u32, tag: u64, partition_key: Option<&[u8]>, slot: Option<Slot<'_>>) {
        let (page, place) = slot.map_or((None, 0), |slot| (Some(self.keep(slot.page())), slot.index()));
        self.list.push(Extra { index, page, place, tag, partition_key: partition_key.map(Box::from), told: false });
        self.bytes += EXTRA + partition_key.map_or(0, <[u8]>::len);
    }

    /// Adds the extra of a message that is still in another chunk or batch.
    #[inline]
    pub fn push_copy(&mut self, index: u32, tag: u64, partition_key: Option<&[u8]>, slot: Option<Slot<'_>>) {
        if tag != 0 || partition_key.is_some() || slot.is_some() {
            self.push(index, tag, partition_key, slot);
            slot.inspect(|slot| slot.enter());
        }
    }

    /// Keeps a share of a page, and returns the number of the page.
    #[inline]
    fn keep(&mut self, page: &Arc<Page>) -> NonZeroU32 {
        let back = match self.pages.last() {
            Some(last) if Arc::ptr_eq(last, page) => 0,
            _ => self.keep_another(page),
        };
        // Not more than there are messages in a chunk.
        NonZeroU32::MIN.saturating_add((self.pages.len() - 1 - back) as u32)
    }

    /// The number of pages behind it.
    #[inline(never)]
    fn keep_another(&mut self, page: &Arc<Page>) -> usize {
        // Several callers take turns.
        let known = self.pages.iter().rev().take(CALLERS).position(|known| Arc::ptr_eq(known, page));
        known.unwrap_or_else(|| {
            self.pages.push(Arc::clone(page));
            0
        })
    }

    /// The slot of the handle of a message.
    #[inline]
    #[must_use]
    pub fn slot(&self, extra: Option<&Extra>) -> Option<Slot<'_>> {
        slot_of(&self.pages, extra?)
    }

    /// `true` if any message has a handle.
    #[must_use]
    pub fn has_slots(&self) -> bool {
        !self.pages.is_empty()
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that it keeps for further extras.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.list.capacity() * size_of::<Extra>()
    }

    /// Tells the handles that their messages were written, the first message with this offset.
    pub fn deliver(&mut self, partition: i32, base_offset: Option<i64>, log_append_time: Option<i64>) {
        let Self { list, pages, .. } = self;
        Page::waking(pages, || {
            for extra in list.iter_mut().filter(|extra| !extra.told) {
                let Some(slot) = slot_of(pages, extra) else { continue };
                let offset = base_offset.map(|base| base.saturating_add(i64::from(extra.index)));
                slot.deliver(partition, offset, log_append_time);
                extra.told = true;
            }
        });
    }

    /// Calls `tell` for each message whose handle is still there, and notes its answer: `true` if the handle was told.
    pub fn tell(&mut self, mut tell: impl FnMut(&Extra, Slot<'_>) -> bool) {
        for extra in self.list.iter_mut().filter(|extra| !extra.told) {
            if let Some(slot) = slot_of(&self.pages, extra).filter(|slot| slot.has_handle()) {
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
    /// `true` if the message was given a handle.
    #[must_use]
    pub fn has_handle(&self) -> bool {
        self.page.is_some()
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        EXTRA + self.partition_key.as_ref().map_or(0, |key| key.len())
    }
}

fn leave(list: &[Extra], pages: &[Arc<Page>]) {
    list.iter().filter(|extra| !extra.told).filter_map(|extra| slot_of(pages, extra)).for_each(Slot::leave);
}

#[inline]
fn slot_of<'a>(pages: &'a [Arc<Page>], extra: &Extra) -> Option<Slot<'a>> {
    extra.page.map(|page| Slot::of(&pages[page.get() as usize - 1], extra.place))
}

/// So many callers that produce in turn share the pages of a chunk.
const CALLERS: usize = 4;

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
        for end in [drop, |mut extras: Extras| extras.clear(), |mut extras: Extras| extras.forget_before(7)] {
            let [mut told, mut lost] = of_nobody();
            let extras = of(&[(2, &told), (6, &lost)]);
            deliver(told.slot(), RECEIPT);
            end(extras);
            assert!(matches!(told.look(), Ok(Ok(RECEIPT))));
            assert!(matches!(lost.look(), Err(TryRecvError::Disconnected)));
        }
    }

    #[test]
    fn what_is_forgotten_is_what_came_before() {
        let [mut before, mut behind] = of_nobody();
        let mut extras = of(&[(2, &before), (6, &behind)]);
        extras.push(8, 1, Some(&[0; 10]), None);
        extras.forget_before(6);
        assert!(matches!((before.look(), behind.look()), (Err(TryRecvError::Disconnected), Err(TryRecvError::Empty))));
        assert_eq!(extras.iter().map(|extra| extra.index).collect::<Vec<_>>(), [6, 8]);
        assert_eq!(extras.bytes(), 2 * EXTRA + 10);
        deliver(extras.slot(extras.first()).expect("it has a handle"), RECEIPT);
        assert!(matches!(behind.look(), Ok(Ok(RECEIPT))));
        extras.clear();
        assert_eq!((extras.len(), extras.bytes(), extras.has_slots()), (0, 0, false));
    }

    #[test]
    fn a_message_leaves_each_place_once() {
        for forget in [true, false] {
            let [mut lookout] = of_nobody();
            let (mut first, mut second) = (of(&[(0, &lookout)]), Extras::default());
            second.push_copy(0, 0, None, first.slot(first.first()));
            if forget {
                first.forget_before(1);
            } else {
                first.clear();
            }
            drop(first);
            assert!(matches!(lookout.look(), Err(TryRecvError::Empty)), "{forget}");
            drop(second);
            assert!(matches!(lookout.look(), Err(TryRecvError::Disconnected)));
        }
    }

    #[test]
    fn what_was_written_is_told_to_each_handle_with_its_offset() {
        let [mut first, mut second] = of_nobody();
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
            assert!(matches!(lookout.look(), Ok(Ok(seen)) if seen == receipt));
        }
    }

    #[test]
    fn an_error_is_told_once_and_only_where_somebody_has_the_handle() {
        let [told, dropped] = of_nobody();
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
        let [mut lookout] = of_nobody();
        let (first, mut second) = (of(&[(0, &lookout)]), Extras::default());
        second.push_copy(0, 0, None, None);
        assert!(second.is_empty(), "nothing is beside this one");
        second.push_copy(1, 0, None, first.slot(first.first()));
        drop(first);
        assert!(matches!(lookout.look(), Err(TryRecvError::Empty)));
        drop(second);
        assert!(matches!(lookout.look(), Err(TryRecvError::Disconnected)));
    }

    #[test]
    fn slots_of_a_page_share_it() {
        let (here, there) = (of_nobody::<2>(), of_nobody::<2>());
        let turns = [&here[0], &here[1], &there[0], &here[1], &there[1]];
        let mut extras = of(&turns.map(|awaited| (0, awaited)));
        assert_eq!(extras.pages.len(), 2);
        for (awaited, extra) in turns.iter().zip(&extras.list) {
            let slot = extras.slot(Some(extra)).expect("it has a handle");
            assert!(
                Arc::ptr_eq(slot.page(), awaited.slot().page()) && slot.index() == awaited.slot().index(),
                "{slot:?}"
            );
        }
        extras.list.iter_mut().for_each(|extra| extra.told = true);
        extras.clear();
        assert!(!extras.has_slots() && Arc::strong_count(here[0].slot().page()) == 2);
    }

    fn of(handles: &[(u32, &Awaited)]) -> Extras {
        let mut extras = Extras::default();
        handles.iter().for_each(|(index, lookout)| extras.push(*index, 0, None, Some(lookout.slot())));
        extras
    }

    const RECEIPT: Receipt = Receipt { partition: 3, offset: Some(4), timestamp: Some(Timestamp::from_millis(5)) };
}
