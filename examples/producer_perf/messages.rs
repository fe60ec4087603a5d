//! What is produced.

use std::error::Error;
use std::fs;

use ottla::{Message, Topic};

use crate::options::Options;

/// The messages of a run: the n-th is always the same.
pub struct Messages {
    topic: Topic,
    values: Vec<Vec<u8>>,
    /// Empty if messages have no key.
    keys: Vec<Vec<u8>>,
    partitions: Option<i32>,
}

impl Messages {
    pub fn new(options: &Options) -> Result<Self, Box<dyn Error>> {
        let values = match &options.payloads {
            Some(file) => {
                let lines = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
                lines.chunks_exact(options.size + 1).map(|line| line[..options.size].to_vec()).collect()
            }
            None => made_up(options.size),
        };
        if values.is_empty() {
            return Err(format!("there is no line of {} bytes", options.size).into());
        }
        let keys = if options.keyed {
            (0..values.len()).map(|number| format!("key-{number:012}").into_bytes()).collect()
        } else {
            Vec::new()
        };
        Ok(Self { topic: Topic::new(&options.topic)?, values, keys, partitions: options.partitions })
    }

    pub fn get(&self, number: u64) -> Message<'_> {
        let index = (number % self.values.len() as u64) as usize;
        let mut message = Message::new(&self.topic, &self.values[index][..]);
        if let Some(key) = self.keys.get(index) {
            message = message.with_key(&key[..]);
        }
        match self.partitions {
            Some(partitions) => message.with_partition((number % partitions as u64) as i32),
            None => message,
        }
    }
}

/// About 2 MiB of lines that differ.
fn made_up(size: usize) -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut letter = || {
        // Knuth's MMIX generator: lines that look alike each time.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'a' + (state >> 33) as u8 % 26
    };
    let count = (2 << 20) / size.max(1) + 1;
    (0..count).map(|_| (0..size).map(|_| letter()).collect()).collect()
}
