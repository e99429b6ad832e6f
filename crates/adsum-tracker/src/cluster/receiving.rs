//! Taking in what other nodes publish, and their answers to pulls.

use std::{collections::btree_map::Entry, sync::Arc};

use super::{
    Cluster,
    effects::Out,
    jitter::Jitter,
    peer::{Chunk, IncomingSnapshot, Peer, PeerShard},
    pulling::JITTER,
};
use crate::{
    layer::Layer,
    replica::Replica,
    time::Time,
    tracker::Tracker,
    wire::{Batch, ClusterMessage},
};

/// Maximum size of the batches of a shard that are kept until those before them arrive.
const EARLY_BYTES: usize = 512 * 1024;

impl<X: Layer> Cluster<X> {
    pub(super) fn on_batches(&mut self, now: Time, from: &Replica, batches: Vec<Arc<Batch>>) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        if !peer.is_up() {
            // Its next heartbeat brings it up, and carries the versions of its shards.
            return;
        }
        peer.heard(now, self.options.down_after, self.disconnected.is_none());
        let region = peer.region.clone();
        for batch in batches {
            peer.receive(now, &batch, &mut self.jitter, &self.tracker, &mut self.out);
        }
        self.heard_from_region(now, region.as_ref());
        self.answer_to(now, from);
    }

    pub(super) fn on_run(&mut self, now: Time, of: &Replica, batches: Vec<Arc<Batch>>) {
        let Some(peer) = self.peers.get_mut(of) else { return };
        for batch in batches {
            let shard = usize::from(batch.shard);
            // Once a snapshot has begun, only a snapshot completes the pull.
            if peer.pulls.get(&shard).is_some_and(|pull| pull.incoming.is_some()) {
                continue;
            }
            let before = peer.shards[shard].version;
            peer.receive(now, &batch, &mut self.jitter, &self.tracker, &mut self.out);
            if peer.shards[shard].version > before {
                self.progress_at = now;
                if let Some(pull) = peer.pulls.get_mut(&shard) {
                    pull.ask_on(now);
                }
            }
        }
        self.answer_to(now, of);
    }

    pub(super) fn on_chunk(&mut self, now: Time, of: &Replica, shard: u8, chunk: Chunk) {
        let Some(peer) = self.peers.get_mut(of) else { return };
        let shard = usize::from(shard);
        if peer.accept(now, shard, &chunk) {
            self.progress_at = now;
            peer.apply_chunk(now, shard, chunk, &self.tracker, &mut self.out);
        }
        self.answer_to(now, of);
    }

    /// Sends the pulls that are due at once, and confirms the final set of a node that leaves once it is complete.
    fn answer_to(&mut self, now: Time, of: &Replica) {
        let at_once = self.pulls_at_once();
        let Some(peer) = self.peers.get_mut(of) else { return };
        peer.pull(now, &self.me, &self.options, at_once, &mut self.jitter, &mut self.out);
        if peer.has_departed() && peer.is_complete() {
            self.out.send(of, ClusterMessage::SetHeld { from: self.me.clone(), of: of.clone() });
        }
    }
}

impl Peer {
    /// Applies a batch if it follows the version held. Otherwise keeps it, and pulls what is missing before it.
    fn receive<X: Layer>(
        &mut self,
        now: Time,
        batch: &Arc<Batch>,
        jitter: &mut Jitter,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) {
        let index = usize::from(batch.shard);
        let shard = &mut self.shards[index];
        if batch.version <= shard.version {
            return;
        }
        shard.known = shard.known.max(batch.version);
        let has_begun = self.pulls.get(&index).is_some_and(|pull| pull.incoming.is_some());
        if has_begun || batch.version > shard.version + 1 {
            out.counts.gaps += u64::from(!has_begun);
            if shard.early_bytes + batch.bytes() > EARLY_BYTES {
                shard.early.clear();
                shard.early_bytes = 0;
            } else if let Entry::Vacant(vacant) = shard.early.entry(batch.version) {
                shard.early_bytes += batch.bytes();
                vacant.insert(batch.clone());
            }
            self.want(now + jitter.below(JITTER), index);
            return;
        }
        self.apply(now, batch, tracker, out);
        self.apply_early(now, index, tracker, out);
    }

    /// Whether a chunk is the next one of the snapshot that was pulled, or begins a newer one.
    fn accept(&mut self, now: Time, shard: usize, chunk: &Chunk) -> bool {
        let PeerShard { version, .. } = self.shards[shard];
        let Some(pull) = self.pulls.get_mut(&shard) else { return false };
        let is_next = pull.incoming.as_ref().is_some_and(|incoming| {
            incoming.from == chunk.from
                && (incoming.version, incoming.next, incoming.count)
                    == (chunk.version, chunk.index, chunk.count)
        });
        let is_newer = chunk.index == 0
            && chunk.version > pull.incoming.as_ref().map_or(version, |incoming| incoming.version);
        if is_newer && !is_next {
            pull.incoming = Some(IncomingSnapshot::new(now, chunk, self.shards[shard].of_this_run()));
        }
        let accepted = is_next || is_newer;
        if accepted {
            pull.ask_on(now);
        }
        accepted
    }
}
