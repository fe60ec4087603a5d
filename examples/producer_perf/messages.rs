//! The messages of a run.

use std::error::Error;
use std::fs;
use std::ops::Range;

use ottla::{Message, Topic};

use crate::options::Options;

/// The messages of a run: the n-th is always the same. Values and keys lie one behind the other, so that to pick one
/// costs little beside what is measured.
pub struct Messages {
    topic: Topic,
    values: Vec<u8>,
    size: usize,
    /// How many values there are.
    count: u64,
    /// Empty if messages have no key.
    keys: Vec<[u8; KEY]>,
    partitions: Option<i32>,
}

impl Messages {
    pub fn new(options: &Options) -> Result<Self, Box<dyn Error>> {
        let size = options.size;
        let values: Vec<u8> = match &options.payloads {
            Some(file) => {
                let lines = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
                lines.chunks_exact(size + 1).flat_map(|line| &line[..size]).copied().collect()
            }
            None => made_up(size),
        };
        let count = values.len() as u64 / size.max(1) as u64;
        if count == 0 && size > 0 {
            return Err(format!("there is no line of {size} bytes").into());
        }
        let count = count.max(1);
        let keys = if options.keyed { (0..count).map(key).collect() } else { Vec::new() };
        Ok(Self { topic: Topic::new(&options.topic)?, values, size, count, keys, partitions: options.partitions })
    }

    pub fn get(&self, number: u64) -> Message<'_> {
        self.any(Place { number, index: (number % self.count) as usize })
    }

    /// Every `step`-th of these.
    pub fn share(&self, numbers: Range<u64>, step: u64) -> Share {
        let index = (numbers.start % self.count) as usize;
        Share { numbers, step, index, count: self.count as usize }
    }

    pub fn kind(&self) -> Kind {
        match (self.keys.is_empty(), self.partitions) {
            (true, None) => Kind::Plain,
            (false, None) => Kind::Keyed,
            (_, Some(_)) => Kind::Any,
        }
    }

    #[inline(always)]
    pub fn plain(&self, Place { index, .. }: Place) -> Message<'_> {
        Message::new(&self.topic, &self.values[index * self.size..][..self.size])
    }

    #[inline(always)]
    pub fn keyed(&self, place: Place) -> Message<'_> {
        // Before the message: where nothing can panic while there is one, it stays in registers.
        let key = &self.keys[place.index];
        self.plain(place).with_key(key)
    }

    pub fn any(&self, place: Place) -> Message<'_> {
        let message = if self.keys.is_empty() { self.plain(place) } else { self.keyed(place) };
        match self.partitions {
            Some(partitions) => message.with_partition((place.number % partitions as u64) as i32),
            None => message,
        }
    }
}

/// What all messages of a run have.
#[derive(Clone, Copy)]
pub enum Kind {
    Plain,
    Keyed,
    Any,
}

/// A message, and where it lies.
#[derive(Clone, Copy)]
pub struct Place {
    pub number: u64,
    index: usize,
}

/// Some of the messages, in their order. Counts where they lie, because to divide for each costs as much as a tenth of
/// what is measured.
pub struct Share {
    /// Those that are left.
    numbers: Range<u64>,
    step: u64,
    /// Where the next one lies, among so many.
    index: usize,
    count: usize,
}

impl Iterator for Share {
    type Item = Place;

    #[inline]
    fn next(&mut self) -> Option<Place> {
        if self.numbers.is_empty() {
            return None;
        }
        let place = Place { number: self.numbers.start, index: self.index };
        self.numbers.start += self.step;
        self.index += self.step as usize;
        while self.index >= self.count {
            self.index -= self.count;
        }
        Some(place)
    }
}

fn key(number: u64) -> [u8; KEY] {
    let mut key = *b"key-000000000000";
    let digits = number.to_string();
    key[KEY - digits.len()..].copy_from_slice(digits.as_bytes());
    key
}

/// About 2 MiB of lines that differ.
fn made_up(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut letter = || {
        // Knuth's MMIX generator: lines that look alike each time.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'a' + (state >> 33) as u8 % 26
    };
    let count = (2 << 20) / size.max(1) + 1;
    (0..count * size).map(|_| letter()).collect()
}

/// Bytes of a key.
const KEY: usize = 16;
