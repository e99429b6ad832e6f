//! Answering pulls of other nodes.

use std::{
    collections::{HashMap, VecDeque},
    ops::{Bound, Range},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::Topic;

use super::{Cluster, effects::MESSAGE_BYTES, phase::NodePhase};
use crate::{
    layer::Layer,
    leave_reason::LeaveReason,
    meta::Key,
    reference::Ref,
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
    rows: Vec<Arc<Row>>,
    departing: HashMap<Ref, (Time, LeaveReason)>,
    chunks: Vec<Range<usize>>,
    /// The number and the size of the rows after the last chunk, and of how many rows a chunk is at most.
    counted: usize,
    bytes: usize,
    most: usize,
    /// `None` once it is complete.
    unread: Option<Unread>,
    /// The nodes that asked for it before it was complete.
    asked: Vec<Replica>,
    until: Time,
}

/// The part of a shard that isn't in a snapshot yet.
enum Unread {
    /// Of this node's own presences: the topics, of which the last one is read next, after a key.
    Own { topics: Vec<Topic>, after: Option<Key> },
    /// Of a departed replica: the rows after this one.
    Departed { after: Option<Ref> },
}

/// The snapshots that this node serves.
#[derive(Default)]
pub(super) struct Snapshots {
    served: HashMap<(Replica, u8), Served>,
    /// Those that aren't complete, in the order in which they were asked for.
    reading: VecDeque<(Replica, u8)>,
    /// How many more rows may be read before other things are done.
    left: usize,
}

impl Snapshots {
    pub(super) fn len(&self) -> usize {
        self.served.len()
    }

    /// Whether one is to be read on as soon as possible.
    pub(super) fn is_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn drop_old(&mut self, now: Time) {
        self.served.retain(|_, served| served.until > now || served.unread.is_some());
    }
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
            && self.snapshots.served.get(&key).is_some_and(|served| served.version == version)
        {
            self.serve(now, from, key, index);
            return;
        }
        if is_mine && chunk.is_none() && self.send_run(from, &key.0, usize::from(shard), have) {
            return;
        }
        if !self.is_servable(&key, have) {
            let served =
                if is_mine { self.begin_own(now, usize::from(shard)) } else { self.begin_departed(&key) };
            self.snapshots.served.insert(key.clone(), served);
            self.out.counts.snapshots_out += 1;
            if !self.read(now, &key) {
                self.snapshots.reading.push_back(key.clone());
            }
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
        let Some(served) = self.snapshots.served.get(key) else { return false };
        let follows = key.0 != self.me || {
            self.tracker.shard(usize::from(key.1)).log.since(served.version).is_some()
        };
        served.version > have && follows
    }

    /// Begins a snapshot of this node's own presences in a shard. Closes the open window, so that they have a version.
    ///
    /// They are read slice by slice, so that other threads get the shard's lock in between and this node does other
    /// things. Changes made meanwhile are published after the snapshot's version, and the receiver applies them: joins
    /// of rows that it has and leaves of rows that it doesn't have change nothing. A row that isn't published yet is left
    /// out, since it may leave without a message. If it is an update, the version before is there instead.
    fn begin_own(&mut self, now: Time, shard: usize) -> Served {
        let tracker = self.tracker.clone();
        let mut set = tracker.shard(shard);
        let batches = if self.phase.is_published() { set.log.publish(shard) } else { Vec::new() };
        self.out.batches(&self.me, batches);
        self.own.note(now, set.log.take_departed());
        let mut topics: Vec<Topic> = set.topics().map(|set| set.topic().clone()).collect();
        let version = set.log.version();
        drop(set);
        // A receiver may go on where another snapshot of this version has ended: all of them are cut alike.
        topics.sort_unstable();
        Served::new(version, Unread::Own { topics, after: None }, self.turn)
    }

    /// Begins a snapshot of a departed replica's shard.
    fn begin_departed(&self, key: &(Replica, u8)) -> Served {
        let version = self.peers[&key.0].shards[usize::from(key.1)].version;
        Served::new(version, Unread::Departed { after: None }, self.turn)
    }

    /// Reads on in the snapshots that were asked for first, and sends each to those who wait for it once it is complete.
    pub(super) fn read_on(&mut self, now: Time) {
        self.snapshots.left = self.turn;
        while self.snapshots.left > 0
            && let Some(key) = self.snapshots.reading.pop_front()
        {
            if !self.read(now, &key) {
                self.snapshots.reading.push_front(key);
                return;
            }
            let asked = self.snapshots.served.get_mut(&key).map(|served| std::mem::take(&mut served.asked));
            for to in asked.into_iter().flatten() {
                self.serve(now, &to, key.clone(), 0);
            }
        }
    }

    /// Reads some more rows into a snapshot, about as many as are left in this turn. Returns whether it is complete.
    fn read(&mut self, now: Time, key: &(Replica, u8)) -> bool {
        let Some(mut served) = self.snapshots.served.remove(key) else { return true };
        if key.0 != self.me && !self.peers.contains_key(&key.0) {
            // The departed replica has been forgotten meanwhile.
            return true;
        }
        while self.snapshots.left > 0
            && let Some(unread) = served.unread.take()
        {
            let before = served.rows.len();
            served.unread = match unread {
                Unread::Own { topics, after } => {
                    self.read_own(now, usize::from(key.1), topics, after, &mut served)
                }
                Unread::Departed { after } => self.read_departed(key, after, &mut served),
            };
            // A topic without rows of this node takes time, too.
            let read = (served.rows.len() - before).max(1);
            self.snapshots.left = self.snapshots.left.saturating_sub(read);
        }
        let is_complete = served.unread.is_none();
        if is_complete {
            served.finish();
        }
        self.snapshots.served.insert(key.clone(), served);
        is_complete
    }

    /// Reads a slice of the last of these topics.
    fn read_own(
        &mut self,
        now: Time,
        shard: usize,
        mut topics: Vec<Topic>,
        after: Option<Key>,
        into: &mut Served,
    ) -> Option<Unread> {
        let topic = topics.pop()?;
        let tracker = self.tracker.clone();
        let mut set = tracker.shard(shard);
        // A departure that isn't noted yet would be missing in the snapshot.
        self.own.note(now, set.log.take_departed());
        let mut last = None;
        if let Some(found) = set.topic(&topic) {
            for (key, group) in found.groups_after(after.as_deref()).take(SLICE.min(self.turn)) {
                let own = group.rows().iter().filter(|row| row.owner != OwnerId::REMOTE);
                for row in own.filter_map(|row| set.log.published(row)) {
                    into.push(row, self.own.of(row.reference));
                }
                last = Some(key.clone());
            }
        }
        set.unlock_fair();
        if last.is_some() {
            topics.push(topic);
        }
        Some(Unread::Own { topics, after: last })
    }

    /// Reads a slice of a departed replica's presences, without those whose places others have taken.
    fn read_departed(&self, key: &(Replica, u8), after: Option<Ref>, into: &mut Served) -> Option<Unread> {
        let index = usize::from(key.1);
        let shard = &self.peers.get(&key.0)?.shards[index];
        let set = self.tracker.shard(index);
        let mut last = None;
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        for (reference, row) in shard.rows.range(range).take(SLICE.min(self.turn)) {
            if set.is_hidden(*reference) {
                into.count(row);
            } else {
                into.push(row, shard.departing.get(reference).copied());
            }
            last = Some(*reference);
        }
        last.map(|last| Unread::Departed { after: Some(last) })
    }

    fn serve(&mut self, now: Time, to: &Replica, key: (Replica, u8), index: u32) {
        let Some(served) = self.snapshots.served.get_mut(&key) else { return };
        served.until = now + KEPT;
        if served.unread.is_some() {
            if !served.asked.contains(to) {
                served.asked.push(to.clone());
            }
            return;
        }
        let Some(range) = served.chunks.get(index as usize).cloned() else { return };
        let mut topics: Vec<(Topic, Vec<PresenceRow>)> = Vec::new();
        for row in &served.rows[range] {
            let departing = served.departing.get(&row.reference);
            let departing = departing.map(|(end, reason)| (*reason, end.since(now)));
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
    fn new(version: u64, unread: Unread, most: usize) -> Self {
        Self {
            version,
            rows: Vec::new(),
            departing: HashMap::new(),
            chunks: Vec::new(),
            counted: 0,
            bytes: 0,
            most,
            unread: Some(unread),
            asked: Vec::new(),
            until: Time::ZERO,
        }
    }

    fn push(&mut self, row: &Arc<Row>, departing: Option<(Time, LeaveReason)>) {
        self.rows.push(row.clone());
        self.departing.extend(departing.map(|departing| (row.reference, departing)));
        self.count(row);
    }

    /// Counts the bytes of a row, also of one that is left out, so that the chunks are cut alike.
    fn count(&mut self, row: &Row) {
        self.counted += 1;
        self.bytes += row.topic.len() + row.key.len() + row.meta.as_str().len() + 64;
        if self.bytes > CHUNK_BYTES || self.counted >= self.most {
            self.end_chunk();
        }
    }

    /// Ends a chunk with the last row. The rows of a topic are put together in the order in which they were made.
    fn end_chunk(&mut self) {
        let start = self.chunks.last().map_or(0, |chunk| chunk.end);
        let rows = &mut self.rows[start..];
        rows.sort_unstable_by(|a, b| (&a.topic, a.reference).cmp(&(&b.topic, b.reference)));
        self.chunks.push(start..self.rows.len());
        (self.counted, self.bytes) = (0, 0);
    }

    fn finish(&mut self) {
        if self.counted > 0 || self.chunks.is_empty() {
            self.end_chunk();
        }
        self.rows.shrink_to_fit();
    }
}
