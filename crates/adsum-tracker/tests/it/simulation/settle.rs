//! Checks that nodes agree once nothing is broken any more.

use std::{collections::BTreeSet, time::Duration};

use adsum_tracker::{Ref, Usage};

use super::{
    node::Node,
    schedule::{OWNERS, Step, TOPICS},
    world::World,
};

/// How often the lists of nodes are compared.
const LOOK: Duration = Duration::from_millis(250);

/// A topic and a ref.
type ListedRefs = BTreeSet<(usize, Ref)>;

impl World {
    /// Mends everything, and checks that all lists are those of the live owners within a bounded time.
    pub(super) fn heal(&mut self) {
        self.step(&Step::Engine { node: None, up: true });
        self.network.heal();
        self.config.interleaved = false;
        for node in self.nodes.iter_mut().flatten() {
            node.asleep_until = node.asleep_until.min(self.now);
        }
        if !self.config.keep_twins {
            for place in self.config.nodes..self.nodes.len() {
                let other = place - self.config.nodes;
                if self.nodes[place].is_some() && self.nodes[other].is_some() {
                    let node = self.random.pick(&[place, other]);
                    self.step(&Step::Crash { node });
                }
            }
        }
        // Messages under way may be from nodes that are gone.
        self.pass(Duration::from_millis(self.config.delay as u64));
        let options = &self.config.options;
        let heartbeat = options.heartbeat;
        // The longest grace of a departing presence, sleep or outage; then a silence, a start that waits for a twin,
        // and a few heartbeats. Once more the grace of a link, where a whole region died during an outage.
        let link = if self.config.regions > 0 { options.engine_grace } else { Duration::ZERO };
        let held_back = Duration::from_secs(6).max(options.engine_grace) + link + Duration::from_secs(20);
        let long = held_back + options.down_after + options.sync_timeout + 5 * options.heartbeat;
        let limit = if self.known.only_loses { options.heartbeat + LOOK } else { long };
        if self.had_twins {
            // A node that has yielded waits until its twin is silent, and may have been cut off from it.
            self.pass(options.down_after + options.heartbeat);
        }
        if !self.known.only_loses {
            // All may agree before rows are shown, which takes turns. A node of a lost region that was heard, late or by a
            // recorder, is hidden until the others are, or for two heartbeats.
            self.pass(if self.config.regions > 0 { 2 * heartbeat } else { LOOK });
        }
        let end = self.now + limit;
        while let Err(difference) = self.agreement() {
            assert!(self.now < end, "no agreement after {limit:?}: {difference}");
            self.replay_what_is_known(30, false);
            self.pass(LOOK);
            self.check();
        }
        // It lasts, whatever is replayed.
        for round in 0..4 {
            self.replay_what_is_known(100, round % 2 == 1);
            self.pass(self.config.options.heartbeat);
        }
        self.agreement().unwrap();
        for node in self.nodes.iter_mut().flatten() {
            node.flush_all(&self.known);
        }
    }

    /// Checks that after the time for forgetting nothing is kept of nodes that are gone, and nothing at all if all are.
    pub(super) fn end(&mut self) {
        if !self.config.forgets {
            return;
        }
        self.pass(self.config.options.forget_after * 5 / 2);
        for round in 0..4 {
            self.replay_what_is_known(300, round % 2 == 1);
            self.pass(self.config.options.heartbeat);
        }
        self.agreement().unwrap();
        let is_twin = |world: &Self, place: usize| {
            let other = (place + world.config.nodes) % (2 * world.config.nodes);
            world.nodes[place].is_some() && world.nodes[other].is_some()
        };
        let twins = (0..self.nodes.len()).any(|place| is_twin(self, place));
        if !twins {
            let running = self.nodes.iter().flatten().count();
            let held: usize = self.nodes.iter().flatten().map(|node| node.held().count()).sum();
            for node in self.nodes.iter().flatten() {
                let of_others = held - node.held().count();
                let live = Usage { peers: running - 1, rows: of_others, ..Usage::default() };
                assert_eq!(node.cluster.usage(), live, "{:?}", node.cluster);
                assert_eq!(node.info().presences, node.held().count());
            }
        }
        for node in self.nodes.iter_mut().flatten() {
            node.linger(None);
            (0..OWNERS).for_each(|owner| node.end(owner, &mut self.known));
        }
        self.pass(Duration::from_secs(2));
        for node in self.nodes.iter_mut().flatten() {
            node.flush_all(&self.known);
            assert_eq!(crate::topics_held(&node.tracker), 0, "a topic without presences is kept");
        }
    }

    /// Compares all lists with the presences of live owners. Of several nodes of one name, all others hear the same
    /// one.
    pub(super) fn agreement(&self) -> Result<(), String> {
        let names = self.config.nodes;
        let held: Vec<ListedRefs> = self.nodes.iter().map(|node| held_by(node.as_ref())).collect();
        let twins: Vec<usize> =
            (0..names).filter(|n| self.nodes[*n].is_some() && self.nodes[*n + names].is_some()).collect();
        let mut difference = String::new();
        'choice: for choice in 0_u32..1 << twins.len() {
            let heard: Vec<usize> = (0..self.nodes.len())
                .filter(|place| match twins.iter().position(|twin| *twin == place % names) {
                    Some(twin) => ((choice >> twin) & 1 == 1) == (*place >= names),
                    None => true,
                })
                .collect();
            for (place, node) in self.nodes.iter().enumerate() {
                let Some(node) = node else { continue };
                let mut expected = held[place].clone();
                for other in heard.iter().filter(|other| *other % names != place % names) {
                    expected.extend(&held[*other]);
                }
                let listed: ListedRefs = (0..TOPICS)
                    .flat_map(|topic| node.view(topic).into_values().flatten().map(move |r| (topic, r)))
                    .collect();
                if listed != expected {
                    let missing: Vec<_> = expected.difference(&listed).collect();
                    let ghosts: Vec<_> = listed.difference(&expected).collect();
                    difference = format!("node {place} misses {missing:?} and has besides {ghosts:?}");
                    continue 'choice;
                }
            }
            return Ok(());
        }
        Err(difference)
    }
}

fn held_by(node: Option<&Node>) -> ListedRefs {
    node.into_iter().flat_map(|node| node.held().map(|(topic, _, reference)| (topic, reference))).collect()
}
