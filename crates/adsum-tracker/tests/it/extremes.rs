//! A stranger sends complete messages with any values: nothing panics, and the nodes go on among themselves.

use std::time::Duration;

use adsum_pubsub::MAX_MESSAGE_BYTES;
use adsum_tracker::{
    Batch, ClusterMessage, Effect, LeaveReason, MAX_GRACE, MAX_META_BYTES, Meta, OwnerExit, OwnerId, Ref,
    RowChange, shard_of,
};
use proptest::prelude::*;

use crate::{
    key,
    stranger::Stranger,
    world::{MOMENT, World, replica},
};

fn name_of(reference: Ref) -> [u8; 12] {
    postcard::to_allocvec(&reference).unwrap().try_into().unwrap()
}

/// Returns the presences of a topic on a node.
fn view(world: &World, node: usize, topic: &str) -> Vec<(String, Vec<Ref>)> {
    let list = world.node(node).tracker.list(topic).into_iter();
    let mut view: Vec<_> = list
        .map(|(key, rows)| {
            let mut refs: Vec<Ref> = rows.iter().map(|row| row.reference).collect();
            refs.sort();
            (key.to_string(), refs)
        })
        .collect();
    view.sort();
    view
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nodes_agree_whatever_a_stranger_has_said(choices in prop::collection::vec(any::<u8>(), 1..600)) {
        let mut world = World::new();
        world.options.forget_after = Duration::from_secs(10);
        let (a, b) = (world.start("a", 1), world.start("b", 2));
        world.pass(Duration::from_secs(3));
        let _before = [world.track(a, "room", "7"), world.track(b, "room", "guest"), world.track(b, "hall", "7")];
        let mut leaves = world.track(a, "hall", "guest");
        world.pass(MOMENT);
        let names: Vec<_> = ["room", "hall"]
            .iter()
            .flat_map(|topic| world.node(a).tracker.list(topic))
            .flat_map(|(_, rows)| rows)
            .map(|row| name_of(row.reference))
            .collect();
        let nodes = [replica("a", 1), replica("b", 2)];
        let mut stranger = Stranger { choices: &choices, nodes: &nodes, names: &names };
        let mut count = 0;
        while let Some(wire) = stranger.next() {
            count += 1;
            if let Ok(message) = ClusterMessage::decode(&wire) {
                prop_assert_eq!(ClusterMessage::decode(&message.encode()), Ok(message.clone()));
                world.hear(a, message.clone());
                world.hear(b, message);
            }
            if count % 4 == 0 {
                world.pass(MOMENT);
            }
        }
        world.pass(MOMENT);
        leaves.end(OwnerExit::Depart(LeaveReason::Gone, Duration::from_secs(1)));
        let _after = [world.track(a, "room", "8"), world.track(b, "hall", "8")];
        // Until the stranger is forgotten.
        world.pass(MAX_GRACE.min(Duration::from_secs(30)));
        prop_assert_eq!(world.keys(a, "room").iter().filter(|key| *key == "8").count(), 1);
        let late = [world.track(a, "hall", "9"), world.track(b, "room", "9")];
        world.pass(Duration::from_secs(3));
        for topic in ["room", "hall"] {
            let own = |node: usize| -> Vec<Ref> {
                let list = world.node(node).tracker.list(topic).into_iter().flat_map(|(_, rows)| rows);
                let mut own: Vec<Ref> =
                    list.filter(|row| row.owner != OwnerId::REMOTE).map(|row| row.reference).collect();
                own.sort();
                own
            };
            for (one, other) in [(a, b), (b, a)] {
                let seen = view(&world, other, topic).into_iter().flat_map(|(_, refs)| refs).collect::<Vec<_>>();
                for reference in own(one) {
                    prop_assert!(seen.contains(&reference), "{} of {} is missing at {}", reference, one, other);
                }
            }
        }
        drop(late);
    }
}

#[test]
fn a_grace_beyond_all_time_is_read_as_the_longest() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    let reference = world.refs(b, "room", "7")[0];
    let depart = |version, grace| {
        let change = RowChange::Depart { reference, reason: LeaveReason::Gone, grace };
        let batch =
            Batch { shard: shard_of("room") as u8, version, topics: vec![("room".into(), vec![change])] };
        let message = ClusterMessage::Batches { from: replica("a", 1), batches: vec![batch.into()] };
        ClusterMessage::decode(&message.encode()).unwrap()
    };
    assert_eq!(depart(2, MAX_GRACE), depart(2, MAX_GRACE), "the longest is as it was");
    assert_eq!(depart(2, MAX_GRACE + Duration::from_nanos(1)), depart(2, MAX_GRACE));
    assert_ne!(depart(2, MAX_GRACE.saturating_sub(Duration::from_nanos(1))), depart(2, MAX_GRACE));
    world.hear(b, depart(2, Duration::MAX));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.keys(b, "room"), ["7"]);
}

#[test]
fn a_linger_without_an_end_ends_with_the_longest_grace() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    world.options.heartbeat = Duration::from_mins(1);
    let mut owner = world.track(a, "room", "7");
    owner.end(OwnerExit::Depart(LeaveReason::Gone, Duration::MAX));
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["7"]);
    assert_eq!(world.node(a).cluster.usage().departing, 1);
    let now = world.now + MAX_GRACE;
    world.node_mut(a).cluster.tick(now);
    assert_eq!(world.node(a).tracker.count("room"), 0, "it ends on its own node");
}

#[test]
fn the_last_batches_of_a_node_are_given_by_their_versions() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    for have in [0, 1, 2, adsum_tracker::MAX_VERSION] {
        let shard = shard_of("room") as u8;
        world.hear(
            b,
            ClusterMessage::Pull { from: replica("a", 1), of: replica("b", 2), shard, have, chunk: None },
        );
    }
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["7"]);
}

#[test]
fn a_copied_name_costs_nobody_a_presence() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    let reference = world.refs(a, "room", "7")[0];
    // A third node claims to both that the same presence is its own.
    let mut names = World::new();
    let c = names.start("c", 3);
    names.pass(Duration::from_secs(3));
    let _of_c = names.track(c, "room", "7");
    let join = {
        let now = names.now + MOMENT;
        names.node_mut(c).cluster.tick(now);
        let effects = names.node_mut(c).cluster.take_effects();
        let said = effects.into_iter().find_map(|effect| match effect {
            Effect::Broadcast(ClusterMessage::Batches { batches, .. }) => Some((*batches[0]).clone()),
            _ => None,
        });
        said.expect("it tells of its presence")
    };
    let mut copied = join;
    let RowChange::Join(row) = &mut copied.topics[0].1[0] else { panic!("it has joined") };
    row.reference = reference;
    let version = copied.version;
    let mut versions = vec![0; 64];
    versions[usize::from(copied.shard)] = version;
    let versions = postcard::from_bytes(&postcard::to_allocvec(&versions).unwrap()).unwrap();
    let from = replica("c", 3);
    for node in [a, b] {
        world.hear(
            node,
            ClusterMessage::Heartbeat { from: from.clone(), region: None, versions: Clone::clone(&versions) },
        );
        world
            .hear(node, ClusterMessage::Batches { from: from.clone(), batches: vec![copied.clone().into()] });
        assert_eq!(world.node(node).tracker.count("room"), 1, "a name is given once");
    }
    // The stranger is silent, and goes.
    world.pass(Duration::from_secs(4));
    for node in [a, b] {
        assert_eq!(world.refs(node, "room", "7"), [reference]);
    }
    drop(owner);
    world.pass(MOMENT);
    for node in [a, b] {
        assert_eq!(world.node(node).tracker.count("room"), 0);
    }
}

#[test]
fn presences_at_the_limits_always_fit_a_message() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let large = |n: usize| Meta::from_encoded(format!("{{\"n\":\"{}\"}}", "x".repeat(n - 8)));
    let mut owner = world.owner(a);
    // Windows close early, and both batches and chunks carry more than their target size.
    for n in 0..24 {
        let name = format!("{n:02}{}", "k".repeat(253));
        let bytes = if n % 3 == 0 { 64 * 1024 } else { 60_000 };
        owner.track(&"room".into(), &key(&name), large(bytes)).unwrap();
    }
    world.pass(MOMENT);
    assert_eq!(world.node(b).tracker.count("room"), 24);
    let c = world.start("c", 3);
    world.pass(Duration::from_secs(4));
    assert_eq!(world.node(c).tracker.count("room"), 24);
    let largest = world.delivered.iter().map(|sent| sent.message.encode().len()).max().unwrap();
    assert!(largest > 200 * 1024, "some are large");
    assert!(largest + MAX_META_BYTES - 64 * 1024 <= MAX_MESSAGE_BYTES, "{largest}");
}
