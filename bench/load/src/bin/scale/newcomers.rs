//! Nodes that speak for the first time, all at once: no other knows their origins, so each challenges each.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use adsum::PubSub;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    Failure,
    latencies::Latencies,
    node::SECRET,
    processes::{Nats, Traffic},
};

const TOPIC: &str = "news";
/// How long a node may wait for the others' messages.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the NATS server is given to know who listens.
const INTEREST: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many nodes, all in this process
    #[arg(long, default_value_t = 64)]
    nodes: usize,
    #[arg(long, default_value = "nats-server")]
    nats_server: PathBuf,
}

#[derive(Deserialize, Serialize)]
struct Said {
    by: String,
}

impl Options {
    #[tokio::main]
    pub(crate) async fn run(self) -> Result<Value, Failure> {
        let nats = Nats::start(&self.nats_server)?;
        let mut starting = JoinSet::new();
        for number in 0..self.nodes {
            starting.spawn(PubSub::nats(&nats.url).node(format!("node-{number}")).secret(SECRET).start());
        }
        let nodes: Vec<PubSub> = starting.join_all().await.into_iter().collect::<Result<_, _>>()?;
        let first = self.speak(&nodes, &nats).await?;
        // They are known now.
        let next = self.speak(&nodes, &nats).await?;
        Ok(json!({
            "scenario": "newcomers",
            "correct": true,
            "nodes": self.nodes,
            "first": first,
            "next": next,
        }))
    }

    /// Has each node broadcast one message, and measures until all have heard all.
    async fn speak(&self, nodes: &[PubSub], nats: &Nats) -> Result<Value, Failure> {
        let started = Instant::now() + INTEREST;
        let listening: Vec<_> = nodes.iter().map(|node| self.listen(node, started)).collect();
        sleep(started.saturating_duration_since(Instant::now())).await;
        let before = nats.traffic()?;
        for node in nodes {
            node.broadcast(TOPIC, "said", &Said { by: node.node().to_owned() })?;
        }
        let (mut all, mut most) = (Latencies::default(), Duration::ZERO);
        for times in listening {
            for time in times.await?? {
                all.record("heard", time);
                most = most.max(time);
            }
        }
        let traffic = settled(nats).await?;
        Ok(json!({
            "all_heard_ms": most.as_millis() as u64,
            "heard": all.json(),
            "messages": traffic.messages_in - before.messages_in,
            "kb": (traffic.bytes_in - before.bytes_in) / 1000,
        }))
    }

    /// Returns when a node has heard each of the others.
    fn listen(&self, node: &PubSub, started: Instant) -> JoinHandle<Result<Vec<Duration>, Failure>> {
        let (mut inbox, name) = (node.subscribe(TOPIC), node.node().to_owned());
        let others = self.nodes - 1;
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(others);
            while times.len() < others {
                let waiting = timeout(PATIENCE, inbox.recv()).await;
                let message =
                    waiting.map_err(|_| format!("{name} has heard {} of {others}", times.len()))??;
                if message.payload().decode::<Said>()?.by != name {
                    times.push(started.elapsed());
                }
            }
            Ok(times)
        })
    }
}

/// Returns the traffic once no more is counted.
async fn settled(nats: &Nats) -> Result<Traffic, Failure> {
    let mut last = nats.traffic()?;
    loop {
        sleep(Duration::from_millis(500)).await;
        let now = nats.traffic()?;
        if now.messages_in == last.messages_in {
            return Ok(now);
        }
        last = now;
    }
}
