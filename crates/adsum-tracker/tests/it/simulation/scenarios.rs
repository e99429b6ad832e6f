//! Named schedules: failures found once, and cases that random schedules hardly reach.

use std::time::Duration;

use adsum_tracker::ClusterOptions;

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
        options: ClusterOptions::default(),
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
    let listed = |world: &World| {
        let view = world.nodes[2].as_ref().unwrap().view(0);
        view.into_values().flatten().collect::<Vec<_>>()
    };
    assert_eq!(listed(&world), [reference]);
    world.step(&Step::Replay { count: 300, shuffled: false });
    world.step(&Step::Pass(SECOND));
    assert_eq!(listed(&world), [reference]);
    world.step(&Step::Pass(10 * SECOND));
    assert!(listed(&world).is_empty());
}
