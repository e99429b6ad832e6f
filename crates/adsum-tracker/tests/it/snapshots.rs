//! Snapshots, chunk by chunk.

use std::{cell::RefCell, rc::Rc, time::Duration};

use adsum_tracker::{ClusterMessage, Effect, Meta, Report, shard_of};

use crate::{
    key, meta,
    world::{MOMENT, START, STEP, Sent, World, replica},
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

/// A node starts beside one with presences of 5 MB, and gets one in so many of the parts that the other sends.
fn takes_over_slowly(world: &mut World, every: usize) -> usize {
    let a = world.start("a", 1);
    let text = format!(r#"{{"padding":"{}"}}"#, "x".repeat(50_000));
    let mut owner = world.owner(a);
    for n in 0..100 {
        owner.track(&"room".into(), &key(&n.to_string()), Meta::from_encoded(text.clone())).unwrap();
    }
    // Until the world ends.
    std::mem::forget(owner);
    world.pass(START);
    let mut sent = 0;
    world.lose(move |message| {
        sent += usize::from(is_part(message));
        is_part(message) && !sent.is_multiple_of(every)
    });
    world.start("b", 2)
}

fn is_part(sent: &Sent) -> bool {
    matches!(sent.message, ClusterMessage::Chunk { .. })
}

fn said_ready(world: &World, node: usize) -> Vec<bool> {
    let said = world.node(node).reports.iter().filter_map(|report| match report {
        Report::Ready { synced } => Some(*synced),
        _ => None,
    });
    said.collect()
}

#[test]
fn a_node_waits_for_longer_than_the_sync_timeout_while_parts_come() {
    let mut world = World::new();
    let b = takes_over_slowly(&mut world, 4);
    world.pass(4 * world.options.sync_timeout);
    assert!((1..100).contains(&world.node(b).cluster.usage().rows));
    assert!(said_ready(&world, b).is_empty());
    world.pass(100 * SECOND);
    assert_eq!(world.node(b).tracker.count("room"), 100);
    assert_eq!(said_ready(&world, b), [true]);
}

#[test]
fn a_node_that_gets_no_more_parts_says_so_after_the_sync_timeout() {
    let mut world = World::new();
    let b = takes_over_slowly(&mut world, 4);
    while world.count(is_part) < 10 {
        world.pass(MOMENT);
    }
    world.lose(is_part);
    world.pass(Duration::from_millis(4900));
    assert!(said_ready(&world, b).is_empty());
    world.pass(3 * MOMENT);
    assert_eq!(said_ready(&world, b), [false]);
}

#[test]
fn a_node_waits_ten_minutes_at_most_however_steadily_parts_come() {
    let mut world = World::new();
    world.options.sync_timeout = 60 * SECOND;
    let b = takes_over_slowly(&mut world, 12);
    world.pass(599 * SECOND);
    assert!(said_ready(&world, b).is_empty());
    world.pass(2 * SECOND);
    assert_eq!(said_ready(&world, b), [false]);
    assert!((1..100).contains(&world.node(b).cluster.usage().rows));
}

#[test]
fn a_departed_set_whose_grace_ends_before_it_has_come_keeps_no_node_waiting() {
    let (mut world, [a, _]) = World::of(["a", "b"]);
    world.depart_with_large_set(a);
    world.pass(Duration::from_millis(56_900));
    // The set is offered, and comes too late.
    world.lose(is_part);
    let c = world.start("c", 9);
    world.pass(Duration::from_millis(2950));
    assert!(said_ready(&world, c).is_empty());
    world.pass(SECOND);
    assert_eq!(said_ready(&world, c), [true]);
}

#[test]
fn a_node_that_starts_beside_many_pulls_no_more_at_once_than_its_queues_hold() {
    let mut world = World::new();
    let nodes: Vec<usize> = (1..=20).map(|n| world.start(&format!("n{n}"), n)).collect();
    let owners: Vec<_> = nodes
        .iter()
        .flat_map(|node| (0..200).map(|n| world.track(*node, &format!("room:{n}"), "k")))
        .collect();
    world.pass(START);
    world.lose(|sent| matches!(sent.message, ClusterMessage::Run { .. }) || is_part(sent));
    let last = world.start("last", 21);
    world.pass(4 * MOMENT);
    let pulls = world
        .count(|sent| matches!(&sent.message, ClusterMessage::Pull { from, .. } if *from.name == *"last"));
    assert!((20..=64).contains(&pulls), "{pulls} pulls");
    world.lose(|_| false);
    world.pass(2 * START);
    assert_eq!(world.node(last).tracker.count("room:7"), 20);
    drop(owners);
}

#[test]
fn changes_of_many_shards_share_the_messages() {
    let mut world = World::new();
    world.options.batch_interval = 10 * STEP;
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.pass(START);
    let mut owner = world.owner(a);
    let is_batches = |sent: &Sent| matches!(sent.message, ClusterMessage::Batches { .. });
    let before = world.count(is_batches);
    // One topic after the other, in all shards, within four intervals.
    for n in 0..200 {
        owner.track(&format!("room:{n}").into(), &key("k"), meta()).unwrap();
        if n % 5 == 4 {
            world.pass(STEP);
        }
    }
    world.pass(MOMENT);
    let messages = world.count(is_batches) - before;
    assert!((1..=6).contains(&messages), "{messages} messages");
    assert_eq!(world.node(b).tracker.count("room:199"), 1);
}

#[test]
fn a_large_snapshot_is_read_while_its_node_does_other_things() {
    let (mut world, [a]) = World::of(["a"]);
    let mut crowd = world.owner(a);
    for n in 0..20_000 {
        crowd.track(&"room".into(), &key(&n.to_string()), meta()).unwrap();
    }
    world.pass(MOMENT);
    let (me, hers) = (world.node(a).cluster.replica().clone(), replica("b", 2));
    let shard = shard_of("room") as u8;
    let pull = ClusterMessage::Pull { from: hers, of: me, shard, have: 0, chunk: None };
    let now = world.now;
    let node = world.node_mut(a);
    node.cluster.handle(now, pull);
    let mut turns = 0;
    let is_chunk = |effect: &Effect| matches!(effect, Effect::Send(_, ClusterMessage::Chunk { .. }));
    while !node.cluster.take_effects().iter().any(is_chunk) {
        assert!(node.cluster.wake_at() <= now, "it is to go on at once");
        node.cluster.tick(now);
        turns += 1;
    }
    assert!((5..50).contains(&turns), "{turns} turns");
    assert!(node.cluster.wake_at() > now, "there is nothing more to do");
}

#[test]
fn snapshots_of_one_version_are_cut_alike() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let in_shard = |n: &usize| shard_of(&format!("room-{n}")) == 0;
    let topics: Vec<_> = (0..).filter(in_shard).take(300).map(|n| format!("room-{n}")).collect();
    let large = Meta::from_encoded(format!(r#"{{"padding":"{}"}}"#, "x".repeat(8000)));
    let (mut of_a, mut of_b) = (world.owner(a), world.owner(b));
    for topic in &topics[..60] {
        of_a.track(&topic.as_str().into(), &key("7"), large.clone()).unwrap();
        world.pass(MOMENT);
    }
    let first = |world: &mut World| {
        let (from, of) = (replica("asks", 9), world.node(a).cluster.replica().clone());
        world.hear(a, ClusterMessage::Pull { from, of, shard: 0, have: 0, chunk: None });
        let effects = world.node_mut(a).cluster.take_effects();
        effects.into_iter().find_map(|effect| match effect {
            Effect::Send(_, ClusterMessage::Chunk { version, count, topics, .. }) => {
                Some((version, count, topics.into_iter().map(|(topic, _)| topic).collect::<Vec<_>>()))
            }
            _ => None,
        })
    };
    let before = first(&mut world).unwrap();
    assert!(before.1 > 2);
    // The table of topics grows, and the snapshot isn't kept any more.
    for topic in &topics[60..] {
        of_b.track(&topic.as_str().into(), &key("8"), meta()).unwrap();
    }
    world.pass(12 * SECOND);
    assert_eq!(first(&mut world).unwrap(), before);
}
