//! Named schedules: failures found once, and cases that random schedules hardly reach.

use std::time::Duration;

use adsum_tracker::{ClusterOptions, Ref};

use super::{
    schedule::{Config, Schedule, Step},
    trace::Trace,
    world::World,
};

const SECOND: Duration = Duration::from_secs(1);

/// Three nodes over the guard of an engine, with nothing lost or late but for what the steps say.
pub(super) fn quiet() -> Config {
    Config {
        seed: 1,
        nodes: 3,
        regions: 0,
        sealed: true,
        interleaved: false,
        focused: false,
        topics: 1,
        keys: 1,
        encoded: true,
        lost: 0,
        doubled: 0,
        delay: 2,
        inbox: 1000,
        keep_twins: false,
        forgets: true,
        meta: 0,
        forgets_published: false,
        options: ClusterOptions::default(),
        turn: usize::MAX,
        turn_time: Duration::ZERO,
        ..Schedule::generate(0, 4, 1).config
    }
}

fn run(steps: &[Step]) -> World {
    let mut world = World::new(&quiet(), Trace::default());
    for step in steps {
        world.step(step);
    }
    world
}

fn track(node: usize) -> Step {
    Step::Track { node, owner: 0, topic: 0, key: 0 }
}

fn listed(world: &World, node: usize) -> Vec<Ref> {
    let view = world.nodes[node].as_ref().unwrap().view(0);
    view.into_values().flatten().collect()
}

#[test]
fn a_restart_with_the_clock_an_hour_back_is_admitted() {
    let behind = Duration::from_hours(1);
    let node = 0;
    let before = [Step::Pass(3 * SECOND), track(node), Step::Pass(SECOND), Step::Crash { node }];
    let mut world = run(&before);
    world.step(&Step::Start { node, behind });
    world.step(&track(node));
    // It listens for two heartbeats, and has to outbid its earlier run.
    world.step(&Step::Pass(5 * SECOND));
    world.agreement().unwrap();
    // Messages of the earlier run are refused.
    world.step(&Step::Replay { count: 300, shuffled: false });
    world.step(&Step::Pass(SECOND));
    world.agreement().unwrap();
}

#[test]
fn a_departed_set_that_another_serves_counts_under_the_numbers_of_the_server() {
    let mut world = run(&[Step::Pass(3 * SECOND), track(0), Step::Pass(SECOND)]);
    let reference = world.nodes[0].as_ref().unwrap().held().next().unwrap().2;
    world.step(&Step::Leave { node: 0, grace: Some(10 * SECOND) });
    world.step(&Step::Pass(2 * SECOND));
    assert!(world.nodes[0].is_none(), "it has left");
    // A node that has never heard the one that left can't ask it whether a message is new.
    world.step(&Step::Crash { node: 2 });
    world.step(&Step::Start { node: 2, behind: Duration::ZERO });
    world.step(&Step::Pass(3 * SECOND));
    assert_eq!(listed(&world, 2), [reference]);
    world.step(&Step::Replay { count: 300, shuffled: false });
    world.step(&Step::Pass(SECOND));
    assert_eq!(listed(&world, 2), [reference]);
    world.step(&Step::Pass(10 * SECOND));
    assert!(listed(&world, 2).is_empty());
}

/// A world in which a later run of the first node, at a place of its own or in the place of the first, leaves before the
/// second node has got its set. The second node still shows the presence of the first run. Returns that presence, too.
fn leaves_unknown(place: usize, grace: Duration) -> (World, Ref) {
    let options = ClusterOptions::default().down_after(5 * SECOND);
    let mut world = World::new(&Config { options, ..quiet() }, Trace::default());
    let mut steps = |steps: &[Step]| steps.iter().for_each(|step| world.step(step));
    steps(&[Step::Pass(3 * SECOND), track(0), Step::Pass(SECOND)]);
    let apart = [Step::Cut { from: 0, to: place }, Step::Cut { from: place, to: 0 }];
    if place == 0 {
        steps(&[Step::Crash { node: 0 }]);
    }
    steps(&apart);
    steps(&[Step::Start { node: place, behind: Duration::ZERO }, Step::Pass(SECOND), track(place)]);
    // The second node misses the first batches, and hears the heartbeat after them. Its pulls aren't answered.
    steps(&[Step::Cut { from: place, to: 1 }, Step::Pass(SECOND * 3 / 2), Step::Mend]);
    steps(&apart);
    steps(&[Step::Cut { from: 1, to: place }, Step::Cut { from: 1, to: 2 }, Step::Pass(SECOND)]);
    steps(&[Step::Leave { node: place, grace: Some(grace) }, Step::Pass(SECOND / 10)]);
    let reference = listed(&world, 1)[0];
    (world, reference)
}

#[test]
fn a_live_presence_is_not_replaced_when_another_run_of_its_node_leaves() {
    let (mut world, reference) = leaves_unknown(3, 5 * SECOND);
    assert_eq!(world.nodes[0].as_ref().unwrap().held().next().unwrap().2, reference);
    // If this one took the place of the first, the first node would give its presence up.
    world.step(&track(1));
    world.step(&Step::Mend);
    world.step(&Step::Pass(10 * SECOND));
    world.agreement().unwrap();
    assert_eq!(listed(&world, 1).len(), 2);
}

#[test]
fn a_presence_of_a_run_that_crashed_is_not_replaced_when_the_next_run_leaves() {
    let (mut world, reference) = leaves_unknown(0, 3 * SECOND);
    world.step(&track(1));
    world.step(&Step::Flush { node: 1, topic: 0 });
    assert_eq!(listed(&world, 1).len(), 2);
    // The set of the run that left, which would tell that the presence isn't in it, never comes.
    world.step(&Step::Pass(3 * SECOND));
    assert!(!listed(&world, 1).contains(&reference));
    world.step(&Step::Flush { node: 1, topic: 0 });
}

#[test]
fn a_live_presence_is_listed_once_another_run_of_its_node_has_left() {
    // The first node outbids the run that has left after that one's grace, or during it.
    for grace in [SECOND, 5 * SECOND] {
        let (mut world, reference) = leaves_unknown(3, grace);
        world.step(&Step::Pass(7 * SECOND));
        assert_eq!(listed(&world, 1), [reference], "with a grace of {grace:?}");
        world.step(&Step::Flush { node: 1, topic: 0 });
        world.step(&Step::Mend);
        world.step(&Step::Pass(10 * SECOND));
        world.agreement().unwrap();
    }
}
