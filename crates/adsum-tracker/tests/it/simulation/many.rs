//! A cluster of 64 nodes.

use std::time::Duration;

use super::{
    scenarios::quiet,
    schedule::{Config, Step},
    trace::Trace,
    world::World,
};

const NODES: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

/// Messages are lost, doubled and late now and then, as in a network under load.
fn under_load() -> Config {
    Config { nodes: NODES, topics: 3, keys: 3, lost: 1, doubled: 1, delay: 20, ..quiet() }
}

/// Tracks a presence on each node that has none of this owner.
fn track_everywhere(world: &mut World) {
    for node in 0..NODES {
        world.step(&Step::Track { node, owner: 0, topic: node % 3, key: node / 3 % 3 });
    }
}

#[test]
fn sixty_four_nodes_agree_after_a_start_restarts_and_a_partition() {
    let mut world = World::new(&under_load(), Trace::default());
    // All start at once, and what they track meanwhile is pulled by all.
    track_everywhere(&mut world);
    world.step(&Step::Pass(5 * SECOND));
    world.agreement().unwrap();

    // A third of them crashes, and comes back before the others miss it.
    let third = (0..NODES).step_by(3);
    third.clone().for_each(|node| world.step(&Step::Crash { node }));
    world.step(&Step::Pass(SECOND));
    third.for_each(|node| world.step(&Step::Start { node, behind: Duration::ZERO }));
    track_everywhere(&mut world);
    world.step(&Step::Pass(5 * SECOND));
    world.agreement().unwrap();

    // 20 are cut off from the others until these count as down, and both sides change.
    let sides = |node: usize| node < 20;
    for from in 0..NODES {
        for to in (0..NODES).filter(|to| sides(*to) != sides(from)) {
            world.step(&Step::Cut { from, to });
        }
    }
    world.step(&Step::Pass(5 * SECOND));
    assert!(world.agreement().is_err(), "neither side sees the other");
    for node in (0..NODES).step_by(4) {
        world.step(&Step::End { node, owner: 0 });
        world.step(&Step::Track { node, owner: 1, topic: 0, key: 2 });
    }
    world.step(&Step::Pass(SECOND));
    world.step(&Step::Mend);
    world.step(&Step::Pass(4 * SECOND));
    world.agreement().unwrap();
}
