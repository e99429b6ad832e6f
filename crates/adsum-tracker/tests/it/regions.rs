//! A cluster in two regions with one link between them.

use std::time::Duration;

use adsum_tracker::{ClusterMessage, RawOwner, Report};

use crate::{
    Bare, key, meta,
    world::{MOMENT, START, World},
};

const SECOND: Duration = Duration::from_secs(1);

/// Two nodes in each of two regions, and one presence on each.
struct Regions {
    world: World,
    eu: [usize; 2],
    us: [usize; 2],
}

impl Regions {
    fn new() -> Self {
        let mut world = World::new();
        let eu = [world.start_in("eu", "a", 1), world.start_in("eu", "b", 2)];
        let c = world.start_in("us", "c", 3);
        // So that the nodes of a region aren't heard at one time.
        world.pass(3 * SECOND / 10);
        let us = [c, world.start_in("us", "d", 4)];
        world.pass(START);
        Self { world, eu, us }
    }

    fn cut(&mut self) {
        self.world.cut_between(&self.eu, &self.us);
    }

    fn flush(&self, node: usize) -> (usize, usize, usize) {
        self.world.flush(node, "room")
    }

    fn reports(&self, node: usize, is_meant: impl Fn(&Report) -> bool) -> usize {
        self.world.node(node).reports.iter().filter(|report| is_meant(report)).count()
    }
}

fn is_down(report: &Report) -> bool {
    matches!(report, Report::Down(_))
}

#[test]
fn a_broken_link_hides_nobody_within_its_grace_and_operators_hear_of_it() {
    let mut regions = Regions::new();
    let [a, b] = regions.eu;
    let [c, d] = regions.us;
    let nodes = [a, b, c, d];
    let _owners = nodes.map(|node| regions.world.track(node, "room", &node.to_string()));
    regions.world.pass(MOMENT);
    regions.cut();
    regions.world.pass_and(20 * SECOND, |world| {
        for node in nodes {
            assert_eq!(world.keys(node, "room"), ["0", "1", "2", "3"], "at {:?}", world.now);
        }
    });
    regions.world.mend();
    regions.world.pass_and(20 * SECOND, |world| {
        for node in nodes {
            assert_eq!(world.keys(node, "room").len(), 4, "at {:?}", world.now);
        }
    });
    let broken = Report::LinkBroken { region: "us".into(), nodes: 2 };
    let restored = Report::LinkRestored { region: "us".into() };
    for node in [a, b] {
        let reports = &regions.world.node(node).reports;
        let broken_at = reports.iter().position(|report| *report == broken).unwrap();
        assert_eq!(reports.iter().position(|report| *report == restored), Some(broken_at + 1));
        assert_eq!(regions.reports(node, |report| *report == broken), 1);
    }
    assert!(nodes.iter().all(|node| regions.reports(*node, is_down) == 0));
}

#[test]
fn changes_behind_a_broken_link_are_one_diff_when_it_is_back() {
    let mut regions = Regions::new();
    let ([a, _], [c, _]) = (regions.eu, regions.us);
    let mut owner = regions.world.owner(c);
    for n in 0..20 {
        owner.track(&"room".into(), &key(&n.to_string()), meta()).unwrap();
    }
    regions.world.pass(MOMENT);
    regions.flush(a);
    regions.cut();
    regions.world.pass(5 * SECOND);
    owner.untrack("room", "7");
    owner.track(&"room".into(), &key("new"), meta()).unwrap();
    regions.world.pass(5 * SECOND);
    assert_eq!(regions.flush(a), (0, 0, 0));
    regions.world.mend();
    regions.world.pass(2 * SECOND);
    assert_eq!(regions.flush(a), (1, 1, 1));
}

#[test]
fn a_link_that_is_broken_for_longer_than_its_grace_is_one_diff_and_one_when_it_is_back() {
    let mut regions = Regions::new();
    let ([a, _], [c, d]) = (regions.eu, regions.us);
    let _owners: Vec<_> = (0..20)
        .map(|n| regions.world.track(if n % 2 == 0 { c } else { d }, "room", &n.to_string()))
        .collect();
    regions.world.pass(MOMENT);
    regions.flush(a);
    regions.cut();
    let engine_grace = regions.world.options.engine_grace;
    regions.world.pass(engine_grace);
    assert_eq!(regions.flush(a), (0, 0, 0));
    let before = regions.world.node(a).changed;
    let mut changes = Vec::new();
    regions.world.pass_and(5 * SECOND, |world| changes.push(world.node(a).changed - before));
    // Both nodes go down at one time.
    changes.dedup();
    assert_eq!(changes, [0, 1]);
    assert_eq!(regions.flush(a), (1, 0, 20));
    regions.world.pass(20 * SECOND);
    assert_eq!(regions.flush(a), (0, 0, 0));
    regions.world.mend();
    let before = regions.world.node(a).changed;
    let mut changes = Vec::new();
    regions.world.pass_and(2 * SECOND, |world| {
        changes.push((world.node(a).changed - before, world.keys(a, "room").len()));
    });
    // Both nodes are shown at one time.
    changes.dedup();
    assert!(changes.iter().all(|(_, keys)| [0, 20].contains(keys)), "{changes:?}");
    assert_eq!(regions.flush(a), (1, 20, 0));
}

/// A region is lost, and a node in it dies before the link is back.
fn lost_with_a_dead_node() -> (Regions, [RawOwner<Bare>; 2]) {
    let mut regions = Regions::new();
    let [c, d] = regions.us;
    let owners = [regions.world.track(c, "room", "7"), regions.world.track(d, "room", "8")];
    regions.world.pass(MOMENT);
    regions.cut();
    let engine_grace = regions.world.options.engine_grace;
    regions.world.pass(engine_grace + 5 * SECOND);
    assert!(regions.world.keys(regions.eu[0], "room").is_empty());
    regions.world.kill(c);
    regions.world.mend();
    (regions, owners)
}

#[test]
fn a_lost_region_is_shown_two_heartbeats_after_the_first_is_heard_though_one_of_it_has_died() {
    let (mut regions, _owners) = lost_with_a_dead_node();
    let [a, b] = regions.eu;
    let mut shown = None;
    let start = regions.world.now;
    regions.world.pass_and(4 * SECOND, |world| {
        if shown.is_none() && world.keys(a, "room") == ["8"] {
            shown = Some(world.now.since(start));
        }
    });
    // It is heard within a heartbeat.
    let shown = shown.expect("it is shown");
    assert!((2 * SECOND..=3 * SECOND + MOMENT).contains(&shown), "{shown:?}");
    assert_eq!(regions.world.keys(b, "room"), ["8"]);
}

#[test]
fn a_node_of_a_lost_region_that_leaves_before_the_others_are_back_is_shown_until_its_grace_is_over() {
    let (mut regions, _owners) = lost_with_a_dead_node();
    let [a, d] = [regions.eu[0], regions.us[1]];
    let is_up = |report: &Report| matches!(report, Report::Up(replica) if *replica.name == *"d");
    let ups = regions.reports(a, is_up);
    while regions.reports(a, is_up) == ups {
        regions.world.pass(MOMENT);
    }
    assert!(regions.world.keys(a, "room").is_empty());
    regions.world.leave(d, SECOND);
    regions.world.pass(MOMENT);
    assert_eq!(regions.world.keys(a, "room"), ["8"]);
    regions.world.pass(SECOND + MOMENT);
    assert!(regions.world.keys(a, "room").is_empty());
}

#[test]
fn nothing_is_kept_of_a_region_that_never_comes_back() {
    let mut regions = Regions::new();
    let ([a, _], [c, _]) = (regions.eu, regions.us);
    let _owner = regions.world.track(c, "room", "7");
    regions.world.pass(MOMENT);
    regions.cut();
    let forget_after = regions.world.options.forget_after;
    let engine_grace = regions.world.options.engine_grace;
    regions.world.pass(engine_grace + forget_after + 10 * SECOND);
    // Once forgotten it is taken for new: its first node waits for no other.
    regions.world.kill(regions.us[1]);
    regions.world.mend();
    let mut keys = Vec::new();
    regions.world.pass_and(3 * SECOND / 2, |world| keys = world.keys(a, "room"));
    assert_eq!(keys, ["7"]);
}

#[test]
fn a_node_that_dies_behind_a_whole_link_is_detected_as_soon_as_ever() {
    let mut regions = Regions::new();
    let ([a, _], [c, d]) = (regions.eu, regions.us);
    let _owner = regions.world.track(c, "room", "7");
    regions.world.pass(MOMENT);
    regions.world.kill(c);
    regions.world.pass(3 * SECOND + MOMENT);
    assert!(regions.world.keys(a, "room").is_empty());
    assert!(regions.world.keys(d, "room").is_empty());
    assert_eq!(regions.reports(a, |report| matches!(report, Report::LinkBroken { .. })), 0);
}

#[test]
fn a_node_that_died_behind_a_broken_link_is_down_once_another_was_heard_for_two_heartbeats() {
    let mut regions = Regions::new();
    let ([a, _], [c, d]) = (regions.eu, regions.us);
    let _owners = [regions.world.track(c, "room", "7"), regions.world.track(d, "room", "8")];
    regions.world.pass(MOMENT);
    regions.cut();
    regions.world.pass(5 * SECOND);
    regions.world.kill(c);
    regions.world.pass(5 * SECOND);
    regions.world.mend();
    // It is heard within a heartbeat.
    regions.world.pass(1900 * SECOND / 1000);
    assert_eq!(regions.world.keys(a, "room"), ["7", "8"]);
    regions.world.pass(1200 * SECOND / 1000);
    assert_eq!(regions.world.keys(a, "room"), ["8"]);
}

#[test]
fn a_link_that_is_there_for_a_moment_only_proves_nothing() {
    let mut regions = Regions::new();
    let ([a, _], [c, d]) = (regions.eu, regions.us);
    let _owners = [regions.world.track(c, "room", "7"), regions.world.track(d, "room", "8")];
    regions.world.pass(MOMENT);
    regions.cut();
    regions.world.pass(5 * SECOND);
    // One heartbeat of one of them gets through.
    let beat = regions.world.delivered.iter().rev().find_map(|sent| match &sent.message {
        ClusterMessage::Heartbeat { from, .. } if *from.name == *"d" => Some(sent.message.clone()),
        _ => None,
    });
    regions.world.hear(a, beat.unwrap());
    regions.world.pass(20 * SECOND);
    assert_eq!(regions.world.keys(a, "room"), ["7", "8"]);
    let restored = |report: &Report| matches!(report, Report::LinkRestored { .. });
    assert_eq!(regions.reports(a, restored), 0);
    // The grace begins when the link breaks.
    regions.world.pass(10 * SECOND);
    assert!(regions.world.keys(a, "room").is_empty());
    assert_eq!(regions.reports(a, restored), 0);
}

#[test]
fn a_region_of_one_node_and_one_without_a_name_have_no_link() {
    let mut world = World::new();
    let a = world.start_in("eu", "a", 1);
    let (c, d) = (world.start_in("us", "c", 2), world.start("d", 3));
    let e = world.start("e", 4);
    world.pass(START);
    let _owners = [c, d, e].map(|node| world.track(node, "room", &node.to_string()));
    world.pass(MOMENT);
    assert_eq!(world.keys(a, "room").len(), 3);
    world.cut_between(&[a], &[c, d, e]);
    world.pass(4 * SECOND);
    assert!(world.keys(a, "room").is_empty());
}

#[test]
fn nodes_of_ones_own_region_are_down_as_soon_as_ever() {
    let mut world = World::new();
    let nodes = ["a", "b", "c"].map(|name| world.start_in("eu", name, 1));
    world.pass(START);
    let _owners = nodes.map(|node| world.track(node, "room", &node.to_string()));
    world.pass(MOMENT);
    world.isolate(nodes[0]);
    world.pass(4 * SECOND);
    assert_eq!(world.keys(nodes[0], "room"), ["0"]);
}

#[test]
fn an_outage_of_the_engine_is_no_broken_link() {
    let mut regions = Regions::new();
    let ([a, _], [c, _]) = (regions.eu, regions.us);
    let _owner = regions.world.track(c, "room", "7");
    regions.world.pass(MOMENT);
    regions.world.plug(a, false);
    let grace = regions.world.options.engine_grace;
    regions.world.pass(grace.saturating_sub(SECOND));
    assert_eq!(regions.world.keys(a, "room"), ["7"]);
    regions.world.pass(2 * SECOND);
    assert!(regions.world.keys(a, "room").is_empty());
    assert_eq!(regions.reports(a, |report| matches!(report, Report::LinkBroken { .. })), 0);
}

#[test]
fn a_node_that_slept_does_not_take_its_sleep_for_a_broken_link() {
    let mut regions = Regions::new();
    let ([a, _], [c, _]) = (regions.eu, regions.us);
    let _owner = regions.world.track(c, "room", "7");
    regions.world.pass(MOMENT);
    regions.world.stop(a, true);
    regions.world.pass(10 * SECOND);
    regions.world.stop(a, false);
    regions.world.pass_and(4 * SECOND, |world| assert_eq!(world.keys(a, "room"), ["7"]));
    assert_eq!(regions.reports(a, |report| matches!(report, Report::LinkBroken { .. })), 0);
}
