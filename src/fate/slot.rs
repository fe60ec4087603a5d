//! Where the fate of a message with a handle is put. The message has a [`Slot`], into which the thread that drives the
//! engine writes once; the caller has a [`Lookout`] onto the same place.
//!
//! In the usual case the caller writes nothing there but the message's time, and reads what the worker has put in. What
//! messages travel in has one share for all slots of a page, in [`Pages`]: a share for each message would be two atomic
//! operations more.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use super::Outcome;
#[cfg(any(test, feature = "_internal"))]
use super::Receipt;
pub use super::page::Owner;
use super::page::{self, DELIVERED, FAILED, FATE, Failed, LOST, Page};
use crate::error::DeliveryError;
use crate::sync::MutexGuard;
use crate::sync::atomic::{Ordering, fence};

/// Where the fate of a message is put in: the message's end, as whoever holds its page sees it.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    page: &'a Arc<Page>,
    index: u32,
}

/// Where the fate of a message is looked for: the handle's end.
#[derive(Debug)]
pub struct Lookout {
    page: Arc<Page>,
    index: u32,
    taken: bool,
}

/// What there is to see.
#[derive(Debug)]
pub enum Sight {
    /// The message has no fate yet.
    Nothing,
    /// Its fate, which is seen once.
    Fate(Outcome),
    /// It will never have one.
    Lost,
}

/// The pages of slots.
#[derive(Debug, Default)]
pub struct Pages {
    shares: Vec<Arc<Page>>,
}

/// A slot among [`Pages`].
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Which page, counted from 1.
    page: NonZeroU32,
    index: u32,
}

/// Puts fates in. Who waits for them is woken when it is dropped: behind all fates of a batch, because the fence takes
/// as long as a dozen stores.
#[derive(Debug)]
pub struct Waking<'a>(&'a Pages);

/// The next lookout of the thread for this producer; its slot is for a message.
#[must_use]
#[inline]
pub fn lookout<O: Owner + 'static>(owner: &Arc<O>) -> Lookout {
    let (page, index) = page::next_place(owner);
    Lookout { page, index, taken: false }
}

impl Slot<'_> {
    /// The time of the message, which is stored with it unless the broker has another one.
    #[inline]
    pub fn note_time(self, create_time: i64) {
        self.page.place(self.index).note_time(create_time);
    }

    /// Puts in where the message was written, and wakes who waits for it.
    #[cfg(any(test, feature = "_internal"))]
    pub fn deliver(self, Receipt { partition, offset, timestamp }: Receipt) {
        let mut pages = Pages::default();
        let seat = pages.keep(self);
        pages.waking().deliver(seat, partition, offset, timestamp.map(|time| time.as_millis()));
    }

    /// Puts in why the message was not delivered, and wakes who waits for it.
    ///
    /// # Errors
    /// The error itself, if the handle is gone: it belongs to somebody else.
    pub fn fail(self, error: DeliveryError) -> Result<(), DeliveryError> {
        self.page.fail(self.index, error)
    }

    /// Whether somebody still has the handle.
    #[must_use]
    pub fn has_handle(self) -> bool {
        self.page.place(self.index).is_watched()
    }

    /// The message is kept in one place more; each is [left](Self::leave).
    pub fn enter(self) {
        self.page.place(self.index).enter();
    }

    /// The message went away. If nothing else has it, and it has no fate, it is lost, and its [`Lookout`] learns that.
    #[inline]
    pub fn leave(self) {
        if self.page.place(self.index).leave() {
            fence(Ordering::SeqCst);
            self.page.wake();
        }
    }

    /// Counts a second fate, which a planted bug puts in.
    #[cfg(feature = "_internal")]
    pub fn fill_again(self) {
        self.page.place(self.index).fill_again();
    }

    /// The same with a share of its page.
    #[cfg(feature = "_internal")]
    #[must_use]
    pub fn keep(self) -> Kept {
        self.enter();
        Kept { page: Arc::clone(self.page), index: self.index }
    }
}

impl Pages {
    /// Keeps the page of a slot, whose seat this is then.
    #[inline]
    pub fn keep(&mut self, slot: Slot<'_>) -> Seat {
        match self.shares.last() {
            Some(last) if Arc::ptr_eq(last, slot.page) => self.seat(slot, 0),
            _ => self.keep_another(slot),
        }
    }

    #[inline(never)]
    fn keep_another(&mut self, slot: Slot<'_>) -> Seat {
        // Several callers take turns.
        let known = self.shares.iter().rev().take(CALLERS).position(|page| Arc::ptr_eq(page, slot.page));
        let back = known.unwrap_or_else(|| {
            self.shares.push(Arc::clone(slot.page));
            0
        });
        self.seat(slot, back)
    }

    /// Where the page is the last one but so many.
    #[inline]
    fn seat(&self, slot: Slot<'_>, back: usize) -> Seat {
        // Not more than there are messages in a chunk.
        let page = NonZeroU32::MIN.saturating_add((self.shares.len() - 1 - back) as u32);
        Seat { page, index: slot.index }
    }

    /// The slot of a seat.
    #[inline]
    #[must_use]
    pub fn slot(&self, Seat { page, index }: Seat) -> Slot<'_> {
        Slot { page: &self.shares[page.get() as usize - 1], index }
    }

    /// To put fates into them.
    #[must_use]
    pub fn waking(&self) -> Waking<'_> {
        Waking(self)
    }

    /// Whether it has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// Lets all go; no seat is left.
    pub fn clear(&mut self) {
        self.shares.clear();
    }
}

impl Waking<'_> {
    /// Puts in where a message was written. `offset` is none if nobody said what was stored; `log_append_time` is the
    /// broker's time, where that is stored.
    #[inline]
    pub fn deliver(&self, seat: Seat, partition: i32, offset: Option<i64>, log_append_time: Option<i64>) {
        let Slot { page, index } = self.0.slot(seat);
        page.place(index).deliver(partition, offset, log_append_time);
    }
}

impl Drop for Waking<'_> {
    fn drop(&mut self) {
        fence(Ordering::SeqCst);
        self.0.shares.iter().for_each(|page| page.wake());
    }
}

impl Lookout {
    /// Where the fate is put in.
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

    /// Whether this process is a fork of the producer's.
    #[must_use]
    pub fn forked(&self) -> bool {
        self.page.forked()
    }

    /// What there is to see. Never waits, but for who takes an error from the page; an error on a page that a forked
    /// child inherited locked is never there.
    #[inline]
    pub fn look(&mut self) -> Sight {
        let Self { page, index, taken } = self;
        see(page, *index, taken, || page.lock())
    }

    /// Blocks until there is something to see, or until `until` has passed.
    pub fn wait(&mut self, until: Option<Instant>) -> Sight {
        let Self { page, index, taken } = self;
        let failed = page.wait(*index, until);
        see(page, *index, taken, || Some(failed))
    }

    /// The slot of a message that is nowhere else.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept { page: Arc::clone(&self.page), index: self.index }
    }

    /// How often a fate was put in, for the simulation.
    #[cfg(feature = "_internal")]
    #[must_use]
    pub fn fills(&self) -> u32 {
        self.page.place(self.index).fills()
    }
}

impl Drop for Lookout {
    #[inline]
    fn drop(&mut self) {
        if !self.taken {
            self.page.let_go(self.index);
        }
    }
}

/// What is in this place, unless it was `taken` already.
#[inline]
fn see<'a>(page: &Page, index: u32, taken: &mut bool, lock: impl FnOnce() -> Option<MutexGuard<'a, Failed>>) -> Sight {
    let place = page.place(index);
    let state = place.state();
    if *taken {
        return Sight::Nothing;
    }
    let outcome = match state & FATE {
        DELIVERED => Ok(place.receipt(state)),
        FAILED => match lock().and_then(|mut failed| page::take(&mut failed, index)) {
            Some(error) => Err(error),
            None => return Sight::Nothing,
        },
        LOST => return Sight::Lost,
        _ => return Sight::Nothing,
    };
    *taken = true;
    Sight::Fate(outcome)
}

/// So many callers that produce in turn share the pages of a chunk.
const CALLERS: usize = 4;

/// A slot with a share of its page, for tests.
#[cfg(any(test, feature = "_internal"))]
#[derive(Debug)]
pub struct Kept {
    page: Arc<Page>,
    index: u32,
}

#[cfg(any(test, feature = "_internal"))]
impl Kept {
    /// The slot.
    #[must_use]
    pub fn slot(&self) -> Slot<'_> {
        Slot { page: &self.page, index: self.index }
    }
}

#[cfg(any(test, feature = "_internal"))]
impl Drop for Kept {
    fn drop(&mut self) {
        self.slot().leave();
    }
}

/// An owner for tests.
#[cfg(any(test, feature = "_internal"))]
struct Nobody;

#[cfg(any(test, feature = "_internal"))]
impl Owner for Nobody {
    fn due(&self, _ticket: u64) {}

    fn works_here(&self) -> bool {
        false
    }

    fn process(&self) -> u32 {
        std::process::id()
    }
}

/// Lookouts onto one page, without a producer.
#[cfg(any(test, feature = "_internal"))]
#[must_use]
pub fn of_nobody<const N: usize>() -> [Lookout; N] {
    let page = Page::shared(&Arc::new(Nobody));
    std::array::from_fn(|index| Lookout { page: Arc::clone(&page), index: index as u32, taken: false })
}

/// The same with the slots of messages that are nowhere else.
#[cfg(any(test, feature = "_internal"))]
#[must_use]
pub fn kept_of_nobody<const N: usize>() -> [(Kept, Lookout); N] {
    of_nobody().map(|lookout| (lookout.kept(), lookout))
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::array;
    use std::panic;
    use std::thread;

    use super::super::page::{PAGES, PLACES};
    use super::*;
    use crate::error::{DeliveryErrorKind, Persistence};
    use crate::message::{Message, Timestamp, Topic};

    #[test]
    fn a_thread_takes_the_places_of_a_page_one_after_the_other() {
        let producer = Arc::new(Nobody);
        let lookouts: Vec<Lookout> = (0..2 * PLACES).map(|_| lookout(&producer)).collect();
        let places = lookouts.iter().map(|lookout| lookout.index as usize).collect::<Vec<_>>();
        assert_eq!(places, (0..PLACES).chain(0..PLACES).collect::<Vec<_>>());
        let beside = |other: usize| Arc::ptr_eq(&lookouts[0].page, &lookouts[other].page);
        assert!(beside(PLACES - 1) && !beside(PLACES));
    }

    #[test]
    fn producers_that_take_turns_keep_their_pages() {
        let producers: [_; PAGES] = array::from_fn(|_| Arc::new(Nobody));
        let first: Vec<Lookout> = producers.iter().map(lookout).collect();
        for producer in &producers {
            drop(lookout(producer));
        }
        for (producer, first) in producers.iter().zip(&first) {
            let third = lookout(producer);
            assert!(Arc::ptr_eq(&third.page, &first.page) && third.index == 2, "{third:?}");
            assert!(Arc::ptr_eq(&third.owner().expect("it is there"), &(Arc::clone(producer) as Arc<dyn Owner>)));
        }
        let new = lookout(&Arc::new(Nobody));
        assert!(first.iter().all(|first| !Arc::ptr_eq(&first.page, &new.page)));
    }

    #[test]
    fn a_page_does_not_keep_its_producer() {
        let producer = Arc::new(Nobody);
        let lookout = lookout(&producer);
        drop(producer);
        assert!(lookout.owner().is_none());
    }

    #[test]
    fn slots_of_a_page_share_it() {
        let (here, there) = (of_nobody::<2>(), of_nobody::<2>());
        let mut pages = Pages::default();
        let turns = [&here[0], &here[1], &there[0], &here[1], &there[1]];
        let seats = turns.map(|lookout| pages.keep(lookout.slot()));
        assert_eq!(pages.shares.len(), 2);
        for (lookout, seat) in turns.iter().zip(seats) {
            let slot = pages.slot(seat);
            assert!(Arc::ptr_eq(slot.page, &lookout.page) && slot.index == lookout.index, "{slot:?}");
        }
        pages.clear();
        assert!(pages.is_empty() && Arc::strong_count(&here[0].page) == 2);
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
        let mut lookouts = of_nobody::<5>();
        let mut pages = Pages::default();
        for (lookout, (own, partition, offset, log_append_time, _)) in lookouts.iter_mut().zip(cases) {
            lookout.slot().note_time(own);
            assert!(matches!(lookout.look(), Sight::Nothing));
            let seat = pages.keep(lookout.slot());
            pages.waking().deliver(seat, partition, offset, log_append_time);
        }
        for (lookout, (_, partition, offset, _, time)) in lookouts.iter_mut().zip(cases) {
            let receipt = Receipt { partition, offset, timestamp: time.map(Timestamp::from_millis) };
            assert!(matches!(lookout.look(), Sight::Fate(Ok(seen)) if seen == receipt));
            assert!(matches!(lookout.look(), Sight::Nothing));
        }
    }

    #[test]
    fn errors_of_a_page_find_their_places() {
        let mut lookouts = of_nobody::<3>();
        lookouts.iter().zip(0..).for_each(|(lookout, tag)| lookout.slot().fail(error(tag)).expect("it is there"));
        for (lookout, tag) in lookouts.iter_mut().zip(0..) {
            assert!(matches!(lookout.wait(None), Sight::Fate(Err(error)) if error.message().tag() == tag));
        }
    }

    #[test]
    fn a_message_is_lost_with_its_last_slot() {
        let [(kept, mut lookout)] = kept_of_nobody();
        lookout.slot().enter();
        drop(kept);
        assert!(matches!(lookout.look(), Sight::Nothing));
        lookout.slot().leave();
        assert!(matches!(lookout.wait(None), Sight::Lost));
    }

    #[test]
    fn an_error_that_nobody_saw_goes_with_the_handle() {
        let [(kept, lookout)] = kept_of_nobody();
        assert!(kept.slot().has_handle());
        kept.slot().fail(error(0)).expect("the handle is there");
        drop(lookout);
        assert!(kept.page.lock().expect("it is free").is_empty());
    }

    #[test]
    fn an_error_comes_back_if_the_handle_is_gone() {
        let [(kept, lookout)] = kept_of_nobody();
        drop(lookout);
        assert!(!kept.slot().has_handle());
        assert_eq!(kept.slot().fail(error(5)).expect_err("nobody would see it").message().tag(), 5);
        assert!(kept.page.lock().expect("it is free").is_empty());
    }

    #[test]
    fn a_lock_that_a_fork_inherited_held_stops_nobody() {
        let mut page = Page::shared(&Arc::new(Nobody));
        Arc::get_mut(&mut page).expect("nobody else has it").seem_forked();
        let ends = |index| Lookout { page: Arc::clone(&page), index, taken: false };
        let (mut failed, mut waiting) = (ends(0), ends(1));
        failed.slot().fail(error(0)).expect("the handle is there");
        page.seem_waited_for();
        let held = page.lock().expect("it is free");
        assert!(failed.forked() && matches!(failed.look(), Sight::Nothing));
        drop(failed);
        waiting.slot().leave();
        assert!(matches!(waiting.look(), Sight::Lost));
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

            fn process(&self) -> u32 {
                0
            }
        }
        let idle = Arc::new(Idle);
        let (one, other) = (lookout(&idle), lookout(&idle));
        assert!(!Arc::ptr_eq(&one.page, &other.page) && !one.forked());
    }

    #[test]
    fn who_waits_for_a_fate_is_woken_although_the_next_one_panics() {
        let [(kept, mut lookout)] = kept_of_nobody();
        let waiting = spawn(move || lookout.wait(None));
        let broken = panic::catch_unwind(|| {
            let mut pages = Pages::default();
            let seat = pages.keep(kept.slot());
            let waking = pages.waking();
            waking.deliver(seat, 7, None, None);
            panic!("a fault");
        });
        assert!(broken.is_err());
        assert!(matches!(waiting.join().expect("no panic"), Sight::Fate(Ok(Receipt { partition: 7, .. }))));
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
