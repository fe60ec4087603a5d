//! Where the fate of a message with a handle is put. The thread that drives the engine has a [`Slot`], in which it
//! writes once; the caller has a [`Lookout`] onto it.
//!
//! Slots are made by the page, a few dozen at once and beside each other: an allocation, a lock and a condition variable
//! for each message cost more than the message, and memory that is scattered is slow to go from the caller's processor
//! to the worker's and back. A caller's thread takes the slots of its page one after the other. In the usual case the
//! caller writes nothing into them: it reads what the worker has put there.

use std::array;
use std::cell::RefCell;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::process;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::{Outcome, Receipt};
use crate::error::DeliveryError;
use crate::message::Timestamp;
use crate::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, Ordering, fence};
use crate::sync::{Condvar, Mutex, MutexGuard, thread_local};

/// Where the fate of a message is put in: the message's end. A message whose last slot goes away without a fate is lost,
/// and its [`Lookout`] learns that.
#[derive(Debug)]
pub struct Slot {
    page: Arc<Page>,
    index: u32,
}

/// A slot on its way to its message: it is taken out if the message is accepted quietly.
pub type Offered = Option<Slot>;

/// Slots of a batch in which fates were put. Who waits for them is woken when it is dropped, so that a fence, which
/// takes as long as a dozen stores, is needed once.
#[derive(Debug, Default)]
pub struct Filled<'a> {
    /// One slot of each page; of some pages more, where several callers produce.
    pages: Vec<&'a Slot>,
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

/// The producer that gives a message its fate, as handles see it.
pub trait Owner: Send + Sync {
    /// The message with this ticket leaves now.
    fn due(&self, ticket: u64);
    /// The process in which its threads run; 0 before they start.
    fn process(&self) -> u32;
}

#[derive(Debug)]
struct Page {
    places: [Place; PLACES],
    /// Errors by the index of their place. Between whoever puts a fate in that is an error or is waited for, and the
    /// callers that wait.
    failed: Mutex<Failed>,
    /// Callers that wait: to wake nobody would cost a system call. Changed under the lock.
    waiting: AtomicU32,
    /// A place that was waited for has a fate.
    filled: Condvar,
    /// Not an `Arc`, because a thread keeps its page when the producer has gone.
    /// It is behind locks of its own, which no panic leaves half done.
    owner: AssertUnwindSafe<Weak<dyn Owner>>,
    /// The owner's process. In another one, which is its fork, the lock may be held for ever.
    process: u32,
}

type Failed = Vec<(u32, DeliveryError)>;

#[derive(Debug)]
struct Place {
    state: AtomicU32,
    /// How many slots lead here.
    slots: AtomicU32,
    partition: AtomicI32,
    offset: AtomicI64,
    timestamp: AtomicI64,
    /// How often a fate was put in: a second one could hide the first.
    #[cfg(feature = "_internal")]
    fills: AtomicU32,
}

/// A page of which a thread has not used all places yet.
struct Open {
    page: Arc<Page>,
    next: u32,
}

thread_local! {
    /// The last one first.
    static OPEN: RefCell<Vec<Open>> = const { RefCell::new(Vec::new()) };
}

/// A slot of the thread's page for this producer, and the lookout onto it.
#[must_use]
#[inline]
pub fn pair<O: Owner + 'static>(owner: &Arc<O>) -> (Slot, Lookout) {
    let used = OPEN.try_with(|open| {
        let mut open = open.borrow_mut();
        let Open { page, next } = open.first_mut()?;
        let mine = page.owner.as_ptr().addr() == Arc::as_ptr(owner).addr();
        (mine && (*next as usize) < PLACES).then(|| ends(Arc::clone(page), mem::replace(next, *next + 1)))
    });
    match used {
        Ok(Some(ends)) => ends,
        Ok(None) => turn_the_page(owner),
        Err(_) => ends(Page::shared(owner), 0),
    }
}

/// An owner for tests.
#[cfg(any(test, feature = "_internal"))]
struct Nobody;

#[cfg(any(test, feature = "_internal"))]
impl Owner for Nobody {
    fn due(&self, _ticket: u64) {}

    fn process(&self) -> u32 {
        process::id()
    }
}

/// Slots of one page, and the lookouts onto them, without a producer.
#[cfg(any(test, feature = "_internal"))]
#[must_use]
pub fn of_nobody<const N: usize>() -> [(Slot, Lookout); N] {
    let page = Page::shared(&Arc::new(Nobody));
    array::from_fn(|index| ends(Arc::clone(&page), index as u32))
}

/// The first place of another page.
#[inline(never)]
fn turn_the_page<O: Owner + 'static>(owner: &Arc<O>) -> (Slot, Lookout) {
    if owner.process() == 0 {
        // Its threads may yet start in a fork, which would inherit the page.
        return ends(Page::shared(owner), 0);
    }
    let (ends, _gone) = OPEN.with(|open| {
        let mut open = open.borrow_mut();
        let mine = |open: &Open| open.page.owner.as_ptr().addr() == Arc::as_ptr(owner).addr();
        let before = open.iter().position(mine).or((open.len() == PAGES).then_some(PAGES - 1));
        let before = before.map(|at| open.remove(at));
        let (mut page, gone) = match before {
            Some(page) if mine(&page) && (page.next as usize) < PLACES => (page, None),
            before => (Open { page: Page::shared(owner), next: 0 }, before),
        };
        let index = page.next;
        page.next += 1;
        let ends = ends(Arc::clone(&page.page), index);
        open.insert(0, page);
        // Dropped when nothing is borrowed any more: there may be errors on it.
        (ends, gone)
    });
    ends
}

#[inline]
fn ends(page: Arc<Page>, index: u32) -> (Slot, Lookout) {
    (Slot { page: Arc::clone(&page), index }, Lookout { page, index, taken: false })
}

impl Slot {
    /// Puts in where the message was written, and wakes who waits for it.
    #[cfg(any(test, feature = "_internal"))]
    pub fn deliver(&self, receipt: Receipt) {
        Filled::default().put(self, receipt);
    }

    /// Puts in why the message was not delivered, and wakes who waits for it.
    ///
    /// # Errors
    /// The error itself, if the handle is gone: it belongs to somebody else.
    pub fn fail(&self, error: DeliveryError) -> Result<(), DeliveryError> {
        let mut failed = self.page.failed.lock();
        failed.push((self.index, error));
        let let_go = self.end(FAILED) & LET_GO != 0;
        let error = if let_go { take(&mut failed, self.index) } else { None };
        drop(failed);
        self.wake();
        error.map_or(Ok(()), Err)
    }

    /// Counts a second fate, which a planted bug puts in.
    #[cfg(feature = "_internal")]
    pub fn fill_again(&self) {
        self.place().fills.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    fn put(&self, Receipt { partition, offset, timestamp }: Receipt) {
        let place = self.place();
        let mut state = DELIVERED;
        place.partition.store(partition, Ordering::Relaxed);
        if let Some(offset) = offset {
            place.offset.store(offset, Ordering::Relaxed);
            state |= HAS_OFFSET;
        }
        if let Some(timestamp) = timestamp {
            place.timestamp.store(timestamp.as_millis(), Ordering::Relaxed);
            state |= HAS_TIMESTAMP;
        }
        self.note_fate();
        place.state.store(state, Ordering::Release);
    }

    /// Whether its place is beside that of the other one.
    #[must_use]
    #[inline]
    pub fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.page, &other.page)
    }

    /// Whether somebody still has the handle.
    #[must_use]
    pub fn has_handle(&self) -> bool {
        self.place().state.load(Ordering::Relaxed) & LET_GO == 0
    }

    /// The message has its fate; gives what was known of the place before.
    fn end(&self, state: u32) -> u32 {
        self.note_fate();
        self.place().state.swap(state, Ordering::AcqRel)
    }

    #[inline]
    fn note_fate(&self) {
        let place = self.place();
        #[cfg(feature = "_internal")]
        place.fills.fetch_add(1, Ordering::Relaxed);
        debug_assert!(place.state.load(Ordering::Relaxed) & FATE == 0, "a message has one fate");
    }

    fn wake(&self) {
        fence(Ordering::SeqCst);
        self.page.wake();
    }

    #[inline]
    fn place(&self) -> &Place {
        &self.page.places[self.index as usize]
    }
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        self.place().slots.fetch_add(1, Ordering::Relaxed);
        Self { page: Arc::clone(&self.page), index: self.index }
    }
}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        let place = self.place();
        if place.state.load(Ordering::Relaxed) & FATE == 0 && place.slots.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end(LOST);
            self.wake();
        }
    }
}

impl<'a> Filled<'a> {
    /// Puts in where a message was written.
    #[inline]
    pub fn put(&mut self, slot: &'a Slot, receipt: Receipt) {
        slot.put(receipt);
        if self.pages.last().is_none_or(|last| !last.is_beside(slot)) {
            self.pages.push(slot);
        }
    }
}

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        fence(Ordering::SeqCst);
        self.pages.iter().for_each(|slot| slot.page.wake());
    }
}

impl Lookout {
    /// The producer, if there still is one.
    #[must_use]
    pub fn owner(&self) -> Option<Arc<dyn Owner>> {
        self.page.owner.upgrade()
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
        let state = &page.places[*index as usize].state;
        let mut failed = page.failed.lock();
        page.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        while state.load(Ordering::Acquire) & FATE == 0 {
            match until {
                None => page.filled.wait(&mut failed),
                Some(until) => {
                    if page.filled.wait_until(&mut failed, until).timed_out() {
                        break;
                    }
                }
            }
        }
        page.waiting.fetch_sub(1, Ordering::Relaxed);
        see(page, *index, taken, || Some(failed))
    }

    /// How often a fate was put in, for the simulation.
    #[cfg(feature = "_internal")]
    #[must_use]
    pub fn fills(&self) -> u32 {
        self.place().fills.load(Ordering::Relaxed)
    }

    #[inline]
    fn place(&self) -> &Place {
        &self.page.places[self.index as usize]
    }

    #[inline(never)]
    fn let_go(&self) {
        let state = self.place().state.fetch_or(LET_GO, Ordering::AcqRel);
        if state & FATE == FAILED {
            // Nobody will see it.
            let error = self.page.lock().and_then(|mut failed| take(&mut failed, self.index));
            drop(error);
        }
    }
}

impl Drop for Lookout {
    #[inline]
    fn drop(&mut self) {
        if !self.taken {
            self.let_go();
        }
    }
}

impl Page {
    fn shared<O: Owner + 'static>(owner: &Arc<O>) -> Arc<Self> {
        let process = match owner.process() {
            0 => process::id(),
            process => process,
        };
        let owner: Weak<O> = Arc::downgrade(owner);
        Arc::new(Self {
            owner: AssertUnwindSafe(owner),
            process,
            places: array::from_fn(|_| Place::default()),
            failed: Mutex::new(Vec::new()),
            waiting: AtomicU32::new(0),
            filled: Condvar::new(),
        })
    }

    /// Wakes who waits here. Behind a fence behind the fates: either this finds who waits, or who is about to wait finds
    /// the fate, because both write first, and read what the other wrote behind a fence.
    #[inline]
    fn wake(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake_up();
        }
    }

    /// The lock; nothing in a forked child that inherited it locked.
    fn lock(&self) -> Option<MutexGuard<'_, Failed>> {
        let soon = self.failed.try_lock();
        if soon.is_some() || self.forked() { soon } else { Some(self.failed.lock()) }
    }

    fn forked(&self) -> bool {
        self.process != process::id()
    }

    #[inline(never)]
    fn wake_up(&self) {
        if self.forked() {
            // Those that wait are threads of the parent.
            return;
        }
        // Who saw that there is no fate holds the lock until it waits.
        drop(self.failed.lock());
        self.filled.notify_all();
    }
}

impl Default for Place {
    fn default() -> Self {
        Self {
            state: AtomicU32::new(0),
            slots: AtomicU32::new(1),
            partition: AtomicI32::new(0),
            offset: AtomicI64::new(0),
            timestamp: AtomicI64::new(0),
            #[cfg(feature = "_internal")]
            fills: AtomicU32::new(0),
        }
    }
}

/// What is in this place, unless it was `taken` already.
#[inline]
fn see<'a>(page: &Page, index: u32, taken: &mut bool, lock: impl FnOnce() -> Option<MutexGuard<'a, Failed>>) -> Sight {
    let place = &page.places[index as usize];
    let state = place.state.load(Ordering::Acquire);
    if *taken {
        return Sight::Nothing;
    }
    let outcome = match state & FATE {
        DELIVERED => {
            let value = |has, value: &AtomicI64| (state & has != 0).then(|| value.load(Ordering::Relaxed));
            Ok(Receipt {
                partition: place.partition.load(Ordering::Relaxed),
                offset: value(HAS_OFFSET, &place.offset),
                timestamp: value(HAS_TIMESTAMP, &place.timestamp).map(Timestamp::from_millis),
            })
        }
        FAILED => match lock().and_then(|mut failed| take(&mut failed, index)) {
            Some(error) => Err(error),
            None => return Sight::Nothing,
        },
        LOST => return Sight::Lost,
        _ => return Sight::Nothing,
    };
    *taken = true;
    Sight::Fate(outcome)
}

fn take(failed: &mut Failed, index: u32) -> Option<DeliveryError> {
    let at = failed.iter().position(|(place, _)| *place == index)?;
    Some(failed.swap_remove(at).1)
}

/// A page of so many has about 1 KiB, which is what a handle that is kept for long holds at most.
const PLACES: usize = 30;

/// For so many producers a thread keeps a page.
const PAGES: usize = 4;

/// The state of a place: its fate, or 0 as long as it has none, and what else is known.
const FATE: u32 = 0b11;
const DELIVERED: u32 = 1;
const FAILED: u32 = 2;
const LOST: u32 = 3;
const HAS_OFFSET: u32 = 1 << 2;
const HAS_TIMESTAMP: u32 = 1 << 3;
/// The handle was dropped.
const LET_GO: u32 = 1 << 4;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::panic;
    use std::thread;

    use super::*;
    use crate::error::{DeliveryErrorKind, Persistence};
    use crate::message::{Message, Topic};

    #[test]
    fn a_thread_takes_the_places_of_a_page_one_after_the_other() {
        let producer = Arc::new(Nobody);
        let slots: Vec<Slot> = (0..2 * PLACES).map(|_| pair(&producer).0).collect();
        let places = slots.iter().map(|slot| slot.index as usize).collect::<Vec<_>>();
        assert_eq!(places, (0..PLACES).chain(0..PLACES).collect::<Vec<_>>());
        assert!(slots[0].is_beside(&slots[PLACES - 1]) && !slots[0].is_beside(&slots[PLACES]));
    }

    #[test]
    fn producers_that_take_turns_keep_their_pages() {
        let producers: [_; PAGES] = array::from_fn(|_| Arc::new(Nobody));
        let first: Vec<Slot> = producers.iter().map(|producer| pair(producer).0).collect();
        for producer in &producers {
            let _ = pair(producer);
        }
        for (producer, first) in producers.iter().zip(&first) {
            let (slot, lookout) = pair(producer);
            assert!(slot.is_beside(first) && slot.index == 2, "{slot:?}");
            assert!(Arc::ptr_eq(&lookout.owner().expect("it is there"), &(Arc::clone(producer) as Arc<dyn Owner>)));
        }
        let (new, _) = pair(&Arc::new(Nobody));
        assert!(first.iter().all(|slot| !slot.is_beside(&new)));
    }

    #[test]
    fn a_page_does_not_keep_its_producer() {
        let producer = Arc::new(Nobody);
        let (_slot, lookout) = pair(&producer);
        drop(producer);
        assert!(lookout.owner().is_none());
    }

    #[test]
    fn a_fate_is_seen_as_it_was_put_in_and_once() {
        let receipts = [
            Receipt { partition: 0, offset: None, timestamp: None },
            Receipt { partition: i32::MAX, offset: Some(i64::MAX), timestamp: None },
            Receipt { partition: -1, offset: Some(-1), timestamp: Some(Timestamp::from_millis(-1)) },
            Receipt { partition: 1, offset: None, timestamp: Some(Timestamp::from_millis(i64::MIN)) },
        ];
        let producer = Arc::new(Nobody);
        let mut ends: Vec<(Slot, Lookout)> = receipts.iter().map(|_| pair(&producer)).collect();
        for ((slot, lookout), receipt) in ends.iter_mut().zip(receipts) {
            assert!(matches!(lookout.look(), Sight::Nothing));
            slot.put(receipt);
        }
        for ((_, lookout), receipt) in ends.iter_mut().zip(receipts) {
            assert!(matches!(lookout.look(), Sight::Fate(Ok(seen)) if seen == receipt));
            assert!(matches!(lookout.look(), Sight::Nothing));
        }
    }

    #[test]
    fn errors_of_a_page_find_their_places() {
        let producer = Arc::new(Nobody);
        let mut ends: Vec<(Slot, Lookout)> = (0..3).map(|_| pair(&producer)).collect();
        ends.iter().zip(0..).for_each(|((slot, _), tag)| slot.fail(error(tag)).expect("the handle is there"));
        for ((_, lookout), tag) in ends.iter_mut().zip(0..) {
            assert!(matches!(lookout.wait(None), Sight::Fate(Err(error)) if error.message().tag() == tag));
        }
    }

    #[test]
    fn a_message_is_lost_with_its_last_slot() {
        let [(slot, mut lookout)] = of_nobody();
        let other = slot.clone();
        drop(slot);
        assert!(matches!(lookout.look(), Sight::Nothing));
        drop(other);
        assert!(matches!(lookout.wait(None), Sight::Lost));
    }

    #[test]
    fn an_error_that_nobody_saw_goes_with_the_handle() {
        let [(slot, lookout)] = of_nobody();
        assert!(slot.has_handle());
        slot.fail(error(0)).expect("the handle is there");
        drop(lookout);
        assert!(slot.page.failed.lock().is_empty());
    }

    #[test]
    fn an_error_comes_back_if_the_handle_is_gone() {
        let [(slot, lookout)] = of_nobody();
        drop(lookout);
        assert!(!slot.has_handle());
        assert_eq!(slot.fail(error(5)).expect_err("nobody would see it").message().tag(), 5);
        assert!(slot.page.failed.lock().is_empty());
    }

    #[test]
    fn a_lock_that_a_fork_inherited_held_stops_nobody() {
        let mut page = Page::shared(&Arc::new(Nobody));
        Arc::get_mut(&mut page).expect("nobody else has it").process += 1;
        let (slot, mut lookout) = ends(Arc::clone(&page), 0);
        slot.fail(error(0)).expect("the handle is there");
        let (lost, mut waiting) = ends(Arc::clone(&page), 1);
        page.waiting.fetch_add(1, Ordering::Relaxed);
        let held = page.failed.lock();
        assert!(lookout.forked() && matches!(lookout.look(), Sight::Nothing));
        drop(lookout);
        drop(lost);
        assert!(matches!(waiting.look(), Sight::Lost));
        assert_eq!(held.len(), 1);
    }

    #[test]
    fn a_producer_that_has_not_started_has_no_page_that_a_fork_could_inherit() {
        struct Idle;
        impl Owner for Idle {
            fn due(&self, _ticket: u64) {}

            fn process(&self) -> u32 {
                0
            }
        }
        let idle = Arc::new(Idle);
        let ((one, lookout), (other, _)) = (pair(&idle), pair(&idle));
        assert!(!one.is_beside(&other) && !lookout.forked());
    }

    #[test]
    fn who_waits_for_a_fate_is_woken_although_the_next_one_panics() {
        let [(slot, mut lookout)] = of_nobody();
        let waiting = spawn(move || lookout.wait(None));
        let broken = panic::catch_unwind(|| {
            let mut filled = Filled::default();
            filled.put(&slot, Receipt { partition: 7, offset: None, timestamp: None });
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
