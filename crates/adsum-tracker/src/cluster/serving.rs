//! Answering pulls of other nodes.

use std::{ops::Range, sync::Arc, time::Duration};

use adsum_pubsub::Topic;

use super::{Cluster, effects::MESSAGE_BYTES, phase::NodePhase};
use crate::{
    layer::Layer,
    leave_reason::LeaveReason,
    meta::Key,
    replica::Replica,
    row::{OwnerId, Row},
    time::Time,
    wire::{Batch, ClusterMessage, PresenceRow},
};

/// How long a snapshot is kept after its last request.
const KEPT: Duration = Duration::from_secs(10);
/// Maximum number of keys read under one hold of a shard's lock.
const SLICE: usize = 512;
/// The approximate size of a chunk of a snapshot.
const CHUNK_BYTES: usize = 128 * 1024;

/// A snapshot that other nodes request chunk by chunk.
pub(super) struct Served {
    version: u64,
    rows: Vec<ServedRow>,
    chunks: Vec<Range<usize>>,
    pub(super) until: Time,
}

struct ServedRow {
    row: Arc<Row>,
    departing: Option<(Time, LeaveReason)>,
}

impl<X: Layer> Cluster<X> {
    pub(super) fn on_pull(
        &mut self,
        now: Time,
        from: &Replica,
        of: Replica,
        shard: u8,
        have: u64,
        chunk: Option<(u64, u32)>,
    ) {
        let is_mine =
            of == self.me && matches!(self.phase, NodePhase::Live | NodePhase::Leaving(_) | NodePhase::Left);
        let is_held = self.peers.get(&of).is_some_and(|peer| peer.has_departed() && peer.is_complete());
        if !is_mine && !is_held {
            return;
        }
        let key = (of, shard);
        if let Some((version, index)) = chunk
            && self.served.get(&key).is_some_and(|served| served.version == version)
        {
            self.serve(now, from, key, index);
            return;
        }
        if is_mine && chunk.is_none() && self.send_run(from, &key.0, usize::from(shard), have) {
            return;
        }
        if !self.is_servable(&key, have) {
            let served = if is_mine { self.snapshot(now, usize::from(shard)) } else { self.departed(&key) };
            self.served.insert(key.clone(), served);
            self.out.counts.snapshots_out += 1;
        }
        self.serve(now, from, key, 0);
    }

    /// Answers with the next batches. Returns false if they aren't kept.
    fn send_run(&mut self, to: &Replica, of: &Replica, shard: usize, have: u64) -> bool {
        let set = self.tracker.shard(shard);
        let Some(kept) = set.log.since(have) else { return false };
        let mut bytes = 0;
        let fits = |batch: &&Arc<Batch>| {
            let fits = bytes == 0 || bytes + batch.bytes() <= MESSAGE_BYTES;
            bytes += batch.bytes();
            fits
        };
        let batches: Vec<_> = kept.take_while(fits).cloned().collect();
        drop(set);
        if !batches.is_empty() {
            self.out.send(to, ClusterMessage::Run { of: of.clone(), batches });
        }
        true
    }

    /// Whether an earlier snapshot can be used: it is newer than what the other node has, and the batches after it are
    /// kept.
    fn is_servable(&self, key: &(Replica, u8), have: u64) -> bool {
        let Some(served) = self.served.get(key) else { return false };
        let follows = key.0 != self.me || {
            self.tracker.shard(usize::from(key.1)).log.since(served.version).is_some()
        };
        served.version > have && follows
    }

    /// Takes a snapshot of this node's own presences in a shard. Closes the open window, so that they have a version.
    ///
    /// They are read slice by slice, so that other threads get the shard's lock in between. Changes made meanwhile are
    /// published after the snapshot's version, and the receiver applies them: joins of rows that it has and leaves of
    /// rows that it doesn't have change nothing. Only a row that isn't published yet is left out, since it may leave
    /// without a message.
    fn snapshot(&mut self, now: Time, shard: usize) -> Served {
        let tracker = self.tracker.clone();
        let (version, topics) = {
            let mut set = tracker.shard(shard);
            let batches = if self.phase.is_published() { set.log.publish(shard) } else { Vec::new() };
            self.out.batches(&self.me, batches);
            (set.log.version(), set.topics().map(|set| set.topic().clone()).collect::<Vec<_>>())
        };
        let mut rows = Vec::new();
        for topic in topics {
            let mut last: Option<Key> = None;
            loop {
                let mut set = tracker.shard(shard);
                // A departure that isn't noted yet would be missing in the snapshot.
                self.own.note(now, set.log.take_departed());
                let Some(groups) = set.topic(&topic).map(|found| found.groups_after(last.as_deref())) else {
                    break;
                };
                let mut read = None;
                for (key, group) in groups.take(SLICE) {
                    let own = group.rows().iter().filter(|row| row.owner != OwnerId::REMOTE);
                    rows.extend(
                        own.filter(|row| !set.log.is_pending(row.reference))
                            .map(|row| ServedRow { row: row.clone(), departing: self.own.of(row.reference) }),
                    );
                    read = Some(key.clone());
                }
                set.unlock_fair();
                if read.is_none() {
                    break;
                }
                last = read;
            }
        }
        Served::new(version, rows)
    }

    /// Returns the presences of a departed replica's shard, without those whose places others have taken.
    fn departed(&self, key: &(Replica, u8)) -> Served {
        let index = usize::from(key.1);
        let shard = &self.peers[&key.0].shards[index];
        let set = self.tracker.shard(index);
        let rows = shard.rows.iter().filter(|(reference, _)| !set.is_hidden(**reference));
        let rows = rows.map(|(reference, row)| ServedRow {
            row: row.clone(),
            departing: shard.departing.get(reference).copied(),
        });
        Served::new(shard.version, rows.collect())
    }

    fn serve(&mut self, now: Time, to: &Replica, key: (Replica, u8), index: u32) {
        let Some(served) = self.served.get_mut(&key) else { return };
        let Some(range) = served.chunks.get(index as usize).cloned() else { return };
        served.until = now + KEPT;
        let mut topics: Vec<(Topic, Vec<PresenceRow>)> = Vec::new();
        for ServedRow { row, departing } in &served.rows[range] {
            let departing = departing.map(|(end, reason)| (reason, end.since(now)));
            let on_wire = PresenceRow::new(row, departing);
            match topics.last_mut() {
                Some((topic, rows)) if *topic == row.topic => rows.push(on_wire),
                _ => topics.push((row.topic.clone(), vec![on_wire])),
            }
        }
        let (version, count) = (served.version, served.chunks.len() as u32);
        let (of, shard) = key;
        let from = self.me.clone();
        self.out.send(to, ClusterMessage::Chunk { from, of, shard, version, index, count, topics });
    }
}

impl Served {
    fn new(version: u64, mut rows: Vec<ServedRow>) -> Self {
        rows.sort_unstable_by(|ServedRow { row: a, .. }, ServedRow { row: b, .. }| {
            (&a.topic, a.reference).cmp(&(&b.topic, b.reference))
        });
        let mut chunks = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (index, ServedRow { row, .. }) in rows.iter().enumerate() {
            bytes += row.topic.len() + row.key.len() + row.meta.as_str().len() + 64;
            if bytes > CHUNK_BYTES {
                chunks.push(start..index + 1);
                (start, bytes) = (index + 1, 0);
            }
        }
        if start < rows.len() || chunks.is_empty() {
            chunks.push(start..rows.len());
        }
        Self { version, rows, chunks, until: Time::ZERO }
    }
}
