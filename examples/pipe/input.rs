//! Standard input, read by a thread of its own: a read cannot be interrupted, and a signal must not wait for one.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Lines without their line breaks. A line is bytes, not text, and the last one needs no line break.
pub type Lines = Vec<Vec<u8>>;

/// What was read.
pub enum Piece {
    /// A few hundred lines, or fewer.
    Lines(Lines),
    /// A piece of a line that is too long for any message: its pieces follow each other, so that no more than one of
    /// them is in memory.
    Long { bytes: Vec<u8>, is_last: bool },
}

/// What was read, piece by piece; the channel closes at the end of the input.
pub struct Input {
    pub pieces: Receiver<io::Result<Piece>>,
    stop: Arc<AtomicBool>,
}

impl Input {
    /// Starts to read. The thread ends with the input or, if it is stuck in a read, with the process.
    ///
    /// A line of `too_long` bytes or more comes in pieces.
    pub fn start(too_long: usize) -> io::Result<Self> {
        // Few lines wait here: the producer has the queue, and it is the one with a bound that users can set.
        let (sender, pieces) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("input".to_owned()).spawn(move || read(too_long, &sender, &stopped))?;
        Ok(Self { pieces, stop })
    }

    /// Ends the input here: what is read after this is not handed over, and so counts as never read.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn read(too_long: usize, sender: &SyncSender<io::Result<Piece>>, stopped: &AtomicBool) {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, io::stdin().lock());
    let mut inside_long = false;
    while let Some(piece) = next(&mut input, too_long, inside_long).transpose() {
        inside_long = matches!(piece, Ok(Piece::Long { is_last: false, .. }));
        let last = piece.is_err();
        if stopped.load(Ordering::Relaxed) || sender.send(piece).is_err() || last {
            return;
        }
    }
}

/// Blocks for one line, and takes the whole lines that came with it; or a piece of one that is too long. `None` at the
/// end of the input.
fn next<R: Read>(input: &mut BufReader<R>, too_long: usize, inside_long: bool) -> io::Result<Option<Piece>> {
    let mut lines = Lines::new();
    let most = if inside_long { BUFFER_BYTES } else { too_long };
    loop {
        let (bytes, has_end) = up_to_a_break(input, most)?;
        let is_cut = !has_end && bytes.len() == most;
        if inside_long || is_cut {
            return Ok(Some(Piece::Long { bytes, is_last: !is_cut }));
        }
        if !has_end && bytes.is_empty() {
            return Ok(None);
        }
        lines.push(bytes);
        // Another line that is here as a whole, and not too long.
        let buffered = input.buffer();
        if lines.len() == MAX_LINES || !buffered[..buffered.len().min(too_long)].contains(&b'\n') {
            return Ok(Some(Piece::Lines(lines)));
        }
    }
}

/// What comes before the next line break, and whether there was one; not more than `most` bytes.
fn up_to_a_break<R: Read>(input: &mut BufReader<R>, most: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    input.take(most as u64).read_until(b'\n', &mut bytes)?;
    let has_end = bytes.last() == Some(&b'\n');
    if has_end {
        bytes.pop();
    }
    Ok((bytes, has_end))
}

const BUFFER_BYTES: usize = 64 * 1024;
const MAX_LINES: usize = 500;
