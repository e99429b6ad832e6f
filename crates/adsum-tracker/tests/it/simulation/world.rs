//! The nodes, the network between them, and the time.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use adsum_tracker::{ClusterMessage, Incarnation, Region, Replica, Report, Time};

use super::{
    known::Known,
    network::{Delivery, Network, Packet, Said},
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
    /// How many messages were sent.
    said: u64,
    /// The messages sent lately: the time, the receiver, and the message.
    recorded: VecDeque<Recorded>,
}

/// The age from which a message isn't accepted by any node that has received it or that is younger: a node that admits
/// another accepts messages that were at most 5 s old when the other answered, for up to 10 s after later ones, and waits
/// up to 2.25 s for the answer.
const STALE: Duration = Duration::from_secs(18);

type Recorded = (Time, Option<Arc<str>>, Packet);

/// Maximum number of recorded messages.
const RECORDED: usize = 3000;

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
            said: 0,
            recorded: VecDeque::new(),
        };
        for place in 0..config.nodes {
            world.start(place, Duration::ZERO);
        }
        world
    }

    /// Runs a schedule, and then checks that everything settles.
    pub(super) fn run(schedule: &Schedule, trace: Trace) {
        let mut world = Self::new(&schedule.config, trace);
        world.known.tells_reasons = schedule.tells_reasons();
        world.known.is_prompt = schedule.is_prompt();
        world.known.only_loses = schedule.only_loses();
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
            Step::Pass(time) => {
                if self.config.forgets_published {
                    self.nodes.iter().flatten().for_each(|node| node.cluster.forget_published());
                }
                self.pass(time);
            }
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
            Step::CutRegions => self.cut_regions(),
            Step::Replay { count, shuffled } => self.replay(Duration::ZERO, count, shuffled),
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

    /// Calls a function on a node that runs, is awake and hasn't left.
    fn at(&mut self, place: usize, act: impl FnOnce(&mut Node, &mut Known)) {
        let Some(node) = &mut self.nodes[place] else { return };
        if node.is_awake(self.now) && !node.is_leaving {
            node.now = self.now;
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
        self.nodes[place] = Some(Node::start(self.now, replica, self.region(place), &self.config, seed));
        for node in self.nodes.iter_mut().flatten() {
            node.has_twins = self.had_twins;
        }
        self.send(place);
    }

    fn split(&mut self, sides: u32) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if (sides >> from) & 1 != (sides >> to) & 1 {
                    self.network.cut(from, to);
                }
            }
        }
    }

    fn region(&self, place: usize) -> Option<Region> {
        let number = place % self.config.nodes % self.config.regions.max(1);
        (self.config.regions > 0).then(|| format!("region-{number}").into())
    }

    fn cut_regions(&mut self) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                if self.region(from) != self.region(to) {
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

    /// Lets time pass, and does everything that becomes due.
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
                node.inbox.push_back(delivery.packet);
            }
            return;
        }
        let Delivery { from, to, packet } = delivery;
        self.trace.note(now, || match packet.message() {
            Some(said) => format!("  {to} hears {from}: {}", short(&said.message)),
            None => format!("  {to} hears a challenge or an answer of {from}"),
        });
        self.hear(to, packet);
    }

    /// Lets a node handle a message that has arrived, unless it is a replay.
    fn hear(&mut self, place: usize, packet: Packet) {
        let (now, mut nonce) = (self.now, [0; 16]);
        nonce[..8].copy_from_slice(&self.random.next().to_le_bytes());
        let Some(node) = &mut self.nodes[place] else { return };
        node.now = now;
        let (said, answer) = if self.config.sealed {
            node.received.extend(packet.message().map(|said| said.number));
            node.end.receive(now.since_zero(), packet, nonce)
        } else {
            (packet.message().cloned().into_iter().collect(), None)
        };
        for Said { number, message } in said {
            assert!(!self.config.sealed || node.refused.insert(number), "a replay is taken: {message:?}");
            let message = if self.config.encoded {
                ClusterMessage::decode(&message.encode()).unwrap()
            } else {
                message
            };
            // Most while its presences are being read.
            let often = if matches!(message, ClusterMessage::Pull { .. }) { 60 } else { 10 };
            let is_busy = self.config.interleaved && self.random.percent(often) && !node.is_leaving;
            let changes = if is_busy { node.changes_among_messages(1 + self.random.below(4)) } else { 0 };
            node.handle(message, changes, Random::new(self.random.next()), &mut self.known);
        }
        if let Some((to, packet)) = answer
            && node.connected
        {
            self.put(place, Some(to), packet);
        }
        self.send(place);
    }

    /// Sends a message, and records it.
    fn put(&mut self, place: usize, to: Option<Arc<str>>, packet: Packet) {
        let now = self.now;
        for other in 0..self.nodes.len() {
            if other == place || !self.is_meant(other, to.as_deref()) {
                continue;
            }
            let fate = self.network.send(now, &mut self.random, place, other, &packet);
            if let Some(said) = packet.message() {
                self.trace.note(now, || format!("  {place} to {other}, {fate}: {}", short(&said.message)));
            }
        }
        if self.config.sealed {
            self.recorded.push_back((now, to, packet));
            if self.recorded.len() > RECORDED {
                self.recorded.pop_front();
            }
        }
    }

    fn is_meant(&self, place: usize, to: Option<&str>) -> bool {
        to.is_none_or(|to| to.strip_prefix('n') == Some(&(place % self.config.nodes).to_string()))
    }

    /// Replays messages of at least [`STALE`] age to the nodes that may not take them: those that have received them, and
    /// those that started later.
    pub(super) fn replay_what_is_known(&mut self, count: usize, shuffled: bool) {
        self.replay(STALE, count, shuffled);
    }

    /// Replays messages that were recorded at least this long ago to the nodes that they were meant for.
    fn replay(&mut self, age: Duration, count: usize, shuffled: bool) {
        let old = self.recorded.partition_point(|(said, ..)| *said + age <= self.now);
        let Some(last) = old.checked_sub(1) else { return };
        let first = self.random.below(last + 1);
        for n in 0..count {
            let index = if shuffled { self.random.below(last + 1) } else { (first + n).min(last) };
            let (said, to, packet) = &self.recorded[index];
            let at = self.now + Duration::from_micros(n as u64);
            let number = packet.message().map(|said| said.number);
            for place in 0..self.nodes.len() {
                let is_meant = self.is_meant(place, to.as_deref());
                let Some(node) = self.nodes[place].as_mut().filter(|_| is_meant) else { continue };
                // One that it hasn't received may be taken, however late it comes.
                let is_known =
                    *said < node.began || number.is_none_or(|number| node.received.contains(&number));
                if is_known && *said + STALE <= self.now {
                    node.refused.extend(number);
                } else if !age.is_zero() {
                    continue;
                }
                self.network.inject(at, place, place, packet);
            }
        }
    }

    fn wake(&mut self, place: usize) {
        let Some(node) = &mut self.nodes[place] else { return };
        if std::mem::take(&mut node.has_slept) {
            // Either may come first.
            if self.random.percent(50) {
                node.tick(self.now);
            }
            node.hear_of_network(self.now);
            for packet in std::mem::take(&mut node.inbox) {
                self.hear(place, packet);
            }
        }
        let Some(node) = &mut self.nodes[place] else { return };
        node.tick(self.now);
        self.send(place);
    }

    /// Sends a node's messages.
    fn send(&mut self, place: usize) {
        let Some(node) = &mut self.nodes[place] else { return };
        let (messages, reports) = node.take_effects();
        let (now, connected) = (self.now, node.connected);
        for report in &reports {
            self.trace.note(now, || format!("  {place} reports {report:?}"));
        }
        for (to, message) in messages {
            let Some(node) = self.nodes[place].as_mut().filter(|_| connected) else { break };
            self.said += 1;
            let packet = node.end.seal(now.since_zero(), Said { number: self.said, message });
            self.put(place, to, packet);
        }
        if reports.iter().any(|report| matches!(report, Report::Left { .. })) {
            self.nodes[place] = None;
        }
    }

    pub(super) fn check(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            // A node that sleeps ends no graces.
            if node.is_awake(self.now) {
                node.now = self.now;
            }
            node.check(&self.known);
        }
    }
}
