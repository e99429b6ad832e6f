//! Large sets of other nodes are shown, hidden and forgotten in turns, so that the node does other things between them.

use std::{collections::HashSet, time::Duration};

use adsum_tracker::{
    Bare, Cluster, ClusterMessage, ClusterOptions, Diff, Key, LeftRow, RawOwner, Report, TopicSet,
};

use crate::{
    key, meta,
    world::{START, STEP, World, replica},
};

const ROWS: usize = 10_000;
/// Maximum number of rows in one turn, as documented.
const TURN: usize = 2048;
const ROOMS: [&str; 3] = ["hall", "kitchen", "attic"];

/// Two nodes, of which the first has presences in three topics.
fn crowd() -> (World, [usize; 2], RawOwner<Bare>) {
    crowd_with(ClusterOptions::default())
}

/// A node is down, and forgotten, right before the next heartbeat of the other.
fn down_before_a_heartbeat() -> ClusterOptions {
    let options = ClusterOptions::default();
    let down_after = (4 * options.heartbeat).saturating_sub(2 * STEP);
    options.down_after(down_after)
}

fn crowd_with(options: ClusterOptions) -> (World, [usize; 2], RawOwner<Bare>) {
    let mut world = World::new();
    world.options = options;
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.pass(START);
    let mut crowd = world.owner(a);
    for n in 0..ROWS {
        crowd.track(&ROOMS[n % 3].into(), &key(&format!("{n:05}")), meta()).unwrap();
    }
    world.pass(START);
    (world, [a, b], crowd)
}

fn shown(world: &World, node: usize) -> usize {
    ROOMS.iter().map(|room| world.keys(node, room).len()).sum()
}

/// How many joins and leaves a node's diffs have.
fn flush(world: &World, node: usize) -> (usize, usize) {
    let of_rooms = ROOMS.iter().map(|room| world.flush(node, room));
    of_rooms.fold((0, 0), |sum, (_, joins, leaves)| (sum.0 + joins, sum.1 + leaves))
}

fn diffs(world: &World, node: usize) -> Vec<Diff<Bare>> {
    let of_rooms =
        ROOMS.map(|room| world.node(node).tracker.lock(room).topic_mut(room).map(TopicSet::take_diffs));
    of_rooms.into_iter().flatten().flatten().collect()
}

fn kept(world: &World, node: usize) -> usize {
    world.node(node).cluster.usage().rows
}

/// Lets steps pass until `is_so`.
fn pass_until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    let end = world.now + world.options.down_after + world.options.forget_after + START;
    while !is_so(world) {
        assert!(world.now < end, "it never is");
        world.pass(STEP);
    }
}

/// Lets steps pass while `count` is `whole`, and asserts that less than a turn was done then, but something.
fn pass_until_it_begins(world: &mut World, whole: usize, count: impl Fn(&World) -> usize) {
    pass_until(world, |world| count(world) != whole);
    let now = count(world);
    assert!(now > 0 && now < whole, "{now} of {whole}");
}

/// Asserts that each step does one turn at most, and all of them all.
fn assert_ends_in_turns(world: &mut World, time: Duration, count: impl Fn(&World) -> usize) {
    let mut before = count(world);
    let mut most = 0;
    world.pass_and(time, |world| {
        let now = count(world);
        most = most.max(before.saturating_sub(now));
        before = now;
    });
    assert_eq!(before, 0);
    assert!(most > 0 && most <= TURN, "{most} at once");
}

#[test]
fn the_presences_of_a_dead_node_are_hidden_in_turns() {
    let (mut world, [a, b], _crowd) = crowd();
    assert_eq!(flush(&world, b), (ROWS, 0));
    world.kill(a);
    assert_ends_in_turns(&mut world, Duration::from_secs(5), |world| shown(world, b));
    assert_eq!(flush(&world, b), (0, ROWS));
}

#[test]
fn nodes_that_die_together_share_the_turns() {
    let mut world = World::new();
    let names = ["a", "b", "c", "watcher"];
    let nodes =
        names.map(|name| world.start(name, 1 + names.iter().position(|n| *n == name).unwrap() as u64));
    let [dying @ .., watcher] = nodes;
    world.pass(START);
    let mut crowds = dying.map(|node| world.owner(node));
    for (crowd, room) in crowds.iter_mut().zip(ROOMS) {
        for n in 0..ROWS / 2 {
            crowd.track(&room.into(), &key(&format!("{n:05}")), meta()).unwrap();
        }
    }
    world.pass(START);
    assert_eq!(shown(&world, watcher), ROWS / 2 * 3);
    for node in dying {
        world.kill(node);
    }
    assert_ends_in_turns(&mut world, Duration::from_secs(5), |world| shown(world, watcher));
}

#[test]
fn a_node_that_is_heard_again_while_it_is_being_hidden_comes_back_whole() {
    let (mut world, [a, b], mut crowd) = crowd();
    world.cut(a, b);
    pass_until_it_begins(&mut world, ROWS, |world| shown(world, b));
    world.mend();
    for n in (0..ROWS).step_by(2) {
        assert!(crowd.untrack(ROOMS[n % 3], &key(&format!("{n:05}"))));
    }
    world.pass(START);
    for room in ROOMS {
        assert_eq!(world.keys(b, room), world.keys(a, room));
    }
    assert_eq!(shown(&world, b), ROWS / 2);
}

#[test]
fn an_update_that_is_heard_while_its_node_is_being_hidden_is_no_leave_without_a_reason() {
    let (mut world, [a, b], mut crowd) = crowd_with(down_before_a_heartbeat());
    world.cut(a, b);
    pass_until_it_begins(&mut world, ROWS, |world| shown(world, b));
    diffs(&world, b);
    for n in (0..ROWS).step_by(50) {
        let updated = crowd.update(&ROOMS[n % 3].into(), &key(&format!("{n:05}")), |_| Ok::<_, ()>(meta()));
        updated.unwrap();
    }
    // The heartbeat says of a version that is yet to be pulled.
    world.lose(|sent| matches!(sent.message, ClusterMessage::Batches { .. }));
    world.mend();
    let mut left = 0;
    world.pass_and(START, |world| {
        for diff in diffs(world, b) {
            left += diff.leaves.len();
            let joins: HashSet<&Key> = diff.joins.iter().map(|joined| &joined.row.key).collect();
            let is_told = |left: &LeftRow<Bare>| left.reason.is_some() || joins.contains(&left.row.key);
            assert!(diff.leaves.iter().all(is_told), "it leaves for a reason, or comes back at once");
        }
    });
    assert!(left > 0);
    assert_eq!(shown(&world, b), ROWS);
}

#[test]
fn a_goodbye_hides_the_rest_at_once() {
    let (mut world, [a, b], _crowd) = crowd();
    world.cut(a, b);
    pass_until_it_begins(&mut world, ROWS, |world| shown(world, b));
    world.hear(b, ClusterMessage::Goodbye { from: world.node(a).cluster.replica().clone() });
    assert_eq!((shown(&world, b), kept(&world, b)), (0, 0));
}

#[test]
fn a_dead_node_is_forgotten_in_turns() {
    let (mut world, [a, b], _crowd) = crowd();
    let forget_after = world.options.forget_after;
    world.kill(a);
    world.pass(forget_after);
    assert_eq!(kept(&world, b), ROWS);
    assert_ends_in_turns(&mut world, Duration::from_secs(5), |world| kept(world, b));
    assert_eq!(world.node(b).cluster.usage().peers, 0);
}

#[test]
fn a_node_that_is_heard_again_while_it_is_being_forgotten_comes_back_whole() {
    let (mut world, [a, b], mut crowd) = crowd_with(down_before_a_heartbeat());
    world.cut(a, b);
    for n in 0..100 {
        assert!(crowd.untrack(ROOMS[n % 3], &key(&format!("{n:05}"))));
    }
    pass_until_it_begins(&mut world, ROWS, |world| kept(world, b));
    world.mend();
    world.pass(START);
    for room in ROOMS {
        assert_eq!(world.keys(b, room), world.keys(a, room));
    }
    assert_eq!((shown(&world, b), kept(&world, b)), (ROWS - 100, ROWS - 100));
}

#[test]
fn the_presences_that_a_restarted_node_no_longer_has_leave_in_turns() {
    let (mut world, [a, b], _crowd) = crowd();
    flush(&world, b);
    world.kill(a);
    let a = world.start("a", 3);
    let _first = world.track(a, ROOMS[0], "the first of the new run");
    let of_last_run = |world: &World| shown(world, b).saturating_sub(1);
    pass_until_it_begins(&mut world, ROWS, of_last_run);
    assert_ends_in_turns(&mut world, START, of_last_run);
    assert_eq!(flush(&world, b), (1, ROWS));
    assert_eq!((shown(&world, b), kept(&world, b)), (1, 1));
}

#[test]
fn rows_kept_of_a_dead_node_are_dropped_in_turns_when_it_is_restarted() {
    let (mut world, [a, b], _crowd) = crowd();
    world.kill(a);
    world.pass(2 * START);
    assert_eq!((shown(&world, b), kept(&world, b)), (0, ROWS));
    let a = world.start("a", 3);
    let _first = world.track(a, ROOMS[0], "the first of the new run");
    let of_last_run = |world: &World| kept(world, b) - shown(world, b);
    assert_ends_in_turns(&mut world, START, of_last_run);
    assert_eq!((shown(&world, b), kept(&world, b)), (1, 1));
    assert!(world.node(b).cluster.nodes(world.now).iter().all(|node| node.presences <= 1));
}

#[test]
fn a_node_that_is_restarted_while_it_is_being_hidden_is_up_once_that_is_done() {
    let (mut world, [a, b], _crowd) = crowd();
    world.kill(a);
    pass_until_it_begins(&mut world, ROWS, |world| shown(world, b));
    let a = world.start("a", 3);
    let _first = world.track(a, ROOMS[0], "the first of the new run");
    assert_ends_in_turns(&mut world, 2 * START, |world| shown(world, b).saturating_sub(1));
    assert_eq!((shown(&world, b), kept(&world, b)), (1, 1));
}

/// A node's part in the cluster is started anew, so that its presences keep their refs.
fn restart_cluster(world: &mut World, node: usize, started: u64) {
    let (now, options) = (world.now, world.options.clone());
    let node = world.node_mut(node);
    let tracker = node.tracker.clone();
    node.cluster = Cluster::restart(now, replica("a", started), true, tracker, None, options, started);
}

#[test]
fn of_a_run_that_keeps_half_of_its_presences_the_others_alone_leave() {
    let (mut world, [a, b], mut crowd) = crowd();
    flush(&world, b);
    world.cut(a, b);
    for n in (0..ROWS).step_by(2) {
        assert!(crowd.untrack(ROOMS[n % 3], &key(&format!("{n:05}"))));
    }
    world.pass(STEP);
    restart_cluster(&mut world, a, 3);
    world.mend();
    let of_last_run = |world: &World| shown(world, b) - ROWS / 2;
    assert_ends_in_turns(&mut world, 2 * START, of_last_run);
    assert_eq!(flush(&world, b), (0, ROWS / 2));
    assert_eq!(kept(&world, b), ROWS / 2);
    assert!(world.node(b).cluster.nodes(world.now).iter().all(|node| node.presences <= ROWS / 2));
}

#[test]
fn a_run_that_comes_while_its_presences_are_being_hidden_is_shown_whole() {
    const SOME: usize = 1_500;
    let mut world = World::new();
    let (a, b) = (world.start("a", 1), world.start("b", 2));
    world.pass(START);
    let mut crowd = world.owner(a);
    for n in 0..SOME {
        crowd.track(&ROOMS[0].into(), &key(&format!("{n:05}")), meta()).unwrap();
    }
    world.pass(START);
    // So slow that two more runs come before the first is hidden.
    world.node_mut(b).cluster.turn(1);
    world.isolate(a);
    pass_until_it_begins(&mut world, SOME, |world| shown(world, b));
    let second = world.start("a", 3);
    world.isolate(a);
    let _owner = world.track(second, ROOMS[0], "of the second run");
    world.pass(START);
    let hidden = SOME - shown(&world, b);
    assert!(hidden < SOME / 2, "{hidden} are hidden already");
    world.kill(second);
    restart_cluster(&mut world, a, 4);
    world.mend();
    world.pass(10 * START);
    assert_eq!((shown(&world, b), kept(&world, b)), (SOME, SOME));
}

#[test]
fn an_update_that_a_new_run_brings_is_no_leave_with_a_reason() {
    let (mut world, [a, b], mut crowd) = crowd();
    diffs(&world, b);
    world.cut(a, b);
    for n in (0..ROWS).step_by(50) {
        let updated = crowd.update(&ROOMS[n % 3].into(), &key(&format!("{n:05}")), |_| Ok::<_, ()>(meta()));
        updated.unwrap();
    }
    world.pass(STEP);
    restart_cluster(&mut world, a, 3);
    world.mend();
    let mut left = 0;
    world.pass_and(START, |world| {
        for diff in diffs(world, b) {
            left += diff.leaves.len();
            assert!(diff.leaves.iter().all(|left| left.reason.is_none()), "it is an update");
        }
    });
    assert_eq!((left, shown(&world, b), kept(&world, b)), (ROWS / 50, ROWS, ROWS));
}

#[test]
fn a_node_is_ready_once_what_an_earlier_run_had_is_gone() {
    const SOME: usize = 2_000;
    let mut world = World::new();
    let a = world.start("a", 1);
    world.pass(START);
    let mut crowd = world.owner(a);
    for n in 0..SOME {
        crowd.track(&ROOMS[0].into(), &key(&format!("{n:05}")), meta()).unwrap();
    }
    let b = world.start("b", 2);
    pass_until(&mut world, |world| shown(world, b) == SOME);
    world.cut(a, b);
    for n in 0..SOME / 2 {
        assert!(crowd.untrack(ROOMS[0], &key(&format!("{n:05}"))));
    }
    world.pass(STEP);
    restart_cluster(&mut world, a, 3);
    world.node_mut(b).cluster.turn(1);
    world.mend();
    let is_ready =
        |world: &World| world.node(b).reports.iter().any(|report| matches!(report, Report::Ready { .. }));
    assert!(!is_ready(&world));
    pass_until(&mut world, is_ready);
    assert_eq!(shown(&world, b), SOME / 2);
}

#[test]
fn runs_that_follow_while_the_presences_of_the_first_still_leave_bring_none_of_them_back() {
    for ends in [true, false] {
        let (mut world, [a, b], _crowd) = crowd();
        flush(&world, b);
        world.kill(a);
        let second = world.start("a", 3);
        pass_until_it_begins(&mut world, ROWS, |world| shown(world, b));
        world.kill(second);
        if !ends {
            let third = world.start("a", 4);
            let _owner = world.track(third, ROOMS[0], "of the third run");
            world.pass(START);
            assert_eq!((shown(&world, b), kept(&world, b)), (1, 1));
            world.kill(third);
        }
        world.pass(2 * START);
        assert_eq!((shown(&world, b), flush(&world, b).1 >= ROWS), (0, true));
        world.pass(world.options.forget_after + START);
        assert_eq!((kept(&world, b), world.node(b).cluster.usage().peers), (0, 0));
    }
}
