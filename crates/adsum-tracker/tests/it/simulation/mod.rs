//! Many nodes in one thread, under a seed. Whatever happens to messages, nodes and clocks, no client is told anything
//! false, and once all is whole again all nodes agree.
//!
//! `ADSUM_SIM_SEED=7` runs one schedule and prints what happened, `ADSUM_SIM_RUNS=100000` runs that many.
//! `make soak` runs long ones until it is stopped, for `SOAK_SECONDS`; `SOAK_NODES=2` with twice the nodes.

mod every;
mod known;
mod many;
mod network;
mod node;
mod random;
mod runner;
mod scenarios;
mod schedule;
mod settle;
mod trace;
mod world;

use std::time::{Duration, Instant};

use self::runner::run_all;

/// Maximum number of steps of a schedule.
const SHORT: usize = 60;
const LONG: usize = 600;

#[test]
fn nodes_agree_whatever_happened_before() {
    let runs = variable("ADSUM_SIM_RUNS").unwrap_or(10_000);
    match variable("ADSUM_SIM_SEED") {
        Some(seed) => run_all(seed..seed + 1, SHORT, 1, None),
        None => run_all(0..runs, SHORT, 1, None),
    }
}

#[test]
#[ignore = "runs until it is stopped: make soak"]
fn soak() {
    let end = variable("SOAK_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let first = variable("ADSUM_SIM_SEED").unwrap_or_else(|| getrandom::u64().unwrap() >> 16);
    let last = if variable("ADSUM_SIM_SEED").is_some() { first + 1 } else { u64::MAX };
    let times = variable("SOAK_NODES").map_or(1, |times| times.clamp(1, 2) as usize);
    run_all(first..last, LONG, times, end);
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, and is {text:?}")))
}
