//! The metrics of a presence. The names are in [`adsum_pubsub::metrics::table`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adsum_pubsub::metrics::{Counter, HighWater, Histogram, Metrics, Readings, table};
use adsum_tracker::{ClusterCounts, MessageError, NodeInfo, NodeState, Report};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How old what is known of the nodes may be.
const NODES_AGE: Duration = Duration::from_millis(500);

/// The counts of one presence.
pub(crate) struct PresenceMetrics {
    pub(crate) name: Arc<str>,
    pub(crate) diffs: Arc<Counter>,
    pub(crate) coalesced_changes: Arc<Counter>,
    pub(crate) flush_delay_seconds: Arc<Histogram>,
    fetches: Box<[Arc<Counter>]>,
    pub(crate) fetch_seconds: Arc<Histogram>,
    pub(crate) fetch_keys: Arc<Histogram>,
    pub(crate) state_bytes: Arc<Histogram>,
    pub(crate) messages_dropped: Arc<Counter>,
    pub(crate) messages_unsent: Arc<Counter>,
    messages_refused: Box<[Arc<Counter>]>,
    pub(crate) most_inbox_bytes: HighWater,
    /// In, and out.
    batches: Box<[Arc<Counter>]>,
    gaps: Arc<Counter>,
    /// In, and out.
    snapshots: Box<[Arc<Counter>]>,
    snapshot_seconds: Arc<Histogram>,
    transitions: Box<[Arc<Counter>]>,
    twins: Arc<Counter>,
    region_links_broken: Arc<Counter>,
    nodes: Mutex<Option<Nodes>>,
    /// The node is to end: it should be sent no more clients.
    is_ending: AtomicBool,
}

/// The nodes as they were a moment ago.
struct Nodes {
    at: Instant,
    infos: Vec<NodeInfo>,
}

/// The outcome of a call of `fetch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchOutcome {
    Ok,
    Failed,
    Timeout,
    Panic,
}

impl PresenceMetrics {
    pub(crate) fn new(metrics: &Metrics, name: Arc<str>, inbox_bytes: usize) -> Arc<Self> {
        let labels: &[&str] = &[&name];
        Arc::new(Self {
            diffs: metrics.counter(&table::DIFFS, labels),
            coalesced_changes: metrics.counter(&table::COALESCED_CHANGES, labels),
            flush_delay_seconds: metrics.histogram(&table::FLUSH_DELAY_SECONDS, labels),
            fetches: metrics.counters(&table::FETCHES, labels),
            fetch_seconds: metrics.histogram(&table::FETCH_SECONDS, labels),
            fetch_keys: metrics.histogram(&table::FETCH_KEYS, labels),
            state_bytes: metrics.histogram(&table::STATE_BYTES, labels),
            messages_dropped: metrics.counter(&table::CLUSTER_MESSAGES_DROPPED, labels),
            messages_unsent: metrics.counter(&table::CLUSTER_MESSAGES_UNSENT, labels),
            messages_refused: metrics.counters(&table::CLUSTER_MESSAGES_REFUSED, labels),
            most_inbox_bytes: HighWater::fixed("replication_inbox_bytes", inbox_bytes),
            batches: metrics.counters(&table::BATCHES, labels),
            gaps: metrics.counter(&table::GAPS, labels),
            snapshots: metrics.counters(&table::SNAPSHOTS, labels),
            snapshot_seconds: metrics.histogram(&table::SNAPSHOT_SECONDS, labels),
            transitions: metrics.counters(&table::REPLICA_TRANSITIONS, labels),
            twins: metrics.counter(&table::TWINS, labels),
            region_links_broken: metrics.counter(&table::REGION_LINKS_BROKEN, labels),
            nodes: Mutex::default(),
            is_ending: AtomicBool::new(false),
            name,
        })
    }

    /// A diff of so many changes was told.
    pub(crate) fn told(&self, changes: usize) {
        self.diffs.increment();
        if changes > 1 {
            self.coalesced_changes.add(changes as u64 - 1);
        }
    }

    pub(crate) fn fetched(&self, outcome: FetchOutcome) {
        self.fetches[outcome as usize].increment();
    }

    pub(crate) fn refused(&self, error: &MessageError) {
        self.messages_refused[usize::from(matches!(error, MessageError::Broken(_)))].increment();
    }

    pub(crate) fn reported(&self, report: &Report) {
        match report {
            Report::Up(_) => self.transitions[0].increment(),
            Report::Down(_) => self.transitions[1].increment(),
            Report::Departed(_) => self.transitions[2].increment(),
            Report::DuplicateNode(_) => self.twins.increment(),
            Report::LinkBroken { .. } => self.region_links_broken.increment(),
            _ => {}
        }
    }

    /// Takes over what the cluster has counted since the last time.
    pub(crate) fn counted(&self, counts: ClusterCounts) {
        self.batches[0].add(counts.batches_in);
        self.batches[1].add(counts.batches_out);
        self.gaps.add(counts.gaps);
        self.snapshots[0].add(counts.snapshots_in.len() as u64);
        self.snapshots[1].add(counts.snapshots_out);
        for took in counts.snapshots_in {
            self.snapshot_seconds.record(took.as_secs_f64());
        }
    }

    /// Keeps what is known of the nodes, if what is kept is old.
    pub(crate) fn keep_nodes(&self, infos: impl FnOnce() -> Vec<NodeInfo>) {
        let mut nodes = self.nodes.lock();
        let now = Instant::now();
        if nodes.as_ref().is_none_or(|nodes| now - nodes.at >= NODES_AGE) {
            *nodes = Some(Nodes { at: now, infos: infos() });
        }
    }

    /// From now on the node isn't ready.
    pub(crate) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    pub(crate) fn read_nodes(&self, readings: &mut Readings) {
        for state in ["starting", "up", "down", "departed", "duplicate"] {
            readings.add(&table::REPLICAS, &[&self.name, state], 0.0);
        }
        let nodes = self.nodes.lock();
        let Some(Nodes { at, infos }) = &*nodes else { return };
        for node in infos {
            let state = match node.state {
                NodeState::Starting => "starting",
                NodeState::Up => "up",
                NodeState::Down => "down",
                NodeState::Departed => "departed",
                NodeState::Duplicate => "duplicate",
                _ => continue,
            };
            readings.add(&table::REPLICAS, &[&self.name, state], 1.0);
            // A run of a node that has left says nothing more.
            if node.is_self || node.state == NodeState::Departed {
                continue;
            }
            let labels: &[&str] = &[&self.name, &node.name];
            let silent = node.silent_for + at.elapsed();
            readings.max(&table::REPLICA_SILENT_SECONDS, labels, silent.as_secs_f64());
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            readings.max(&table::REPLICA_BEHIND, labels, node.behind as f64);
        }
    }
}
