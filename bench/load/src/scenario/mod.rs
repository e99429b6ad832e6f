//! What clients do: one scenario a file.

mod broadcast;
mod churn;
mod cluster;
mod echo;
mod flood;
mod hot;
mod idle;
mod join;
mod large;
mod mix;
mod slow;
mod update;
mod write_floor;

use std::{
    cell::RefCell,
    collections::{HashSet, VecDeque},
    rc::Rc,
    time::Duration,
};

use clap::Subcommand;
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    Common,
    client::{Client, Greeting},
    server::Usage,
    view::View,
    world::World,
};

#[derive(Subcommand)]
pub(crate) enum Scenario {
    /// Users join one room; until all see all
    Join(join::Options),
    /// Users leave, and others join in their places
    Churn(churn::Options),
    /// Users of one room update their metas; until each other member sees it
    Update(update::Options),
    /// One client says something to a whole topic
    Broadcast(broadcast::Options),
    /// Events that are answered
    Echo(echo::Options),
    /// Echoes of some clients while another sends as fast as it can
    Flood(flood::Options),
    /// Connections that do nothing, and the memory they take
    Idle(idle::Options),
    /// Users come and go on one node, seen on another
    Cluster(cluster::Options),
    /// A node is killed; until the users of another see its users leave
    Kill(cluster::KillOptions),
    /// Users come, go and update their metas, at one rate after the other
    Mix(mix::Options),
    /// A room that asks for more than the server can send, for others to be measured beside it
    Hot(hot::Options),
    /// Some of a room's members stop reading for a while
    Slow(slow::Options),
    /// A counted topic of `large_server`, the server beside this program
    Large(large::Options),
    /// No server: what it takes to write to so many connections, which no server can save
    WriteFloor(write_floor::Options),
}

impl Scenario {
    /// The result, as JSON.
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        match self {
            Self::Join(options) => options.run(stage).await,
            Self::Churn(options) => options.run(stage).await,
            Self::Update(options) => options.run(stage).await,
            Self::Broadcast(options) => options.run(stage).await,
            Self::Echo(options) => options.run(stage).await,
            Self::Flood(options) => options.run(stage).await,
            Self::Idle(options) => options.run(stage).await,
            Self::Cluster(options) => options.run(stage).await,
            Self::Kill(options) => options.run(stage).await,
            Self::Mix(options) => options.run(stage).await,
            Self::Hot(options) => options.run(stage).await,
            Self::Slow(options) => options.run(stage).await,
            Self::Large(options) => options.run(stage).await,
            Self::WriteFloor(options) => options.run(stage).await,
        }
    }
}

pub(crate) struct Stage {
    pub(crate) world: Rc<World>,
    pub(crate) common: Common,
}

impl Stage {
    fn room(&self, n: usize) -> String {
        format!("room:{}-{n}", self.common.run)
    }

    fn plain(&self, n: usize) -> String {
        format!("plain:{}-{n}", self.common.run)
    }

    /// Members of one room, who all should see each other.
    fn members(&self, users: std::ops::Range<usize>, target: usize) -> Vec<Rc<Client>> {
        users.map(|user| Client::new(user as u32, 0, self.room(0), Greeting::State, target)).collect()
    }

    fn usage(&self) -> Usage {
        Usage::now(&self.world, &self.common.server_pid)
    }

    /// Connects and joins them all, some at a time.
    async fn join_all(&self, clients: &[Rc<Client>]) {
        let waiting: Rc<RefCell<VecDeque<_>>> = Rc::new(RefCell::new(clients.iter().cloned().collect()));
        let lane = |_| {
            let (world, common, waiting) = (self.world.clone(), self.common.clone(), waiting.clone());
            tokio::task::spawn_local(async move {
                let next = || waiting.borrow_mut().pop_front();
                while let Some(client) = next() {
                    if client.connect(&world, &common).await {
                        client.join(&world).await;
                    }
                }
            })
        };
        let lanes = (0..self.common.concurrency).map(lane).collect();
        finish(lanes).await;
    }

    /// Whether all of the clients have the same right view; it is an error if not.
    fn verify(&self, clients: &[Rc<Client>], users: &HashSet<u32>) -> bool {
        let wrong = wrong_views(clients, users);
        if wrong > 0 {
            self.world.error(format!("{wrong} of {} clients have a wrong view", clients.len()));
        }
        wrong == 0
    }

    /// The result of a scenario: what all have, and what is its own.
    fn result(&self, name: &str, correct: bool, (before, after): (&Usage, &Usage), own: Value) -> Value {
        let world = &self.world;
        let mut result = after.json(before);
        result["scenario"] = name.into();
        result["correct"] = (correct && world.errors.get() == 0).into();
        result["errors"] = world.errors.get().into();
        result["resyncs"] = world.resyncs.get().into();
        for (name, latency) in world.latencies.named() {
            if latency.len() > 0 {
                result[name] = latency.json();
            }
        }
        if let (Value::Object(result), Value::Object(own)) = (&mut result, own) {
            result.extend(own);
        }
        result
    }
}

/// Events at a steady rate, whatever became of those before.
struct Schedule {
    start: Instant,
    rate: f64,
}

impl Schedule {
    fn start(rate: f64) -> Self {
        Self { start: Instant::now(), rate }
    }

    /// Returns when the event of this number is due.
    async fn due(&self, n: usize) {
        let due = self.start + Duration::from_secs_f64(n as f64 / self.rate);
        if due > Instant::now() {
            sleep_until(due).await;
        } else {
            // The clients have to read, also when the schedule can't be kept.
            tokio::task::yield_now().await;
        }
    }

    /// By which part of the time since the start the event of this number is late.
    fn lateness(&self, n: usize) -> f64 {
        let due = n as f64 / self.rate;
        (self.start.elapsed().as_secs_f64() - due) / due
    }
}

async fn finish(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.await.expect("no task panics, and none is aborted");
    }
}

/// How many of the clients see others than these users, or other refs than the first of the clients does.
fn wrong_views(clients: &[Rc<Client>], users: &HashSet<u32>) -> usize {
    let Some(first) = clients.first() else { return 0 };
    let first = &first.seen.borrow().view;
    let right = |view: &View| {
        view.len() == users.len() && view.keys().all(|user| users.contains(user)) && view == first
    };
    clients.iter().filter(|client| !right(&client.seen.borrow().view)).count()
}

/// All users below a number.
fn users_below(n: usize) -> HashSet<u32> {
    (0..n as u32).collect()
}

/// Milliseconds between two times of the world.
fn millis(from: u64, to: u64) -> Value {
    json!((to.saturating_sub(from) as f64 / 1e6).round())
}
