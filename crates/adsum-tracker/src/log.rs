//! What a shard has to tell other nodes of its own presences: the changes not yet published, and the batches
//! published of late.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use adsum_pubsub::Topic;
use indexmap::IndexMap;

use crate::{
    Key, Reason, Ref, Row,
    cluster::{Batch, Change, PresenceRow},
};

/// An open window closes early at so many bytes, so that a batch fits a message.
const BATCH_BYTES: usize = 256 * 1024;
/// Published batches are kept, for nodes that missed some, up to so many bytes and batches.
const KEPT_BYTES: usize = 256 * 1024;
const KEPT_BATCHES: usize = 1024;
/// Batches that closed early and wait to be sent. Beyond it the oldest go: who misses them pulls.
const CLOSED_EARLY: usize = 32;
/// What a change weighs beside its texts: refs, lengths.
const CHANGE_BYTES: usize = 64;

/// The changes of one node's own presences in one shard.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Whether there are other nodes to tell.
    published: bool,
    /// How many batches were published.
    version: u64,
    pending: IndexMap<Ref, Pending>,
    pending_bytes: usize,
    closed_early: VecDeque<Arc<Batch>>,
    kept: VecDeque<Arc<Batch>>,
    kept_bytes: usize,
    departed: Vec<Departed>,
}

/// A row that has begun to depart: whoever keeps the time ends it.
#[derive(Debug)]
pub(crate) struct Departed {
    pub(crate) topic: Topic,
    pub(crate) key: Key,
    pub(crate) reference: Ref,
    pub(crate) reason: Reason,
    pub(crate) grace: Duration,
}

/// What happened to one ref since the last batch.
#[derive(Debug)]
struct Pending {
    topic: Topic,
    join: Option<(Key, Arc<Row>)>,
    departing: Option<(Reason, Duration)>,
    leave: Option<Leave>,
}

#[derive(Debug)]
struct Leave {
    reason: Option<Reason>,
    replaces: Option<Ref>,
}

impl Log {
    pub(crate) fn new(published: bool) -> Self {
        Self { published, ..Self::default() }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.closed_early.is_empty() && self.departed.is_empty()
    }

    /// Whether a row has come since the last batch.
    pub(crate) fn is_pending(&self, reference: Ref) -> bool {
        self.pending.get(&reference).is_some_and(|pending| pending.join.is_some())
    }

    pub(crate) fn join(&mut self, shard: usize, topic: &Topic, key: &Key, row: &Arc<Row>) {
        let bytes = topic.len() + key.len() + row.meta.as_str().len();
        self.note(shard, topic, row.reference, bytes, |pending| {
            pending.join = Some((key.clone(), row.clone()));
        });
    }

    pub(crate) fn leave(&mut self, shard: usize, topic: &Topic, row: &Row, reason: Option<Reason>) {
        let replaces = row.replaces;
        self.note(shard, topic, row.reference, topic.len(), |pending| {
            pending.leave = Some(Leave { reason, replaces });
        });
        // A presence has ended: so have the versions that updates replaced within the window.
        let mut previous = row.previous;
        while let Some(pending) = previous.and_then(|reference| self.pending.get_mut(&reference)) {
            if let Some(leave) = &mut pending.leave {
                leave.reason = leave.reason.or(reason);
            }
            previous = pending.join.as_ref().and_then(|(_, row)| row.previous);
        }
    }

    pub(crate) fn depart(&mut self, shard: usize, departed: Departed) {
        let Departed { topic, reference, reason, grace, .. } = &departed;
        let at = Some((*reason, *grace));
        self.note(shard, topic, *reference, topic.len(), |pending| pending.departing = at);
        self.departed.push(departed);
    }

    fn note(
        &mut self,
        shard: usize,
        topic: &Topic,
        reference: Ref,
        bytes: usize,
        note: impl FnOnce(&mut Pending),
    ) {
        if !self.published {
            return;
        }
        if self.pending_bytes >= BATCH_BYTES {
            let batch = self.close(shard);
            self.closed_early.extend(batch);
            if self.closed_early.len() > CLOSED_EARLY {
                self.closed_early.pop_front();
            }
        }
        let new = || Pending { topic: topic.clone(), join: None, departing: None, leave: None };
        note(self.pending.entry(reference).or_insert_with(new));
        self.pending_bytes += CHANGE_BYTES + bytes;
    }

    /// Ends the open window as a batch. None where it nets to nothing.
    fn close(&mut self, shard: usize) -> Option<Arc<Batch>> {
        self.pending_bytes = 0;
        let mut topics: IndexMap<Topic, Vec<Change>> = IndexMap::new();
        for (reference, Pending { topic, join, departing, leave }) in std::mem::take(&mut self.pending) {
            let change = match (join, leave, departing) {
                // What came and went within the window is nobody's business, unless it took another's place.
                (Some(_), Some(Leave { replaces: None, .. }), _) | (None, None, None) => continue,
                (_, Some(Leave { reason, replaces }), _) => Change::Leave { reference, reason, replaces },
                (Some((key, row)), None, departing) => Change::Join(PresenceRow::new(&key, &row, departing)),
                (None, None, Some((reason, grace))) => Change::Depart { reference, reason, grace },
            };
            topics.entry(topic).or_default().push(change);
        }
        if topics.is_empty() {
            return None;
        }
        self.version += 1;
        let batch = Arc::new(Batch {
            shard: shard as u8,
            version: self.version,
            topics: topics.into_iter().collect(),
        });
        self.kept_bytes += batch.bytes();
        self.kept.push_back(batch.clone());
        while self.kept.len() > KEPT_BATCHES || self.kept_bytes > KEPT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= oldest.bytes();
        }
        Some(batch)
    }

    /// Ends the open window, and takes all batches that are to be sent.
    pub(crate) fn publish(&mut self, shard: usize) -> Vec<Arc<Batch>> {
        let last = self.close(shard);
        let mut batches: Vec<_> = std::mem::take(&mut self.closed_early).into();
        batches.extend(last);
        batches
    }

    pub(crate) fn take_departed(&mut self) -> Vec<Departed> {
        std::mem::take(&mut self.departed)
    }

    /// The batches after a version; none where the first of them isn't kept any more.
    pub(crate) fn since(&self, version: u64) -> Option<impl Iterator<Item = &Arc<Batch>>> {
        let first = self.kept.front().map_or(self.version + 1, |batch| batch.version);
        let known = version + 1 >= first && version <= self.version;
        known.then(|| self.kept.iter().skip((version + 1 - first) as usize))
    }

    /// Forgets what was published: nobody will ask for it by these versions.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
        self.kept_bytes = 0;
    }
}
