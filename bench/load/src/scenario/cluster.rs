use std::{net::SocketAddr, process::Command, rc::Rc, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Schedule, Stage, finish, millis, users_below};
use crate::{
    Common,
    client::Client,
    world::{World, wait_for},
};

/// How long the nodes are given to have heard of a room's clients.
const INTEREST: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The address of the second node
    #[arg(long)]
    addr_b: SocketAddr,
    /// How many users come on the first node
    #[arg(long, default_value_t = 200)]
    users: usize,
    /// How many are on the second, and see them come
    #[arg(long, default_value_t = 20)]
    watchers: usize,
    /// How many come, and then go, in a second
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
}

#[derive(clap::Args)]
pub(crate) struct KillOptions {
    #[command(flatten)]
    cluster: Options,
    /// The process of the first node
    #[arg(long)]
    kill_pid: u32,
    /// By which signal
    #[arg(long, default_value = "KILL")]
    signal: String,
}

/// Those on the first node, those on the second, and whether all see all.
struct Joined {
    users: Vec<Rc<Client>>,
    watchers: Vec<Rc<Client>>,
    complete: bool,
}

impl Options {
    async fn join(&self, stage: &Stage) -> Joined {
        let (world, all) = (&stage.world, self.users + self.watchers);
        let watchers = stage.members(0..self.watchers, all);
        let there =
            Stage { world: world.clone(), common: Common { addr: self.addr_b, ..stage.common.clone() } };
        there.join_all(&watchers).await;
        sleep(INTEREST).await;
        world.measure();
        let users = stage.members(self.watchers..all, all);
        let schedule = Schedule::start(self.rate);
        let mut joins = Vec::new();
        for (n, user) in users.iter().enumerate() {
            // The clients of the same node are another figure.
            user.sampled.set(false);
            schedule.due(n).await;
            let (world, common, user) = (world.clone(), stage.common.clone(), user.clone());
            joins.push(tokio::task::spawn_local(async move {
                if user.connect(&world, &common).await {
                    user.join(&world).await;
                }
            }));
        }
        finish(joins).await;
        let complete = wait_for(stage.common.timeout, || world.complete.get() == all).await;
        Joined { users, watchers, complete }
    }

    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let world = &stage.world;
        let before = stage.usage();
        let Joined { users, watchers, complete } = self.join(stage).await;
        let everybody: Vec<_> = users.iter().chain(&watchers).cloned().collect();
        let right = stage.verify(&everybody, &users_below(everybody.len()));
        let schedule = Schedule::start(self.rate);
        let (going, staying) = users.split_at(self.users / 2);
        for (n, user) in going.iter().enumerate() {
            schedule.due(n).await;
            World::note(&world.left, user.user, world.now());
            user.connection().close();
        }
        let rest: Vec<_> = staying.iter().chain(&watchers).cloned().collect();
        let gone =
            wait_for(stage.common.timeout, || rest.iter().all(|client| client.sees() == rest.len())).await;
        let after = stage.usage();
        let right = right && stage.verify(&rest, &rest.iter().map(|client| client.user).collect());
        let own = json!({"users": self.users, "watchers": self.watchers, "rate": self.rate});
        stage.result("cluster", complete && gone && right, (&before, &after), own)
    }
}

impl KillOptions {
    pub(crate) async fn run(self, stage: &Stage) -> Value {
        let world = &stage.world;
        let Joined { users, watchers, complete } = self.cluster.join(stage).await;
        world.measuring.set(false);
        for user in &users {
            user.connection().ending.set(true);
        }
        world.complete.set(0);
        for watcher in &watchers {
            watcher.target.set(watchers.len());
            let mut seen = watcher.seen.borrow_mut();
            (seen.complete_at, seen.first_leave_at) = (0, 0);
        }
        let at = world.now();
        // A signal needs unsafe code, which is forbidden here, so a program sends it.
        let killed = Command::new("kill").args(["-s", &self.signal, &self.kill_pid.to_string()]).status();
        if !killed.is_ok_and(|status| status.success()) {
            world.error("can't kill the node");
        }
        let before = stage.usage();
        let gone = wait_for(stage.common.timeout, || world.complete.get() == watchers.len()).await;
        let after = stage.usage();
        let right = stage.verify(&watchers, &users_below(watchers.len()));
        let first = watchers.iter().map(|watcher| watcher.seen.borrow().first_leave_at).min().unwrap_or(0);
        let last = watchers.iter().map(|watcher| watcher.seen.borrow().complete_at).max().unwrap_or(0);
        let own = json!({
            "users": users.len(),
            "watchers": watchers.len(),
            "signal": self.signal,
            "first_leave_ms": millis(at, first),
            "all_gone_ms": millis(at, last),
        });
        stage.result("kill", complete && gone && right, (&before, &after), own)
    }
}
