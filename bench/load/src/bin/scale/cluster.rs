//! Many nodes over one NATS server.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Failure, Spread,
    node::Command,
    processes::{Nats, Node, Traffic},
    wait_for,
};

/// How long all nodes may take to know all presences.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many nodes
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// How many presences each of them has
    #[arg(long, default_value_t = 125_000)]
    presences: usize,
    /// How many presences are in a topic
    #[arg(long, default_value_t = 100)]
    topic_size: usize,
    /// Changes a second on each node, one load after the other
    #[arg(long, value_delimiter = ',', default_value = "0,50,400,0")]
    rates: Vec<u32>,
    /// For how many seconds
    #[arg(long, default_value_t = 5)]
    secs: u32,
    /// In milliseconds; 5 if it isn't given
    #[arg(long)]
    batch_interval: Option<u64>,
    /// Restart all nodes, one after the other
    #[arg(long)]
    deploy: bool,
    /// Measure timers and calls on all nodes meanwhile
    #[arg(long)]
    probed: bool,
    #[arg(long, default_value = "nats-server")]
    nats_server: PathBuf,
}

struct Cluster {
    options: Options,
    nats: Nats,
    nodes: Vec<Node>,
}

/// The CPU time, batches and traffic of all nodes so far.
struct Used {
    at: Instant,
    cpu: f64,
    nats_cpu: f64,
    batches: u64,
    traffic: Traffic,
}

impl Options {
    fn all(&self) -> usize {
        self.nodes * self.presences
    }

    fn args(&self, nats: &Nats, index: usize) -> Vec<String> {
        let spread = Spread { presences: self.presences, topic_size: self.topic_size };
        let (name, first, of) =
            (format!("node-{index}"), (index * self.presences).to_string(), self.all().to_string());
        let own = ["--name", &name, "--pubsub", &nats.url, "--first", &first, "--of", &of];
        let mut args = [spread.args(), own.map(str::to_owned).into()].concat();
        if let Some(millis) = self.batch_interval {
            args.extend(["--batch-interval".to_owned(), millis.to_string()]);
        }
        args.extend(self.probed.then(|| "--probed".to_owned()));
        args
    }

    pub(crate) fn run(self) -> Result<Value, Failure> {
        let nats = Nats::start(&self.nats_server)?;
        let nodes = (0..self.nodes).map(|index| Node::start(&self.args(&nats, index)));
        let nodes = nodes.collect::<Result<_, _>>()?;
        let mut cluster = Cluster { options: self, nats, nodes };
        let started = Instant::now();
        for node in &mut cluster.nodes {
            node.answer()?;
        }
        for node in &mut cluster.nodes {
            node.ask(&Command::Fill)?;
        }
        cluster.settle()?;
        let filled = started.elapsed().as_secs_f64();
        let memory = cluster.nodes.iter().map(Node::memory_mb).max();
        let loads: Vec<_> = cluster
            .options
            .rates
            .clone()
            .into_iter()
            .map(|rate| cluster.load(rate))
            .collect::<Result<_, _>>()?;
        let deployed = cluster.options.deploy.then(|| cluster.deploy()).transpose()?;
        Ok(json!({
            "scenario": "cluster",
            "correct": deployed.as_ref().is_none_or(|deployed| deployed["nobody_left"] == true),
            "nodes": cluster.options.nodes,
            "presences": cluster.options.all(),
            "fill_secs": filled,
            "rss_mb_of_a_node": memory,
            "loads": loads,
            "deploy": deployed,
        }))
    }
}

impl Cluster {
    /// Waits until each node knows all presences.
    fn settle(&mut self) -> Result<(), Failure> {
        let all = self.options.all() as u64;
        for node in &mut self.nodes {
            wait_for("a node knows all presences", PATIENCE, || {
                let count = node.ask(&Command::Count)?;
                // The probes have one each.
                let shown = count["shown"].as_u64().unwrap_or_default();
                Ok((all..all + 100).contains(&shown))
            })?;
        }
        Ok(())
    }

    fn used(&mut self) -> Result<Used, Failure> {
        let mut batches = 0;
        for node in &mut self.nodes {
            batches += node.ask(&Command::Count)?["batches_out"].as_u64().unwrap_or_default();
        }
        Ok(Used {
            at: Instant::now(),
            cpu: self.nodes.iter().map(Node::cpu).sum(),
            nats_cpu: self.nats.cpu(),
            batches,
            traffic: self.nats.traffic()?,
        })
    }

    /// Measures the cost of a load for each node.
    fn load(&mut self, rate: u32) -> Result<Value, Failure> {
        let secs = self.options.secs;
        let before = self.used()?;
        for node in &mut self.nodes {
            node.tell(&Command::Change { rate, secs })?;
        }
        let answers: Vec<_> = self.nodes.iter_mut().map(Node::answer).collect::<Result<_, _>>()?;
        if rate == 0 {
            std::thread::sleep(Duration::from_secs(secs.into()));
        }
        let after = self.used()?;
        let took = (after.at - before.at).as_secs_f64();
        let nodes = self.options.nodes as f64;
        let each = |amount: f64| (amount / took / nodes * 1000.0).round() / 1000.0;
        let messages = after.traffic.messages_in - before.traffic.messages_in;
        let late = answers.iter().filter_map(|answer| answer["late_us"].as_u64()).max();
        Ok(json!({
            "rate": rate,
            "secs": took,
            "of_a_node_a_second": {
                "batches": each((after.batches - before.batches) as f64),
                "messages_out": each(messages as f64),
                "messages_in": each((after.traffic.messages_out - before.traffic.messages_out) as f64),
                "bytes_out": each((after.traffic.bytes_in - before.traffic.bytes_in) as f64),
                "bytes_in": each((after.traffic.bytes_out - before.traffic.bytes_out) as f64),
                "cpu_s": each(after.cpu - before.cpu),
            },
            "bytes_per_message": (after.traffic.bytes_in - before.traffic.bytes_in) / messages.max(1),
            "nats_cpu_s_a_second": (after.nats_cpu - before.nats_cpu) / took,
            "nats_messages_a_second": (after.traffic.messages_out - before.traffic.messages_out) as f64 / took,
            "late_us": late,
            "probed": answers.first().map(|answer| &answer["probed"]),
        }))
    }

    /// Restarts one node after the other. Meanwhile, the first of the others is asked how many it sees.
    fn deploy(&mut self) -> Result<Value, Failure> {
        let all = self.options.all() as u64;
        let (before, mut cpu) = (self.used()?, 0.0);
        let (mut fewest, mut readied) = (u64::MAX, Vec::new());
        for index in 0..self.options.nodes {
            let other = (index + 1) % self.options.nodes;
            let last = self.nodes[index].cpu();
            self.nodes[index].ask(&Command::Leave)?;
            cpu += last;
            self.nodes[index] = Node::start(&self.options.args(&self.nats, index))?;
            let ready = self.nodes[index].answer()?;
            readied.push(ready["secs"].as_f64().unwrap_or_default());
            if ready["ready"] != "yes" {
                return Err(format!("a node isn't ready: {ready}").into());
            }
            self.nodes[index].tell(&Command::Fill)?;
            for _ in 0..10 {
                let seen = self.nodes[other].ask(&Command::Count)?["shown"].as_u64().unwrap_or_default();
                fewest = fewest.min(seen);
                std::thread::sleep(Duration::from_millis(100));
            }
            self.nodes[index].answer()?;
            self.settle()?;
        }
        let after = self.used()?;
        Ok(json!({
            "secs": (after.at - before.at).as_secs_f64(),
            "ready_secs": readied,
            "fewest_seen": fewest,
            "nobody_left": fewest >= all,
            "cpu_s_of_all": after.cpu + cpu - before.cpu,
            "nats_cpu_s": after.nats_cpu - before.nats_cpu,
            "mb_through_nats": (after.traffic.bytes_out - before.traffic.bytes_out) / 1_000_000,
            "probed": self.nodes[0].ask(&Command::Probed)?,
        }))
    }
}
