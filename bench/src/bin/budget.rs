//! What the budget of deliveries makes of a load: how long changes wait. A simulation, in time of its own.
//!
//! `cargo run -p bench --release --bin budget` prints a table. The module is that of the server.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::unchecked_time_subtraction,
    reason = "figures are for people: they are far below 2^52, and none is negative"
)]

#[path = "../../../crates/adsum/src/budget.rs"]
#[allow(dead_code, reason = "the server uses more of it")]
mod budget;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use budget::{Account, DeliveryBudget};

/// How long each load lasts.
const SECONDS: u64 = 20;
/// Delays before this time aren't counted: the credit is used up first.
const WARM: Duration = Duration::from_secs(5);
const RATE: u32 = 80_000;
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Topics that are alike: how many, with how many subscribers, and how many changes a second in each.
#[derive(Clone, Copy)]
struct Topics {
    name: &'static str,
    count: usize,
    subscribers: u64,
    changes: f64,
}

const fn topics(name: &'static str, count: usize, subscribers: u64, changes: f64) -> Topics {
    Topics { name, count, subscribers, changes }
}

#[derive(Default)]
struct Topic {
    kind: usize,
    account: Account,
    since: Option<Duration>,
    /// When the changes that wait were made.
    waiting: Vec<Duration>,
}

/// Random numbers by xorshift, the same in each run.
struct Random(u64);

impl Random {
    fn exponential(&mut self, mean: f64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let uniform = ((self.0 >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() * mean)
    }
}

struct Simulation {
    kinds: Vec<Topics>,
    topics: Vec<Topic>,
    budget: DeliveryBudget<usize>,
    delays: Vec<Vec<Duration>>,
    flushes: Vec<u64>,
    deliveries: u64,
}

impl Simulation {
    fn offer(&mut self, now: Duration, index: usize) {
        let topic = &mut self.topics[index];
        let Some(since) = topic.since else { return };
        let cost = self.kinds[topic.kind].subscribers;
        if !self.budget.may_go(now, topic.account, since, cost) {
            self.budget.wait(index, topic.account, since, cost);
            return;
        }
        self.budget.pay(now, &mut topic.account, cost);
        self.budget.ask(now, topic.waiting.len(), cost);
        topic.since = None;
        if now >= DeliveryBudget::<usize>::START + WARM {
            self.flushes[topic.kind] += 1;
            self.deliveries += cost;
            self.delays[topic.kind].extend(topic.waiting.iter().map(|made| now - *made));
        }
        topic.waiting.clear();
    }

    fn run(mut self) -> Self {
        let start = DeliveryBudget::<usize>::START;
        let end = start + Duration::from_secs(SECONDS);
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut changes = BinaryHeap::new();
        for (index, topic) in self.topics.iter().enumerate() {
            let mean = 1.0 / self.kinds[topic.kind].changes;
            changes.push(Reverse((start + random.exponential(mean), index)));
        }
        while let Some(&Reverse((change, index))) = changes.peek() {
            // The runtime's timers count milliseconds.
            let millis = |time: Duration| Duration::from_millis(time.as_millis() as u64 + 1);
            let wake = self.budget.earliest().map(millis);
            if let Some(now) = wake.filter(|wake| *wake < change) {
                while let Some(index) = self.budget.next(now) {
                    self.offer(now, index);
                }
                continue;
            }
            if change > end {
                break;
            }
            changes.pop();
            let mean = 1.0 / self.kinds[self.topics[index].kind].changes;
            changes.push(Reverse((change + random.exponential(mean), index)));
            let topic = &mut self.topics[index];
            topic.waiting.push(change);
            if topic.since.is_none() {
                topic.since = Some(change);
                self.offer(change, index);
            }
        }
        self
    }
}

fn percentile(delays: &mut [Duration], share: f64) -> f64 {
    if delays.is_empty() {
        return 0.0;
    }
    delays.sort_unstable();
    let index = ((delays.len() - 1) as f64 * share) as usize;
    delays[index].as_secs_f64() * 1000.0
}

fn simulate(kinds: &[Topics], workers: usize) {
    let topics = kinds.iter().enumerate();
    let topics =
        topics.flat_map(|(kind, topics)| (0..topics.count).map(move |_| Topic { kind, ..Topic::default() }));
    let simulation = Simulation {
        kinds: kinds.to_vec(),
        topics: topics.collect(),
        budget: DeliveryBudget::new(RATE, workers, MAX_DELAY),
        delays: vec![Vec::new(); kinds.len()],
        flushes: vec![0; kinds.len()],
        deliveries: 0,
    };
    let mut done = simulation.run();
    let seconds = (Duration::from_secs(SECONDS) - WARM).as_secs_f64();
    let asked: f64 =
        kinds.iter().map(|kind| kind.count as f64 * kind.subscribers as f64 * kind.changes).sum();
    let made = done.deliveries as f64 / seconds;
    for (kind, topics) in kinds.iter().enumerate() {
        let delays = &mut done.delays[kind];
        let count = delays.len().max(1) as f64;
        let (p50, p99, max) = (percentile(delays, 0.5), percentile(delays, 0.99), percentile(delays, 1.0));
        let Topics { name, count: number, subscribers, changes } = topics;
        let flushes = done.flushes[kind] as f64 / count;
        println!(
            "| {name} | {number} x {subscribers} at {changes} | {p50:.0} | {p99:.0} | {max:.0} | {flushes:.2} | {asked:.0} | {made:.0} |"
        );
    }
}

/// People who join one topic, then changes one after the other: how many diffs tell of the joins, and how long the
/// changes after them wait.
fn storm(people: u64) {
    const JOINS: f64 = 2_500.0;
    const CHANGES: u32 = 100;
    let mut budget: DeliveryBudget<u8> = DeliveryBudget::new(RATE, 1, MAX_DELAY);
    let start = DeliveryBudget::<u8>::START;
    let joins = (0..people).map(|n| start + Duration::from_secs_f64(n as f64 / JOINS));
    let full = start + Duration::from_secs_f64(people as f64 / JOINS);
    // A leave and a join, ten times a second.
    let pair = |n: u32| full + Duration::from_millis(u64::from(n / 2 * 100 + n % 2));
    let times: Vec<Duration> = joins.chain((0..CHANGES).map(pair)).collect();
    let (mut account, mut flushes, mut delays) = (Account::default(), 0, Vec::new());
    let mut changes = times.iter().zip(1..).peekable();
    while let Some((&since, mut there)) = changes.next() {
        let mut now = since;
        let mut waiting = vec![since];
        while !budget.may_go(now, account, since, there.min(people)) {
            now += Duration::from_millis(1);
            while let Some((&change, number)) = changes.next_if(|(change, _)| **change <= now) {
                there = number;
                waiting.push(change);
            }
        }
        budget.pay(now, &mut account, there.min(people));
        budget.ask(now, waiting.len(), there.min(people));
        flushes += usize::from(since < full);
        delays.extend(waiting.into_iter().filter(|change| *change >= full).map(|change| now - change));
    }
    let late = delays.iter().filter(|delay| delay.as_millis() > 2).count();
    let max = percentile(&mut delays, 1.0);
    println!("| {people} | {flushes} | {late} of {CHANGES} | {max:.0} |");
}

fn main() {
    let loads: BTreeMap<u8, Vec<Topics>> = [
        vec![topics("hot", 1, 9_000, 50.0), topics("rooms", 20, 100, 1.0), topics("games", 300, 2, 1.0)],
        vec![topics("hot", 4, 9_000, 50.0), topics("rooms", 20, 100, 1.0), topics("games", 300, 2, 1.0)],
        vec![topics("rooms", 60, 500, 10.0), topics("games", 300, 2, 1.0)],
        vec![topics("rooms", 1_000, 100, 4.0)],
        vec![topics("small", 1, 500, 20.0), topics("large", 1, 2_000, 20.0)],
        vec![
            topics("large", 1, 100_000, 1_000.0),
            topics("rooms", 20, 100, 1.0),
            topics("games", 300, 2, 1.0),
        ],
    ]
    .into_iter()
    .enumerate()
    .map(|(index, load)| (index as u8, load))
    .collect();
    println!(
        "| topics | count x subscribers at changes a second | p50 ms | p99 | max | diffs a change | asked a second | made |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for load in loads.values() {
        simulate(load, 1);
    }
    println!("\nOne topic alone:\n");
    println!(
        "| topics | count x subscribers at changes a second | p50 ms | p99 | max | diffs a change | asked a second | made |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for subscribers in [2, 20, 100, 500, 2_000, 9_000, 100_000] {
        for changes in [0.1, 1.0, 10.0, 100.0, 1_000.0] {
            simulate(&[topics("one", 1, subscribers, changes)], 1);
        }
    }
    println!("\nPeople who join one topic, 2,500 a second, then 10 leave and 10 join in a second:\n");
    println!("| people | diffs of the joins | later changes that wait for more than 2 ms | max ms |");
    println!("| --- | --- | --- | --- |");
    [100, 500, 1_000, 2_000].into_iter().for_each(storm);
}
