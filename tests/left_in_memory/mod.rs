//! Whether a secret is left in memory: looks for its bytes in all that this process can write, as an attacker with a core
//! dump would, but for the stack of the thread that asks, where the crates of cryptography leave what they had in hand. What
//! is looked for must be a constant, which is not in that memory, and no other test may use it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

/// One search at a time: what it reads is a copy, which another one would find.
static SEARCH: Mutex<()> = Mutex::new(());

/// `true` if the heaps, statics, or stacks of other threads have these bytes anywhere.
pub fn has(bytes: &'static [u8]) -> bool {
    let _alone = SEARCH.lock().unwrap_or_else(PoisonError::into_inner);
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let memory = File::open("/proc/self/mem").expect("a process may read itself");
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    let here = (&raw const maps).addr() as u64;
    let mut others = maps.lines().filter_map(writable).filter(|(begin, end)| !(*begin..*end).contains(&here));
    others.any(|(begin, end)| {
        (begin..end).step_by(PIECE - bytes.len()).any(|at| {
            let most = PIECE.min((end - at) as usize);
            // What another thread has just given back cannot be read.
            let read = memory.read_at(&mut piece[..most], at).unwrap_or(0);
            piece[..read].windows(bytes.len()).any(|window| window == bytes)
        })
    })
}

fn writable(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (begin, end) = range.split_once('-').filter(|_| rest.starts_with("rw"))?;
    Some((u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

const PIECE: usize = 1 << 20;

#[test]
fn what_is_held_is_found() {
    const HELD: &[u8] = b"what only this test of the search holds";
    assert!(!has(HELD));
    let held = HELD.to_vec();
    assert!(has(HELD));
    drop(held);
}
