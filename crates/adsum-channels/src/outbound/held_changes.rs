//! Changes that are held back until a state is sent, since the state may contain them.

use std::{mem, sync::Arc};

use adsum_pubsub::Mark;

use super::{Budget, OutboundQueue};
use crate::frame::Frame;

/// Maximum size of the changes held back for one state.
const MAX_HELD: usize = 1024 * 1024;

/// The changes that a subscription holds back. They are counted in the node's total.
pub(crate) struct HeldChanges {
    changes: Vec<(Mark, Frame)>,
    bytes: usize,
    budget: Arc<Budget>,
}

impl OutboundQueue {
    /// Starts to hold changes back until [`release`](Self::release).
    pub(crate) fn hold(&mut self) -> HeldChanges {
        self.entries.held += 1;
        HeldChanges { changes: Vec::new(), bytes: 0, budget: self.entries.budget.clone() }
    }

    /// Adds a change, or returns it if there is no room.
    pub(crate) fn hold_change(
        &mut self,
        held: &mut HeldChanges,
        mark: Mark,
        frame: Frame,
    ) -> Result<(), Frame> {
        if held.bytes + frame.len() > MAX_HELD {
            return Err(frame);
        }
        // So that the socket may be closed if the total is exceeded.
        self.entries.count();
        held.budget.total.add(&frame);
        held.bytes += frame.len();
        held.changes.push((mark, frame));
        Ok(())
    }

    /// Queues the held changes.
    pub(crate) fn release(&mut self, mut held: HeldChanges) {
        let changes = held.take();
        self.let_go(held);
        for (_, frame) in changes {
            self.push(frame);
        }
    }

    /// Drops the held changes.
    pub(crate) fn let_go(&mut self, held: HeldChanges) {
        drop(held);
        self.entries.held -= 1;
        self.entries.rest_if_empty();
    }
}

impl HeldChanges {
    /// Drops the changes that a state contains.
    pub(crate) fn retain(&mut self, is_news: impl Fn(Mark) -> bool) {
        for (mark, frame) in self.take() {
            if is_news(mark) {
                self.budget.total.add(&frame);
                self.bytes += frame.len();
                self.changes.push((mark, frame));
            }
        }
    }

    fn take(&mut self) -> Vec<(Mark, Frame)> {
        self.bytes = 0;
        let changes = mem::take(&mut self.changes);
        for (_, frame) in &changes {
            self.budget.total.remove(frame);
        }
        changes
    }
}

impl Drop for HeldChanges {
    fn drop(&mut self) {
        self.take();
    }
}
