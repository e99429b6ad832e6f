//! The log of a shard's own presences, for other nodes: the changes that aren't published yet, and the batches
//! published lately.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use adsum_pubsub::Topic;
use indexmap::IndexMap;

use crate::{
    leave_reason::LeaveReason,
    limits::{BATCH_BYTES, CHANGE_BYTES},
    reference::Ref,
    row::Row,
    wire::{Batch, PresenceRow, RowChange},
};

/// Maximum size and number of published batches kept for nodes that missed some.
const KEPT_BYTES: usize = 256 * 1024;
const KEPT_BATCHES: usize = 1024;
/// Maximum number of batches that closed early and wait to be sent. Beyond it the oldest are dropped: other nodes pull
/// them.
const CLOSED_EARLY: usize = 32;

/// The changes of one node's own presences in one shard.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Whether there are other nodes to tell.
    published: bool,
    /// The number of batches published.
    version: u64,
    pending: IndexMap<Ref, Pending>,
    pending_bytes: usize,
    closed_early: VecDeque<Arc<Batch>>,
    kept: VecDeque<Arc<Batch>>,
    kept_bytes: usize,
    departed: Vec<Departed>,
}

/// A row that has begun to depart. [`Cluster`](crate::Cluster) keeps the time and ends it.
#[derive(Debug)]
pub(crate) struct Departed {
    pub(crate) row: Arc<Row>,
    pub(crate) reason: LeaveReason,
    pub(crate) grace: Duration,
}

/// The changes of one ref since the last batch.
#[derive(Debug)]
struct Pending {
    row: Arc<Row>,
    came: bool,
    departing: Option<(LeaveReason, Duration)>,
    left: Option<Leave>,
}

/// Why a row left. `None` if an update put another version in its place.
#[derive(Debug)]
struct Leave(Option<LeaveReason>);

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

    /// Returns the version of a presence that other nodes were told last. `None` if it joined since the last batch.
    pub(crate) fn published<'r>(&'r self, mut row: &'r Arc<Row>) -> Option<&'r Arc<Row>> {
        while self.pending.get(&row.reference).is_some_and(|pending| pending.came) {
            row = &self.pending.get(&row.previous()?)?.row;
        }
        Some(row)
    }

    pub(crate) fn join(&mut self, shard: usize, row: &Arc<Row>) {
        self.make_room(shard);
        self.note_join(row);
    }

    /// Notes an update. Both versions are in the same batch.
    pub(crate) fn replace(&mut self, shard: usize, old: &Arc<Row>, new: &Arc<Row>) {
        self.make_room(shard);
        self.note_leave(old, None);
        self.note_join(new);
    }

    pub(crate) fn leave(&mut self, shard: usize, row: &Arc<Row>, reason: Option<LeaveReason>) {
        self.make_room(shard);
        self.note_leave(row, reason);
    }

    fn note_join(&mut self, row: &Arc<Row>) {
        let bytes = row.key.len() + row.meta.as_str().len();
        self.note(row, bytes, |pending| pending.came = true);
    }

    fn note_leave(&mut self, row: &Arc<Row>, reason: Option<LeaveReason>) {
        self.note(row, 0, |pending| pending.left = Some(Leave(reason)));
        if reason.is_none() {
            return;
        }
        // The presence has ended, and so have the versions that updates replaced within the window.
        let mut previous = row.previous();
        while let Some(pending) = previous.and_then(|reference| self.pending.get_mut(&reference)) {
            if let Some(Leave(of_previous)) = &mut pending.left {
                *of_previous = of_previous.or(reason);
            }
            previous = pending.row.previous();
        }
    }

    pub(crate) fn depart(&mut self, shard: usize, departed: Departed) {
        let Departed { row, reason, grace } = &departed;
        let at = Some((*reason, *grace));
        self.make_room(shard);
        self.note(row, 0, |pending| pending.departing = at);
        self.departed.push(departed);
    }

    /// Closes the open window if it is full.
    fn make_room(&mut self, shard: usize) {
        if self.pending_bytes >= BATCH_BYTES {
            let batch = self.close(shard);
            self.closed_early.extend(batch);
            if self.closed_early.len() > CLOSED_EARLY {
                self.closed_early.pop_front();
            }
        }
    }

    /// Notes what happened to a row. `bytes` is its size on the wire beside its topic.
    fn note(&mut self, row: &Arc<Row>, bytes: usize, note: impl FnOnce(&mut Pending)) {
        if !self.published {
            return;
        }
        let new = || Pending { row: row.clone(), came: false, departing: None, left: None };
        note(self.pending.entry(row.reference).or_insert_with(new));
        self.pending_bytes += CHANGE_BYTES + row.topic.len() + bytes;
    }

    /// Closes the open window as a batch. `None` if it nets to nothing.
    fn close(&mut self, shard: usize) -> Option<Arc<Batch>> {
        self.pending_bytes = 0;
        let mut topics: IndexMap<Topic, Vec<RowChange>> = IndexMap::new();
        let pending = std::mem::take(&mut self.pending);
        // Other nodes know published versions only.
        let published = |row: &Row| {
            let mut previous = row.previous();
            while let Some(unknown) =
                previous.and_then(|previous| pending.get(&previous)).filter(|before| before.came)
            {
                previous = unknown.row.previous();
            }
            previous
        };
        for (&reference, Pending { row, came, departing, left }) in &pending {
            let replaces = row.replaces();
            let change = match (*came, left, *departing) {
                // A row that came and went within the window isn't sent, unless it took another's place.
                (true, Some(_), _) if replaces.is_none() => continue,
                (false, None, None) => continue,
                (_, Some(Leave(reason)), _) => RowChange::Leave { reference, reason: *reason, replaces },
                (true, None, departing) => {
                    let mut joined = PresenceRow::new(row, departing);
                    joined.previous = published(row);
                    RowChange::Join(joined)
                }
                (false, None, Some((reason, grace))) => RowChange::Depart { reference, reason, grace },
            };
            topics.entry(row.topic.clone()).or_default().push(change);
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

    /// Closes the open window, and takes all batches that are to be sent.
    pub(crate) fn publish(&mut self, shard: usize) -> Vec<Arc<Batch>> {
        let last = self.close(shard);
        let mut batches: Vec<_> = std::mem::take(&mut self.closed_early).into();
        batches.extend(last);
        batches
    }

    /// Drops the batches that closed early, as this node sends none. Other nodes pull once they hear of it.
    pub(crate) fn drop_closed_early(&mut self) {
        self.closed_early = VecDeque::new();
    }

    /// Sets all departing rows, for a new [`Cluster`](crate::Cluster) to take.
    pub(crate) fn departed_again(&mut self, departed: Vec<Departed>) {
        self.departed = departed;
    }

    pub(crate) fn take_departed(&mut self) -> Vec<Departed> {
        std::mem::take(&mut self.departed)
    }

    /// Returns the batches after a version. `None` if the first of them isn't kept any more.
    pub(crate) fn since(&self, version: u64) -> Option<impl Iterator<Item = &Arc<Batch>>> {
        let first = self.kept.front().map_or(self.version + 1, |batch| batch.version);
        let known = version + 1 >= first && version <= self.version;
        known.then(|| self.kept.iter().skip((version + 1 - first) as usize))
    }

    /// Drops what was published, as no node will ask for it by these versions.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
        self.kept_bytes = 0;
    }
}
