//! Standard input, read by a thread of its own: a read cannot be interrupted, and a signal must not wait for one.

use std::io::{self, BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Lines without their line breaks. A line is bytes, not text, and the last one needs no line break.
pub type Lines = Vec<Vec<u8>>;

/// What was read, a few hundred lines at a time; the channel closes at the end of the input.
pub struct Input {
    pub lines: Receiver<io::Result<Lines>>,
    stop: Arc<AtomicBool>,
}

impl Input {
    /// Starts to read. The thread ends with the input or, if it is stuck in a read, with the process.
    pub fn start() -> io::Result<Self> {
        // Few lines wait here: the producer has the queue, and it is the one with a bound that users can set.
        let (sender, lines) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("input".to_owned()).spawn(move || read(&sender, &stopped))?;
        Ok(Self { lines, stop })
    }

    /// Ends the input here: what is read after this is not handed over, and so counts as never read.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn read(sender: &SyncSender<io::Result<Lines>>, stopped: &AtomicBool) {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, io::stdin().lock());
    loop {
        let lines = next_lines(&mut input);
        let last = !matches!(&lines, Ok(lines) if !lines.is_empty());
        if stopped.load(Ordering::Relaxed) || lines.as_ref().is_ok_and(Vec::is_empty) {
            return;
        }
        if sender.send(lines).is_err() || last {
            return;
        }
    }
}

/// Blocks for one line, and takes the whole lines that came with it. None at the end of the input.
fn next_lines<R: io::Read>(input: &mut BufReader<R>) -> io::Result<Lines> {
    let mut lines = Lines::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(lines);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        lines.push(line);
        if lines.len() == MAX_LINES || !input.buffer().contains(&b'\n') {
            return Ok(lines);
        }
    }
}

const BUFFER_BYTES: usize = 64 * 1024;
const MAX_LINES: usize = 500;
