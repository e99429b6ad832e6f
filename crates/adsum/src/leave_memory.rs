//! The leaves of late, to explain afterwards why somebody is gone.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use adsum_pubsub::Topic;
use adsum_tracker::{Incarnation, Key, LeaveReason, LeftRow, OwnerId, Ref, Replica, Row};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The default number of leaves that a node remembers.
pub const DEFAULT_LEAVE_MEMORY: usize = 4096;
/// How long a node remembers leaves by default.
pub const DEFAULT_LEAVE_MEMORY_AGE: Duration = Duration::from_mins(15);
/// The maximum number of leaves that a node can be told to remember.
pub(crate) const MAX_LEAVE_MEMORY: usize = 1_000_000;

/// How many runs of nodes are remembered, to name the node of a presence that has left.
const RUNS: usize = 1024;
/// How many nodes that went down are remembered.
const DOWNS: usize = 256;

/// The leaves of late.
pub(crate) struct LeaveMemory {
    count: usize,
    age: Duration,
    leaves: Mutex<VecDeque<LeaveRecord>>,
    /// Those in topics without diffs, which are large and busy: they would take the place of all others.
    without_diff: Mutex<VecDeque<LeaveRecord>>,
    nodes: Mutex<KnownNodes>,
}

struct LeaveRecord {
    topic: Topic,
    key: Key,
    reference: Ref,
    owner: OwnerId,
    reason: LeaveReason,
    at: Instant,
}

#[derive(Default)]
struct KnownNodes {
    runs: VecDeque<(Incarnation, Arc<str>)>,
    downs: VecDeque<NodeDown>,
}

struct NodeDown {
    node: Arc<str>,
    silent_for: Duration,
    at: Instant,
}

/// A leave that is remembered.
pub(crate) struct RememberedLeave {
    pub(crate) reference: Ref,
    /// [`OwnerId::REMOTE`] if it was a presence of another node.
    pub(crate) owner: OwnerId,
    /// The other node, if its run is remembered.
    pub(crate) node: Option<Arc<str>>,
    pub(crate) reason: LeaveReason,
    pub(crate) ago: Duration,
    /// How long the node had been silent when it was given up.
    pub(crate) silent_for: Option<Duration>,
}

impl LeaveMemory {
    /// Remembers at most `count` leaves, and as many of topics without diffs, for at most `age`.
    pub(crate) fn new(count: usize, age: Duration) -> Self {
        let (leaves, without_diff) = Default::default();
        Self { count, age, leaves, without_diff, nodes: Mutex::default() }
    }

    pub(crate) fn bounds(&self) -> (usize, Duration) {
        (self.count, self.age)
    }

    /// Notes the leaves of a diff, but for those of updates.
    pub(crate) fn note<K>(&self, left: &[LeftRow<K>]) {
        self.note_in(&self.leaves, left.iter().filter_map(|left| Some((&left.row, left.reason?))));
    }

    /// Notes leaves in a topic without diffs.
    pub(crate) fn note_without_diff(&self, left: &[(Arc<Row>, LeaveReason)]) {
        // A node that goes down may take a hundred thousand with it.
        let last = &left[left.len().saturating_sub(self.count)..];
        self.note_in(&self.without_diff, last.iter().map(|(row, reason)| (row, *reason)));
    }

    fn note_in<'r>(
        &self,
        leaves: &Mutex<VecDeque<LeaveRecord>>,
        left: impl Iterator<Item = (&'r Arc<Row>, LeaveReason)>,
    ) {
        let mut left = left.peekable();
        if self.count == 0 || left.peek().is_none() {
            return;
        }
        let at = Instant::now();
        let mut leaves = leaves.lock();
        for (row, reason) in left {
            let is_over = |oldest: &LeaveRecord| at.saturating_duration_since(oldest.at) > self.age;
            while leaves.len() >= self.count || leaves.front().is_some_and(is_over) {
                leaves.pop_front();
            }
            let (topic, key) = (row.topic.clone(), row.key.clone());
            leaves.push_back(LeaveRecord {
                topic,
                key,
                reference: row.reference,
                owner: row.owner,
                reason,
                at,
            });
        }
    }

    /// Remembers the run of a node.
    pub(crate) fn note_run(&self, replica: &Replica) {
        let runs = &mut self.nodes.lock().runs;
        if runs.iter().any(|(incarnation, _)| *incarnation == replica.incarnation) {
            return;
        }
        if runs.len() == RUNS {
            runs.pop_front();
        }
        runs.push_back((replica.incarnation, replica.name.clone()));
    }

    /// A node has gone down, after so long a silence.
    pub(crate) fn note_down(&self, replica: &Replica, silent_for: Duration) {
        self.note_run(replica);
        let downs = &mut self.nodes.lock().downs;
        if downs.len() == DOWNS {
            downs.pop_front();
        }
        downs.push_back(NodeDown { node: replica.name.clone(), silent_for, at: Instant::now() });
    }

    /// The node of the run that has made a ref.
    pub(crate) fn node_of(&self, reference: Ref) -> Option<Arc<str>> {
        let nodes = self.nodes.lock();
        let run = nodes.runs.iter().find(|(incarnation, _)| reference.is_made_by(*incarnation))?;
        Some(run.1.clone())
    }

    /// The leaves of a key, the last first.
    pub(crate) fn of(&self, topic: &str, key: &str, most: usize) -> Vec<RememberedLeave> {
        let now = Instant::now();
        let of_key_in = |leaves: &Mutex<VecDeque<LeaveRecord>>| -> Vec<_> {
            let leaves = leaves.lock();
            let young = |leave: &&LeaveRecord| now.saturating_duration_since(leave.at) <= self.age;
            let is_of_key = |leave: &&LeaveRecord| leave.topic.as_str() == topic && leave.key.as_str() == key;
            let of_key = leaves.iter().rev().take_while(young).filter(is_of_key);
            of_key.take(most).map(|leave| (leave.reference, leave.owner, leave.reason, leave.at)).collect()
        };
        // A topic has leaves in one of them.
        let of_key = [&self.leaves, &self.without_diff].map(of_key_in).into_iter().flatten();
        let remembered = |(reference, owner, reason, at)| {
            let node = if owner == OwnerId::REMOTE { self.node_of(reference) } else { None };
            let is_down = reason == LeaveReason::Unreachable;
            let silent_for = node.as_deref().filter(|_| is_down).and_then(|node| self.silence(node, at));
            let ago = now.saturating_duration_since(at);
            RememberedLeave { reference, owner, node, reason, ago, silent_for }
        };
        of_key.map(remembered).collect()
    }

    /// How long a node had been silent that went down about then.
    fn silence(&self, node: &str, about: Instant) -> Option<Duration> {
        let nodes = self.nodes.lock();
        let apart = |down: &&NodeDown| {
            down.at.saturating_duration_since(about).max(about.saturating_duration_since(down.at))
        };
        let nearest = nodes.downs.iter().filter(|down| *down.node == *node).min_by_key(apart)?;
        Some(nearest.silent_for)
    }
}

#[cfg(test)]
mod tests {
    use adsum_tracker::{Bare, Limits, Meta, Tracker, Windows};

    use super::*;

    /// Leaves of these keys, one after the other.
    fn leaves(keys: &[&str]) -> Vec<LeftRow<Bare>> {
        let replica = Replica::start("node");
        let tracker = Tracker::<Bare>::new(replica, Limits::default(), |_| Windows::Each, |_| {});
        let topic = Topic::from("t");
        let mut left = Vec::new();
        for key in keys {
            let mut owner = tracker.owner();
            owner.track(&topic, &Key::from(*key), Meta::from_encoded("{}")).unwrap();
            drop(owner);
            let diffs = tracker.lock(&topic).topic_mut(&topic).unwrap().take_diffs();
            left.extend(diffs.into_iter().flat_map(|diff| diff.leaves));
        }
        left
    }

    fn count(memory: &LeaveMemory, key: &str) -> usize {
        memory.of("t", key, 10).len()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_bounded_by_number_and_by_age() {
        let memory = LeaveMemory::new(2, Duration::from_mins(1));
        memory.note(&leaves(&["a", "b", "c"]));
        assert_eq!(["a", "b", "c"].map(|key| count(&memory, key)), [0, 1, 1]);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(count(&memory, "c"), 0);
        memory.note(&leaves(&["d"]));
        assert_eq!(memory.leaves.lock().len(), 1);

        let nothing = LeaveMemory::new(0, Duration::from_mins(1));
        nothing.note(&leaves(&["a"]));
        assert_eq!(count(&nothing, "a"), 0);
    }
}
