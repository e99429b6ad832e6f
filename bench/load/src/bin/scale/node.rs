//! A node: a process with presences of tasks inside, which does what it is told by lines of JSON.

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use adsum::{ClusterOptions, Drain, NoFetch, Owner, Presence, PubSub, Sockets, metrics::Value as Reading};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};

use crate::{Failure, Spread, latencies::Latencies, process};

/// The nodes talk to each other only.
pub(crate) const SECRET: &str = "what the nodes of this measurement share";
/// Between two uses of a probe.
const PROBE_INTERVAL: Duration = Duration::from_millis(1);
/// A list takes longer than the other calls, and is made once in so many rounds of the probe.
const LISTS: u64 = 16;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value = "alone")]
    name: String,
    /// The URL of a NATS server; without one it is alone
    #[arg(long)]
    pubsub: Option<String>,
    #[command(flatten)]
    spread: Spread,
    /// The number of its first presence
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// How many there are on all nodes
    #[arg(long)]
    of: Option<usize>,
    /// In milliseconds
    #[arg(long)]
    batch_interval: Option<u64>,
    /// Measure timers and calls all the time, which takes a twentieth of a core
    #[arg(long)]
    probed: bool,
}

/// An order for a node.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// Track its presences.
    Fill,
    /// Make so many calls of each kind, one after the other.
    Call(u32),
    /// Make so many changes a second, for so many seconds.
    Change { rate: u32, secs: u32 },
    /// Return what the probe has measured since it was asked last.
    Probed,
    /// Return its counts.
    Count,
    /// Leave the cluster, and end.
    Leave,
}

struct Node {
    pubsub: PubSub,
    presence: Presence,
    spread: Spread,
    first: usize,
    of: usize,
    /// One for each topic: the task of a game, with all its players.
    owners: Vec<Owner<NoFetch>>,
    /// Which of its presences are gone for the moment.
    gone: Vec<usize>,
    random: Random,
    probed: Arc<Mutex<Latencies>>,
}

/// Random numbers by xorshift, the same in each run.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn meta() -> Map<String, Value> {
    Map::from_iter([("online_at".to_owned(), "1795520148".into())])
}

fn topic(number: usize) -> String {
    format!("game:{number}")
}

fn key(number: usize) -> String {
    format!("u{number}")
}

impl Options {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let started = Instant::now();
        let pubsub = match &self.pubsub {
            Some(url) => PubSub::nats(url).node(&self.name).secret(SECRET).start().await?,
            None => PubSub::local(),
        };
        let mut cluster = ClusterOptions::default();
        if let Some(millis) = self.batch_interval {
            cluster = cluster.batch_interval(Duration::from_millis(millis));
        }
        let presence = Presence::builder(pubsub.clone()).cluster(cluster).start();
        let of = self.of.unwrap_or(self.spread.presences);
        let random = Random(0x9e37_79b9_7f4a_7c15 ^ (self.first as u64 + 1));
        let probed = Arc::new(Mutex::new(Latencies::default()));
        let topics = of.div_ceil(self.spread.topic_size);
        let _probes = self.probed.then(|| probe(&presence, topics, &random, &probed));
        let mut node = Node {
            pubsub,
            presence,
            spread: self.spread,
            first: self.first,
            of,
            owners: Vec::new(),
            gone: Vec::new(),
            random,
            probed,
        };
        let ready = node.presence.ready().await;
        answer(&json!({
            "ready": ready.as_ref().err().map_or_else(|| "yes".to_owned(), ToString::to_string),
            "secs": started.elapsed().as_secs_f64(),
            "count": node.count().await,
        }));

        // Reading blocks, so it has a thread of its own.
        let (told, mut commands) = mpsc::channel(1);
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if told.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        while let Some(line) = commands.recv().await {
            let command: Command = serde_json::from_str(&line)?;
            let ends = matches!(command, Command::Leave);
            answer(&node.obey(command).await);
            if ends {
                break;
            }
        }
        // Millions of presences needn't be taken apart one by one.
        std::process::exit(0);
    }
}

fn answer(answer: &Value) {
    let mut stdout = io::stdout().lock();
    // Whoever asked has ended, and so does this process with its input.
    let _ = writeln!(stdout, "{answer}").and_then(|()| stdout.flush());
}

impl Node {
    async fn obey(&mut self, command: Command) -> Value {
        match command {
            Command::Fill => self.fill(),
            Command::Call(count) => self.call(count).await,
            Command::Change { rate, secs } => self.change(rate, secs).await,
            Command::Probed => std::mem::take(&mut *self.probed.lock()).json(),
            Command::Count => self.count().await,
            Command::Leave => {
                let started = Instant::now();
                let open = self.presence.drain(&Sockets::new(), Drain::default()).await;
                self.pubsub.close().await;
                json!({"sockets": open, "secs": started.elapsed().as_secs_f64()})
            }
        }
    }

    fn fill(&mut self) -> Value {
        let me = std::process::id();
        let (empty, cpu, started) = (process::memory(me), process::cpu(me), Instant::now());
        let Spread { presences, topic_size } = self.spread;
        for n in self.first..self.first + presences {
            if (n - self.first).is_multiple_of(topic_size) {
                self.owners.push(self.presence.owner());
            }
            let owner = self.owners.last_mut().expect("the first has one");
            owner.track(topic(n / topic_size), key(n), meta()).expect("each key is new");
        }
        json!({
            "secs": started.elapsed().as_secs_f64(),
            "cpu_s": process::cpu(me) - cpu,
            "rss_mb": process::memory(me) / 1024,
            "bytes_per_presence": (process::memory(me) - empty) * 1024 / presences.max(1) as u64,
        })
    }

    /// A presence of this node, and its owner.
    fn any(&mut self) -> (usize, usize) {
        let n = self.random.below(self.spread.presences);
        (self.first + n, n / self.spread.topic_size)
    }

    async fn call(&mut self, count: u32) -> Value {
        let mut took = Latencies::default();
        let size = self.spread.topic_size;
        for _ in 0..count {
            let (n, owner) = self.any();
            let (topic, new, key, meta) = (topic(n / size), format!("new{n}"), key(n), meta());
            let owner = &mut self.owners[owner];
            let started = Instant::now();
            owner.track(&*topic, &new, meta.clone()).expect("the key is new");
            took.record("track", started.elapsed());
            let started = Instant::now();
            owner.update(&*topic, key, meta).expect("it is tracked");
            took.record("update", started.elapsed());
            let started = Instant::now();
            let listed = self.presence.list(&*topic).await;
            took.record("list", started.elapsed());
            let started = Instant::now();
            let counted = self.presence.count(&*topic);
            took.record("count", started.elapsed());
            // The probe comes and goes.
            assert!(listed.len().abs_diff(counted) <= 1, "{} listed and {counted} counted", listed.len());
            let started = Instant::now();
            owner.untrack(&*topic, &new);
            took.record("untrack", started.elapsed());
        }
        took.json()
    }

    /// Lets presences update, go, and come back, a third each.
    async fn change(&mut self, rate: u32, secs: u32) -> Value {
        *self.probed.lock() = Latencies::default();
        let me = std::process::id();
        let (cpu, start) = (process::cpu(me), tokio::time::Instant::now());
        let (mut late, size) = (Duration::ZERO, self.spread.topic_size);
        for n in 0..rate * secs {
            let due = start + Duration::from_secs(1) * n / rate;
            late = late.max(due.elapsed());
            sleep_until(due).await;
            let (n, owner) = self.any();
            let (topic, key) = (topic(n / size), key(n));
            match self.gone.pop_if(|_| n % 3 == 0) {
                Some(gone) => {
                    let owner = &mut self.owners[(gone - self.first) / size];
                    owner.track(self::topic(gone / size), self::key(gone), meta()).expect("it has gone");
                }
                None if n % 3 == 1 && self.owners[owner].untrack(&*topic, &key) => self.gone.push(n),
                // An error: it is one of those that are gone.
                None => drop(self.owners[owner].update(&*topic, key, meta())),
            }
        }
        let cpu = process::cpu(me) - cpu;
        for gone in std::mem::take(&mut self.gone) {
            let owner = &mut self.owners[(gone - self.first) / size];
            owner.track(topic(gone / size), key(gone), meta()).expect("it has gone");
        }
        json!({
            "secs": start.elapsed().as_secs_f64(),
            "cpu_s": cpu,
            "late_us": late.as_micros() as u64,
            "probed": std::mem::take(&mut *self.probed.lock()).json(),
        })
    }

    async fn count(&self) -> Value {
        let me = std::process::id();
        let nodes = self.presence.nodes().await;
        let mut count = json!({
            "presences": nodes.iter().map(|node| node.presences).sum::<usize>(),
            "shown": self.presence.totals().presences,
            "of": self.of,
            "behind": nodes.iter().map(|node| node.behind).sum::<u64>(),
            "nodes": nodes.iter().filter(|node| node.behind > 0).collect::<Vec<_>>(),
            "cpu_s": process::cpu(me),
            "rss_mb": process::memory(me) / 1024,
        });
        for sample in self.pubsub.read_metrics() {
            let name = sample.metric.name.trim_start_matches("adsum_").trim_end_matches("_total");
            let is_wanted = [
                "batches",
                "gaps",
                "snapshots",
                "cluster_messages_dropped",
                "cluster_messages_unsent",
                "lagged_messages",
            ];
            if let Reading::Count(value) = sample.value
                && is_wanted.contains(&name)
            {
                let direction = sample.labels.iter().skip(1).map(|label| format!("_{label}"));
                count[name.to_owned() + &direction.collect::<String>()] = value.into();
            }
        }
        count
    }
}

/// Measures, for as long as the tasks are kept, how late a timer is, and how long calls take.
fn probe(
    presence: &Presence,
    topics: usize,
    random: &Random,
    probed: &Arc<Mutex<Latencies>>,
) -> [JoinHandle<()>; 2] {
    let ticking = {
        let probed = probed.clone();
        tokio::spawn(async move {
            loop {
                let started = Instant::now();
                sleep(PROBE_INTERVAL).await;
                probed.lock().record("tick_late", started.elapsed().saturating_sub(PROBE_INTERVAL));
            }
        })
    };
    let (presence, mut random, probed) = (presence.clone(), random.clone(), probed.clone());
    let calling = tokio::spawn(async move {
        let mut owner = presence.owner();
        let mut ticks = interval(PROBE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0_u64.. {
            ticks.tick().await;
            let topic = topic(random.below(topics));
            let started = Instant::now();
            owner.track(&*topic, "probe", meta()).expect("it was untracked");
            let tracked = started.elapsed();
            let started = Instant::now();
            owner.update(&*topic, "probe", meta()).expect("it is tracked");
            let updated = started.elapsed();
            owner.untrack(&*topic, "probe");
            let started = Instant::now();
            presence.count(&*topic);
            let counted = started.elapsed();
            if round.is_multiple_of(LISTS) {
                let started = Instant::now();
                presence.list(&*topic).await;
                probed.lock().record("list", started.elapsed());
            }
            let mut probed = probed.lock();
            probed.record("track", tracked);
            probed.record("update", updated);
            probed.record("count", counted);
        }
    });
    [ticking, calling]
}
