//! Tries mutations of the corpus for a while: `fuzz SECONDS [TARGET]..`, all targets where none is named.

use std::{
    env, process,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fuzz::{TARGETS, driver, target};

fn main() {
    let mut arguments = env::args().skip(1);
    let seconds = arguments.next().and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let named: Vec<_> = arguments.collect();
    let Some(time) = seconds.filter(|_| named.iter().all(|name| target(name).is_some())) else {
        let known: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        eprintln!("fuzz SECONDS [TARGET]..\ntargets: {}", known.join(", "));
        process::exit(2);
    };
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    for (name, target) in
        TARGETS.iter().filter(|(name, _)| named.is_empty() || named.iter().any(|n| n == name))
    {
        let seeds = driver::corpus(name).expect("the corpus is beside this program's source");
        let mut mutator = driver::Mutator::new(seed, seeds.into_iter().map(|(_, input)| input).collect());
        let start = Instant::now();
        let mut tried = 0_u64;
        while start.elapsed() < time {
            driver::run(name, *target, &mutator.input());
            tried += 1;
        }
        println!("{name}: {tried} inputs of seed {seed}");
    }
}
