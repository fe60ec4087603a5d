//! The account of encrypted bytes: where in them frames end, and how far the socket is. Pure.

use std::collections::VecDeque;

/// Positions count the encrypted bytes of a connection from its beginning.
#[derive(Debug, Default)]
pub(super) struct Marks {
    taken: u64,
    /// So many frames end at this position, ascending.
    ends: VecDeque<(u64, usize)>,
}

impl Marks {
    /// Bytes that the socket has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// So many frames end with the last of the bytes that are `pending` now.
    pub(super) fn set(&mut self, frames: usize, pending: usize) {
        if frames > 0 {
            self.ends.push_back((self.taken + pending as u64, frames));
        }
    }

    /// The socket took so many more bytes.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes as u64;
    }

    /// `true` if `passed` has something to tell.
    pub(super) fn has_passed(&self) -> bool {
        self.ends.front().is_some_and(|(at, _)| *at <= self.taken)
    }

    /// The frames whose end the socket has taken since this was asked last.
    pub(super) fn passed(&mut self) -> usize {
        let mut frames = 0;
        while self.has_passed() {
            frames += self.ends.pop_front().map_or(0, |(_, ended)| ended);
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_finished_when_the_socket_has_taken_its_last_record() {
        let mut marks = Marks::default();
        marks.set(0, 100);
        marks.set(2, 150);
        marks.set(1, 180);
        for (bytes, frames) in [(100, 0), (49, 0), (1, 2), (29, 0), (1, 1)] {
            marks.take(bytes);
            assert_eq!(marks.passed(), frames, "at {}", marks.taken());
        }
        marks.set(1, 10);
        marks.take(9);
        assert_eq!(marks.passed(), 0);
        marks.take(1);
        assert_eq!(marks.passed(), 1);
    }
}
