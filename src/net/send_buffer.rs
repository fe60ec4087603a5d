//! The requests that one connection still has to write, and its progress in them. Pure: the socket says how many bytes
//! it took, and the send buffer says which requests have begun and finished with them.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::wire::frame::Frame;

/// Frames in the order they were queued; the first may be written in part.
#[derive(Debug, Default)]
pub struct SendBuffer {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that the socket took already.
    taken: usize,
}

/// The numbers of frames whose first byte, and whose last byte, was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Frames whose first byte was accepted.
    pub started: usize,
    /// Frames whose last byte was accepted.
    pub finished: usize,
}

impl Progress {
    /// Counts more.
    pub fn add(&mut self, more: Self) {
        self.started += more.started;
        self.finished += more.finished;
    }
}

impl SendBuffer {
    /// Queues a frame behind the others.
    pub fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// `true` if every frame was accepted to its last byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The slices to write next: at most `most`, and no further frame once they hold `WRITE_BYTES`.
    ///
    /// Empty only if all queued frames are.
    #[must_use]
    pub fn slices(&self, most: usize) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::new();
        let mut bytes = 0;
        let mut taken = self.taken;
        for frame in &self.frames {
            frame.slices(taken, &mut slices, most);
            bytes += frame.len() - taken;
            taken = 0;
            if slices.len() >= most || bytes >= WRITE_BYTES {
                break;
            }
        }
        slices
    }

    /// Notes that the socket took `bytes` more. Frames without bytes pass with what comes before them.
    pub fn accept(&mut self, mut bytes: usize) -> Progress {
        let mut progress = Progress::default();
        while let Some(frame) = self.frames.front() {
            let left = frame.len() - self.taken;
            if bytes < left {
                progress.started += usize::from(self.taken == 0 && bytes > 0);
                self.taken += bytes;
                break;
            }
            progress.started += usize::from(self.taken == 0);
            progress.finished += 1;
            bytes -= left;
            self.taken = 0;
            self.frames.pop_front();
        }
        progress
    }
}

/// One write carries about this much: more than a socket takes at once, and far from the 2 GiB that systems refuse.
const WRITE_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn send_buffer(frames: &[&str]) -> SendBuffer {
        let mut send_buffer = SendBuffer::default();
        for frame in frames {
            send_buffer.push(Frame::new(frame.as_bytes().to_vec()));
        }
        send_buffer
    }

    fn next_bytes(send_buffer: &SendBuffer) -> Vec<u8> {
        send_buffer.slices(usize::MAX).iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    fn progress(started: usize, finished: usize) -> Progress {
        Progress { started, finished }
    }

    #[test]
    fn the_split_does_not_matter() {
        let frames = ["abc", "d", "ef"];
        let all = b"abcdef";
        // The numbers of frames that begin and end in the first n bytes.
        let begun = [0, 1, 1, 1, 2, 3, 3];
        let ended = [0, 0, 0, 1, 2, 2, 3];
        for first in 0..=6 {
            for second in first..=6 {
                let mut send_buffer = send_buffer(&frames);
                let mut from = 0;
                for to in [first, second, 6] {
                    assert_eq!(next_bytes(&send_buffer), all[from..]);
                    let expected = progress(begun[to] - begun[from], ended[to] - ended[from]);
                    assert_eq!(send_buffer.accept(to - from), expected, "{from} to {to}");
                    from = to;
                }
                assert!(send_buffer.is_empty());
            }
        }
    }

    #[test]
    fn a_frame_queued_behind_a_half_written_one_comes_after_it() {
        let mut send_buffer = send_buffer(&["abc"]);
        assert_eq!(send_buffer.accept(2), progress(1, 0));
        send_buffer.push(Frame::with_splices(b"12".to_vec(), vec![(1, Arc::new(b"--".to_vec()))]));
        assert_eq!(next_bytes(&send_buffer), b"c1--2");
        assert_eq!(send_buffer.accept(2), progress(1, 1));
        assert_eq!(next_bytes(&send_buffer), b"--2");
        assert_eq!(send_buffer.accept(3), progress(0, 1));
    }

    #[test]
    fn empty() {
        let mut send_buffer = send_buffer(&[]);
        assert!(send_buffer.is_empty() && send_buffer.slices(9).is_empty());
        assert_eq!(send_buffer.accept(0), progress(0, 0));
    }

    #[test]
    fn frames_without_bytes_pass() {
        let mut send_buffer = send_buffer(&["", "a", "", ""]);
        assert_eq!(send_buffer.accept(0), progress(1, 1));
        assert_eq!(send_buffer.accept(1), progress(3, 3));
        assert!(send_buffer.is_empty());
    }

    #[test]
    fn a_write_has_no_more_slices_than_asked_for() {
        let send_buffer = send_buffer(&["a", "b", "c"]);
        assert_eq!(send_buffer.slices(2).len(), 2);
    }

    #[test]
    fn a_write_is_not_much_larger_than_a_socket_takes() {
        let mut send_buffer = SendBuffer::default();
        for _ in 0..10 {
            send_buffer.push(Frame::new(vec![0; WRITE_BYTES / 2]));
        }
        assert_eq!(send_buffer.slices(1024).len(), 2);
    }
}
