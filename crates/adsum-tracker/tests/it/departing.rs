//! Presences that stay for a grace, and the sets of nodes that have left.

use std::time::Duration;

use adsum_tracker::{ClusterMessage, LeaveReason, OwnerExit, OwnerId, Report, Windows};

use crate::{
    key, meta,
    world::{MOMENT, START, World, replica},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_departing_presence_is_replaced_by_one_on_another_node_without_a_gap() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    let mut owner = world.owner(a);
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    world.pass(MOMENT);
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Draining, Duration::from_secs(10)));
    drop(owner);
    world.leave(a, Duration::from_secs(10));
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
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Draining, Duration::from_secs(30)));
    drop(owner);
    world.leave(a, Duration::from_secs(30));
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
fn a_rolling_restart_with_clients_that_come_back_shows_no_key_absent() {
    let (mut world, mut nodes) = World::of(["a", "b", "c"]);
    let grace = 10 * SECOND;
    let mut owners: Vec<Vec<_>> = (0..3)
        .map(|n| (0..20).map(|k| world.track(nodes[n], "room", &(20 * n + k).to_string())).collect())
        .collect();
    world.pass(MOMENT);
    let watch = |world: &World| {
        for node in world.nodes.iter().flatten() {
            if node.reports.iter().any(|report| matches!(report, Report::Ready { .. })) {
                assert_eq!(node.tracker.key_count("room"), 60, "a key is absent at {:?}", world.now);
            }
        }
    };
    for restarted in 0..3 {
        let node = nodes[restarted];
        world.node(node).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Draining, grace));
        owners[restarted].clear();
        world.leave(node, grace);
        world.pass_and(MOMENT, watch);
        assert!(world.node(node).reports.contains(&Report::Left { held: 2, of: 2 }));
        world.kill(node);
        // Its clients come back to the others within a few seconds, or to itself later.
        for k in 0..10 {
            let other = nodes[(restarted + 1 + k % 2) % 3];
            let owner = world.track(other, "room", &(20 * restarted + k).to_string());
            owners[(restarted + 1 + k % 2) % 3].push(owner);
            world.pass_and(Duration::from_millis(100), watch);
        }
        nodes[restarted] = world.start(["a", "b", "c"][restarted], 10);
        world.pass_and(START, watch);
        for k in 10..20 {
            let owner = world.track(nodes[restarted], "room", &(20 * restarted + k).to_string());
            owners[restarted].push(owner);
            world.pass_and(Duration::from_millis(50), watch);
        }
        // Those that found a new node in earlier rounds depart with that one: they come back, too.
        let moved = owners[restarted].len();
        assert!(moved >= 10);
        for name in (0..60).map(|n: usize| n.to_string()) {
            if !nodes.iter().any(|node| is_live(&world, *node, &name)) {
                owners[restarted].push(world.track(nodes[restarted], "room", &name));
            }
        }
        world.pass_and(12 * SECOND, watch);
        for node in nodes {
            assert_eq!(world.node(node).tracker.count("room"), 60);
        }
    }
}

#[test]
fn if_each_change_is_a_diff_a_departing_row_superseded_by_an_unseen_one_leaves_alone() {
    let mut world = World::new();
    world.windows = Windows::Each;
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    let c = world.start("c", 3);
    world.pass(START);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Gone, 10 * SECOND));
    // At c the other's presences aren't shown: it is just being heard again, and its first batches are lost.
    world.isolate(b);
    world.pass(4 * SECOND);
    let _other = world.track(b, "room", "8");
    drop(owner);
    world.mend();
    world.lose(move |sent| matches!(sent.message, ClusterMessage::Run { .. }) && sent.to == c);
    world.pass(1500 * SECOND / 1000);
    let again = world.track(b, "room", "7");
    drop(again);
    world.pass(MOMENT);
    world.lose(|_| false);
    world.pass(3 * SECOND);
    let mut told = std::collections::HashSet::new();
    let diffs = world.node(c).tracker.lock("room").topic_mut("room").unwrap().take_diffs();
    for diff in diffs {
        let joins: Vec<_> = diff.joins.iter().map(|joined| joined.reference).collect();
        assert!(diff.leaves.iter().all(|left| !joins.contains(&left.row.reference)));
        told.extend(diff.leaves.iter().map(|left| left.row.reference));
    }
    assert_eq!(world.keys(c, "room"), ["8"]);
    assert!(!told.is_empty());
}

#[test]
fn an_owner_that_has_ended_may_track_again_beside_its_departing_presences() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Gone, 5 * SECOND));
    let mut owner = world.track(a, "room", "7");
    owner.end(world.node(a).tracker.owner_exit());
    assert!(owner.update(&"room".into(), &key("7"), |meta| Ok::<_, ()>(meta.clone())).is_err());
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    world.pass(MOMENT);
    assert_eq!((world.node(a).tracker.count("room"), world.node(b).tracker.count("room")), (1, 1));
    owner.untrack("room", "7");
    world.pass(MOMENT);
    assert_eq!((world.node(a).tracker.count("room"), world.node(b).tracker.count("room")), (0, 0));
}

#[test]
fn a_late_goodbye_of_one_that_has_left_leaves_its_departing_presences() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let owner = world.track(a, "room", "7");
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Draining, 10 * SECOND));
    drop(owner);
    world.leave(a, 10 * SECOND);
    world.pass(MOMENT);
    world.kill(a);
    world.hear(b, ClusterMessage::Goodbye { from: replica("a", 1) });
    assert_eq!(world.keys(b, "room"), ["7"]);
    world.pass(11 * SECOND);
    assert!(world.keys(b, "room").is_empty());
}

#[test]
fn a_departed_set_is_taken_over_whole_though_its_holders_cut_it_differently() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    world.depart_with_large_set(a);
    // The first ones are replaced. Chunks from one of the two holders are lost now and then, so that the other is
    // asked.
    let owners: Vec<_> = (0..30).map(|n| world.track(b, "room", &format!("{n:02}"))).collect();
    world.pass(MOMENT);
    let mut chunks = 0;
    world.lose(move |sent| {
        let is_chunk = matches!(sent.message, ClusterMessage::Chunk { .. });
        chunks += usize::from(is_chunk);
        is_chunk && chunks % 3 == 2
    });
    let d = world.start("d", 9);
    world.pass(10 * SECOND);
    assert_eq!(world.keys(d, "room").len(), 100);
    assert_eq!(world.keys(d, "room"), world.keys(c, "room"));
    assert_eq!(world.node(d).tracker.count("room"), 100);
    drop(owners);
    world.pass(60 * SECOND);
    assert!(world.keys(d, "room").is_empty());
}

#[test]
fn a_replaced_presence_is_not_shown_again_when_its_node_comes_back() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Gone, 300 * SECOND));
    drop(owner);
    world.pass(MOMENT);
    // It doesn't hear that another presence takes the place of its own.
    world.isolate(a);
    let _owner = world.track(b, "room", "7");
    world.pass(5 * SECOND);
    world.mend();
    world.pass_and(5 * SECOND, |world| {
        assert_eq!([b, c].map(|node| world.node(node).tracker.count("room")), [1, 1]);
    });
    assert_eq!(world.node(a).tracker.count("room"), 1);
}

#[test]
fn a_presence_whose_grace_has_ended_is_not_shown_again_when_its_node_wakes() {
    let mut world = World::new();
    world.windows = Windows::Each;
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.pass(START);
    let owner = world.track(a, "room", "7");
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Gone, 5 * SECOND));
    drop(owner);
    world.pass(MOMENT);
    world.flush(b, "room");
    world.stop(a, true);
    world.pass(8 * SECOND);
    let (_, joins, leaves) = world.flush(b, "room");
    assert_eq!((joins, leaves), (0, 1));
    world.stop(a, false);
    world.pass(SECOND);
    assert_eq!(world.flush(b, "room"), (0, 0, 0));
}

#[test]
fn a_node_that_lacks_a_part_of_a_final_set_does_not_confirm_it() {
    let (mut world, [a, _]) = World::of(["a", "b"]);
    world.lose(move |sent| {
        let tells = matches!(
            sent.message,
            ClusterMessage::Batches { .. } | ClusterMessage::Run { .. } | ClusterMessage::Chunk { .. }
        );
        sent.from == a && tells
    });
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.leave(a, 10 * SECOND);
    world.pass(2 * SECOND);
    assert!(world.node(a).reports.contains(&Report::Left { held: 0, of: 1 }));
}

/// Whether an owner of this node tracks the key.
fn is_live(world: &World, node: usize, name: &str) -> bool {
    let mut rows = world.node(node).tracker.get_by_key("room", name).into_iter();
    rows.any(|row| row.owner != OwnerId::REMOTE)
}
