//! Failures of other trackers over the years, none of which may occur here. ALGORITHM.md lists them.

use std::time::Duration;

use adsum_tracker::{Bare, MessageError};
use adsum_tracker::{ClusterMessage, LeaveReason, Meta, OwnerExit, RawOwner, Report};

use crate::{
    key, meta,
    world::{MOMENT, START, Sent, World},
};

const SECOND: Duration = Duration::from_secs(1);

fn update(owner: &mut RawOwner<Bare>, topic: &str, name: &str, text: &str) {
    owner.update(&topic.into(), &key(name), |_| Ok::<_, ()>(Meta::from_encoded(text))).unwrap();
}

fn is_pull(sent: &Sent) -> bool {
    matches!(sent.message, ClusterMessage::Pull { .. })
}

#[test]
fn tracking_the_same_twice_is_refused_and_leaves_nothing_behind() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    assert!(owner.track(&"room".into(), &key("7"), meta()).is_err());
    world.pass(MOMENT);
    assert_eq!(world.node(b).tracker.count("room"), 1);
    world.kill(a);
    world.pass(4 * SECOND);
    assert_eq!(world.node(b).tracker.count("room"), 0);
}

#[test]
fn messages_from_an_earlier_run_change_nothing_once_the_node_has_restarted() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    let owner = world.track(a, "room", "7");
    world.isolate(c);
    world.pass(MOMENT);
    world.mend();
    world.pass(2 * SECOND);
    drop(owner);
    let late: Vec<ClusterMessage> = world.delivered.iter().map(|sent| sent.message.clone()).collect();
    world.kill(a);
    let a = world.start("a", 10);
    world.pass(START);
    let _owner = world.track(a, "room", "8");
    world.pass(MOMENT);
    for message in late {
        // All messages but those from b and c, which are alive.
        let is_theirs = |from: &adsum_tracker::Replica| *from.name != *"a";
        let skip = match &message {
            ClusterMessage::Hello { from }
            | ClusterMessage::Heartbeat { from, .. }
            | ClusterMessage::Welcome { from, .. } => is_theirs(from),
            _ => false,
        };
        if !skip {
            world.hear(b, message.clone());
            world.hear(c, message);
        }
        assert_eq!(world.keys(b, "room"), ["8"]);
        assert_eq!(world.keys(c, "room"), ["8"]);
    }
    world.pass(2 * SECOND);
    assert_eq!((world.keys(b, "room"), world.keys(c, "room")), (vec!["8".into()], vec!["8".into()]));
}

#[test]
fn a_node_with_another_number_of_shards_is_refused() {
    let (world, _) = World::of(["a", "b"]);
    let heartbeat =
        world.delivered.iter().find(|sent| matches!(sent.message, ClusterMessage::Heartbeat { .. }));
    let mut bytes = heartbeat.unwrap().message.encode();
    let length = bytes.len();
    // 64 versions of one byte each, after their number.
    assert_eq!(bytes[length - 65], 64);
    bytes[length - 65] = 63;
    bytes.pop();
    assert!(matches!(ClusterMessage::decode(&bytes), Err(MessageError::Broken(_))));
}

#[test]
fn two_crowds_that_meet_see_each_other_whole() {
    let mut world = World::new();
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.isolate(a);
    world.pass(START);
    let owners: Vec<_> = (0..600)
        .map(|n| world.track(if n % 2 == 0 { a } else { b }, &format!("room:{}", n % 7), &n.to_string()))
        .collect();
    world.pass(MOMENT);
    world.mend();
    world.pass(2 * SECOND);
    for node in [a, b] {
        let listed: usize = (0..7).map(|n| world.node(node).tracker.count(&format!("room:{n}"))).sum();
        assert_eq!(listed, owners.len());
    }
}

#[test]
fn restarting_all_nodes_one_after_the_other_leaves_no_ghost() {
    let (mut world, mut nodes) = World::of(["a", "b", "c"]);
    let owners: Vec<_> = (0..30).map(|n| world.track(nodes[n % 3], "room", &n.to_string())).collect();
    world.pass(MOMENT);
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        world.kill(nodes[index]);
        world.pass(Duration::from_millis(500));
        nodes[index] = world.start(name, 10 + index as u64);
        world.pass(4 * SECOND);
    }
    drop(owners);
    for node in nodes {
        assert_eq!(world.node(node).tracker.count("room"), 0);
        assert_eq!(world.node(node).cluster.usage().rows, 0);
    }
}

#[test]
fn a_leave_is_not_lost_if_only_some_nodes_hear_each_other() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    world.cut(a, c);
    world.cut(c, a);
    let owner = world.track(c, "room", "7");
    world.pass(SECOND);
    assert_eq!(world.keys(b, "room"), ["7"]);
    assert!(world.keys(a, "room").is_empty());
    drop(owner);
    let _other = world.track(c, "room", "8");
    world.pass(5 * SECOND);
    world.mend();
    world.pass(2 * SECOND);
    for node in [a, b, c] {
        assert_eq!(world.keys(node, "room"), ["8"]);
    }
}

#[test]
fn batches_with_one_lost_in_between_lose_no_presence() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut batches = 0;
    world.lose(move |sent| {
        batches += usize::from(matches!(sent.message, ClusterMessage::Batches { .. }));
        batches == 2 && matches!(sent.message, ClusterMessage::Batches { .. })
    });
    let mut owners = Vec::new();
    for n in 0..4 {
        owners.push(world.track(a, "room", &n.to_string()));
        world.pass(MOMENT);
    }
    assert_eq!(world.keys(b, "room"), ["0", "1", "2", "3"]);
    assert_eq!(world.count(is_pull), 1);
}

#[test]
fn nodes_are_quiet_about_one_that_is_down() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.kill(a);
    world.pass(5 * SECOND);
    world.delivered.clear();
    world.pass(60 * SECOND);
    let is_heartbeat = |sent: &Sent| matches!(sent.message, ClusterMessage::Heartbeat { .. });
    assert_eq!(world.count(|sent| !is_heartbeat(sent)), 0);
    assert!(world.keys(b, "room").is_empty() && world.keys(c, "room").is_empty());
}

#[test]
fn a_thousand_updates_leave_one_row_on_every_node() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    for n in 0..1000 {
        update(&mut owner, "room", "7", &format!(r#"{{"n":{n}}}"#));
        if n % 10 == 0 {
            world.pass(Duration::from_millis(5));
        }
    }
    world.pass(MOMENT);
    assert_eq!(world.refs(b, "room", "7"), world.refs(a, "room", "7"));
    assert_eq!(world.refs(b, "room", "7").len(), 1);
    let usage = world.node(b).cluster.usage();
    assert_eq!((usage.rows, usage.hidden, usage.early), (1, 0, 0));
}

#[test]
fn a_late_snapshot_does_not_overwrite_newer_rows() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let text = |n: usize| format!(r#"{{"n":{n},"padding":"{}"}}"#, "x".repeat(50_000));
    let mut owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.isolate(b);
    // More than the log keeps.
    for n in 0..10 {
        update(&mut owner, "room", "7", &text(n));
        world.pass(MOMENT);
    }
    world.pass(4 * SECOND);
    world.mend();
    world.pass(2 * SECOND);
    assert_eq!(world.refs(b, "room", "7"), world.refs(a, "room", "7"));
    let snapshots: Vec<ClusterMessage> = world
        .delivered
        .iter()
        .filter(|sent| matches!(sent.message, ClusterMessage::Chunk { .. }))
        .map(|sent| sent.message.clone())
        .collect();
    assert!(!snapshots.is_empty());
    update(&mut owner, "room", "7", &text(10));
    world.pass(MOMENT);
    // There is a gap at b when the old snapshot comes once more.
    world.lose(|sent| matches!(sent.message, ClusterMessage::Batches { .. } | ClusterMessage::Run { .. }));
    update(&mut owner, "room", "7", &text(11));
    world.pass(2 * SECOND);
    let before = world.refs(b, "room", "7");
    for snapshot in snapshots {
        world.hear(b, snapshot);
        assert_eq!(world.refs(b, "room", "7"), before);
    }
    world.lose(|_| false);
    world.pass(10 * SECOND);
    assert_eq!(world.refs(b, "room", "7"), world.refs(a, "room", "7"));
}

#[test]
fn two_nodes_that_track_one_key_at_once_agree_on_both() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    let _owners = [world.track(a, "room", "7"), world.track(b, "room", "7")];
    world.pass(MOMENT);
    for node in [a, b, c] {
        assert_eq!(world.node(node).tracker.count("room"), 2);
    }
}

#[test]
fn a_node_that_restarts_for_weeks_leaves_nothing_of_its_earlier_runs() {
    let mut world = World::new();
    world.options.forget_after = 30 * SECOND;
    let b = world.start("b", 1);
    world.pass(START);
    for run in 0..60 {
        let a = world.start("a", 10 + run);
        let owner = world.track(a, "room", "7");
        world.pass(2500 * SECOND / 1000);
        assert_eq!(world.node(b).tracker.count("room"), 1);
        if run % 2 == 0 {
            world.kill(a);
            drop(owner);
        } else {
            drop(owner);
            world.leave(a, SECOND);
            world.pass(MOMENT);
            world.kill(a);
        }
    }
    // At most those that departed within the time for forgetting.
    assert!(world.node(b).cluster.usage().peers <= 15, "{:?}", world.node(b).cluster);
    world.pass(70 * SECOND);
    assert_eq!(world.node(b).cluster.usage(), adsum_tracker::Usage::default());
}

#[test]
fn a_key_that_leaves_and_comes_within_a_window_is_never_absent() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    let mut client = crate::client::Client::default();
    client.join();
    client.on_state(&[(key("7"), world.refs(b, "room", "7"))].into());
    world.flush(b, "room");
    drop(owner);
    let _again = world.track(a, "room", "7");
    world.pass(MOMENT);
    let diffs = world.node(b).tracker.lock("room").topic_mut("room").unwrap().take_diffs();
    assert_eq!(diffs.len(), 1);
    client.on_diff(&crate::client::Change::from(&diffs[0]));
    assert_eq!(client.view(), &[(key("7"), world.refs(a, "room", "7"))].into());
}

#[test]
fn a_presence_tracked_before_its_node_is_up_is_seen_once_it_is() {
    let mut world = World::new();
    let b = world.start("b", 1);
    world.pass(START);
    let tracker = world.tracker("a", 2);
    let mut owner = tracker.owner();
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    let a = world.start_with(tracker, None, 2);
    let _other = world.track(a, "room", "8");
    world.pass(START);
    assert_eq!(world.keys(b, "room"), ["7", "8"]);
}

#[test]
fn a_node_that_stops_says_so_and_its_presences_leave_at_once() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.node(a).tracker.set_owner_exit(OwnerExit::Leave(LeaveReason::Draining));
    drop(owner);
    world.leave(a, Duration::ZERO);
    world.pass(MOMENT);
    assert!(world.keys(b, "room").is_empty());
    assert!(world.node(a).reports.contains(&Report::Left { held: 1, of: 1 }));
}

#[test]
fn nobody_is_sent_their_own_presences() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owners: Vec<_> = (0..200).map(|n| world.track(n % 2, "room", &n.to_string())).collect();
    world.pass(MOMENT);
    world.isolate(a);
    world.pass(4 * SECOND);
    world.mend();
    world.pass(2 * SECOND);
    let is_own = |sent: &Sent| match &sent.message {
        ClusterMessage::Run { of, .. } | ClusterMessage::Chunk { of, .. } => {
            *of == *world.node(sent.to).cluster.replica()
        }
        _ => false,
    };
    assert_eq!(world.count(is_own), 0);
    assert_eq!(world.node(a).tracker.count("room"), 200);
    assert_eq!(world.node(b).tracker.count("room"), 200);
}

#[test]
fn batches_that_cannot_be_applied_yet_are_kept_within_bounds() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.lose(|sent| matches!(sent.message, ClusterMessage::Pull { .. }));
    world.isolate(b);
    update(&mut owner, "room", "7", r#"{"n":0}"#);
    world.pass(MOMENT);
    world.mend();
    let mut most = 0;
    for n in 0..200 {
        let text = format!(r#"{{"n":{n},"padding":"{}"}}"#, "x".repeat(20_000));
        update(&mut owner, "room", "7", &text);
        world.pass(Duration::from_millis(5));
        most = most.max(world.node(b).cluster.usage().early);
    }
    assert!((1..=26).contains(&most), "{most} batches of 20 kB were kept");
    world.lose(|_| false);
    world.pass(10 * SECOND);
    assert_eq!(world.refs(b, "room", "7"), world.refs(a, "room", "7"));
    assert_eq!(world.node(b).cluster.usage().early, 0);
}
