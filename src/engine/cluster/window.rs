//! The number of bytes of Produce requests that may be under way to one broker at a time, learned from the answers.
//!
//! When a connection ends, all bytes that were under way must be sent again. So a link that breaks after fewer bytes
//! than are under way would deliver nothing at all. A new link therefore begins with few bytes under way, and each
//! answer allows more, until so many were answered that no bound is of use. After a loss, the bytes under way are at
//! most a small share of those that the link has carried; the window grows as that number grows. Each loss halves that
//! number. So a link that breaks all the time loses a small share of its time, and a single loss does not hold back a
//! link that has carried much.

/// Bytes that may be without an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Bytes that were answered, as far as they count.
    carried: usize,
    /// `true` while a loss is not made up for.
    has_lost: bool,
}

impl Window {
    /// Notes bytes that were answered.
    #[inline]
    pub fn answered(&mut self, bytes: usize) {
        self.carried = self.carried.saturating_add(bytes).min(ENOUGH);
        self.has_lost &= self.carried < ENOUGH;
    }

    /// Notes that a connection ended with bytes without an answer.
    pub fn lost(&mut self) {
        self.carried /= 2;
        self.has_lost = true;
    }

    /// The number of bytes that may be without an answer; `None` for any number.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> Option<usize> {
        if self.has_lost {
            return Some((self.carried / SHARE).max(LEAST));
        }
        (self.carried < STARTED).then(|| FIRST + self.carried / 2)
    }

    /// The largest batch; `None` if any size will do. Only a loss makes batches smaller: one alone always goes.
    #[must_use]
    pub fn batch_bytes(&self) -> Option<usize> {
        self.bytes().filter(|_| self.has_lost).map(|bytes| bytes / 2)
    }
}

/// The window of a new link: far above the window with which the network itself begins.
const FIRST: usize = 256 * 1024;
/// A link that has carried this much without a loss is not bounded any more: half of it could be on its way, and
/// nothing was lost.
const STARTED: usize = 16 * 1024 * 1024;
/// The share of the carried bytes that may be lost.
const SHARE: usize = 32;
/// With this little at a time any link that is of use gets something through.
const LEAST: usize = 32 * 1024;
/// A link that has carried this much since a loss is not bounded any more.
const ENOUGH: usize = 512 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_link_has_more_on_its_way_with_each_answer_until_nothing_bounds_it() {
        let mut window = Window::default();
        let mut bytes = vec![];
        while let Some(most) = window.bytes() {
            bytes.push(most / 1024);
            window.answered(most);
        }
        assert_eq!(bytes, [256, 384, 576, 864, 1296, 1944, 2916, 4374, 6561]);
    }

    #[test]
    fn a_link_that_lost_before_it_carried_anything_begins_small_and_grows_to_no_bound() {
        let mut window = Window::default();
        window.lost();
        assert_eq!(window.bytes(), Some(LEAST));
        let mut rounds = 0;
        while let Some(bytes) = window.bytes() {
            window.answered(bytes);
            rounds += 1;
        }
        assert!((200..500).contains(&rounds), "{rounds}");
    }

    #[test]
    fn one_loss_does_not_hold_back_a_link_that_carried_much_and_many_do() {
        let mut window = Window::default();
        window.answered(usize::MAX);
        window.lost();
        assert_eq!(window.bytes(), Some(8 * 1024 * 1024), "a whole request of the usual limit");
        for _ in 0..20 {
            window.lost();
        }
        assert_eq!(window.bytes(), Some(LEAST));
    }

    #[test]
    fn a_link_that_is_cut_after_each_megabyte_loses_little_of_it() {
        let mut window = Window::default();
        for _ in 0..20 {
            window.lost();
            let mut left = 1_000_000;
            while let Some(rest) = window.bytes().and_then(|bytes| usize::checked_sub(left, bytes)) {
                window.answered(left - rest);
                left = rest;
            }
        }
        let most = window.bytes().unwrap();
        assert!((LEAST..75_000).contains(&most), "{most}");
    }
}
