//! Asking other nodes for what is missing.

use std::time::Duration;

use super::{
    Cluster,
    effects::Out,
    jitter::Jitter,
    options::ClusterOptions,
    peer::{Peer, PeerState, Pull},
};
use crate::{layer::Layer, replica::Replica, time::Time, wire::ClusterMessage};

/// Maximum number of shards of one replica that are pulled at the same time.
const AT_ONCE: usize = 8;
/// Maximum number of shards of all replicas that are pulled at the same time, but for one of each: the answers, of up to
/// 128 KiB each, have to fit the queues of a node that starts beside many others.
const OF_ALL_AT_ONCE: usize = 64;
/// A first pull waits for a random time below this: late messages may still arrive, and not all nodes ask at once.
pub(super) const JITTER: Duration = Duration::from_millis(10);
/// An unanswered pull is retried after this time, then after twice as long, and so on up to four heartbeats.
const RETRY: Duration = Duration::from_millis(250);
/// How many times to ask the node that sent the last chunk of a departed set before trying another holder.
const ATTEMPTS_PER_HOLDER: usize = 3;

impl<X: Layer> Cluster<X> {
    /// Returns how many shards of each replica are pulled at the same time.
    pub(super) fn pulls_at_once(&self) -> usize {
        let pulled = self.peers.values().filter(|peer| !peer.pulls.is_empty()).count();
        (OF_ALL_AT_ONCE / pulled.max(1)).clamp(1, AT_ONCE)
    }
}

impl Peer {
    /// Notes that a shard is to be pulled.
    pub(super) fn want(&mut self, at: Time, shard: usize) {
        self.pulls.entry(shard).or_insert(Pull { at, attempts: 0, incoming: None });
    }

    pub(super) fn next_pull(&self, at_once: usize) -> Option<Time> {
        if matches!(self.state, PeerState::Down(_)) {
            return None;
        }
        self.pulls.values().take(at_once).map(|pull| pull.at).min()
    }

    /// Sends the pulls that are due.
    pub(super) fn pull(
        &mut self,
        now: Time,
        me: &Replica,
        options: &ClusterOptions,
        at_once: usize,
        jitter: &mut Jitter,
        out: &mut Out,
    ) {
        let Self { replica, state, shards, pulls, holders, .. } = self;
        if matches!(state, PeerState::Down(_)) {
            return;
        }
        if matches!(state, PeerState::Departed { until, .. } if *until <= now) {
            pulls.clear();
            return;
        }
        for (&shard, pull) in pulls.iter_mut().take(at_once).filter(|(_, pull)| pull.at <= now) {
            // Ask the node that has sent a part already, or the replica itself. If a departed one doesn't answer, ask
            // any holder of its set, and begin the snapshot again.
            let attempt = pull.attempts as usize;
            if attempt >= ATTEMPTS_PER_HOLDER && !holders.is_empty() {
                pull.incoming = None;
            }
            let to = match &pull.incoming {
                Some(incoming) => incoming.from.clone(),
                None if attempt == 0 || holders.is_empty() => replica.clone(),
                None => holders[attempt % holders.len()].clone(),
            };
            let have = shards[shard].version;
            let chunk = pull.incoming.as_ref().map(|incoming| (incoming.version, incoming.next));
            let message = ClusterMessage::Pull {
                from: me.clone(),
                of: replica.clone(),
                shard: shard as u8,
                have,
                chunk,
            };
            out.send(&to, message);
            let patience = RETRY * 2u32.pow(pull.attempts.min(8));
            let patience = patience.min(4 * options.heartbeat);
            pull.at = now + patience + jitter.below(patience / 4);
            pull.attempts += 1;
        }
    }
}

impl Pull {
    /// Notes that a part of the answer came: the next part may be asked for at once.
    pub(super) fn ask_on(&mut self, now: Time) {
        self.at = now;
        self.attempts = 0;
    }
}
