//! A line each second, on the terminal: how fast messages are acknowledged, and the latencies of a sample of them.

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ottla::{Delivered, DeliveryError};

use crate::measure::quantile;

/// What is told of the messages, by whatever way.
pub struct Told {
    began: Instant,
    delivered: AtomicU64,
    failed: AtomicU64,
    /// Of messages with a tag. Between who is told and who prints.
    latencies: Mutex<Vec<Duration>>,
    watched: bool,
}

impl Told {
    pub fn new() -> Arc<Self> {
        let watched = io::stderr().is_terminal();
        let latencies = Mutex::default();
        let (delivered, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { began: Instant::now(), delivered, failed, latencies, watched })
    }

    /// Whether somebody looks.
    pub fn is_watched(&self) -> bool {
        self.watched
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The tag of a message: the time, if it is one of the sample.
    pub fn tag(&self, number: u64) -> u64 {
        if self.watched && number % SAMPLED == 0 { self.began.elapsed().as_micros() as u64 | 1 } else { 0 }
    }

    /// A message was delivered alone, and took so long.
    pub fn took(&self, latency: Duration) {
        if self.watched {
            self.delivered.fetch_add(1, Ordering::Relaxed);
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
        }
    }

    /// A message has its fate.
    pub fn note(&self, fate: Result<&Delivered, &DeliveryError>) {
        match fate {
            // A count that all callers share costs more than it is worth where nobody looks.
            Ok(_) if !self.watched => {}
            Ok(delivered) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
                if delivered.tag != 0 {
                    let latency = self.began.elapsed().saturating_sub(Duration::from_micros(delivered.tag));
                    self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
                }
            }
            Err(error) => {
                if self.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                    let _ = writeln!(io::stderr(), "producer_perf: the first failure: {error}");
                }
            }
        }
    }
}

/// The thread that prints, until it is dropped.
pub struct Watch {
    going: Arc<AtomicBool>,
    printer: Option<JoinHandle<()>>,
}

impl Watch {
    /// Nothing is printed if nobody looks.
    pub fn over(told: &Arc<Told>, size: usize) -> Self {
        let going = Arc::new(AtomicBool::new(true));
        let printer = told.is_watched().then(|| {
            let (told, going) = (Arc::clone(told), Arc::clone(&going));
            thread::spawn(move || print(&told, &going, size))
        });
        Self { going, printer }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.going.store(false, Ordering::Relaxed);
        if let Some(printer) = self.printer.take() {
            printer.thread().unpark();
            // What it could say of a panic it has said.
            let _ = printer.join();
        }
    }
}

fn print(told: &Told, going: &AtomicBool, size: usize) {
    let (mut last, mut before) = (Instant::now(), 0);
    while going.load(Ordering::Relaxed) {
        thread::park_timeout(Duration::from_secs(1));
        let (now, delivered) = (Instant::now(), told.delivered.load(Ordering::Relaxed));
        let mut latencies = mem::take(&mut *told.latencies.lock().unwrap_or_else(PoisonError::into_inner));
        latencies.sort_unstable();
        let rate = (delivered - before) as f64 / (now - last).as_secs_f64();
        let [p50, p99] = [0.5, 0.99].map(|share| quantile(&latencies, share).as_secs_f64() * 1e3);
        let _ = writeln!(
            io::stderr(),
            "{delivered:>12} messages  {rate:>10.0} messages/s  {:>7.1} MB/s  p50 {p50:>8.2} ms  p99 {p99:>8.2} ms",
            rate * size as f64 / 1e6
        );
        (last, before) = (now, delivered);
    }
}

/// One message of so many has its latency measured.
const SAMPLED: u64 = 100;
