//! Nodes among others: what each lists, and what it hears.

use std::{cell::RefCell, rc::Rc, time::Duration};

use adsum_tracker::{Incarnation, Message, Meta, OwnerId, Parting, Reason, Report, Windows};

use crate::{
    key, meta,
    world::{MOMENT, START, World, replica},
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
fn what_departs_is_replaced_by_who_comes_on_another_node_without_a_gap() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    let mut owner = world.owner(a);
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    world.pass(MOMENT);
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Draining, Duration::from_secs(10)));
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
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Draining, Duration::from_secs(30)));
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
fn a_twin_is_named_and_displaces_nobody() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    let twin = world.start("a", 5);
    world.pass(Duration::from_secs(6));
    assert!(world.node(twin).reports.contains(&Report::DuplicateNode(replica("a", 1))));
    assert_eq!(world.keys(b, "room"), ["7"]);
    assert!(!world.node(twin).reports.contains(&Report::DuplicateGone(replica("a", 1))));
    world.kill(a);
    world.pass(Duration::from_secs(7));
    assert!(world.keys(b, "room").is_empty());
    // It says so, and that it is in sync.
    let last_two = world.node(twin).reports.last_chunk::<2>().unwrap();
    assert_eq!(*last_two, [Report::DuplicateGone(replica("a", 1)), Report::Ready { synced: true }]);
    let mut owner = world.owner(twin);
    owner.track(&"room".into(), &key("9"), meta()).unwrap();
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["9"]);
}

#[test]
fn a_node_whose_clock_was_set_back_outbids_its_earlier_run() {
    let mut world = World::new();
    let (a, b) = (world.start("a", 100), world.start("b", 2));
    world.pass(START);
    world.kill(a);
    let a = world.start("a", 50);
    world.pass(Duration::from_secs(6));
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["7"]);
}

#[test]
fn a_node_outbids_every_earlier_run_that_it_hears_of() {
    let mut world = World::new();
    let (a, b) = (world.start("a", 100), world.start("b", 2));
    world.pass(START);
    world.kill(a);
    // A node that was cut off knows of a run that outbid more than the others have seen.
    let a = world.start("a", 50);
    world.pass(Duration::from_secs(6));
    let _owner = world.track(a, "room", "7");
    let mine = world.node(a).cluster.replica().clone();
    for higher in 1..4 {
        let of = world.node(a).cluster.replica().clone();
        let highest = Incarnation { started: 1000 * higher, random: u64::MAX };
        world.hear(a, Message::Stale { of, highest });
        world.pass(START);
        assert!(world.node(a).cluster.replica().incarnation > highest);
        assert_eq!(world.keys(b, "room"), ["7"]);
    }
    assert_ne!(*world.node(a).cluster.replica(), mine);
}

#[test]
fn a_node_does_not_outbid_a_twin_that_is_alive() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owner = world.track(a, "room", "7");
    let twin = world.start("a", 5);
    // It takes itself for alone, and goes live.
    world.isolate(twin);
    world.pass(Duration::from_secs(6));
    let _other = world.track(twin, "room", "9");
    let (first, second) =
        (world.node(a).cluster.replica().clone(), world.node(twin).cluster.replica().clone());
    world.mend();
    // From the node that is lower, and hears that a higher one is known.
    world.hear(a, Message::Stale { of: first.clone(), highest: second.incarnation });
    world.pass(Duration::from_secs(6));
    assert_eq!(*world.node(a).cluster.replica(), first);
    assert_eq!(world.keys(b, "room"), ["7"]);
}

#[test]
fn of_two_that_yield_to_each_other_the_older_serves_at_once() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owner = world.track(a, "room", "7");
    let twin = world.start("a", 5);
    world.isolate(twin);
    world.pass(Duration::from_secs(6));
    world.mend();
    // Each hears of the other's lower incarnation: one by a message of an earlier run that was under way.
    let versions = world.delivered.iter().find_map(|sent| match &sent.message {
        Message::Heartbeat { versions, .. } => Some(versions.clone()),
        _ => None,
    });
    let versions = versions.unwrap();
    let beat = |started| Message::Heartbeat {
        from: replica("a", started),
        region: None,
        versions: versions.clone(),
    };
    world.hear(twin, beat(1));
    world.hear(a, beat(0));
    world.pass(Duration::from_millis(1200));
    assert_eq!(world.keys(b, "room"), ["7"], "both are silent");
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
        let pulls = world.count(|sent| matches!(sent.message, Message::Pull { .. }));
        assert!(pulls <= 1, "{pulls} pulls of a shard");
    }
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
                assert_eq!(node.tracker.keys("room"), 60, "a key is absent at {:?}", world.now);
            }
        }
    };
    for restarted in 0..3 {
        let node = nodes[restarted];
        world.node(node).tracker.set_parting(Parting::Depart(Reason::Draining, grace));
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

/// Whether an owner of this node has the key.
fn is_live(world: &World, node: usize, name: &str) -> bool {
    let mut rows = world.node(node).tracker.get_by_key("room", name).into_iter();
    rows.any(|row| row.owner != OwnerId::REMOTE)
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
fn one_that_died_while_the_network_was_away_is_hidden_when_the_grace_is_over() {
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
fn one_that_dies_after_a_hiccup_of_the_network_is_detected_as_soon_as_ever() {
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
fn a_late_heartbeat_of_one_that_has_left_does_not_silence_its_successor() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    world.leave(a, SECOND);
    world.pass(MOMENT);
    world.kill(a);
    let late = world
        .delivered
        .iter()
        .rev()
        .find(|sent| sent.from == a && matches!(sent.message, Message::Heartbeat { .. }));
    let late = late.unwrap().message.clone();
    let a = world.start("a", 10);
    world.pass(START);
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.hear(a, late.clone());
    world.hear(b, late);
    world.pass_and(2 * SECOND, |world| assert_eq!(world.keys(b, "room"), ["7"]));
}

#[test]
fn a_twin_that_yields_is_forgotten_also_where_its_goodbye_is_lost() {
    let mut world = World::new();
    let (a, twin) = (world.start("a", 1), world.start("a", 5));
    let c = world.start("c", 2);
    world.isolate(twin);
    world.pass(START);
    let _owners = [world.track(a, "room", "7"), world.track(twin, "room", "8")];
    // Both are up, and each outbids the other once: the twin is last.
    world.mend();
    world.cut(a, twin);
    world.cut(twin, a);
    world.pass(3 * SECOND);
    let shown = world.keys(c, "room");
    let (shown, hidden) = if shown == ["7"] { (a, twin) } else { (twin, a) };
    world.mend();
    world.cut(shown, c);
    world.pass(MOMENT + SECOND);
    world.mend();
    // Whoever is heard now goes on being heard.
    world.pass(6 * SECOND);
    let lists: Vec<_> = world.keys(c, "room");
    assert_eq!(lists.len(), 1, "{shown} or {hidden} is heard");
    world.pass_and(30 * SECOND, |world| assert_eq!(world.keys(c, "room"), lists));
}

#[test]
fn where_each_change_is_a_diff_a_departing_one_superseded_by_one_unseen_leaves_by_itself() {
    let mut world = World::new();
    world.windows = Windows::Each;
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    let c = world.start("c", 3);
    world.pass(START);
    let owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Gone, 10 * SECOND));
    // At c the other's presences aren't shown: it is just being heard again, and its first batches are lost.
    world.isolate(b);
    world.pass(4 * SECOND);
    let _other = world.track(b, "room", "8");
    drop(owner);
    world.mend();
    world.lose(move |sent| matches!(sent.message, Message::Run { .. }) && sent.to == c);
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
fn an_owner_that_has_ended_may_track_again_and_does_not_touch_what_departs() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Gone, 5 * SECOND));
    let mut owner = world.track(a, "room", "7");
    owner.end(world.node(a).tracker.parting());
    assert!(owner.update(&"room".into(), &key("7"), |meta| Ok::<_, ()>(meta.clone())).is_err());
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    world.pass(MOMENT);
    assert_eq!((world.node(a).tracker.count("room"), world.node(b).tracker.count("room")), (1, 1));
    owner.untrack("room", "7");
    world.pass(MOMENT);
    assert_eq!((world.node(a).tracker.count("room"), world.node(b).tracker.count("room")), (0, 0));
}

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
        let is_second = matches!(sent.message, Message::Chunk { index: 1, .. });
        until_lost += usize::from(is_second);
        is_second && until_lost <= 6
    });
    world.pass(150 * SECOND);
    assert_eq!(world.node(b).tracker.count("room"), 8);
}

#[test]
fn a_late_goodbye_of_one_that_has_left_leaves_its_departing_presences() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let owner = world.track(a, "room", "7");
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Draining, 10 * SECOND));
    drop(owner);
    world.leave(a, 10 * SECOND);
    world.pass(MOMENT);
    world.kill(a);
    world.hear(b, Message::Goodbye { from: replica("a", 1) });
    assert_eq!(world.keys(b, "room"), ["7"]);
    world.pass(11 * SECOND);
    assert!(world.keys(b, "room").is_empty());
}

#[test]
fn a_goodbye_that_is_the_first_word_of_a_newer_run_ends_the_older_one() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.kill(a);
    let newer = world.start("a", 10);
    world.cut(newer, b);
    world.pass(START + SECOND);
    let owner = world.track(newer, "room", "8");
    world.node(newer).tracker.set_parting(Parting::Depart(Reason::Draining, 5 * SECOND));
    drop(owner);
    world.mend();
    world.leave(newer, 5 * SECOND);
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["8"]);
    assert_eq!(world.node(b).cluster.usage().peers, 1, "nothing is kept of the run that was killed");
}

#[test]
fn a_departed_set_is_taken_over_whole_though_its_holders_cut_it_differently() {
    let (mut world, [a, b, c]) = World::of(["a", "b", "c"]);
    let text = format!(r#"{{"padding":"{}"}}"#, "x".repeat(5_000));
    let mut owner = world.owner(a);
    for n in 0..100 {
        owner.track(&"room".into(), &key(&format!("{n:02}")), Meta::from_encoded(text.clone())).unwrap();
    }
    world.pass(SECOND);
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Draining, 60 * SECOND));
    drop(owner);
    world.leave(a, 60 * SECOND);
    world.pass(MOMENT);
    world.kill(a);
    // The first ones are replaced; what one of the two says of the rest of a snapshot is lost now and then, so that
    // the other is asked.
    let owners: Vec<_> = (0..30).map(|n| world.track(b, "room", &format!("{n:02}"))).collect();
    world.pass(MOMENT);
    let mut chunks = 0;
    world.lose(move |sent| {
        let is_chunk = matches!(sent.message, Message::Chunk { .. });
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
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Gone, 300 * SECOND));
    drop(owner);
    world.pass(MOMENT);
    // It doesn't hear that another takes its presence's place.
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
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Gone, 5 * SECOND));
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
fn what_has_left_everywhere_is_remembered_nowhere() {
    let (mut world, nodes) = World::of(["a", "b", "c"]);
    let [a, b, _] = nodes;
    let owner = world.track(a, "room", "7");
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Gone, 300 * SECOND));
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

#[test]
fn a_node_that_comes_back_shows_nothing_of_before() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let mut owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.cut(a, b);
    world.pass(4 * SECOND);
    assert!(world.keys(b, "room").is_empty());
    owner.untrack("room", "7");
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    world.mend();
    world.pass_and(2 * SECOND, |world| assert!(!world.keys(b, "room").contains(&"7".to_owned())));
    assert_eq!(world.keys(b, "room"), ["8"]);
}

#[test]
fn one_that_lacks_a_part_of_a_final_set_does_not_say_that_it_holds_it() {
    let (mut world, [a, _]) = World::of(["a", "b"]);
    world.lose(move |sent| {
        let tells =
            matches!(sent.message, Message::Batches { .. } | Message::Run { .. } | Message::Chunk { .. });
        sent.from == a && tells
    });
    let _owner = world.track(a, "room", "7");
    world.pass(MOMENT);
    world.leave(a, 10 * SECOND);
    world.pass(2 * SECOND);
    assert!(world.node(a).reports.contains(&Report::Left { held: 0, of: 1 }));
}

/// A departed set is being taken over from one of two holders, and a part comes from either that is not the next.
fn takes_no_other_part(is_holders: bool, index: u32) {
    let (mut world, [a, _, _]) = World::of(["a", "b", "c"]);
    let text = format!(r#"{{"padding":"{}"}}"#, "x".repeat(5_000));
    let mut owner = world.owner(a);
    for n in 0..100 {
        owner.track(&"room".into(), &key(&format!("{n:02}")), Meta::from_encoded(text.clone())).unwrap();
    }
    world.pass(SECOND);
    world.node(a).tracker.set_parting(Parting::Depart(Reason::Draining, 60 * SECOND));
    drop(owner);
    world.leave(a, 60 * SECOND);
    world.pass(MOMENT);
    world.kill(a);
    // One holder has sent its first part, and the next is late.
    let first = Rc::new(RefCell::new(None));
    let seen = first.clone();
    world.lose(move |sent| match &sent.message {
        Message::Chunk { from, shard, version, index: 0, count, .. } => {
            *seen.borrow_mut() = Some((from.name.to_string(), *shard, *version, *count));
            false
        }
        Message::Chunk { .. } => true,
        _ => false,
    });
    let d = world.start("d", 9);
    world.pass(8 * MOMENT);
    let (holder, shard, version, count) = first.borrow().clone().unwrap();
    let from = if is_holders == (holder == "b") { replica("b", 2) } else { replica("c", 3) };
    let of = replica("a", 1);
    world.hear(d, Message::Chunk { from, of, shard, version, index, count, topics: vec![] });
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
