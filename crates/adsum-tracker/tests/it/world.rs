//! Nodes with one clock and a controlled network, for scenarios.

use std::{collections::HashSet, sync::Arc, time::Duration};

use adsum_tracker::{
    Bare, Cluster, ClusterMessage, ClusterOptions, Effect, Incarnation, LeaveReason, Limits, Meta, OwnerExit,
    RawOwner, Ref, Region, Replica, Report, Time, TopicSet, Tracker, Windows,
};

use crate::{key, meta};

/// Long enough for messages to arrive and to be answered.
pub(crate) const MOMENT: Duration = Duration::from_millis(50);
/// Long enough for nodes to be up and in sync.
pub(crate) const START: Duration = Duration::from_secs(3);
/// How often a node looks at the time.
pub(crate) const STEP: Duration = Duration::from_millis(5);

/// A node, and the reports that its program got.
pub(crate) struct Node {
    pub(crate) tracker: Arc<Tracker<Bare>>,
    pub(crate) cluster: Cluster<Bare>,
    pub(crate) reports: Vec<Report>,
    /// How often topics were to be flushed.
    pub(crate) changed: usize,
    asleep: bool,
    inbox: Vec<ClusterMessage>,
}

/// A message under way. The nodes are positions.
pub(crate) struct Sent {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) message: ClusterMessage,
}

type Judge = Box<dyn FnMut(&Sent) -> bool>;

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) options: ClusterOptions,
    pub(crate) windows: Windows,
    pub(crate) nodes: Vec<Option<Node>>,
    /// All messages that were delivered.
    pub(crate) delivered: Vec<Sent>,
    cut: HashSet<(usize, usize)>,
    unplugged: HashSet<usize>,
    lose: Judge,
}

pub(crate) fn replica(name: &str, started: u64) -> Replica {
    // Refs get their upper bits from the random number, so these must differ.
    Replica { name: name.into(), incarnation: Incarnation { started, random: started.rotate_right(16) } }
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Time::ZERO,
            options: ClusterOptions::default(),
            windows: Windows::Net,
            nodes: Vec::new(),
            delivered: Vec::new(),
            cut: HashSet::new(),
            unplugged: HashSet::new(),
            lose: Box::new(|_| false),
        }
    }

    /// Starts nodes of these names, and waits until they are up and in sync.
    pub(crate) fn of<const N: usize>(names: [&str; N]) -> (Self, [usize; N]) {
        let mut world = Self::new();
        let mut started = 0;
        let nodes = names.map(|name| {
            started += 1;
            world.start(name, started)
        });
        world.pass(START);
        (world, nodes)
    }

    pub(crate) fn start(&mut self, name: &str, started: u64) -> usize {
        let tracker = self.tracker(name, started);
        self.start_with(tracker, None, started)
    }

    pub(crate) fn start_in(&mut self, region: &str, name: &str, started: u64) -> usize {
        let tracker = self.tracker(name, started);
        self.start_with(tracker, Some(region.into()), started)
    }

    pub(crate) fn tracker(&self, name: &str, started: u64) -> Arc<Tracker<Bare>> {
        let windows = self.windows;
        let limits = Limits::default().meta_bytes(64 * 1024).presences_per_owner(100_000);
        Tracker::with_cluster(replica(name, started), limits, true, move |_| windows, |_| {}, || {})
    }

    pub(crate) fn start_with(
        &mut self,
        tracker: Arc<Tracker<Bare>>,
        region: Option<Region>,
        seed: u64,
    ) -> usize {
        let cluster = Cluster::start(self.now, tracker.clone(), region, self.options.clone(), seed);
        let (reports, inbox) = (Vec::new(), Vec::new());
        self.nodes.push(Some(Node { tracker, cluster, reports, changed: 0, asleep: false, inbox }));
        self.nodes.len() - 1
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        self.nodes[node].as_ref().unwrap()
    }

    pub(crate) fn node_mut(&mut self, node: usize) -> &mut Node {
        self.nodes[node].as_mut().unwrap()
    }

    pub(crate) fn owner(&self, node: usize) -> RawOwner<Bare> {
        self.node(node).tracker.owner()
    }

    /// Makes an owner that tracks a key in a topic.
    pub(crate) fn track(&self, node: usize, topic: &str, name: &str) -> RawOwner<Bare> {
        let mut owner = self.owner(node);
        owner.track(&topic.into(), &key(name), meta()).unwrap();
        owner
    }

    /// Ends a node without a message, as if its machine died.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
    }

    pub(crate) fn leave(&mut self, node: usize, grace: Duration) {
        let now = self.now;
        self.node_mut(node).cluster.leave(now, grace);
    }

    /// A node tracks a hundred presences in `room`, too large for one chunk, departs, and ends. They stay for a minute.
    pub(crate) fn depart_with_large_set(&mut self, node: usize) {
        const GRACE: Duration = Duration::from_mins(1);
        let text = format!(r#"{{"padding":"{}"}}"#, "x".repeat(5_000));
        let mut owner = self.owner(node);
        for n in 0..100 {
            owner.track(&"room".into(), &key(&format!("{n:02}")), Meta::from_encoded(text.clone())).unwrap();
        }
        self.pass(Duration::from_secs(1));
        self.node(node).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Draining, GRACE));
        drop(owner);
        self.leave(node, GRACE);
        self.pass(MOMENT);
        self.kill(node);
    }

    /// Drops all messages from one node to the other.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Drops all messages between the two sides.
    pub(crate) fn cut_between(&mut self, one: &[usize], other: &[usize]) {
        for (one, other) in one.iter().flat_map(|one| other.iter().map(move |other| (*one, *other))) {
            self.cut.extend([(one, other), (other, one)]);
        }
    }

    pub(crate) fn mend(&mut self) {
        self.cut.clear();
    }

    /// Drops all messages from and to this node.
    pub(crate) fn isolate(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.cut.extend([(node, other), (other, node)]);
        }
    }

    /// Drops the messages for which this is true.
    pub(crate) fn lose(&mut self, lose: impl FnMut(&Sent) -> bool + 'static) {
        self.lose = Box::new(lose);
    }

    /// Stops its process, or lets it go on.
    pub(crate) fn stop(&mut self, node: usize, stopped: bool) {
        let now = self.now;
        let node = self.node_mut(node);
        node.asleep = stopped;
        if !stopped {
            for message in std::mem::take(&mut node.inbox) {
                node.cluster.handle(now, message);
            }
        }
    }

    /// Tells a node whether its network is there.
    pub(crate) fn plug(&mut self, node: usize, connected: bool) {
        let now = self.now;
        let _ = if connected { self.unplugged.remove(&node) } else { self.unplugged.insert(node) };
        self.node_mut(node).cluster.connected(now, connected);
    }

    /// Delivers a message from any sender.
    pub(crate) fn hear(&mut self, node: usize, message: ClusterMessage) {
        let now = self.now;
        self.node_mut(node).cluster.handle(now, message);
    }

    /// Lets time pass, in steps, with all messages delivered at once.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.pass_and(time, |_| {});
    }

    /// Like [`pass`](Self::pass), and calls `look` after every step.
    pub(crate) fn pass_and(&mut self, time: Duration, mut look: impl FnMut(&Self)) {
        let end = self.now + time;
        while self.now < end {
            self.step();
            look(self);
            self.now = (self.now + STEP).min(end);
        }
        self.step();
        look(self);
    }

    fn step(&mut self) {
        for node in self.nodes.iter_mut().flatten().filter(|node| !node.asleep) {
            node.cluster.tick(self.now);
        }
        for round in 0.. {
            assert!(round < 10_000, "the nodes never stop talking");
            let messages = self.take_messages();
            if messages.is_empty() {
                return;
            }
            for (from, to, message) in messages {
                let message = ClusterMessage::decode(&message.encode()).unwrap();
                for index in 0..self.nodes.len() {
                    let is_meant = |name: &Arc<str>| to.as_ref().is_none_or(|to| to == name);
                    let sent = Sent { from, to: index, message: message.clone() };
                    let is_cut = self.cut.contains(&(from, index))
                        || self.unplugged.contains(&from)
                        || self.unplugged.contains(&index);
                    let Some(node) = &mut self.nodes[index] else { continue };
                    let named = is_meant(&node.cluster.replica().name);
                    if index == from || !named || is_cut || (self.lose)(&sent) {
                        continue;
                    }
                    if node.asleep {
                        node.inbox.push(message.clone());
                    } else {
                        node.cluster.handle(self.now, message.clone());
                    }
                    self.delivered.push(sent);
                }
            }
        }
    }

    fn take_messages(&mut self) -> Vec<(usize, Option<Arc<str>>, ClusterMessage)> {
        let mut messages = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let Some(node) = node else { continue };
            for effect in node.cluster.take_effects() {
                match effect {
                    Effect::Broadcast(message) => messages.push((index, None, message)),
                    Effect::Send(to, message) => messages.push((index, Some(to), message)),
                    Effect::Changed(_) => node.changed += 1,
                    Effect::Report(report) => node.reports.push(report),
                }
            }
        }
        messages
    }

    /// Counts the delivered messages for which this is true.
    pub(crate) fn count(&self, is_meant: impl Fn(&Sent) -> bool) -> usize {
        self.delivered.iter().filter(|sent| is_meant(sent)).count()
    }

    pub(crate) fn keys(&self, node: usize, topic: &str) -> Vec<String> {
        let mut keys: Vec<_> =
            self.node(node).tracker.list(topic).into_iter().map(|(key, _)| key.to_string()).collect();
        keys.sort();
        keys
    }

    /// Returns the refs under a key on this node.
    pub(crate) fn refs(&self, node: usize, topic: &str, key: &str) -> Vec<Ref> {
        self.node(node).tracker.get_by_key(topic, key).iter().map(|row| row.reference).collect()
    }

    /// Takes a topic's diffs. Returns how many there were, and how many rows joined and left.
    pub(crate) fn flush(&self, node: usize, topic: &str) -> (usize, usize, usize) {
        let mut shard = self.node(node).tracker.lock(topic);
        let diffs = shard.topic_mut(topic).map_or_else(Vec::new, TopicSet::take_diffs);
        let joins = diffs.iter().map(|diff| diff.joins.len()).sum();
        (diffs.len(), joins, diffs.iter().map(|diff| diff.leaves.len()).sum())
    }
}
