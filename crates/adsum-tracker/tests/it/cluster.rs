//! Nodes among others: what each lists, and what it hears.

use std::{sync::Arc, time::Duration};

use adsum_tracker::{
    Bare, Cluster, ClusterOptions, Effect, Incarnation, Limits, Message, Owner, Parting, Reason, Replica,
    Report, Time, Tracker, Windows,
};

use crate::{key, meta};

/// A node, and the time by its clock.
struct Node {
    tracker: Arc<Tracker<Bare>>,
    cluster: Cluster<Bare>,
    reports: Vec<Report>,
}

/// Nodes with a network that loses nothing, and one clock.
struct World {
    now: Time,
    nodes: Vec<Option<Node>>,
    /// Messages that are not delivered: from and to, by position.
    cut: Vec<(usize, usize)>,
    sent: usize,
}

fn replica(name: &str, started: u64) -> Replica {
    // Refs have their upper bits from the random number: these are to differ.
    Replica { name: name.into(), incarnation: Incarnation { started, random: started.rotate_right(16) } }
}

impl World {
    fn new() -> Self {
        Self { now: Time::ZERO, nodes: Vec::new(), cut: Vec::new(), sent: 0 }
    }

    fn start(&mut self, name: &str, started: u64) -> usize {
        let windows = |_: &str| Windows::Net;
        let tracker =
            Tracker::with_cluster(replica(name, started), Limits::default(), true, windows, |_| {}, || {});
        let cluster = Cluster::start(self.now, tracker.clone(), ClusterOptions::default(), started);
        self.nodes.push(Some(Node { tracker, cluster, reports: Vec::new() }));
        self.nodes.len() - 1
    }

    fn owner(&self, node: usize) -> Owner<Bare> {
        self.node(node).tracker.owner()
    }

    fn node(&self, node: usize) -> &Node {
        self.nodes[node].as_ref().unwrap()
    }

    fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
    }

    /// Lets time pass, in steps, with all messages delivered at once.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
            self.now = (self.now + Duration::from_millis(5)).min(end);
        }
        self.step();
    }

    fn step(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            node.cluster.tick(self.now);
        }
        loop {
            let mut messages = Vec::new();
            for (index, node) in self.nodes.iter_mut().enumerate() {
                let Some(node) = node else { continue };
                for effect in node.cluster.take_effects() {
                    match effect {
                        Effect::Broadcast(message) => messages.push((index, None, message)),
                        Effect::Send(to, message) => messages.push((index, Some(to), message)),
                        Effect::Changed(_) => {}
                        Effect::Report(report) => node.reports.push(report),
                    }
                }
            }
            if messages.is_empty() {
                return;
            }
            self.sent += messages.len();
            assert!(self.sent < 1_000_000, "the nodes talk without end");
            for (from, to, message) in messages {
                let message = Message::decode(&message.encode()).unwrap();
                for (index, node) in self.nodes.iter_mut().enumerate() {
                    let Some(node) = node else { continue };
                    let is_meant = to.as_ref().is_none_or(|to| *to == node.cluster.replica().name);
                    if index != from && is_meant && !self.cut.contains(&(from, index)) {
                        node.cluster.handle(self.now, message.clone());
                    }
                }
            }
        }
    }

    fn keys(&self, node: usize, topic: &str) -> Vec<String> {
        let mut keys: Vec<_> =
            self.node(node).tracker.list(topic).into_iter().map(|(key, _)| key.to_string()).collect();
        keys.sort();
        keys
    }
}

const MOMENT: Duration = Duration::from_millis(50);
const START: Duration = Duration::from_secs(3);

#[test]
fn a_presence_is_seen_on_all_nodes_and_leaves_all() {
    let mut world = World::new();
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.pass(START);
    let mut owner = world.owner(a);
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["7"]);
    drop(owner);
    world.pass(MOMENT);
    assert!(world.keys(b, "room").is_empty());
    assert_eq!(world.node(b).cluster.usage().rows, 0);
}

#[test]
fn a_node_that_starts_later_is_ready_once_it_knows_all() {
    let mut world = World::new();
    let a = world.start("a", 1);
    world.pass(START);
    let mut owner = world.owner(a);
    for n in 0..300 {
        owner.track(&format!("room:{}", n % 100).into(), &key(&n.to_string()), meta()).unwrap();
    }
    world.pass(MOMENT);
    let b = world.start("b", 2);
    world.pass(START);
    assert!(world.node(b).reports.contains(&Report::Ready { synced: true }));
    assert_eq!((0..100).map(|n| world.keys(b, &format!("room:{n}")).len()).sum::<usize>(), 300);
}

#[test]
fn a_silent_node_is_hidden_after_three_heartbeats_and_comes_back_whole() {
    let mut world = World::new();
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.pass(START);
    let mut owner = world.owner(a);
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    world.pass(MOMENT);
    world.cut = vec![(a, b)];
    world.pass(Duration::from_millis(1900));
    assert_eq!(world.keys(b, "room"), ["7"]);
    world.pass(Duration::from_millis(1200));
    assert!(world.keys(b, "room").is_empty());
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    world.pass(MOMENT);
    world.cut.clear();
    world.pass(Duration::from_millis(1500));
    assert_eq!(world.keys(b, "room"), ["7", "8"]);
}

#[test]
fn what_departs_is_replaced_by_who_comes_on_another_node_without_a_gap() {
    let mut world = World::new();
    let (a, b, c) = (world.start("a", 1), world.start("b", 2), world.start("c", 3));
    world.pass(START);
    let mut owner = world.owner(a);
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    world.pass(MOMENT);
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Draining, Duration::from_secs(10)));
    drop(owner);
    let now = world.now;
    world.nodes[a].as_mut().unwrap().cluster.leave(now, Duration::from_secs(10));
    world.pass(MOMENT);
    assert!(world.node(a).reports.contains(&Report::Left { held: 2, of: 2 }));
    world.kill(a);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.keys(c, "room"), ["7", "8"]);
    let mut again = world.owner(b);
    again.track(&"room".into(), &key("7"), meta()).unwrap();
    world.pass(MOMENT);
    assert_eq!(world.node(c).tracker.count("room"), 2);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.keys(c, "room"), ["7"]);
    assert_eq!(world.keys(b, "room"), ["7"]);
    drop(again);
    world.pass(MOMENT);
    assert!(world.keys(c, "room").is_empty());
}

#[test]
fn a_restarted_node_pulls_its_own_departed_set() {
    let mut world = World::new();
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.pass(START);
    let mut owner = world.owner(a);
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    world.pass(MOMENT);
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Draining, Duration::from_secs(30)));
    drop(owner);
    let now = world.now;
    world.nodes[a].as_mut().unwrap().cluster.leave(now, Duration::from_secs(30));
    world.pass(MOMENT);
    world.kill(a);
    let a = world.start("a", 10);
    world.pass(START);
    assert_eq!(world.keys(a, "room"), ["7"]);
    assert_eq!(world.keys(b, "room"), ["7"]);
    let mut again = world.owner(a);
    again.track(&"room".into(), &key("7"), meta()).unwrap();
    world.pass(MOMENT);
    assert_eq!((world.node(a).tracker.count("room"), world.node(b).tracker.count("room")), (1, 1));
}

#[test]
fn a_twin_is_named_and_displaces_nobody() {
    let mut world = World::new();
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.pass(START);
    let mut owner = world.owner(a);
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    world.pass(MOMENT);
    let twin = world.start("a", 5);
    world.pass(Duration::from_secs(6));
    assert!(world.node(twin).reports.contains(&Report::DuplicateNode(replica("a", 1))));
    assert_eq!(world.keys(b, "room"), ["7"]);
    world.kill(a);
    world.pass(Duration::from_secs(7));
    assert!(world.keys(b, "room").is_empty());
    let mut owner = world.owner(twin);
    owner.track(&"room".into(), &key("9"), meta()).unwrap();
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["9"]);
}

#[test]
fn a_node_whose_clock_was_set_back_outbids_its_earlier_run() {
    let mut world = World::new();
    let (a, b) = (world.start("a", 100), world.start("b", 2));
    world.pass(START);
    world.kill(a);
    let a = world.start("a", 50);
    world.pass(Duration::from_secs(6));
    let mut owner = world.owner(a);
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["7"]);
}
