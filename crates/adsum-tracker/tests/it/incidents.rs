//! Losses are made up for soon, busy shards stay cheap, and messages from strangers change nothing.

use std::time::Duration;

use adsum_tracker::{ClusterMessage, Meta, Report};

use crate::{
    key, meta,
    world::{MOMENT, Sent, World, replica},
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Drops the first of these messages.
fn lose_first(world: &mut World, is_meant: impl Fn(&Sent) -> bool + 'static) {
    let mut lost = false;
    world.lose(move |sent| {
        let is_first = !lost && is_meant(sent);
        lost |= is_first;
        is_first
    });
}

fn carries_changes(sent: &Sent) -> bool {
    matches!(sent.message, ClusterMessage::Batches { .. })
}

#[test]
fn a_lost_change_is_made_up_for_at_once_when_the_next_one_comes() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    lose_first(&mut world, carries_changes);
    let mut owner = world.track(a, "room", "7");
    world.pass(10 * MS);
    assert!(world.keys(b, "room").is_empty());
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    // The change, some jitter, and the answer.
    world.pass(25 * MS);
    assert_eq!(world.keys(b, "room"), ["7", "8"]);
}

#[test]
fn a_lost_answer_is_asked_for_again_within_a_heartbeat() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut lost = (false, false);
    world.lose(move |sent| match &sent.message {
        ClusterMessage::Batches { .. } => !std::mem::replace(&mut lost.0, true),
        ClusterMessage::Run { .. } => !std::mem::replace(&mut lost.1, true),
        _ => false,
    });
    let mut owner = world.track(a, "room", "7");
    world.pass(10 * MS);
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    world.pass(400 * MS);
    assert_eq!(world.keys(b, "room"), ["7", "8"]);
}

#[test]
fn a_lost_last_change_is_made_up_for_with_the_next_heartbeat() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    lose_first(&mut world, carries_changes);
    let _owner = world.track(a, "room", "7");
    world.pass(SECOND + 25 * MS);
    assert_eq!(world.keys(b, "room"), ["7"]);
}

#[test]
fn changes_made_while_the_network_was_away_are_known_as_soon_as_it_is_back() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    world.plug(a, false);
    let _owner = world.track(a, "room", "7");
    world.pass(1300 * MS);
    assert!(world.keys(b, "room").is_empty());
    world.plug(a, true);
    world.pass(25 * MS);
    assert_eq!(world.keys(b, "room"), ["7"]);
}

#[test]
fn few_shards_of_a_node_are_asked_for_at_a_time() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let is_answer =
        |sent: &Sent| matches!(sent.message, ClusterMessage::Run { .. } | ClusterMessage::Chunk { .. });
    world.lose(move |sent| carries_changes(sent) || is_answer(sent));
    let _owners: Vec<_> = (0..500).map(|n| world.track(a, &format!("room:{n}"), "7")).collect();
    world.pass(3 * SECOND);
    let asked = |world: &World| -> std::collections::BTreeSet<u8> {
        let pulls = world.delivered.iter().filter_map(|sent| match &sent.message {
            ClusterMessage::Pull { shard, .. } if sent.from == b => Some(*shard),
            _ => None,
        });
        pulls.collect()
    };
    assert_eq!(asked(&world).len(), 8, "{:?}", asked(&world));
    // An answer lets the next pull go.
    world.lose(carries_changes);
    world.pass(5 * SECOND);
    assert_eq!(asked(&world).len(), adsum_tracker::SHARDS);
    assert_eq!(world.node(b).cluster.nodes(world.now)[0].presences, 500);
}

#[test]
fn a_snapshot_of_many_parts_comes_without_a_pause() {
    let (mut world, [a]) = World::of(["a"]);
    let text = format!(r#"{{"padding":"{}"}}"#, "x".repeat(60_000));
    let mut owner = world.owner(a);
    for n in 0..20 {
        owner.track(&"room".into(), &key(&n.to_string()), Meta::from_encoded(text.clone())).unwrap();
        world.pass(MOMENT);
    }
    let b = world.start("b", 2);
    world.pass(100 * MS);
    let chunks = world.count(|sent| matches!(sent.message, ClusterMessage::Chunk { .. }));
    assert!(chunks > 4, "{chunks}");
    assert_eq!(world.keys(b, "room").len(), 20);
}

#[test]
fn changes_that_come_close_together_travel_together() {
    let mut world = World::new();
    world.options.batch_interval = 50 * MS;
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.pass(3 * SECOND);
    world.delivered.clear();
    let mut owner = world.owner(a);
    for n in 0..100 {
        owner.track(&"room".into(), &key(&n.to_string()), meta()).unwrap();
        world.pass(5 * MS);
    }
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room").len(), 100);
    // The first at once, then one for each interval.
    let messages = world.count(carries_changes);
    assert!((10..=12).contains(&messages), "{messages} messages for 100 changes in half a second");
}

#[test]
fn the_messages_of_a_node_that_is_not_woken_are_bounded() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let text = format!(r#"{{"padding":"{}"}}"#, "x".repeat(60_000));
    let mut owner = world.owner(a);
    // A hundred times the size that closes a batch.
    for n in 0..500 {
        owner.track(&"room".into(), &key(&format!("{n:03}")), Meta::from_encoded(text.clone())).unwrap();
    }
    world.pass(MOMENT);
    let batches = world.delivered.iter().map(|sent| match &sent.message {
        ClusterMessage::Batches { batches, .. } => batches.len(),
        _ => 0,
    });
    let sent = batches.sum::<usize>();
    assert!((30..=33).contains(&sent), "{sent} batches were kept to be sent");
    world.pass(2 * SECOND);
    assert_eq!(world.keys(b, "room").len(), 500);
}

#[test]
fn a_node_that_is_heard_soon_after_a_long_outage_is_never_down() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.plug(b, false);
    let grace = world.options.engine_grace;
    world.pass(grace.saturating_sub(SECOND));
    // The other one is back four seconds later than this one: after the grace.
    world.isolate(a);
    world.plug(b, true);
    world.pass_and(4 * SECOND, |world| assert_eq!(world.keys(b, "room"), ["7"], "at {:?}", world.now));
    world.mend();
    world.pass_and(4 * SECOND, |world| assert_eq!(world.keys(b, "room"), ["7"], "at {:?}", world.now));
    assert!(!world.node(b).reports.contains(&Report::Down(replica("a", 1))));
}

#[test]
fn a_stranger_that_holds_a_final_set_does_not_count() {
    let (mut world, [a, _]) = World::of(["a", "b"]);
    world.lose(|sent| matches!(sent.message, ClusterMessage::SetHeld { .. }));
    world.leave(a, 10 * SECOND);
    world.pass(MOMENT);
    world.hear(a, ClusterMessage::SetHeld { from: replica("stranger", 9), of: replica("a", 1) });
    world.pass(MOMENT);
    let left =
        |world: &World| world.node(a).reports.iter().any(|report| matches!(report, Report::Left { .. }));
    assert!(!left(&world));
    world.pass(SECOND);
    assert!(world.node(a).reports.contains(&Report::Left { held: 0, of: 1 }));
}
