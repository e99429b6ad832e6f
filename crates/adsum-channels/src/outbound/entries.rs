//! The frames that wait for one socket, and what they cost.

use std::{
    collections::VecDeque,
    io::IoSlice,
    mem,
    sync::{Arc, Weak},
};

use tokio::time::Instant;

use super::{Renewable, budget::Budget};
use crate::frame::Frame;

/// A frame that waits.
pub(super) struct Entry {
    pub(super) frame: Frame,
    /// The state that it changes, if a newer version of that state would do as well. Weak, since a state is the
    /// program's, and must not be dropped under the queue's lock.
    pub(super) change_of: Option<Weak<dyn Renewable>>,
    /// Whether it is the last of something that may wait for a limited time only.
    pub(super) is_timed: bool,
}

impl Entry {
    pub(super) fn plain(frame: Frame) -> Self {
        Self { frame, change_of: None, is_timed: false }
    }

    /// What it costs in memory, its place in the queue included, so that empty frames count too.
    pub(super) fn cost(&self) -> usize {
        self.frame.len() + mem::size_of::<Self>()
    }
}

/// Frames in the order in which they are written.
pub(super) struct Entries {
    pub(super) budget: Arc<Budget>,
    frames: VecDeque<Entry>,
    /// What the frames cost, shared bytes included.
    cost: usize,
    /// What may wait for a limited time only, in the order of its last frames.
    timed: VecDeque<Timed>,
    /// Since when the frames have been counted in the node's total. `None` if they aren't.
    ///
    /// The frames of a socket that takes all at once are never counted, so pushing to it costs nothing more.
    counted_since: Option<Instant>,
    /// What was taken out and has come back, as its client had gone away. It is counted.
    returned: usize,
    /// How many subscriptions hold changes back. Those are counted.
    pub(super) held: usize,
}

/// A state, or a frame larger than the queue's bound.
struct Timed {
    queued: Instant,
    /// The room that is made for it.
    len: usize,
}

impl Entries {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            frames: VecDeque::new(),
            cost: 0,
            timed: VecDeque::new(),
            counted_since: None,
            returned: 0,
            held: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    pub(super) fn first(&self) -> Option<&Frame> {
        self.frames.front().map(|entry| &entry.frame)
    }

    /// How much may wait: as much as is configured, or twice the largest state that waits.
    pub(super) fn max_cost(&self) -> usize {
        let largest = self.timed.iter().map(|timed| timed.len).max().unwrap_or(0);
        self.budget.max_queue.max(largest.saturating_mul(2))
    }

    /// Makes room for a state of this length until its last frame, which is pushed with `is_timed`, is written.
    pub(super) fn expect_state(&mut self, len: usize) {
        self.timed.push_back(Timed { queued: Instant::now(), len });
    }

    pub(super) fn push(&mut self, mut entry: Entry) {
        self.cost += entry.cost();
        if self.timed.is_empty() && self.cost > self.budget.max_queue {
            // Taken because nothing else waits. It must not wait for ever.
            self.timed.push_back(Timed { queued: Instant::now(), len: 0 });
            entry.is_timed = true;
        }
        if self.counted_since.is_some() {
            self.budget.total.add(&entry.frame);
        }
        self.frames.push_back(entry);
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.frames.pop_front()?;
        self.cost -= entry.cost();
        if entry.is_timed {
            self.timed.pop_front();
        }
        if self.counted_since.is_some() {
            self.budget.total.remove(&entry.frame);
        }
        if self.frames.is_empty() {
            // An idle socket keeps no memory for the burst it has had.
            self.frames = VecDeque::new();
            self.timed.shrink_to(0);
            self.rest();
        }
        Some(entry)
    }

    /// Takes out the entries for which `keep`, called with their place in the queue, says no. None is timed.
    pub(super) fn extract(&mut self, keep: impl Fn(usize, &Entry) -> bool) -> Vec<Entry> {
        let (kept, taken): (Vec<_>, Vec<_>) = mem::take(&mut self.frames)
            .into_iter()
            .enumerate()
            .partition(|(index, entry)| keep(*index, entry));
        self.frames = kept.into_iter().map(|(_, entry)| entry).collect();
        let taken: Vec<_> = taken.into_iter().map(|(_, entry)| entry).collect();
        for entry in &taken {
            self.cost -= entry.cost();
            if self.counted_since.is_some() {
                self.budget.total.remove(&entry.frame);
            }
        }
        if self.frames.is_empty() {
            self.rest();
        }
        taken
    }

    /// Counts the frames in the node's total from now on until none is left.
    pub(super) fn count(&mut self) {
        if self.counted_since.is_none() {
            self.counted_since = Some(Instant::now());
            self.frames.iter().for_each(|entry| self.budget.total.add(&entry.frame));
        }
    }

    /// Counts what was taken out and can't be sent yet, instead of what was noted so before.
    pub(super) fn note_returned(&mut self, bytes: usize) {
        self.budget.total.add_bytes(bytes);
        self.budget.total.remove_bytes(mem::replace(&mut self.returned, bytes));
        if bytes > 0 {
            self.count();
        } else {
            self.rest_if_empty();
        }
    }

    fn rest(&mut self) {
        if self.returned == 0 && self.held == 0 {
            self.counted_since = None;
        }
    }

    pub(super) fn rest_if_empty(&mut self) {
        if self.frames.is_empty() {
            self.rest();
        }
    }

    /// Drops all entries but the first `kept`, and what was returned.
    pub(super) fn truncate(&mut self, kept: usize) {
        while self.frames.len() > kept {
            let Some(entry) = self.frames.pop_back() else { break };
            self.cost -= entry.cost();
            if entry.is_timed {
                self.timed.pop_back();
            }
            if self.counted_since.is_some() {
                self.budget.total.remove(&entry.frame);
            }
        }
        // What is expected but not pushed yet won't come.
        let timed = self.frames.iter().filter(|entry| entry.is_timed).count();
        self.timed.truncate(timed);
        self.frames.shrink_to_fit();
        self.note_returned(0);
    }

    /// Since when the node's total has counted what waits here.
    pub(super) fn counted_since(&self) -> Option<Instant> {
        self.counted_since
    }

    /// Whether the node's total is exceeded, and this queue is part of it.
    pub(super) fn is_crowded(&self) -> bool {
        self.counted_since.is_some() && self.budget.is_exceeded()
    }

    /// When the oldest of what may wait for a limited time has waited for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timed.front().map(|timed| timed.queued + self.budget.state_timeout)
    }

    /// The parts of the frames from the byte `offset` of the first on.
    pub(super) fn slices(&self, offset: usize) -> impl Iterator<Item = IoSlice<'_>> {
        let skips = std::iter::once(offset).chain(std::iter::repeat(0));
        self.frames.iter().zip(skips).flat_map(|(entry, skip)| entry.frame.slices(skip))
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        self.truncate(0);
    }
}
