//! A second node takes all presences of the first one over, which is restarted, killed and restarted again.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Failure, Spread,
    node::Command,
    processes::{Nats, Node},
    wait_for,
};

/// How long after a start the last of what it causes is over: a heartbeat comes, and old presences are dropped.
const RESTART: Duration = Duration::from_secs(6);

/// How long the second node may take for all.
const PATIENCE: Duration = Duration::from_mins(10);

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    spread: Spread,
    #[arg(long, default_value = "nats-server")]
    nats_server: PathBuf,
}

impl Options {
    pub(crate) fn run(self) -> Result<Value, Failure> {
        let nats = Nats::start(&self.nats_server)?;
        let args = |name: &str| {
            let own = ["--name", name, "--pubsub", &nats.url, "--probed"].map(str::to_owned);
            [self.spread.args(), own.into()].concat()
        };
        let mut a = Node::start(&args("a"))?;
        a.answer()?;
        let filled = a.ask(&Command::Fill)?;
        a.ask(&Command::Probed)?;
        // For comparison, while nothing else happens.
        std::thread::sleep(Duration::from_secs(2));
        let quiet = a.ask(&Command::Probed)?;
        let memory = a.memory_mb();
        let (traffic, cpu, started) = (nats.traffic()?, (a.cpu(), nats.cpu()), Instant::now());
        let mut b = Node::start(&args("b"))?;
        let ready = b.answer()?;
        let last = self.wait_for_all(&mut b)?;
        let secs = started.elapsed().as_secs_f64();
        let (there, here) = (a.ask(&Command::Probed)?, b.ask(&Command::Probed)?);
        let after = nats.traffic()?;
        let (cpu_s, rss_mb) = (
            json!({"first": a.cpu() - cpu.0, "second": b.cpu(), "nats": nats.cpu() - cpu.1}),
            json!({"first_before": memory, "first": a.memory_mb(), "second": b.memory_mb()}),
        );
        drop(a);
        let mut a = Node::start(&args("a"))?;
        a.answer()?;
        let left_secs = wait_for_none(&mut b)?;
        let once_restarted = b.ask(&Command::Probed)?;
        a.ask(&Command::Fill)?;
        self.wait_for_all(&mut b)?;
        b.ask(&Command::Probed)?;
        drop(a);
        let hidden_secs = wait_for_none(&mut b)?;
        let once_killed = b.ask(&Command::Probed)?;
        let mut a = Node::start(&args("a"))?;
        a.answer()?;
        std::thread::sleep(RESTART);
        let once_restarted_later = b.ask(&Command::Probed)?;
        Ok(json!({
            "scenario": "takeover",
            "correct": ready["ready"] == "yes",
            "presences": self.spread.presences,
            "fill": filled,
            "ready": ready,
            "secs": secs,
            "mb_sent": (after.bytes_in - traffic.bytes_in) / 1_000_000,
            "cpu_s": cpu_s,
            "rss_mb": rss_mb,
            "quiet": quiet,
            "first": there,
            "second": here,
            "last": last,
            "left_secs": left_secs,
            "once_restarted": once_restarted,
            "hidden_secs": hidden_secs,
            "once_killed": once_killed,
            "once_restarted_later": once_restarted_later,
        }))
    }

    /// Returns what a node counts once it has all presences.
    fn wait_for_all(&self, node: &mut Node) -> Result<Value, Failure> {
        let mut last = Value::Null;
        wait_for("the second node has all presences", PATIENCE, || {
            last = node.ask(&Command::Count)?;
            Ok(last["shown"].as_u64() >= Some(self.spread.presences as u64) && last["behind"] == 0)
        })?;
        Ok(last)
    }
}

/// Returns how many seconds it takes until a node shows nobody.
fn wait_for_none(node: &mut Node) -> Result<f64, Failure> {
    let began = Instant::now();
    wait_for("the presences of the other node are gone", PATIENCE, || {
        Ok(node.ask(&Command::Count)?["shown"] == 0)
    })?;
    Ok(began.elapsed().as_secs_f64())
}
