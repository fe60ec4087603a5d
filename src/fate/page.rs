//! Places for fates, a few dozen at once and beside each other.
//!
//! An allocation, a lock and a condition variable for each message cost more than the message, and memory that is
//! scattered is slow to go from the caller's processor to the worker's and back. A caller's thread takes the places of
//! its page one after the other.

use std::array;
use std::cell::RefCell;
use std::mem;
use std::panic::AssertUnwindSafe;
use std::process;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::error::DeliveryError;
use crate::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, Ordering, fence};
use crate::sync::{Condvar, Mutex, thread_local};

/// The producer that gives a message its fate, as handles see it.
pub trait Owner: Send + Sync {
    /// The message with this ticket leaves now.
    fn due(&self, ticket: u64);
    /// `true` on the thread that gives messages their fates, and that must not wait for one.
    fn works_here(&self) -> bool;
    /// The process in which its threads run, once they were started.
    fn process(&self) -> Option<u32>;
}

/// Places for the fates of some messages.
#[derive(Debug)]
pub struct Page {
    pub(super) places: [Place; PLACES],
    /// Errors with the index of their place. Guards them between the thread that puts in an error, or a fate that is
    /// waited for, and the callers that wait.
    pub(super) failed: Mutex<Vec<(u32, DeliveryError)>>,
    /// The number of callers that wait: without it, each fate would cost a system call, even if nobody waits. Changed
    /// under the lock.
    waiting: AtomicU32,
    /// Signalled when a place that a caller waits for has a fate.
    filled: Condvar,
    /// Not an `Arc`, because a thread keeps its page when the producer has gone.
    /// It is behind locks of its own, which no panic leaves half done.
    owner: AssertUnwindSafe<Weak<dyn Owner>>,
    /// The owner's process. In another one, which is its fork, the lock may be held for ever.
    process: u32,
}

#[derive(Debug)]
pub(super) struct Place {
    /// The fate, or 0 as long as there is none, and what else is known.
    pub state: AtomicU32,
    /// The number of chunks, batches and fates that have the message. It starts at 1, because the first one takes the
    /// message as it comes.
    pub holders: AtomicU32,
    pub partition: AtomicI32,
    pub offset: AtomicI64,
    /// The message's own time from the start: to read it out of the batch for the fate would mean to read all records
    /// again.
    pub timestamp: AtomicI64,
    /// The number of fates that were put in: a second one could hide the first.
    #[cfg(feature = "_internal")]
    pub fills: AtomicU32,
}

thread_local! {
    /// Pages of which the thread has not used all places yet, the last one first, and the next place of each.
    static OPEN: RefCell<Vec<(Arc<Page>, u32)>> = const { RefCell::new(Vec::new()) };
}

/// The next place of the thread's page for this producer.
#[inline]
pub(super) fn next_place<O: Owner + 'static>(owner: &Arc<O>) -> (Arc<Page>, u32) {
    let used = OPEN.try_with(|open| {
        let mut open = open.borrow_mut();
        let (page, next) = open.first_mut()?;
        let free = page.is_of(owner) && (*next as usize) < PLACES;
        free.then(|| (Arc::clone(page), mem::replace(next, *next + 1)))
    });
    match used {
        Ok(Some(place)) => place,
        Ok(None) => turn_the_page(owner),
        Err(_) => (Page::shared(owner), 0),
    }
}

/// The first place of another page.
#[inline(never)]
fn turn_the_page<O: Owner + 'static>(owner: &Arc<O>) -> (Arc<Page>, u32) {
    if owner.process().is_none() {
        // Its threads may yet start in a fork, which would inherit the page.
        return (Page::shared(owner), 0);
    }
    // Nothing is borrowed when a page goes: there may be errors on it, whose messages are the user's.
    let mut open = OPEN.with(RefCell::take);
    let known = open.iter().position(|(page, _)| page.is_of(owner)).map(|at| open.remove(at));
    let begun = known.filter(|(_, next)| (*next as usize) < PLACES);
    let (page, next) = begun.unwrap_or_else(|| (Page::shared(owner), 0));
    open.truncate(PAGES - 1);
    open.insert(0, (Arc::clone(&page), next + 1));
    drop(OPEN.with(|now| now.replace(open)));
    (page, next)
}

impl Page {
    pub(super) fn shared<O: Owner + 'static>(owner: &Arc<O>) -> Arc<Self> {
        let process = owner.process().unwrap_or_else(process::id);
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

    /// The producer, if there still is one.
    pub(super) fn owner(&self) -> Option<Arc<dyn Owner>> {
        self.owner.upgrade()
    }

    fn is_of<O>(&self, owner: &Arc<O>) -> bool {
        self.owner.as_ptr().addr() == Arc::as_ptr(owner).addr()
    }

    /// `true` in a fork of the producer's process.
    pub(super) fn forked(&self) -> bool {
        self.process != process::id()
    }

    #[cfg(all(test, not(shuttle)))]
    pub fn seem_forked(&mut self) {
        self.process += 1;
    }

    #[cfg(all(test, not(shuttle)))]
    pub fn seem_waited_for(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn place(&self, index: u32) -> &Place {
        &self.places[index as usize]
    }

    /// Puts an error in.
    ///
    /// # Errors
    /// The error itself, if nobody will look there.
    pub(super) fn fail(&self, index: u32, error: DeliveryError) -> Result<(), DeliveryError> {
        let mut failed = self.failed.lock();
        failed.push((index, error));
        let unseen = self.place(index).end(FAILED) & LET_GO != 0;
        let error = if unseen { take(&mut failed, index) } else { None };
        drop(failed);
        self.wake();
        error.map_or(Ok(()), Err)
    }

    /// Takes the error of a place out; none in a forked child that inherited the errors locked.
    pub(super) fn take_error(&self, index: u32) -> Option<DeliveryError> {
        let soon = self.failed.try_lock();
        let failed = if soon.is_some() || self.forked() { soon } else { Some(self.failed.lock()) };
        take(&mut *failed?, index)
    }

    /// Wakes the callers that wait here, behind the fates. Either this finds the waiting caller, or a caller that is
    /// about to wait finds the fate, because both write first, and read the other's write behind a fence.
    #[inline]
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake_up();
        }
    }

    #[inline(never)]
    fn wake_up(&self) {
        if self.forked() {
            // Those that wait are threads of the parent.
            return;
        }
        // A caller that saw no fate holds the lock until it waits.
        drop(self.failed.lock());
        self.filled.notify_all();
    }

    /// Blocks until a place has a fate, or until `until` has passed.
    pub(super) fn wait(&self, index: u32, until: Option<Instant>) {
        let mut failed = self.failed.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        while self.place(index).state.load(Ordering::Acquire) & FATE == 0 {
            match until {
                None => self.filled.wait(&mut failed),
                Some(until) => {
                    if self.filled.wait_until(&mut failed, until).timed_out() {
                        break;
                    }
                }
            }
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nobody will look at this place any more.
    #[inline(never)]
    pub(super) fn let_go(&self, index: u32) {
        if self.place(index).state.fetch_or(LET_GO, Ordering::AcqRel) & FATE == FAILED {
            drop(self.take_error(index));
        }
    }
}

impl Place {
    /// The message has its fate; gives the state of the place before.
    pub fn end(&self, state: u32) -> u32 {
        self.note_fate();
        self.state.swap(state, Ordering::AcqRel)
    }

    #[inline]
    pub fn note_fate(&self) {
        #[cfg(feature = "_internal")]
        self.fill_again();
        debug_assert!(self.state.load(Ordering::Relaxed) & FATE == 0, "a message has one fate");
    }

    /// Counts a fate, which only a planted bug does by itself. Not in one operation, because benches have this feature,
    /// too: one thread gives fates.
    #[cfg(feature = "_internal")]
    #[inline]
    pub fn fill_again(&self) {
        self.fills.store(self.fills.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

impl Default for Place {
    fn default() -> Self {
        Self {
            state: AtomicU32::new(0),
            holders: AtomicU32::new(1),
            partition: AtomicI32::new(0),
            offset: AtomicI64::new(0),
            timestamp: AtomicI64::new(0),
            #[cfg(feature = "_internal")]
            fills: AtomicU32::new(0),
        }
    }
}

/// Takes the error of a place out.
fn take(failed: &mut Vec<(u32, DeliveryError)>, index: u32) -> Option<DeliveryError> {
    let at = failed.iter().position(|(place, _)| *place == index)?;
    Some(failed.swap_remove(at).1)
}

/// A page of this many places has about 1 KiB, which is the most that a handle kept for long holds.
pub(super) const PLACES: usize = 30;

// `queue::extras` has a bit for each place, and one more.
const _: () = assert!(PLACES < u32::BITS as usize);

/// The number of producers for which a thread keeps a page.
pub(super) const PAGES: usize = 4;

/// The part of a place's state that is the fate.
pub(super) const FATE: u32 = 0b11;
pub(super) const DELIVERED: u32 = 1;
pub(super) const FAILED: u32 = 2;
pub(super) const LOST: u32 = 3;
/// A broker said with which offset the message was stored.
pub(super) const STORED: u32 = 1 << 2;
/// The handle was dropped.
pub(super) const LET_GO: u32 = 1 << 3;
