//! Nodes among others: what each lists, and what it hears.

use std::time::Duration;

use adsum_tracker::{ClusterMessage, LeaveReason, OwnerExit, Report};

use crate::{
    key, meta,
    world::{MOMENT, START, World},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_presence_is_seen_on_all_nodes_and_leaves_all() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["7"]);
    drop(owner);
    world.pass(MOMENT);
    assert!(world.keys(b, "room").is_empty());
    assert_eq!(world.node(b).cluster.usage().rows, 0);
}

#[test]
fn a_node_that_starts_later_is_ready_once_it_knows_all() {
    let (mut world, [a]) = World::of(["a"]);
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
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.cut(a, b);
    world.pass(Duration::from_millis(1900));
    assert_eq!(world.keys(b, "room"), ["7"]);
    world.pass(Duration::from_millis(1200));
    assert!(world.keys(b, "room").is_empty());
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    world.pass(MOMENT);
    world.mend();
    world.pass(Duration::from_millis(1500));
    assert_eq!(world.keys(b, "room"), ["7", "8"]);
}

#[test]
fn a_node_that_goes_and_comes_for_minutes_costs_a_pull_and_a_diff_for_each_change() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owners: Vec<_> = (0..50).map(|n| world.track(a, "room", &n.to_string())).collect();
    world.pass(MOMENT);
    world.flush(b, "room");
    for _ in 0..37 {
        // Away for four seconds, and back for four.
        world.delivered.clear();
        world.isolate(a);
        let before = world.node(b).changed;
        world.pass(4 * SECOND);
        assert_eq!(world.node(b).changed - before, 1);
        assert_eq!(world.flush(b, "room"), (1, 0, 50));
        world.mend();
        world.pass(4 * SECOND);
        assert_eq!(world.node(b).changed - before, 2);
        assert_eq!(world.flush(b, "room"), (1, 50, 0));
        let pulls = world.count(|sent| matches!(sent.message, ClusterMessage::Pull { .. }));
        assert!(pulls <= 1, "{pulls} pulls of a shard");
    }
}

#[test]
fn a_process_that_is_stopped_for_ten_seconds_hides_nobody_when_it_goes_on() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owners = [world.track(a, "room", "7"), world.track(b, "room", "8")];
    world.pass(MOMENT);
    world.stop(a, true);
    world.pass_and(10 * SECOND, |world| assert_eq!(world.keys(a, "room"), ["7", "8"]));
    assert_eq!(world.keys(b, "room"), ["8"]);
    world.stop(a, false);
    world.pass_and(4 * SECOND, |world| assert_eq!(world.keys(a, "room"), ["7", "8"]));
    assert_eq!(world.keys(b, "room"), ["7", "8"]);
}

#[test]
fn a_process_that_goes_on_with_an_empty_inbox_hides_nobody_that_is_alive() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owners = [world.track(a, "room", "7"), world.track(b, "room", "8")];
    world.pass(MOMENT);
    world.stop(a, true);
    world.cut(b, a);
    world.pass(10 * SECOND);
    world.mend();
    world.stop(a, false);
    world.pass_and(4 * SECOND, |world| assert_eq!(world.keys(a, "room"), ["7", "8"]));
}

#[test]
fn nobody_leaves_while_the_network_of_all_is_away_for_less_than_its_grace() {
    let (mut world, nodes) = World::of(["a", "b", "c"]);
    let _owners: Vec<_> = nodes.iter().map(|node| world.track(*node, "room", &node.to_string())).collect();
    world.pass(MOMENT);
    for node in nodes {
        world.plug(node, false);
    }
    let all_are_listed = |world: &World| {
        for node in nodes {
            assert_eq!(world.keys(node, "room"), ["0", "1", "2"], "at {:?}", world.now);
        }
    };
    world.pass_and(20 * SECOND, all_are_listed);
    // They find back one after the other.
    for node in nodes {
        world.plug(node, true);
        world.pass_and(3 * SECOND, all_are_listed);
    }
    world.pass_and(20 * SECOND, all_are_listed);
}

#[test]
fn a_node_that_died_while_the_network_was_away_is_hidden_when_the_grace_is_over() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.plug(b, false);
    world.kill(a);
    world.pass(5 * SECOND);
    world.plug(b, true);
    world.pass(24 * SECOND);
    assert_eq!(world.keys(b, "room"), ["7"]);
    world.pass(2 * SECOND);
    assert!(world.keys(b, "room").is_empty());
}

#[test]
fn a_node_that_dies_after_a_hiccup_of_the_network_is_detected_as_soon_as_usual() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    for (node, on) in [(a, false), (b, false), (a, true), (b, true)] {
        world.plug(node, on);
        world.pass(SECOND);
    }
    world.pass(SECOND);
    world.kill(a);
    world.pass(SECOND);
    assert_eq!(world.keys(b, "room"), ["7"]);
    world.pass(3 * SECOND);
    assert!(world.keys(b, "room").is_empty());
}

#[test]
fn a_presence_that_has_left_everywhere_is_kept_nowhere() {
    let (mut world, nodes) = World::of(["a", "b", "c"]);
    let [a, b, _] = nodes;
    let owner = world.track(a, "room", "7");
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Gone, 300 * SECOND));
    drop(owner);
    world.pass(MOMENT);
    let owner = world.track(b, "room", "7");
    world.pass(MOMENT);
    drop(owner);
    world.pass(MOMENT);
    for node in nodes {
        let usage = world.node(node).cluster.usage();
        assert_eq!((usage.rows, usage.hidden), (0, 0), "{usage:?}");
    }
}
