//! Two nodes in one process, for what measures them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use adsum_tracker::{
    Bare, Cluster, ClusterMessage, ClusterOptions, Effect, Incarnation, Limits, Replica, Time, Tracker,
    Windows,
};

/// When a node that was started at zero is up.
pub const LIVE: Time = Time::new(Duration::from_secs(3));

/// A node, and its part in the cluster.
#[derive(Debug)]
pub struct Node {
    /// Its set.
    pub tracker: Arc<Tracker<Bare>>,
    /// Its part in the cluster.
    pub cluster: Cluster<Bare>,
}

impl Node {
    fn start(name: &str, seed: u64) -> Self {
        let incarnation = Incarnation { started: seed, random: seed.rotate_right(16) };
        let replica = Replica { name: name.into(), incarnation };
        let limits = Limits::default().presences_per_owner(usize::MAX);
        let tracker = Tracker::with_cluster(replica, limits, true, |_| Windows::Off, |_| {}, || {});
        let cluster = Cluster::start(Time::ZERO, tracker.clone(), None, ClusterOptions::default(), seed);
        Self { tracker, cluster }
    }

    /// A node that is up, and alone so far.
    pub fn live(name: &str, seed: u64) -> Self {
        let mut node = Self::start(name, seed);
        let seconds = 1..=LIVE.since_zero().as_secs();
        seconds.for_each(|second| node.cluster.tick(Time::new(Duration::from_secs(second))));
        node.cluster.take_effects();
        node
    }

    /// Returns the messages that it sends at this time.
    pub fn say(&mut self, now: Time) -> Vec<ClusterMessage> {
        self.cluster.tick(now);
        self.messages()
    }

    /// Returns the messages that it sends.
    pub fn messages(&mut self) -> Vec<ClusterMessage> {
        let effects = self.cluster.take_effects().into_iter();
        let message = |effect| match effect {
            Effect::Broadcast(message) | Effect::Send(_, message) => Some(message),
            Effect::Changed(_) | Effect::Report(_) => None,
        };
        effects.filter_map(message).collect()
    }
}

/// Has two nodes talk until neither has anything to say, by their forms on the wire. The longest that one took for
/// a message, and the bytes that went to the second.
pub fn talk(a: &mut Node, b: &mut Node, now: Time) -> (Duration, usize) {
    let (mut longest, mut bytes) = (Duration::ZERO, 0);
    let (mut to_a, mut to_b) = (Vec::new(), a.say(now));
    to_a.append(&mut b.say(now));
    // A node that reads or shows a large set goes on at once.
    let goes_on = |node: &Node| node.cluster.wake_at() <= now;
    while !to_a.is_empty() || !to_b.is_empty() || goes_on(a) || goes_on(b) {
        for (node, inbox) in [(&mut *a, &mut to_a), (&mut *b, &mut to_b)] {
            for message in std::mem::take(inbox) {
                let wire = message.encode();
                bytes += wire.len();
                let message = ClusterMessage::decode(&wire).expect("it was just encoded");
                let started = Instant::now();
                node.cluster.handle(now, message);
                longest = longest.max(started.elapsed());
            }
        }
        (to_b, to_a) = (a.say(now), b.say(now));
    }
    (longest, bytes)
}
