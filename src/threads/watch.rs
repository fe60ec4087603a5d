//! Decides when a thread looks again and again for a moment, at the sockets or for a fate, instead of sleeping.
//!
//! Falling asleep and being woken takes a processor longer than a near broker takes to answer, on a virtual machine
//! several times as long, and costs as much work as staying awake meanwhile. So while a caller waits, the thread that
//! reads the sockets watches them for a moment, and so does the caller that waits for a fate. If that finds nothing,
//! because the broker takes longer, the thread tries it ever more rarely, so that the price there comes to nothing.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::clock;
use crate::deadline::Deadline;

/// The watches of one kind of wait. Decides only; `Driver::poll` watches the sockets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// Watches in a row that found nothing.
    fruitless: u32,
    /// So many waits come before the next watch.
    pause: u32,
}

impl Watch {
    const NEW: Self = Self { fruitless: 0, pause: 0 };

    /// A wait begins in which somebody waits: returns the time to watch first.
    pub fn begin(&mut self) -> Option<Duration> {
        self.pause = match self.pause.checked_sub(1) {
            Some(left) => left,
            None => return Some(WATCH),
        };
        None
    }

    /// A watch is over.
    pub fn end(&mut self, found: bool) {
        self.fruitless = if found { 0 } else { (self.fruitless + 1).min(MOST_FRUITLESS) };
        self.pause = (1 << self.fruitless) - 1;
    }
}

/// A caller waits: alone in its process, or beside others.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    waiting: &'a AtomicU32,
}

/// The number of callers that wait in this process. In a forked child, callers that waited when it was forked are
/// counted for ever, so that no caller watches there. It is `std`'s, because executions of a model would share it.
static WAITING: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static WAITS: Cell<Watch> = const { Cell::new(Watch::NEW) };
}

impl Caller<'static> {
    /// A caller waits until this is dropped.
    pub fn begin() -> Self {
        Self::one_of(&WAITING)
    }

    /// Looks again and again, for a moment and not after `until`, for the thing that the caller would sleep for.
    pub fn watch<T>(&self, until: Deadline, look: impl FnMut() -> Option<T>) -> Option<T> {
        // Under shuttle time stands while a thread runs.
        if cfg!(all(test, shuttle)) {
            return None;
        }
        WAITS.try_with(|waits| self.watch_once(waits, until, clock::now, look)).ok().flatten()
    }
}

impl<'a> Caller<'a> {
    fn one_of(waiting: &'a AtomicU32) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self { waiting }
    }

    /// A caller watches only while it is alone: it would take the processors from others that wait, and from the
    /// threads that are to answer them.
    fn is_alone(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 1
    }

    fn watch_once<T>(
        &self,
        waits: &Cell<Watch>,
        until: Deadline,
        clock: impl Fn() -> Instant,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut now = clock();
        // A caller that hardly waits does not show how far the broker is.
        if !self.is_alone() || until.passed(now) {
            return None;
        }
        let mut watch = waits.get();
        let longest = watch.begin();
        waits.set(watch);
        let whole = Deadline::after(now, longest?);
        let mut found = look();
        while found.is_none() && self.is_alone() && !whole.min(until).passed(now) {
            thread::yield_now();
            found = look();
            now = clock();
        }
        if found.is_some() || whole.passed(now) {
            watch.end(found.is_some());
            waits.set(watch);
        }
        found
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// About as long as it takes to fall asleep and be woken.
const WATCH: Duration = Duration::from_micros(50);
/// If no watch finds anything, one wait in 1,024 has a watch: 50 ns for each wait.
const MOST_FRUITLESS: u32 = 10;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_finds_something_goes_on() {
        let mut watch = Watch::default();
        for _ in 0..10 {
            assert_eq!(watch.begin(), Some(WATCH));
            watch.end(true);
        }
    }

    #[test]
    fn what_finds_nothing_is_tried_ever_more_rarely_and_as_before_once_it_does() {
        let mut watch = Watch::default();
        let mut waits_until_the_next = |found| {
            watch.end(found);
            (1..).find(|_| watch.begin().is_some()).expect("one comes")
        };
        let fruitless: Vec<u32> = (0..12).map(|_| waits_until_the_next(false)).collect();
        assert_eq!(fruitless, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]);
        assert_eq!(waits_until_the_next(true), 1);
        assert_eq!(waits_until_the_next(false), 2);
    }

    #[test]
    fn what_comes_while_a_caller_watches_is_found() {
        let (waiting, waits) = (AtomicU32::new(0), Cell::default());
        let caller = Caller::one_of(&waiting);
        for _ in 0..3 {
            let mut looks = 0..2;
            let look = || looks.next().is_none().then_some(7);
            assert_eq!(caller.watch_once(&waits, Deadline::NEVER, ticks(), look), Some(7));
        }
    }

    #[test]
    fn a_caller_that_found_nothing_does_not_watch_the_next_time() {
        let (waiting, waits) = (AtomicU32::new(0), Cell::default());
        let caller = Caller::one_of(&waiting);
        let looks = || looks(&caller, &waits, Deadline::NEVER, ticks());
        assert_eq!([looks(), looks(), looks(), looks(), looks()], [LOOKS, 0, LOOKS, 0, 0]);
    }

    #[test]
    fn a_caller_watches_no_longer_than_it_would_wait_and_that_is_no_reason_not_to_watch() {
        let (waiting, waits) = (AtomicU32::new(0), Cell::default());
        let caller = Caller::one_of(&waiting);
        for ticks_left in (0..LOOKS - 1).chain([0]) {
            let clock = ticks();
            let until = Deadline::after(clock(), TICK * (ticks_left + 1));
            assert_eq!(looks(&caller, &waits, until, clock), if ticks_left == 0 { 0 } else { ticks_left + 1 });
        }
        assert_eq!(looks(&caller, &waits, Deadline::NEVER, ticks()), LOOKS);
    }

    #[test]
    fn a_caller_watches_only_while_it_waits_alone() {
        let (waiting, waits) = (AtomicU32::new(0), Cell::default());
        let (caller, mut another) = (Caller::one_of(&waiting), None);
        let mut looks = 0;
        for _ in 0..2 {
            let found = caller.watch_once(&waits, Deadline::NEVER, ticks(), || {
                looks += 1;
                another.get_or_insert_with(|| Caller::one_of(&waiting));
                None::<()>
            });
            assert!(found.is_none() && looks == 1, "{looks} looks");
        }
        drop(another);
        assert_eq!(caller.watch_once(&waits, Deadline::NEVER, ticks(), || Some(7)), Some(7));
    }

    /// The number of looks of a caller for something that does not come.
    fn looks(caller: &Caller<'_>, waits: &Cell<Watch>, until: Deadline, clock: impl Fn() -> Instant) -> u32 {
        let mut looks = 0;
        let found = caller.watch_once(waits, until, clock, || {
            looks += 1;
            None::<()>
        });
        assert!(found.is_none());
        looks
    }

    /// A clock that ticks each time it is read.
    fn ticks() -> impl Fn() -> Instant {
        let (start, read) = (clock::now(), Cell::new(0));
        move || start + TICK * read.replace(read.get() + 1)
    }

    const TICK: Duration = Duration::from_micros(10);
    /// The number of looks that fit into a watch, and one before.
    const LOOKS: u32 = 6;
}
