//! The engine against the in-process brokers' logic, on one thread, with virtual time and a seeded schedule.
//!
//! Each seed is one run: messages are produced while connections are cut, answers are late, brokers refuse, stop and
//! come back, leaders move, topics are deleted, and the engine panics or is abandoned. Then everything is repaired, and
//! the fates that the engine gave are compared with what is in the brokers' logs. A seed that fails is printed and
//! fails again in the same way.
//!
//! - `OTTLA_SIM_SEEDS=n` runs n seeds, `OTTLA_SIM_SEED=x` runs one, `OTTLA_SIM_TRACE=1` tells what happens in it.

mod answers;
mod bench;
mod check;
mod faults;
mod generations;
mod leaders;
mod messages;
mod metadata;
mod scripts;
mod wires;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// Seeds that every test run tries.
const SEEDS: u64 = 2_000;

#[test]
fn every_message_has_one_fate_and_the_logs_agree() {
    let (first, count) = match (number("OTTLA_SIM_SEED"), number("OTTLA_SIM_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    };
    let mut failures = Vec::new();
    for seed in first..first + count {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
        let problems = run.unwrap_or_else(|_| vec!["a panic".to_owned()]);
        if !problems.is_empty() {
            println!("seed {seed}: {}", problems.join("; "));
            failures.push(seed);
        }
    }
    println!("simulation: {count} seeds, {} failures", failures.len());
    assert!(failures.is_empty(), "run one again with OTTLA_SIM_SEED={}", failures[0]);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}
