//! The place for the fate of a message with a handle: a one-shot. The message has a [`Slot`], into which the thread
//! that drives the engine writes once; the handle has an [`Awaited`], which looks at the same place.
//!
//! In the usual case the caller writes only the message's time there, and reads the fate that the worker has put in. A
//! chunk or a batch has one share of a page for messages in a row: a share for each message would be two atomic
//! operations more.

use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::Instant;

use super::page::{self, DELIVERED, FAILED, FATE, LET_GO, LOST, Place, STORED};
pub use super::page::{Owner, Page};
use super::{Outcome, Receipt};
use crate::error::DeliveryError;
use crate::message::Timestamp;
use crate::sync::atomic::{AtomicI64, Ordering};

/// The message's end of a place for a fate, as the holder of its page sees it.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    page: &'a Arc<Page>,
    index: u32,
}

/// The handle's end of a place for a fate.
#[derive(Debug)]
pub struct Awaited {
    page: Arc<Page>,
    index: u32,
    taken: bool,
}

/// The next place of the thread for this producer; its slot is for a message.
#[must_use]
#[inline]
pub fn await_fate<O: Owner + 'static>(owner: &Arc<O>) -> Awaited {
    let (page, index) = page::next_place(owner);
    Awaited { page, index, taken: false }
}

impl<'a> Slot<'a> {
    /// The slot with this index in a page.
    #[inline]
    #[must_use]
    pub fn of(page: &'a Arc<Page>, index: u32) -> Self {
        Self { page, index }
    }

    /// Its page. The keeper of the slot needs a share of the page.
    #[inline]
    #[must_use]
    pub fn page(self) -> &'a Arc<Page> {
        self.page
    }

    /// Its index in the page.
    #[inline]
    #[must_use]
    pub fn index(self) -> u32 {
        self.index
    }

    #[inline]
    fn place(self) -> &'a Place {
        self.page.place(self.index)
    }

    /// The time of the message, which is stored with it unless the broker has another one.
    #[inline]
    pub fn note_time(self, create_time: i64) {
        self.place().timestamp.store(create_time, Ordering::Relaxed);
    }

    /// Puts in where the message was written, and where those of the next slots, `count` in all, were written behind
    /// it, and wakes the callers that wait for them. `offset` is none if no broker told what was stored;
    /// `log_append_time` is the broker's time, if the broker stored that.
    pub fn deliver(self, count: u32, partition: i32, offset: Option<i64>, log_append_time: Option<i64>) {
        let state = DELIVERED | if offset.is_some() { STORED } else { 0 };
        let first = self.index as usize;
        for (place, behind) in self.page.places[first..first + count as usize].iter().zip(0..) {
            place.partition.store(partition, Ordering::Relaxed);
            if let Some(offset) = offset {
                place.offset.store(offset.saturating_add(behind), Ordering::Relaxed);
            }
            if let Some(time) = log_append_time {
                place.timestamp.store(time, Ordering::Relaxed);
            }
            place.note_fate();
            place.state.store(state, Ordering::Release);
        }
        self.page.wake();
    }

    /// Puts in the reason why the message was not delivered, and wakes the caller that waits for it.
    ///
    /// # Errors
    /// The error itself, if the handle is gone: it belongs to somebody else.
    pub fn fail(self, error: DeliveryError) -> Result<(), DeliveryError> {
        self.page.fail(self.index, error)
    }

    /// `true` while the handle is there.
    #[must_use]
    pub fn has_handle(self) -> bool {
        self.place().state.load(Ordering::Relaxed) & LET_GO == 0
    }

    /// Counts one more holder of the message; each holder [leaves](Self::leave).
    pub fn enter(self) {
        self.place().holders.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one holder less. If it was the last, and the message has no fate, the message is lost, and its handle
    /// learns that.
    #[inline]
    pub fn leave(self) {
        let place = self.place();
        let has_fate = place.state.load(Ordering::Relaxed) & FATE != 0;
        if !has_fate && place.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            place.end(LOST);
            self.page.wake();
        }
    }

    /// Counts a second fate, which a planted bug puts in.
    #[cfg(feature = "_internal")]
    pub fn fill_again(self) {
        self.place().fill_again();
    }
}

impl Awaited {
    /// The message's end of this place.
    #[inline]
    #[must_use]
    pub fn slot(&self) -> Slot<'_> {
        Slot { page: &self.page, index: self.index }
    }

    /// The producer, if there still is one.
    #[must_use]
    pub fn owner(&self) -> Option<Arc<dyn Owner>> {
        self.page.owner()
    }

    /// `true` in a fork of the producer's process.
    #[must_use]
    pub fn forked(&self) -> bool {
        self.page.forked()
    }

    /// The fate, once. Never waits, except for a caller that takes an error from the page. On a page that a forked
    /// child inherited locked it finds no error.
    ///
    /// # Errors
    /// `Empty` if it is not there yet, or was taken; `Disconnected` if it will never come, because the message is lost.
    #[inline]
    pub fn look(&mut self) -> Result<Outcome, TryRecvError> {
        let place = self.page.place(self.index);
        let state = place.state.load(Ordering::Acquire);
        let outcome = match state & FATE {
            _ if self.taken => return Err(TryRecvError::Empty),
            DELIVERED => {
                let stored = |value: &AtomicI64| (state & STORED != 0).then(|| value.load(Ordering::Relaxed));
                Ok(Receipt {
                    partition: place.partition.load(Ordering::Relaxed),
                    offset: stored(&place.offset),
                    timestamp: stored(&place.timestamp).map(Timestamp::from_millis),
                })
            }
            FAILED => Err(self.page.take_error(self.index).ok_or(TryRecvError::Empty)?),
            LOST => return Err(TryRecvError::Disconnected),
            _ => return Err(TryRecvError::Empty),
        };
        self.taken = true;
        Ok(outcome)
    }

    /// As [`look`](Self::look), but blocks until the fate is there or will never come, or until `until` has passed.
    ///
    /// # Errors
    /// As `look`.
    pub fn wait(&mut self, until: Option<Instant>) -> Result<Outcome, TryRecvError> {
        self.page.wait(self.index, until);
        self.look()
    }

    /// The number of fates that were put in, for the simulation.
    #[cfg(feature = "_internal")]
    #[must_use]
    pub fn fills(&self) -> u32 {
        self.page.place(self.index).fills.load(Ordering::Relaxed)
    }
}

impl Drop for Awaited {
    #[inline]
    fn drop(&mut self) {
        if !self.taken {
            self.page.let_go(self.index);
        }
    }
}

/// For tests: messages with handles, without a producer.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::fate::Receipt;

    /// A slot with a share of its page, of a message that is nowhere else.
    #[derive(Debug)]
    pub struct Kept(pub(super) Arc<Page>, u32);

    impl Kept {
        pub fn of(awaited: &Awaited) -> Self {
            Self(Arc::clone(&awaited.page), awaited.index)
        }

        pub fn slot(&self) -> Slot<'_> {
            Slot { page: &self.0, index: self.1 }
        }

        /// Puts in the place where the message was written, and wakes the caller that waits for it.
        pub fn deliver(&self, receipt: Receipt) {
            deliver(self.slot(), receipt);
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            self.slot().leave();
        }
    }

    pub fn deliver(slot: Slot<'_>, Receipt { partition, offset, timestamp }: Receipt) {
        slot.deliver(1, partition, offset, timestamp.map(|time| time.as_millis()));
    }

    /// An owner for tests.
    pub struct Nobody;

    impl Owner for Nobody {
        fn due(&self, _ticket: u64) {}

        fn works_here(&self) -> bool {
            false
        }

        fn process(&self) -> Option<u32> {
            Some(std::process::id())
        }
    }

    /// The handles' ends of one page.
    pub fn of_nobody<const N: usize>() -> [Awaited; N] {
        let page = Page::shared(&Arc::new(Nobody));
        std::array::from_fn(|index| Awaited { page: Arc::clone(&page), index: index as u32, taken: false })
    }

    /// The same with the slots of messages that are nowhere else.
    pub fn kept_of_nobody<const N: usize>() -> [(Kept, Awaited); N] {
        of_nobody().map(|awaited| (Kept::of(&awaited), awaited))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::array;
    use std::thread;

    use super::super::page::{PAGES, PLACES};
    use super::testing::*;
    use super::*;
    use crate::error::{DeliveryErrorKind, Persistence};
    use crate::fate::Receipt;
    use crate::message::{Message, Timestamp, Topic};

    #[test]
    fn a_thread_takes_the_places_of_a_page_one_after_the_other() {
        let producer = Arc::new(Nobody);
        let awaited: Vec<Awaited> = (0..2 * PLACES).map(|_| await_fate(&producer)).collect();
        let places = awaited.iter().map(|waiting| waiting.index as usize).collect::<Vec<_>>();
        assert_eq!(places, (0..PLACES).chain(0..PLACES).collect::<Vec<_>>());
        let beside = |other: usize| Arc::ptr_eq(&awaited[0].page, &awaited[other].page);
        assert!(beside(PLACES - 1) && !beside(PLACES));
    }

    #[test]
    fn producers_that_take_turns_keep_their_pages() {
        let producers: [_; PAGES] = array::from_fn(|_| Arc::new(Nobody));
        let first: Vec<Awaited> = producers.iter().map(await_fate).collect();
        for producer in &producers {
            drop(await_fate(producer));
        }
        for (producer, first) in producers.iter().zip(&first) {
            let third = await_fate(producer);
            assert!(Arc::ptr_eq(&third.page, &first.page) && third.index == 2, "{third:?}");
            assert!(Arc::ptr_eq(&third.owner().expect("it is there"), &(Arc::clone(producer) as Arc<dyn Owner>)));
        }
        let new = await_fate(&Arc::new(Nobody));
        assert!(first.iter().all(|first| !Arc::ptr_eq(&first.page, &new.page)));
    }

    #[test]
    fn a_page_does_not_keep_its_producer() {
        let producer = Arc::new(Nobody);
        let waiting = await_fate(&producer);
        drop(producer);
        assert!(waiting.owner().is_none());
    }

    #[test]
    fn a_fate_is_seen_as_it_was_put_in_and_once() {
        let cases = [
            (5, 0, None, None, None),
            (5, i32::MAX, Some(i64::MAX), None, Some(5)),
            (i64::MIN, -1, Some(-1), None, Some(i64::MIN)),
            (5, 1, Some(0), Some(-1), Some(-1)),
            (5, 1, None, Some(7), None),
        ];
        let mut awaited = of_nobody::<5>();
        for (waiting, (own, partition, offset, log_append_time, _)) in awaited.iter_mut().zip(cases) {
            waiting.slot().note_time(own);
            assert!(matches!(waiting.look(), Err(TryRecvError::Empty)));
            waiting.slot().deliver(1, partition, offset, log_append_time);
        }
        for (waiting, (_, partition, offset, _, time)) in awaited.iter_mut().zip(cases) {
            let receipt = Receipt { partition, offset, timestamp: time.map(Timestamp::from_millis) };
            assert!(matches!(waiting.look(), Ok(Ok(seen)) if seen == receipt));
            assert!(matches!(waiting.look(), Err(TryRecvError::Empty)));
        }
    }

    #[test]
    fn errors_of_a_page_find_their_places() {
        let mut awaited = of_nobody::<3>();
        awaited.iter().zip(0..).for_each(|(waiting, tag)| waiting.slot().fail(error(tag)).expect("it is there"));
        for (waiting, tag) in awaited.iter_mut().zip(0..) {
            assert!(matches!(waiting.wait(None), Ok(Err(error)) if error.message().tag() == tag));
        }
    }

    #[test]
    fn a_message_is_lost_with_its_last_slot() {
        let [(kept, mut waiting)] = kept_of_nobody();
        waiting.slot().enter();
        drop(kept);
        assert!(matches!(waiting.look(), Err(TryRecvError::Empty)));
        waiting.slot().leave();
        assert!(matches!(waiting.wait(None), Err(TryRecvError::Disconnected)));
    }

    #[test]
    fn an_error_that_nobody_saw_goes_with_the_handle() {
        let [(kept, waiting)] = kept_of_nobody();
        assert!(kept.slot().has_handle());
        kept.slot().fail(error(0)).expect("the handle is there");
        drop(waiting);
        assert!(kept.0.failed.lock().is_empty());
    }

    #[test]
    fn an_error_comes_back_if_the_handle_is_gone() {
        let [(kept, waiting)] = kept_of_nobody();
        drop(waiting);
        assert!(!kept.slot().has_handle());
        assert_eq!(kept.slot().fail(error(5)).expect_err("nobody would see it").message().tag(), 5);
        assert!(kept.0.failed.lock().is_empty());
    }

    #[test]
    fn a_lock_that_a_fork_inherited_held_stops_nobody() {
        let mut page = Page::shared(&Arc::new(Nobody));
        Arc::get_mut(&mut page).expect("nobody else has it").seem_forked();
        let ends = |index| Awaited { page: Arc::clone(&page), index, taken: false };
        let (mut failed, mut waiting) = (ends(0), ends(1));
        failed.slot().fail(error(0)).expect("the handle is there");
        page.seem_waited_for();
        let held = page.failed.lock();
        assert!(failed.forked() && matches!(failed.look(), Err(TryRecvError::Empty)));
        drop(failed);
        waiting.slot().leave();
        assert!(matches!(waiting.look(), Err(TryRecvError::Disconnected)));
        assert_eq!(held.len(), 1);
    }

    #[test]
    fn a_producer_that_has_not_started_has_no_page_that_a_fork_could_inherit() {
        struct Idle;
        impl Owner for Idle {
            fn due(&self, _ticket: u64) {}

            fn works_here(&self) -> bool {
                false
            }

            fn process(&self) -> Option<u32> {
                None
            }
        }
        let idle = Arc::new(Idle);
        let (one, other) = (await_fate(&idle), await_fate(&idle));
        assert!(!Arc::ptr_eq(&one.page, &other.page) && !one.forked());
    }

    #[test]
    fn who_waits_for_a_fate_is_woken_with_the_others_of_its_row() {
        let [(first, _one), (_second, mut waiting)] = kept_of_nobody();
        let waiting = spawn(move || waiting.wait(None));
        first.slot().deliver(2, 7, Some(i64::MAX - 1), None);
        let receipt = waiting.join().expect("no panic");
        assert!(matches!(receipt, Ok(Ok(Receipt { partition: 7, offset: Some(i64::MAX), .. }))));
    }

    #[expect(clippy::disallowed_methods, reason = "one thread waits, another one fills in")]
    fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        thread::spawn(run)
    }

    fn error(tag: u64) -> DeliveryError {
        let topic = Topic::new("orders").expect("a good name");
        let message = Message::bare(topic.into(), None, None).with_tag(tag);
        DeliveryError::new(Arc::new(DeliveryErrorKind::Purged), Persistence::No, message)
    }
}
