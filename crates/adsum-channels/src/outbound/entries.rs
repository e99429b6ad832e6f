//! The queued frames of a socket, and their cost.

use std::{collections::VecDeque, io::IoSlice, mem, sync::Arc};

use tokio::time::Instant;

use super::{budget::Budget, entry::Entry};
use crate::frame::Frame;

/// Frames in the order in which they are written.
pub(super) struct Entries {
    pub(super) budget: Arc<Budget>,
    frames: VecDeque<Entry>,
    /// The cost of all frames, including shared bytes.
    cost: usize,
    /// Items that may be queued for a limited time only, in the order of their last frames.
    timed: VecDeque<Timed>,
    /// Since when the frames have been counted in the node's total. `None` if they aren't.
    ///
    /// The frames of a socket that accepts everything at once are never counted, which saves the cost.
    counted_since: Option<Instant>,
    /// Bytes that were taken out but didn't reach the client. They are counted.
    returned: usize,
    /// The number of subscriptions that hold changes back. Those changes are counted.
    pub(super) held: usize,
}

/// A state, or a frame larger than the queue's bound.
struct Timed {
    queued: Instant,
    /// The size that the queue makes room for.
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

    /// Maximum cost: the configured maximum, or twice the largest queued state.
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
            // Accepted because the queue is empty. It must not stay forever.
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
            // An idle socket keeps no memory after a burst.
            self.frames = VecDeque::new();
            self.timed.shrink_to(0);
            self.rest();
        }
        Some(entry)
    }

    /// Removes the entries for which `keep`, called with their index, returns false. None of them may be of a state.
    pub(super) fn extract(&mut self, keep: impl Fn(usize, &Entry) -> bool) -> Vec<Entry> {
        let (kept, taken): (Vec<_>, Vec<_>) = mem::take(&mut self.frames)
            .into_iter()
            .enumerate()
            .partition(|(index, entry)| keep(*index, entry));
        self.frames = kept.into_iter().map(|(_, entry)| entry).collect();
        let taken: Vec<_> = taken.into_iter().map(|(_, entry)| entry).collect();
        for entry in &taken {
            self.cost -= entry.cost();
            if entry.is_timed {
                // It was too large for the queue, which was empty then, so it was queued before any state.
                self.timed.pop_front();
            }
            if self.counted_since.is_some() {
                self.budget.total.remove(&entry.frame);
            }
        }
        if self.frames.is_empty() {
            self.rest();
        }
        taken
    }

    /// Counts the frames in the node's total until the queue is empty.
    pub(super) fn count(&mut self) {
        if self.counted_since.is_none() {
            self.counted_since = Some(Instant::now());
            self.frames.iter().for_each(|entry| self.budget.total.add(&entry.frame));
        }
    }

    /// Replaces the number of counted bytes that were taken out but can't be sent yet.
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

    /// Drops all entries but the first `kept`, and the returned bytes.
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
        // States that are expected but not pushed yet won't come.
        let timed = self.frames.iter().filter(|entry| entry.is_timed).count();
        self.timed.truncate(timed);
        self.frames.shrink_to_fit();
        self.note_returned(0);
    }

    /// Since when this queue is counted in the node's total.
    pub(super) fn counted_since(&self) -> Option<Instant> {
        self.counted_since
    }

    /// Returns the cost of the frames, if the node's total counts them, in proportion to what may wait beside a large
    /// state.
    pub(super) fn counted_cost(&self) -> Option<usize> {
        self.counted_since?;
        let share = self.cost as u128 * self.budget.max_queue as u128 / self.max_cost().max(1) as u128;
        usize::try_from(share).ok()
    }

    /// When the oldest timed item must be sent.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timed.front().map(|timed| timed.queued + self.budget.state_timeout)
    }

    /// The parts of the frames, starting at byte `offset` of the first one.
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
