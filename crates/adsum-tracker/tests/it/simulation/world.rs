//! The nodes, the network between them, and the time.

use std::{sync::Arc, time::Duration};

use adsum_tracker::{Incarnation, Message, Replica, Report, Time};

use super::{
    known::Known,
    network::{Delivery, Network},
    node::{Node, key},
    random::Random,
    schedule::{Config, Schedule, Step},
    trace::{Trace, short},
};

pub(super) struct World {
    pub(super) config: Config,
    pub(super) now: Time,
    pub(super) nodes: Vec<Option<Node>>,
    pub(super) known: Known,
    pub(super) trace: Trace,
    pub(super) network: Network,
    pub(super) random: Random,
    pub(super) had_twins: bool,
}

impl World {
    pub(super) fn new(config: &Config, trace: Trace) -> Self {
        let mut world = Self {
            config: config.clone(),
            now: Time::ZERO,
            nodes: (0..2 * config.nodes).map(|_| None).collect(),
            known: Known::default(),
            trace,
            network: Network::new(config),
            random: Random::new(config.seed ^ 0x5eed),
            had_twins: false,
        };
        for place in 0..config.nodes {
            world.start(place, Duration::ZERO);
        }
        world
    }

    /// Runs a schedule, and then lets all settle.
    pub(super) fn run(schedule: &Schedule, trace: Trace) {
        let mut world = Self::new(&schedule.config, trace);
        for step in &schedule.steps {
            world.step(step);
        }
        world.heal();
        world.end();
    }

    pub(super) fn step(&mut self, step: &Step) {
        let now = self.now;
        self.trace.note(now, || format!("* {step:?}"));
        match *step {
            Step::Pass(time) => self.pass(time),
            Step::Track { node, owner, topic, key: k } => {
                let text = self.meta();
                self.at(node, |node, known| node.track(owner, topic, &key(k), text, known));
            }
            Step::Update { node, owner, topic, key: k } => {
                let text = self.meta();
                self.at(node, |node, known| node.update(owner, topic, &key(k), text, known));
            }
            Step::Untrack { node, owner, topic, key: k } => {
                self.at(node, |node, known| node.untrack(owner, topic, &key(k), known));
            }
            Step::End { node, owner } => self.at(node, |node, known| node.end(owner, known)),
            Step::Linger { node, grace } => self.at(node, |node, _| node.linger(grace)),
            Step::Flush { node, topic } => self.at(node, |node, known| node.flush(topic, known)),
            Step::State { node, topic, client } => self.at(node, |node, _| node.show_state(topic, client)),
            Step::Cut { from, to } => self.network.cut(from, to),
            Step::Split { sides } => self.split(sides),
            Step::Mend => self.network.mend(),
            Step::Crash { node } => self.nodes[node] = None,
            Step::Start { node, behind } => self.start(node, behind),
            Step::Sleep { node, time } => self.at(node, |node, _| node.sleep(now + time)),
            Step::Engine { node, up } => self.engine(node, up),
            Step::Leave { node, grace } => self.at(node, |node, known| node.leave(now, grace, known)),
        }
        for place in 0..self.nodes.len() {
            self.send(place);
        }
        self.check();
    }

    /// Does something at a node that runs, is awake and hasn't left.
    fn at(&mut self, place: usize, act: impl FnOnce(&mut Node, &mut Known)) {
        let Some(node) = &mut self.nodes[place] else { return };
        if node.is_awake(self.now) && !node.is_leaving {
            act(node, &mut self.known);
        }
    }

    fn meta(&mut self) -> String {
        let padding = "x".repeat(self.config.meta - self.random.below(self.config.meta / 4 + 1));
        format!(r#"{{"n":{},"padding":"{padding}"}}"#, self.known.len())
    }

    fn start(&mut self, place: usize, behind: Duration) {
        if self.nodes[place].is_some() {
            return;
        }
        self.had_twins |= place >= self.config.nodes;
        let clock = (self.now.since_zero() + Duration::from_hours(1)).saturating_sub(behind);
        let started = clock.as_millis() as u64;
        let incarnation = Incarnation { started, random: self.random.next() };
        let name = format!("n{}", place % self.config.nodes);
        let replica = Replica { name: name.into(), incarnation };
        let now = self.now;
        self.trace.note(now, || format!("{place} starts as {replica}"));
        let seed = self.random.next();
        self.nodes[place] = Some(Node::start(self.now, replica, &self.config, seed));
        for node in self.nodes.iter_mut().flatten() {
            node.has_twins = self.had_twins;
        }
        self.send(place);
    }

    fn split(&mut self, sides: u16) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if (sides >> from) & 1 != (sides >> to) & 1 {
                    self.network.cut(from, to);
                }
            }
        }
    }

    fn engine(&mut self, place: Option<usize>, up: bool) {
        for index in 0..self.nodes.len() {
            if place.is_none_or(|place| place == index)
                && let Some(node) = &mut self.nodes[index]
                && node.connected != up
            {
                node.connected = up;
                if node.is_awake(self.now) {
                    node.cluster.connected(self.now, up);
                } else {
                    node.unheard = Some(up);
                }
                self.send(index);
            }
        }
    }

    /// Lets time pass, with all that is due in it.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let nodes = self.nodes.iter().enumerate();
            let wake =
                nodes.filter_map(|(place, node)| Some((node.as_ref()?.next_at(self.now), place))).min();
            let message = self.network.next_at();
            let next = message.into_iter().chain(wake.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if message.is_some_and(|at| at <= self.now) {
                self.deliver();
            } else if let Some((_, place)) = wake {
                self.wake(place);
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        let Some(delivery) = self.network.take() else { return };
        let (now, inbox) = (self.now, self.config.inbox);
        let Some(node) = &mut self.nodes[delivery.to] else { return };
        if !node.connected {
            return;
        }
        if !node.is_awake(now) {
            if node.inbox.len() < inbox {
                node.inbox.push_back(delivery.message);
            }
            return;
        }
        let Delivery { from, to, .. } = delivery;
        self.trace.note(now, || format!("  {to} hears {from}: {}", short(&delivery.message)));
        let message = if self.config.encoded {
            Message::decode(&delivery.message.encode()).unwrap()
        } else {
            delivery.message
        };
        node.cluster.handle(now, message);
        self.send(to);
    }

    fn wake(&mut self, place: usize) {
        let Some(node) = &mut self.nodes[place] else { return };
        if std::mem::take(&mut node.has_slept) {
            // Either may be first.
            if self.random.percent(50) {
                node.tick(self.now);
            }
            node.read_inbox(self.now);
        }
        node.tick(self.now);
        self.send(place);
    }

    /// Sends what a node has to say.
    fn send(&mut self, place: usize) {
        let Some(node) = &mut self.nodes[place] else { return };
        let (messages, reports) = node.take_effects();
        let (now, connected) = (self.now, node.connected);
        for report in &reports {
            self.trace.note(now, || format!("  {place} reports {report:?}"));
        }
        for (to, message) in messages {
            for other in 0..self.nodes.len() {
                let name: Arc<str> = format!("n{}", other % self.config.nodes).into();
                if !connected || other == place || to.as_ref().is_some_and(|to| *to != name) {
                    continue;
                }
                let fate = self.network.send(now, &mut self.random, place, other, &message);
                self.trace.note(now, || format!("  {place} to {other}, {fate}: {}", short(&message)));
            }
        }
        if reports.iter().any(|report| matches!(report, Report::Left { .. })) {
            self.nodes[place] = None;
        }
    }

    pub(super) fn check(&self) {
        for node in self.nodes.iter().flatten() {
            node.check(&self.known);
        }
    }
}
