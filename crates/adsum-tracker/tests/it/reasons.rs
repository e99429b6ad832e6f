//! Other nodes learn why and when a presence left, whatever messages were lost.

use std::{cell::Cell, rc::Rc, time::Duration};

use adsum_tracker::{
    Bare, ClusterMessage, Effect, LeaveReason, Meta, OwnerExit, PresenceRow, RawOwner, Ref, RowChange,
    between_holds, shard_of,
};

use crate::{
    key, meta,
    world::{MOMENT, START, STEP, Sent, World, replica},
};

const SECOND: Duration = Duration::from_secs(1);

fn update(owner: &mut RawOwner<Bare>, name: &str, text: &str) {
    owner.update(&"room".into(), &key(name), |_| Ok::<_, ()>(Meta::from_encoded(text))).unwrap();
}

/// Takes the room's diffs on a node, and returns the refs that leave, with their reasons.
fn leaves(world: &World, node: usize) -> Vec<(Ref, Option<LeaveReason>)> {
    let mut shard = world.node(node).tracker.lock("room");
    let diffs = shard.topic_mut("room").map_or_else(Vec::new, adsum_tracker::TopicSet::take_diffs);
    let leaves = diffs.iter().flat_map(|diff| &diff.leaves);
    leaves.map(|left| (left.row.reference, left.reason)).collect()
}

/// Lets the owner's presences stay for a grace.
fn depart(world: &World, node: usize, owner: RawOwner<Bare>, grace: Duration) {
    world.node(node).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Gone, grace));
    drop(owner);
}

fn carries_changes(sent: &Sent) -> bool {
    matches!(sent.message, ClusterMessage::Batches { .. })
}

#[test]
fn a_presence_that_changes_and_leaves_within_a_window_has_left_on_other_nodes_too() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    let [reference] = world.refs(b, "room", "7")[..] else { panic!("one is listed") };
    world.flush(b, "room");
    update(&mut owner, "7", r#"{"n":1}"#);
    update(&mut owner, "7", r#"{"n":2}"#);
    owner.untrack("room", "7");
    world.pass(MOMENT);
    assert_eq!(leaves(&world, b), [(reference, Some(LeaveReason::Left))]);
}

#[test]
fn other_nodes_are_told_each_reason() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    for reason in [LeaveReason::Finished, LeaveReason::Crashed, LeaveReason::Cancelled] {
        let mut owner = world.track(a, "room", "7");
        world.pass(MOMENT);
        let [reference] = world.refs(b, "room", "7")[..] else { panic!("one is listed") };
        world.flush(b, "room");
        owner.end(world.node(a).tracker.owner_exit().because(reason));
        world.pass(MOMENT);
        assert_eq!(leaves(&world, b), [(reference, Some(reason))]);
    }
}

#[test]
fn an_update_that_a_snapshot_makes_up_for_leaves_for_no_reason() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    owner.track(&"room".into(), &key("gone"), meta()).unwrap();
    owner.track(&"room".into(), &key("often"), meta()).unwrap();
    world.pass(MOMENT);
    let ([updated], [gone]) = (&world.refs(b, "room", "7")[..], &world.refs(b, "room", "gone")[..]) else {
        panic!("both are listed")
    };
    let (updated, gone, often) = (*updated, *gone, world.refs(b, "room", "often")[0]);
    world.flush(b, "room");
    world.lose(|sent| carries_changes(sent) || matches!(sent.message, ClusterMessage::Pull { .. }));
    update(&mut owner, "7", r#"{"n":1}"#);
    owner.untrack("room", "gone");
    for _ in 0..3 {
        update(&mut owner, "often", "{}");
        world.pass(MOMENT);
    }
    // More than the log keeps.
    let large = format!(r#"{{"padding":"{}"}}"#, "x".repeat(50_000));
    owner.track(&"room".into(), &key("large"), Meta::from_encoded("{}")).unwrap();
    for _ in 0..12 {
        update(&mut owner, "large", &large);
        world.pass(MOMENT);
    }
    world.lose(|_| false);
    world.pass(2 * SECOND);
    let told = leaves(&world, b);
    assert!(told.contains(&(updated, None)), "{told:?}");
    assert!(told.contains(&(often, None)), "{told:?}");
    // The reason of that leave isn't known any more.
    assert!(told.contains(&(gone, Some(LeaveReason::Gone))), "{told:?}");
    assert_eq!(world.refs(b, "room", "7"), world.refs(a, "room", "7"));
}

/// Two presences of a node, the first of which is updated so many times, which another node only learns from the first of a
/// snapshot's two chunks. Returns the version that it knew, and the owner.
fn updates_in_half_a_snapshot(updates: usize) -> (World, [usize; 2], Ref, RawOwner<Bare>) {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    world.pass(MOMENT);
    let known = world.refs(b, "room", "7")[0];
    world.flush(b, "room");
    world.lose(|sent| carries_changes(sent) || matches!(sent.message, ClusterMessage::Pull { .. }));
    for _ in 0..updates {
        update(&mut owner, "7", "{}");
        world.pass(MOMENT);
    }
    let cluster = &mut world.node_mut(a).cluster;
    cluster.turn(1);
    cluster.forget_published();
    world
        .lose(|sent| carries_changes(sent) || matches!(sent.message, ClusterMessage::Chunk { index: 1, .. }));
    world.pass(2 * SECOND);
    assert!(world.refs(b, "room", "7").contains(&world.refs(a, "room", "7")[0]), "the first chunk has come");
    (world, [a, b], known, owner)
}

#[test]
fn an_update_in_a_chunk_of_a_snapshot_takes_the_place_of_the_version_before_at_once() {
    let (world, [a, b], known, _owner) = updates_in_half_a_snapshot(1);
    assert_eq!(world.refs(b, "room", "7"), world.refs(a, "room", "7"));
    assert_eq!(leaves(&world, b), [(known, None)]);
}

#[test]
fn an_update_that_half_a_snapshot_has_told_leaves_for_no_reason_in_a_later_one() {
    let (mut world, [a, b], known, mut owner) = updates_in_half_a_snapshot(3);
    // The rest of the snapshot isn't kept any more when it is asked for.
    world.lose(|sent| carries_changes(sent) || matches!(sent.message, ClusterMessage::Pull { .. }));
    world.pass(12 * SECOND);
    update(&mut owner, "8", "{}");
    world.pass(MOMENT);
    world.node(a).cluster.forget_published();
    world.lose(|_| false);
    world.pass(5 * SECOND);
    assert_eq!(world.refs(b, "room", "7"), world.refs(a, "room", "7"));
    assert_eq!(world.refs(b, "room", "8"), world.refs(a, "room", "8"));
    let told = leaves(&world, b);
    assert!(told.contains(&(known, None)), "{told:?}");
}

#[test]
fn an_update_that_a_snapshot_tells_before_its_first_version_is_heard_leaves_for_no_reason() {
    for updates in 1..=2 {
        let (mut world, [a, b]) = World::of(["a", "b"]);
        let mut owner = world.owner(a);
        for n in 0..9 {
            owner.track(&"room".into(), &key(&n.to_string()), meta()).unwrap();
        }
        world.pass(MOMENT);
        world.lose(carries_changes);
        update(&mut owner, "0", "{}");
        world.pass(MOMENT);
        let cluster = &mut world.node_mut(a).cluster;
        cluster.turn(1);
        cluster.forget_published();
        // While a snapshot is read, one row after the other.
        world.lose(|_| false);
        while world.count(|sent| matches!(sent.message, ClusterMessage::Pull { .. })) == 0 {
            world.pass(STEP);
        }
        let first = owner.track(&"room".into(), &key("last"), meta()).unwrap();
        world.pass(STEP);
        world.lose(|sent| matches!(sent.message, ClusterMessage::Batches { .. }));
        for _ in 0..updates {
            update(&mut owner, "last", "{}");
        }
        world.pass(SECOND / 2);
        assert_eq!(world.refs(b, "room", "last"), [world.refs(a, "room", "last")[0], first]);
        world.flush(b, "room");
        world.node(a).cluster.forget_published();
        world.pass(2 * SECOND);
        assert_eq!(leaves(&world, b), [(first, None)], "after {updates}");
        assert_eq!(world.refs(b, "room", "last"), world.refs(a, "room", "last"));
    }
}

#[test]
fn a_presence_about_to_leave_when_its_node_is_drained_leaves_for_its_own_reason() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let owner = world.track(a, "room", "7");
    let stays = world.track(a, "room", "8");
    world.pass(MOMENT);
    let (gone, drained) = (world.refs(b, "room", "7")[0], world.refs(b, "room", "8")[0]);
    world.flush(b, "room");
    depart(&world, a, owner, 10 * SECOND);
    world.pass(MOMENT);
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Draining, 2 * SECOND));
    drop(stays);
    world.leave(a, 2 * SECOND);
    world.pass(MOMENT);
    world.kill(a);
    world.pass(3 * SECOND);
    let mut told = leaves(&world, b);
    told.sort_by_key(|(reference, _)| *reference);
    let mut expected = [(gone, Some(LeaveReason::Gone)), (drained, Some(LeaveReason::Draining))];
    expected.sort_by_key(|(reference, _)| *reference);
    assert_eq!(told, expected);
}

#[test]
fn a_later_notice_does_not_lengthen_a_grace() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    depart(&world, a, owner, 2 * SECOND);
    world.pass(MOMENT);
    world.leave(a, 60 * SECOND);
    world.pass(MOMENT);
    world.kill(a);
    world.pass(SECOND);
    assert_eq!(world.keys(b, "room"), ["7"]);
    world.pass(SECOND);
    assert!(world.keys(b, "room").is_empty());
}

#[test]
fn a_departing_presence_that_is_heard_of_late_does_not_outlive_the_grace_of_its_node() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    world.lose(carries_changes);
    let owner = world.track(a, "room", "7");
    depart(&world, a, owner, 60 * SECOND);
    world.leave(a, 5 * SECOND);
    world.pass(SECOND / 2);
    world.kill(a);
    assert_eq!(world.keys(b, "room"), ["7"]);
    world.pass(5 * SECOND);
    assert!(world.keys(b, "room").is_empty());
}

#[test]
fn one_whose_place_was_taken_by_one_that_has_gone_too_is_not_shown_when_it_is_heard_of_late() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    world.lose(move |sent| sent.to == c && sent.from == a && carries_changes(sent));
    // Its own node doesn't hear of it, and keeps it.
    world.cut(b, a);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    depart(&world, a, owner, 300 * SECOND);
    world.pass(MOMENT);
    assert_eq!(world.node(b).tracker.count("room"), 1);
    drop(world.track(b, "room", "7"));
    world.pass(MOMENT);
    world.lose(|_| false);
    world.pass_and(2 * SECOND, |world| assert!(world.keys(c, "room").is_empty(), "at {:?}", world.now));
    // It has been heard of.
    assert_eq!(world.node(c).cluster.usage().rows, 1);
}

#[test]
fn one_whose_place_was_taken_is_remembered_for_as_long_as_its_node_has_it() {
    let mut world = World::new();
    world.options.forget_after = 5 * SECOND;
    let (a, b, c) = (world.start("a", 1), world.start("b", 2), world.start("c", 3));
    world.pass(START);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    depart(&world, a, owner, 300 * SECOND);
    world.pass(MOMENT);
    world.cut(b, a);
    let _owner = world.track(b, "room", "7");
    world.pass(20 * SECOND);
    // It is hidden, and shown again.
    world.cut(a, c);
    world.pass(4 * SECOND);
    world.mend();
    world.cut(b, a);
    world.pass_and(3 * SECOND, |world| assert_eq!(world.node(c).tracker.count("room"), 1));
}

#[test]
fn a_hidden_node_that_leaves_is_shown_as_it_is_in_the_end_and_not_as_it_was() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.cut(a, b);
    world.pass(4 * SECOND);
    owner.untrack("room", "7");
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    world.pass(MOMENT);
    // Its goodbye is the first message heard from it again.
    world.lose(|sent| carries_changes(sent) || matches!(sent.message, ClusterMessage::Heartbeat { .. }));
    world.mend();
    world.leave(a, 10 * SECOND);
    world.pass_and(SECOND, |world| assert!(!world.keys(b, "room").contains(&"7".to_owned())));
    assert_eq!(world.keys(b, "room"), ["8"]);
}

/// Pulls a snapshot of the room from a node. Returns its version, and the rows of its first part.
fn snapshot(world: &mut World, node: usize) -> (u64, Vec<PresenceRow>) {
    let (from, shard) = (replica("asks", 9), shard_of("room") as u8);
    let of = world.node(node).cluster.replica().clone();
    world.hear(node, ClusterMessage::Pull { from, of, shard, have: 0, chunk: None });
    let effects = world.node_mut(node).cluster.take_effects();
    let chunk = effects.into_iter().find_map(|effect| match effect {
        Effect::Send(_, ClusterMessage::Chunk { version, topics, .. }) => Some((version, topics)),
        _ => None,
    });
    let (version, topics) = chunk.expect("it is answered with a snapshot");
    (version, topics.into_iter().flat_map(|(_, rows)| rows).collect())
}

#[test]
fn a_presence_that_is_updated_while_a_snapshot_is_read_is_in_it() {
    for turn in 0..8 {
        let (mut world, [a]) = World::of(["a"]);
        let large = format!(r#"{{"padding":"{}"}}"#, "x".repeat(50_000));
        let mut owner = world.track(a, "room", "7");
        // More than the log keeps.
        for _ in 0..12 {
            owner.track(&"room".into(), &key("large"), Meta::from_encoded(large.clone())).unwrap();
            world.pass(MOMENT);
            owner.untrack("room", "large");
        }
        world.pass(MOMENT);
        let mut turns = 0;
        between_holds(Some(Box::new(move || {
            if turns >= turn {
                update(&mut owner, "7", "{}");
            }
            turns += 1;
        })));
        let (_, rows) = snapshot(&mut world, a);
        between_holds(None);
        assert!(rows.iter().any(|row| row.key == key("7")), "at release {turn}");
    }
}

#[test]
fn a_snapshot_is_that_of_its_version_whatever_begins_to_leave_or_comes_while_it_is_read() {
    // In each round, at another release of the lock.
    for turn in 0..8 {
        let (mut world, [a]) = World::of(["a"]);
        let large = format!(r#"{{"padding":"{}"}}"#, "x".repeat(50_000));
        let mut owner = world.track(a, "room", "departs");
        world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Gone, 60 * SECOND));
        let departing = world.refs(a, "room", "departs")[0];
        // More than the log keeps.
        for _ in 0..12 {
            owner.track(&"room".into(), &key("large"), Meta::from_encoded(large.clone())).unwrap();
            world.pass(MOMENT);
            owner.untrack("room", "large");
        }
        world.pass(MOMENT);
        let mut departs = Some(owner);
        let mut comes = world.owner(a);
        let mut turns = 0;
        let comes_as = Rc::new(Cell::new(None));
        let came = comes_as.clone();
        between_holds(Some(Box::new(move || {
            if turns == turn {
                drop(departs.take());
                came.set(Some(comes.track(&"room".into(), &key("zz"), meta()).unwrap()));
            }
            turns += 1;
        })));
        let (version, rows) = snapshot(&mut world, a);
        between_holds(None);
        let row = |reference| rows.iter().find(|row| row.reference == reference);
        assert!(row(departing).is_some(), "one that is there yet is missing");
        // The rows of a later batch aren't known yet.
        let shard = shard_of("room") as u8;
        let (from, of) = (replica("asks", 9), world.node(a).cluster.replica().clone());
        world.pass(MOMENT);
        world.hear(a, ClusterMessage::Pull { from, of, shard, have: version, chunk: None });
        let later = world.node_mut(a).cluster.take_effects();
        let joins = later.iter().filter_map(|effect| match effect {
            Effect::Send(_, ClusterMessage::Run { batches, .. }) => Some(batches),
            _ => None,
        });
        let joins = joins.flatten().flat_map(|batch| &batch.topics).flat_map(|(_, changes)| changes);
        let joins: Vec<Ref> = joins
            .filter_map(|change| match change {
                RowChange::Join(row) => Some(row.reference),
                _ => None,
            })
            .collect();
        if let Some(new) = comes_as.get() {
            assert_ne!(joins.contains(&new), row(new).is_some(), "it is in one of both");
        }
    }
}

#[test]
fn a_snapshot_names_a_departure_that_has_not_been_looked_at_yet() {
    let (mut world, [a]) = World::of(["a"]);
    let large = format!(r#"{{"padding":"{}"}}"#, "x".repeat(50_000));
    let mut owner = world.owner(a);
    // More than the log keeps.
    for n in 0..12 {
        owner.track(&"room".into(), &key(&n.to_string()), Meta::from_encoded(large.clone())).unwrap();
        world.pass(MOMENT);
    }
    depart(&world, a, owner, 60 * SECOND);
    let (_, rows) = snapshot(&mut world, a);
    assert!(!rows.is_empty());
    let departing = Some((LeaveReason::Gone, 60 * SECOND));
    assert!(rows.iter().all(|row| row.departing == departing), "{:?}", rows[0].departing);
}
