//! The messages between nodes, on their way.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use adsum_pubsub::Sealed;
use adsum_tracker::{ClusterMessage, Time};

use super::{random::Random, schedule::Config};

/// A message of a node, with a number of its own in the whole run.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) number: u64,
    pub(super) message: ClusterMessage,
}

pub(super) type Packet = Sealed<Said>;

/// Messages under way, and the links that are cut.
#[derive(Debug)]
pub(super) struct Network {
    under_way: BTreeMap<(Time, u64), Delivery>,
    sent: u64,
    cut: HashSet<(usize, usize)>,
    lost: usize,
    doubled: usize,
    delay: usize,
}

#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) packet: Packet,
}

impl Network {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            under_way: BTreeMap::new(),
            sent: 0,
            cut: HashSet::new(),
            lost: config.lost,
            doubled: config.doubled,
            delay: config.delay,
        }
    }

    /// Sends a message. Returns what happens to it, for the trace.
    pub(super) fn send(
        &mut self,
        now: Time,
        random: &mut Random,
        from: usize,
        to: usize,
        packet: &Packet,
    ) -> &'static str {
        if self.cut.contains(&(from, to)) {
            return "cut";
        }
        if random.percent(self.lost) {
            return "lost";
        }
        let times = 1 + usize::from(random.percent(self.doubled));
        for _ in 0..times {
            // Most are quick, even if some are slow.
            let below = if random.percent(80) { self.delay.min(10) } else { self.delay };
            let delay = Duration::from_micros(random.below(1000 * below) as u64);
            self.inject(now + delay, from, to, packet);
        }
        if times == 1 { "sent" } else { "sent twice" }
    }

    /// Delivers a message at a time, whatever happens to others.
    pub(super) fn inject(&mut self, at: Time, from: usize, to: usize, packet: &Packet) {
        self.sent += 1;
        self.under_way.insert((at, self.sent), Delivery { from, to, packet: packet.clone() });
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn take(&mut self) -> Option<Delivery> {
        self.under_way.pop_first().map(|(_, delivery)| delivery)
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(super) fn mend(&mut self) {
        self.cut.clear();
    }

    /// From now on, nothing is cut, lost, duplicated or slow.
    pub(super) fn heal(&mut self) {
        self.mend();
        (self.lost, self.doubled, self.delay) = (0, 0, 5);
    }
}
