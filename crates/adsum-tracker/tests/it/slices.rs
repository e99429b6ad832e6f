//! Changes while a snapshot is read slice by slice: another thread runs whenever the shard is unlocked.

use std::{collections::BTreeSet, time::Duration};

use adsum_tracker::{ClusterMessage, LeaveReason, Meta, OwnerExit, between_holds};

use crate::{
    key, meta,
    world::{START, STEP, World},
};

/// Enough rows for many slices, and for more than the log keeps.
const ROWS: usize = 5000;

fn name(n: usize) -> String {
    format!("{n:04}")
}

fn listed(world: &World, node: usize) -> BTreeSet<String> {
    world.keys(node, "room").into_iter().collect()
}

fn more_than_is_kept() -> Meta {
    Meta::from_encoded(format!(r#"{{"padding":"{}"}}"#, "x".repeat(100)))
}

#[test]
fn a_row_that_comes_and_goes_while_a_snapshot_is_read_is_not_in_it() {
    let (mut world, [a]) = World::of(["a"]);
    let mut crowd = world.owner(a);
    for n in 0..ROWS {
        crowd.track(&"room".into(), &key(&name(n)), more_than_is_kept()).unwrap();
    }
    world.pass(START);
    let mut other = world.owner(a);
    let mut are_there = false;
    between_holds(Some(Box::new(move || {
        // At every other unlock some rows of each slice are added, and at the next one they are removed.
        are_there = !are_there;
        for n in (0..ROWS).step_by(100) {
            let key = key(&format!("{}-other", name(n)));
            if are_there {
                other.track(&"room".into(), &key, meta()).unwrap();
            } else {
                other.untrack("room", &key);
            }
        }
    })));
    let b = world.start("b", 2);
    world.pass(3 * START);
    between_holds(None);
    world.pass(START);
    assert_eq!(listed(&world, a).len(), ROWS);
    assert_eq!(listed(&world, b), listed(&world, a));
}

#[test]
fn a_snapshot_that_is_read_while_changes_are_published_loses_none_of_them() {
    const MANY: usize = 30_000;
    let (mut world, [a]) = World::of(["a"]);
    let mut crowd = world.owner(a);
    for n in 0..MANY {
        crowd.track(&"room".into(), &key(&format!("{n:05}")), meta()).unwrap();
    }
    world.pass(START);
    let b = world.start("b", 2);
    // Each step reads on, and publishes what has changed before.
    for turn in 0..600 {
        for n in (turn % 97..MANY).step_by(977) {
            let (known, new) = (key(&format!("{n:05}")), key(&format!("{n:05}-new")));
            crowd.untrack("room", &new);
            if turn % 2 == 0 {
                crowd.track(&"room".into(), &new, meta()).unwrap();
            }
            crowd.update(&"room".into(), &known, |_| Ok::<_, ()>(meta())).unwrap();
        }
        world.pass(STEP);
    }
    world.pass(START);
    assert!(world.count(|sent| matches!(sent.message, ClusterMessage::Chunk { .. })) > 10);
    assert_eq!(listed(&world, b), listed(&world, a));
    let refs = |node| {
        let groups = world.node(node).tracker.list("room").into_iter().flat_map(|(_, rows)| rows);
        groups.map(|row| row.reference).collect::<Vec<_>>()
    };
    assert_eq!(refs(b), refs(a));
}

#[test]
fn a_row_that_begins_to_depart_while_a_snapshot_is_read_is_in_it() {
    let (mut world, [a]) = World::of(["a"]);
    let owners = (0..ROWS).map(|n| {
        let mut owner = world.owner(a);
        owner.track(&"room".into(), &key(&name(n)), more_than_is_kept()).unwrap();
        owner
    });
    let mut owners: Vec<_> = owners.collect();
    world.pass(START);
    world.node(a).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Gone, Duration::from_mins(1)));
    let kept = owners.split_off(ROWS / 2);
    let mut going = owners.into_iter();
    between_holds(Some(Box::new(move || drop(going.next()))));
    let b = world.start("b", 2);
    world.pass(3 * START);
    // Its rows haven't begun to depart.
    world.node(a).tracker.set_owner_exit(OwnerExit::Leave(LeaveReason::Gone));
    assert_eq!(listed(&world, a).len(), ROWS);
    assert_eq!(listed(&world, b), listed(&world, a));
    between_holds(None);
    drop(kept);
}
