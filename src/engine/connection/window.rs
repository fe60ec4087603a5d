//! How many bytes of Produce requests may be on their way to one broker at a time, learned from what is lost.
//!
//! What is on its way when a connection ends goes again, so a link whose connections carry less than is on its way
//! delivers nothing at all. After a loss no more is on its way than a small share of what the link has carried; as that
//! counts on, the window grows with it. Each loss halves what counts. So a link that is cut all the time loses a small
//! share of its time, and one that has carried much is not held back by a single loss.

/// Bytes that may be without an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Bytes that were answered, as far as they count.
    carried: usize,
    /// Whether a loss is not made up for yet.
    is_bounded: bool,
}

impl Window {
    /// Notes that so many bytes were answered.
    #[inline]
    pub fn answered(&mut self, bytes: usize) {
        self.carried = self.carried.saturating_add(bytes).min(ENOUGH);
        self.is_bounded &= self.carried < ENOUGH;
    }

    /// Notes that something was lost without an answer.
    pub fn lost(&mut self) {
        self.carried /= 2;
        self.is_bounded = true;
    }

    /// How many bytes there may be; `None` as long as nothing was lost.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> Option<usize> {
        self.is_bounded.then(|| (self.carried / SHARE).max(LEAST))
    }
}

/// The share of what was carried that may be lost.
const SHARE: usize = 16;
/// With so little at a time any link that is of use gets something through.
const LEAST: usize = 32 * 1024;
/// A link that has carried so much is not bounded any more.
const ENOUGH: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_bounds_a_link_that_lost_nothing() {
        let mut window = Window::default();
        window.answered(1000);
        assert_eq!(window.bytes(), None);
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
        assert!((100..250).contains(&rounds), "{rounds}");
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
        assert!((LEAST..150_000).contains(&most), "{most}");
    }
}
