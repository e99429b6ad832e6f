//! Several runs of one name: restarts, clocks set back, twins.

use std::time::Duration;

use adsum_tracker::{ClusterMessage, Incarnation, LeaveReason, OwnerExit, Report};

use crate::{
    key, meta,
    world::{MOMENT, START, Sent, World, replica},
};

const SECOND: Duration = Duration::from_secs(1);

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
    // It reports that, and that it is in sync.
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
        world.hear(a, ClusterMessage::Stale { of, highest });
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
    // From the node with the lower incarnation, which hears that a higher one is known.
    world.hear(a, ClusterMessage::Stale { of: first.clone(), highest: second.incarnation });
    world.pass(Duration::from_secs(6));
    assert_eq!(*world.node(a).cluster.replica(), first);
    assert_eq!(world.keys(b, "room"), ["7"]);
}

#[test]
fn a_twin_that_has_yielded_keeps_nobody_from_outbidding_a_dead_run() {
    let (mut world, [a, _]) = World::of(["a", "b"]);
    // Some node knows of a run that is dead, and hasn't heard of the twin, which has yielded to this node.
    let (dead, yielded) = (replica("a", 5), replica("a", 6));
    for _ in 0..4 {
        let of = world.node(a).cluster.replica().clone();
        world.hear(a, ClusterMessage::Stale { of, highest: dead.incarnation });
        world.hear(a, ClusterMessage::Goodbye { from: yielded.clone() });
        world.pass(SECOND);
    }
    assert!(world.node(a).cluster.replica().incarnation > dead.incarnation);
}

#[test]
fn a_node_that_hears_much_of_a_twin_says_little() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    let is_heartbeat =
        |sent: &Sent| sent.from == a && matches!(sent.message, ClusterMessage::Heartbeat { .. });
    let heartbeat = world.delivered.iter().find(|sent| is_heartbeat(sent)).unwrap().message.clone();
    let ClusterMessage::Heartbeat { versions, .. } = heartbeat else { unreachable!() };
    let is_announcement = |sent: &Sent| {
        let message = &sent.message;
        sent.to == b && matches!(message, ClusterMessage::Heartbeat { .. } | ClusterMessage::Hello { .. })
    };
    let before = world.count(is_announcement);
    let twin = replica("a", 5);
    for _ in 0..50 {
        let of = world.node(a).cluster.replica().clone();
        world.hear(a, ClusterMessage::Stale { of, highest: twin.incarnation });
        world.hear(a, ClusterMessage::Hello { from: twin.clone() });
        let versions = versions.clone();
        world.hear(a, ClusterMessage::Heartbeat { from: twin.clone(), region: None, versions });
        world.pass(Duration::from_millis(1));
    }
    assert!(world.count(is_announcement) - before <= 2, "each is answered by all, and those answers by more");
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
        ClusterMessage::Heartbeat { versions, .. } => Some(versions.clone()),
        _ => None,
    });
    let versions = versions.unwrap();
    let beat = |started| ClusterMessage::Heartbeat {
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
fn a_late_heartbeat_of_one_that_has_left_does_not_silence_its_successor() {
    let (mut world, [a, b]) = World::of(["a", "b"]);
    world.leave(a, SECOND);
    world.pass(MOMENT);
    world.kill(a);
    let late = world
        .delivered
        .iter()
        .rev()
        .find(|sent| sent.from == a && matches!(sent.message, ClusterMessage::Heartbeat { .. }));
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
fn a_twin_that_yields_is_forgotten_even_if_its_goodbye_is_lost() {
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
    // The node that is heard now stays the one that is heard.
    world.pass(6 * SECOND);
    let lists: Vec<_> = world.keys(c, "room");
    assert_eq!(lists.len(), 1, "{shown} or {hidden} is heard");
    world.pass_and(30 * SECOND, |world| assert_eq!(world.keys(c, "room"), lists));
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
    world.node(newer).tracker.set_owner_exit(OwnerExit::Depart(LeaveReason::Draining, 5 * SECOND));
    drop(owner);
    world.mend();
    world.leave(newer, 5 * SECOND);
    world.pass(MOMENT);
    assert_eq!(world.keys(b, "room"), ["8"]);
    assert_eq!(world.node(b).cluster.usage().peers, 1, "nothing is kept of the run that was killed");
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
