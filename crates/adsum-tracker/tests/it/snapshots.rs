//! Snapshots, chunk by chunk.

use std::{cell::RefCell, rc::Rc, time::Duration};

use adsum_tracker::{ClusterMessage, Meta};

use crate::{
    key,
    world::{MOMENT, World, replica},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_snapshot_goes_on_though_its_first_part_came_long_ago() {
    let mut world = World::new();
    world.options.heartbeat = 60 * SECOND;
    world.options.down_after = 180 * SECOND;
    world.options.sync_timeout = 120 * SECOND;
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.isolate(b);
    world.pass(130 * SECOND);
    let text = format!(r#"{{"padding":"{}"}}"#, "x".repeat(50_000));
    let mut owner = world.owner(a);
    for n in 0..8 {
        owner.track(&"room".into(), &key(&n.to_string()), Meta::from_encoded(text.clone())).unwrap();
        world.pass(MOMENT);
    }
    world.mend();
    // The second part is lost for half a minute.
    let mut until_lost = 0;
    world.lose(move |sent| {
        let is_second = matches!(sent.message, ClusterMessage::Chunk { index: 1, .. });
        until_lost += usize::from(is_second);
        is_second && until_lost <= 6
    });
    world.pass(150 * SECOND);
    assert_eq!(world.node(b).tracker.count("room"), 8);
}

/// A departed set is pulled from one of two holders, and either sends a chunk that isn't the next one.
fn takes_no_other_part(is_holders: bool, index: u32) {
    let (mut world, [a, _, _]) = World::of(["a", "b", "c"]);
    world.depart_with_large_set(a);
    // One holder has sent its first part, and the next is late.
    let first = Rc::new(RefCell::new(None));
    let seen = first.clone();
    world.lose(move |sent| match &sent.message {
        ClusterMessage::Chunk { from, shard, version, index: 0, count, .. } => {
            *seen.borrow_mut() = Some((from.name.to_string(), *shard, *version, *count));
            false
        }
        ClusterMessage::Chunk { .. } => true,
        _ => false,
    });
    let d = world.start("d", 9);
    world.pass(8 * MOMENT);
    let (holder, shard, version, count) = first.borrow().clone().unwrap();
    let from = if is_holders == (holder == "b") { replica("b", 2) } else { replica("c", 3) };
    let of = replica("a", 1);
    world.hear(d, ClusterMessage::Chunk { from, of, shard, version, index, count, topics: vec![] });
    world.lose(|_| false);
    world.pass(10 * SECOND);
    assert_eq!(world.keys(d, "room").len(), 100);
}

#[test]
fn a_part_of_another_nodes_snapshot_is_not_taken_for_the_next() {
    takes_no_other_part(false, 1);
}

#[test]
fn a_part_that_comes_twice_or_early_is_not_taken_for_the_next() {
    takes_no_other_part(true, 0);
    takes_no_other_part(true, 2);
}
