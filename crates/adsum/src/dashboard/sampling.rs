//! The figures that the page plots, taken while somebody looks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use adsum_pubsub::{
    Json,
    metrics::{Value, table},
    tasks,
    tasks::Task,
};
use adsum_tracker::NodeState;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Board, console};
use crate::{
    exchange::{Answer, NodeReport, Question},
    handler::PresenceHandler,
    presence::Presence,
};

/// The time from one sample to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long nodes have to answer.
const ANSWER_TIME: Duration = Duration::from_millis(900);

/// The reports of all nodes at one time.
#[derive(Serialize)]
struct Sample {
    /// The report of each node that answered, by its name.
    nodes: BTreeMap<String, NodeSample>,
    /// The nodes that did not answer.
    unanswered: Vec<String>,
    /// The node that the page is on.
    node: String,
    /// How late the sample was taken, in milliseconds: this node is busy, or was stopped.
    late_ms: f64,
    /// How many sockets this node has, and how many bytes wait for them.
    sockets: Option<(usize, usize)>,
    /// How often this node has measured its round trip to the engine, and the sum of the times in milliseconds. `None`
    /// without an engine.
    engine: Option<(u64, f64)>,
}

#[derive(Serialize)]
struct NodeSample {
    /// After which time it answered, in milliseconds.
    after_ms: f64,
    #[serde(flatten)]
    report: NodeReport,
}

/// Starts the task that takes samples while somebody looks.
pub(super) fn start<H: PresenceHandler>(board: &Arc<Board<H>>) -> Task {
    let board = Arc::downgrade(board);
    tasks::spawn("dashboard", async move {
        tasks::restarted("dashboard", || run(board.clone())).await;
    })
}

async fn run<H: PresenceHandler>(board: Weak<Board<H>>) {
    let visits = board.upgrade().map(|board| board.visitors.watch(console::TOPIC));
    let Some(mut visits) = visits else { return };
    // Ends with the presence of the visitors, which is the board's.
    while visits.next().await.is_some() {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = ticks.tick().await;
            let Some(board) = board.upgrade().filter(|board| board.visitors.count(console::TOPIC) > 0) else {
                break;
            };
            let late = due.elapsed();
            let sample = board.sample(late).await;
            if let Ok(sample) = Json::encode(&sample) {
                // To those who look, of this node: nothing can be in its way.
                let _ = board.topics.local_broadcast(console::TOPIC, "sample", sample);
            }
        }
    }
}

impl<H: PresenceHandler> Board<H> {
    async fn sample(&self, late: Duration) -> Sample {
        let began = Instant::now();
        let Presence { core, inbox, exchange, .. } = &self.presence;
        let (known, told) = exchange.ask_all(core, inbox, Question::Nodes, ANSWER_TIME).await;
        let mut nodes = BTreeMap::new();
        for told in told {
            if let Answer::Nodes(report) = told.answer {
                let after_ms = told.at.saturating_duration_since(began).as_secs_f64() * 1000.0;
                nodes.insert(told.node, NodeSample { after_ms, report });
            }
        }
        let is_missing = |name: &str| !nodes.contains_key(name);
        let unanswered = known.iter().filter(|node| node.state == NodeState::Up && is_missing(&node.name));
        Sample {
            unanswered: unanswered.map(|node| node.name.to_string()).collect(),
            node: self.presence.core.pubsub.node().to_owned(),
            late_ms: late.as_secs_f64() * 1000.0,
            sockets: self.sockets.as_ref().map(|sockets| (sockets.len(), sockets.queued_bytes())),
            engine: self.engine(),
            nodes,
        }
    }

    fn engine(&self) -> Option<(u64, f64)> {
        let samples = self.presence.core.pubsub.read_metrics();
        samples.iter().find_map(|sample| match &sample.value {
            Value::Buckets(times) if sample.metric.name == table::ENGINE_ROUND_TRIP_SECONDS.name => {
                Some((times.count(), times.sum * 1000.0))
            }
            _ => None,
        })
    }
}
