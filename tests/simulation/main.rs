//! A whole producer against the in-process brokers' logic, on one thread, with virtual time and a seeded schedule.
//!
//! Each seed is one run: callers produce, flush, purge, wait for handles and shut down, while connections are cut,
//! answers are late, brokers refuse, stop, and come back elsewhere, leaders move, topics are deleted, threads run late
//! or wake for nothing, and the worker panics. Then everything is repaired, and what callers were told of each message
//! is compared with what is in the brokers' logs. In a third of the runs connections are encrypted. A seed that fails is printed and fails again in the same way.
//!
//! What runs is the producer's own code: the queue and what is kept with it under the gate's lock, the worker's turns
//! with the engine, the handles, the outlet and the callbacks (`tests/unthreaded`). Not the threads, their
//! condition variables and sockets, which have tests of their own; a caller that would wait looks again instead.
//!
//! - `OTTLA_SIM_SEEDS=n` runs n seeds (in a release build, at least 1,000 a second), `OTTLA_SIM_SEED=x` runs one,
//!   `OTTLA_SIM_TRACE=1` tells what happens in it.
//!
//! So that it is known to find bugs, some are planted, one at a time (`planted`).

mod anew;
mod answers;
mod bench;
mod callers;
mod causes;
mod check;
mod faults;
mod frames;
mod generations;
mod leaders;
mod ledger;
mod logins;
mod meddling;
mod metadata;
mod names;
mod planted;
mod records;
mod scripts;
mod setup;
mod silence;
mod steps;
mod stops;
#[path = "../unthreaded/mod.rs"]
mod unthreaded;
mod wires;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use check::{Anomaly, Problem};
use planted::Bug;
use world::{Outcome, Story, World};

/// Seeds that every test run tries.
const SEEDS: u64 = 2_000;
/// Slower, and nobody would try many. Asked of a release build only.
const SEEDS_A_SECOND: f64 = 1_000.0;

#[test]
fn every_message_has_one_fate_and_the_logs_agree() {
    let (first, count) = seeds();
    let (mut failures, mut accepted, mut overflows) = (Vec::new(), 0, 0);
    let mut blamed = 0;
    let began = now();
    for seed in first..first + count {
        let outcome = run(seed, None);
        accepted += outcome.accepted;
        overflows += outcome.overflows;
        blamed += outcome.blamed;
        if !outcome.problems.is_empty() {
            println!("seed {seed}: {}", in_one_line(&outcome.problems));
            failures.push(seed);
        }
    }
    let speed = count as f64 / (now() - began).as_secs_f64();
    println!("simulation: {count} seeds, {} failures, {speed:.0} seeds a second", failures.len());
    println!("simulation: {accepted} messages accepted, {overflows} calls refused for want of room");
    println!("simulation: {blamed} messages refused by their place in a batch");
    assert!(failures.is_empty(), "run one again with OTTLA_SIM_SEED={}", failures[0]);
    if !cfg!(debug_assertions) && number("OTTLA_SIM_SEEDS").is_some() {
        assert!(speed >= SEEDS_A_SECOND, "{speed:.0} seeds a second");
    }
}

#[test]
fn what_is_made_anew_gets_every_message_that_was_not_in_the_old_one_once_and_in_order() {
    try_all(Story::Anew);
}

#[test]
fn what_was_answered_while_the_process_was_stopped_is_not_told_as_possibly_written() {
    let waited = try_all(Story::Stopped);
    assert!(waited > 0 || seeds().1 == 1, "no answer came while the process was stopped");
}

#[test]
fn logins_that_fail_and_sessions_that_end_lose_and_repeat_nothing() {
    try_all(Story::Logins);
}

#[test]
fn a_seed_runs_twice_in_the_same_way() {
    for seed in 0..100 {
        let (first, second) = (run(seed, None), run(seed, None));
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
    let different: std::collections::HashSet<u64> = (0..100).map(|seed| run(seed, None).trace).collect();
    assert_eq!(different.len(), 100, "each seed runs in its own way");
}

#[test]
fn planted_bugs_are_found() {
    let mut unfound = Vec::new();
    for (bug, fitting) in Bug::ALL {
        // By the anomaly that it is: an earlier seed may show it by something that follows from it.
        let found = (0..SEEDS).find_map(|seed| {
            let problems = run(seed, Some(bug)).problems;
            problems.iter().any(|problem| fitting.contains(&problem.anomaly)).then_some((seed, problems))
        });
        match found {
            Some((seed, problems)) => {
                println!("{bug:?}: found after {} seeds: {}", seed + 1, in_one_line(&problems));
            }
            None => unfound.push(bug),
        }
    }
    assert!(unfound.is_empty(), "{unfound:?} were not found in {SEEDS} seeds");
}

/// Runs all seeds of a story. Returns how many messages were answered while the process was stopped.
fn try_all(story: Story) -> u64 {
    let (first, count) = seeds();
    let (mut failures, mut accepted, mut waited) = (Vec::new(), 0, 0);
    for seed in first..first + count {
        let outcome = run_about(seed, story, None);
        accepted += outcome.accepted;
        waited += outcome.answered_in_a_stop;
        if !outcome.problems.is_empty() {
            println!("seed {seed}: {}", in_one_line(&outcome.problems));
            failures.push(seed);
        }
    }
    println!("{story:?}: {count} seeds, {} failures, {accepted} messages accepted", failures.len());
    println!("{story:?}: {waited} messages were answered while the process was stopped");
    assert!(failures.is_empty(), "run one again with OTTLA_SIM_SEED={}", failures[0]);
    waited
}

fn run(seed: u64, bug: Option<Bug>) -> Outcome {
    run_about(seed, Story::Any, bug)
}

fn run_about(seed: u64, story: Story, bug: Option<Bug>) -> Outcome {
    worker::hush_planned_panics();
    let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, story, bug).run()));
    run.unwrap_or_else(|_| {
        let problems = vec![Problem::new(Anomaly::Panic, "in the simulation")];
        Outcome { problems, trace: 0, accepted: 0, overflows: 0, blamed: 0, answered_in_a_stop: 0 }
    })
}

#[expect(clippy::disallowed_methods, reason = "how fast it runs is measured")]
fn now() -> Instant {
    Instant::now()
}

fn in_one_line(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The first seed to try, and how many.
fn seeds() -> (u64, u64) {
    match (number("OTTLA_SIM_SEED"), number("OTTLA_SIM_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}
