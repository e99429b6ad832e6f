//! The nodes of a cluster, as a node reports them.

use std::time::Duration;

use adsum_tracker::{ClusterMessage, Meta, NodeInfo, NodeState, Replica, Report};

use crate::{
    key,
    world::{MOMENT, START, STEP, World},
};

const SECOND: Duration = Duration::from_secs(1);

fn nodes(world: &World, of: usize) -> Vec<NodeInfo> {
    world.node(of).cluster.nodes(world.now)
}

/// Returns one of the nodes that a node knows.
fn node(world: &World, of: usize, name: &str) -> NodeInfo {
    let mut found = nodes(world, of).into_iter().filter(|node| &*node.name == name);
    let info = found.next().unwrap();
    assert!(found.next().is_none(), "{name} is there twice");
    info
}

#[test]
fn each_node_is_told_with_what_is_held_of_it() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    owner.track(&"hall".into(), &"7".into(), crate::meta()).unwrap();
    let _other = world.track(b, "room", "8");
    world.pass(MOMENT);
    let names: Vec<_> = nodes(&world, b).iter().map(|node| node.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    let (of_a, of_b) = (node(&world, b, "a"), node(&world, b, "b"));
    assert_eq!((of_a.state, of_a.is_self, of_a.presences, of_a.behind), (NodeState::Up, false, 2, 0));
    assert_eq!((of_b.state, of_b.is_self, of_b.presences), (NodeState::Up, true, 1));
    assert_eq!(of_a.incarnation, world.node(a).cluster.replica().incarnation);
    assert!(of_a.silent_for <= SECOND && of_b.silent_for.is_zero());

    owner.untrack("room", "7");
    drop(owner);
    world.pass(MOMENT);
    assert_eq!((node(&world, b, "a").presences, node(&world, a, "a").presences), (0, 0));
}

#[test]
fn the_missing_part_of_a_node_is_counted_in_versions() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    // Only heartbeats come through.
    world.lose(move |sent| {
        use adsum_tracker::ClusterMessage::{Batches, Run};
        sent.to == b && matches!(sent.message, Batches { .. } | Run { .. })
    });
    let _owners = [world.track(a, "room", "7"), world.track(a, "hall", "7")];
    world.pass(2 * SECOND);
    assert_eq!((node(&world, b, "a").behind, node(&world, b, "a").presences), (2, 0));
    world.lose(|_| false);
    world.pass(5 * SECOND);
    assert_eq!((node(&world, b, "a").behind, node(&world, b, "a").presences), (0, 2));
}

#[test]
fn a_node_that_is_silent_is_down_and_one_that_has_left_is_departed() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    let _owners = [world.track(a, "room", "7"), world.track(c, "room", "8")];
    world.pass(MOMENT);
    world.kill(a);
    world.leave(c, 30 * SECOND);
    world.pass(10 * SECOND);
    let (of_a, of_c) = (node(&world, b, "a"), node(&world, b, "c"));
    assert_eq!((of_a.state, of_a.presences), (NodeState::Down, 1));
    assert!(of_a.silent_for > 9 * SECOND, "{:?}", of_a.silent_for);
    assert_eq!((of_c.state, of_c.presences), (NodeState::Departed, 1));
    assert_eq!(node(&world, c, "c").state, NodeState::Departed);
}

#[test]
fn a_node_says_what_it_is_itself() {
    let (mut world, [a]) = World::of(["a"]);
    assert_eq!(node(&world, a, "a").state, NodeState::Up);
    let twin = world.start("a", 9);
    assert_eq!(node(&world, twin, "a").state, NodeState::Starting);
    world.pass(3 * SECOND);
    assert_eq!(node(&world, twin, "a").state, NodeState::Duplicate);
}

#[test]
fn a_node_is_told_as_json() {
    let mut world = World::new();
    world.start_in("eu", "a", 7);
    let all = serde_json::to_value(nodes(&world, 0)).unwrap();
    let expected = serde_json::json!([{
        "name": "a", "incarnation": "7-0007000000000000", "region": "eu", "is_self": true, "state": "starting",
        "behind": 0, "silent_for": 0.0, "presences": 0,
    }]);
    assert_eq!(all, expected);
}

#[test]
fn a_node_that_never_reached_the_others_listens_once_it_does() {
    let mut world = World::new();
    let a = world.start("a", 1);
    let b = world.start("b", 2);
    world.plug(b, false);
    let _owner = world.track(a, "room", "7");
    world.pass(10 * SECOND);
    let ready = |world: &World| {
        let reports = world.node(b).reports.iter();
        reports
            .filter_map(|report| match report {
                Report::Ready { synced } => Some(*synced),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(ready(&world), [false], "in time, and without a view of the cluster");
    assert_eq!(node(&world, b, "b").state, NodeState::Starting);
    world.plug(b, true);
    world.pass(SECOND);
    assert_eq!(node(&world, b, "b").state, NodeState::Starting);
    world.pass(START);
    assert_eq!(ready(&world), [false, true]);
    assert_eq!(world.keys(b, "room"), ["7"]);
}

#[test]
fn a_node_that_is_not_up_yet_keeps_no_batches_for_later() {
    let mut world = World::new();
    let a = world.start("a", 1);
    world.pass(START);
    let b = world.start("b", 2);
    world.plug(b, false);
    let large = Meta::from_encoded(format!(r#"{{"padding":"{}"}}"#, "x".repeat(8000)));
    let mut owner = world.owner(b);
    for n in 0..1000 {
        owner.track(&"room".into(), &key(&n.to_string()), large.clone()).unwrap();
        world.pass(STEP);
    }
    world.plug(b, true);
    world.pass(2 * START);
    assert_eq!(world.keys(a, "room").len(), 1000);
    let is_of_b = |from: &Replica| *from.name == *"b";
    let batches =
        world.count(|sent| matches!(&sent.message, ClusterMessage::Batches { from, .. } if is_of_b(from)));
    assert!(batches <= 2, "{batches} messages with batches");
}
