//! When to look at the sockets again and again for a moment, instead of sleeping until they have something.
//!
//! To fall asleep and be woken takes a processor longer than a near broker takes to answer, on a virtual machine several
//! times as long, and costs as much work as to stay awake meanwhile. So while somebody waits, whoever reads the sockets
//! watches them for a moment. Where that finds nothing, because the broker takes longer, it is tried ever more rarely, so
//! that what it costs there comes to nothing.
//!
//! Decides only; `Driver::poll` does it.

use std::time::Duration;

/// The watches of one kind of wait.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Watches in a row that found nothing.
    fruitless: u32,
    /// So many waits come before the next watch.
    pause: u32,
}

impl Watch {
    /// A wait begins in which somebody waits: how long to watch first.
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

/// About as long as it takes to fall asleep and be woken.
const WATCH: Duration = Duration::from_micros(50);
/// Waits in which no watch finds anything have one in 1,024 of them, 50 ns each.
const MOST_FRUITLESS: u32 = 10;

#[cfg(test)]
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
}
