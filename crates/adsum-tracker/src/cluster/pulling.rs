//! Asking for what is missing.

use std::{collections::btree_map::Entry, sync::Arc, time::Duration};

use super::{
    Batch, Cluster, ClusterOptions, ClusterMessage, Out, Jitter, Time,
    peer::{Chunk, IncomingSnapshot, Peer, Pull, PeerState},
};
use crate::{Layer, Replica, Tracker};

/// So many shards of one replica are asked for at a time.
const AT_ONCE: usize = 8;
/// A first pull waits for a time below this: what is late may come, and not all nodes ask at once.
pub(super) const JITTER: Duration = Duration::from_millis(10);
/// An unanswered pull is sent again after this, then after twice as long, and so on up to four heartbeats.
const RETRY: Duration = Duration::from_millis(250);
/// Who has sent a part of a departed one's snapshot is asked so often for the next one; then another is.
const ATTEMPTS_PER_HOLDER: usize = 3;
/// Batches that can't be applied yet are kept, for each shard, up to so many bytes.
const EARLY_BYTES: usize = 512 * 1024;

impl<X: Layer> Cluster<X> {
    pub(super) fn on_batches(&mut self, now: Time, from: &Replica, batches: Vec<Arc<Batch>>) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        if !peer.is_up() {
            // Its next heartbeat brings it up, and says where its shards stand.
            return;
        }
        peer.heard(now, self.options.down_after, self.disconnected.is_none());
        let region = peer.region.clone();
        for batch in batches {
            peer.receive(now, &batch, &mut self.random, &self.tracker, &mut self.out);
        }
        self.heard_from_region(now, region.as_ref());
        self.answer_to(now, from);
    }

    pub(super) fn on_run(&mut self, now: Time, of: &Replica, batches: Vec<Arc<Batch>>) {
        let Some(peer) = self.peers.get_mut(of) else { return };
        for batch in batches {
            let shard = usize::from(batch.shard);
            // A snapshot that has begun is finished by a snapshot only.
            if peer.pulls.get(&shard).is_some_and(|pull| pull.incoming.is_some()) {
                continue;
            }
            let before = peer.shards[shard].version;
            peer.receive(now, &batch, &mut self.random, &self.tracker, &mut self.out);
            if peer.shards[shard].version > before
                && let Some(pull) = peer.pulls.get_mut(&shard)
            {
                pull.ask_on(now);
            }
        }
        self.answer_to(now, of);
    }

    pub(super) fn on_chunk(&mut self, now: Time, of: &Replica, shard: u8, chunk: Chunk) {
        let Some(peer) = self.peers.get_mut(of) else { return };
        let shard = usize::from(shard);
        if peer.accept(now, shard, &chunk) {
            peer.apply_chunk(now, shard, chunk, &self.tracker, &mut self.out);
        }
        self.answer_to(now, of);
    }

    /// Pulls at once what can be, and tells one that leaves that its set is held.
    fn answer_to(&mut self, now: Time, of: &Replica) {
        let Some(peer) = self.peers.get_mut(of) else { return };
        peer.pull(now, &self.me, &self.options, &mut self.random, &mut self.out);
        if peer.has_departed() && peer.is_complete() {
            self.out.send(of, ClusterMessage::SetHeld { from: self.me.clone(), of: of.clone() });
        }
    }
}

impl Peer {
    /// Takes a batch: applies it where it follows what is held, else keeps it and asks for what is between.
    fn receive<X: Layer>(
        &mut self,
        now: Time,
        batch: &Arc<Batch>,
        random: &mut Jitter,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) {
        let index = usize::from(batch.shard);
        let shard = &mut self.shards[index];
        if batch.version <= shard.version {
            return;
        }
        shard.known = shard.known.max(batch.version);
        let snapshot_comes = self.pulls.get(&index).is_some_and(|pull| pull.incoming.is_some());
        if snapshot_comes || batch.version > shard.version + 1 {
            if shard.early_bytes + batch.bytes() > EARLY_BYTES {
                shard.early.clear();
                shard.early_bytes = 0;
            } else if let Entry::Vacant(vacant) = shard.early.entry(batch.version) {
                shard.early_bytes += batch.bytes();
                vacant.insert(batch.clone());
            }
            self.want(now + random.below(JITTER), index);
            return;
        }
        self.apply(now, batch, tracker, out);
        self.apply_early(now, index, tracker, out);
    }

    /// Applies what has waited for the version now held.
    pub(super) fn apply_early<X: Layer>(
        &mut self,
        now: Time,
        index: usize,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) {
        loop {
            let shard = &mut self.shards[index];
            let version = shard.version;
            let Some(first) = shard.early.first_entry().filter(|first| *first.key() <= version + 1) else {
                break;
            };
            let batch = first.remove();
            shard.early_bytes -= batch.bytes();
            if batch.version == version + 1 {
                self.apply(now, &batch, tracker, out);
            }
        }
        self.show_if_due(index, tracker, out);
        let shard = &self.shards[index];
        if shard.version >= shard.known {
            self.pulls.remove(&index);
        }
    }

    /// Notes that a shard is to be pulled.
    pub(super) fn want(&mut self, at: Time, shard: usize) {
        self.pulls.entry(shard).or_insert(Pull { at, attempts: 0, incoming: None });
    }

    pub(super) fn next_pull(&self) -> Option<Time> {
        if matches!(self.state, PeerState::Down(_)) {
            return None;
        }
        self.pulls.values().take(AT_ONCE).map(|pull| pull.at).min()
    }

    /// Sends the pulls that are due.
    pub(super) fn pull(
        &mut self,
        now: Time,
        me: &Replica,
        options: &ClusterOptions,
        random: &mut Jitter,
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
        for (&shard, pull) in pulls.iter_mut().take(AT_ONCE).filter(|(_, pull)| pull.at <= now) {
            // Who has sent a part already, else the replica itself; a departed one may be gone, and then any holder
            // of its set will do, from the start.
            let turn = pull.attempts as usize;
            if turn >= ATTEMPTS_PER_HOLDER && !holders.is_empty() {
                pull.incoming = None;
            }
            let whom = match &pull.incoming {
                Some(incoming) => incoming.from.clone(),
                None if turn == 0 || holders.is_empty() => replica.clone(),
                None => holders[turn % holders.len()].clone(),
            };
            let have = shards[shard].version;
            let chunk = pull.incoming.as_ref().map(|incoming| (incoming.version, incoming.next));
            let pulls =
                ClusterMessage::Pull { from: me.clone(), of: replica.clone(), shard: shard as u8, have, chunk };
            out.send(&whom, pulls);
            let patience = RETRY * 2u32.pow(pull.attempts.min(8));
            let patience = patience.min(4 * options.heartbeat);
            pull.at = now + patience + random.below(patience / 4);
            pull.attempts += 1;
        }
    }

    /// Whether a chunk is the next one of the snapshot asked for, or begins a newer one.
    fn accept(&mut self, now: Time, shard: usize, chunk: &Chunk) -> bool {
        let version = self.shards[shard].version;
        let Some(pull) = self.pulls.get_mut(&shard) else { return false };
        let is_next = pull.incoming.as_ref().is_some_and(|incoming| {
            incoming.from == chunk.from
                && (incoming.version, incoming.next, incoming.count)
                    == (chunk.version, chunk.index, chunk.count)
        });
        let is_newer = chunk.index == 0
            && chunk.version > pull.incoming.as_ref().map_or(version, |incoming| incoming.version);
        if is_newer && !is_next {
            pull.incoming = Some(IncomingSnapshot::new(chunk.from.clone(), chunk.version, chunk.count));
        }
        let accepted = is_next || is_newer;
        if accepted {
            pull.ask_on(now);
        }
        accepted
    }
}

impl Pull {
    /// It was answered in part: the next part may be asked for.
    fn ask_on(&mut self, now: Time) {
        self.at = now;
        self.attempts = 0;
    }
}
