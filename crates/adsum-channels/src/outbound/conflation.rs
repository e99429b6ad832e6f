//! What is done about a client that reads too slowly, before its socket is closed.

use std::{
    ptr,
    sync::{Arc, Weak},
};

use super::{Entry, OutboundQueue, State};
use crate::frame::Frame;

/// A state that a client has been sent, and can be sent again in place of its changes.
pub(crate) trait Renewable: Send + Sync {
    /// The state as it is now; none where it isn't wanted any more. Called with the queue's lock held.
    fn renew(&self) -> Vec<Frame>;
}

impl OutboundQueue {
    /// Queues a state. While it waits, as much again has room beside it.
    pub(crate) fn push_state(&mut self, frames: Vec<Frame>) {
        if self.state != State::Open {
            return;
        }
        for entry in self.state_entries(frames) {
            self.put(entry);
        }
        // The connection's task may wait for the stream already, and without a deadline.
        self.woken |= self.blocked;
    }

    /// A state, which may wait for a limited time.
    fn state_entries(&mut self, frames: Vec<Frame>) -> impl Iterator<Item = Entry> + use<> {
        if !frames.is_empty() {
            self.entries.expect_state(frames.iter().map(Frame::len).sum());
        }
        let last = frames.len().saturating_sub(1);
        frames.into_iter().enumerate().map(move |(index, frame)| Entry {
            frame,
            change_of: None,
            is_timed: index == last,
        })
    }

    /// Queues a change of a state. Where the client is too slow for it, it will get the state instead.
    pub(crate) fn push_change(&mut self, frame: Frame, of: &Arc<dyn Renewable>) {
        if !self.owes(Arc::as_ptr(of)) {
            self.put(Entry { frame, change_of: Some(Arc::downgrade(of)), is_timed: false });
        }
    }

    /// Takes out the changes that wait, but for one that is half written. Their states are owed from now on.
    pub(super) fn conflate(&mut self) {
        let half = usize::from(self.offset > 0);
        let changes = self.entries.extract(|index, entry| index < half || entry.change_of.is_none());
        for change in changes {
            if let Some(of) = change.change_of {
                self.owe(of);
            }
        }
    }

    pub(super) fn owe(&mut self, of: Weak<dyn Renewable>) {
        if !self.owes(of.as_ptr()) {
            metrics::counter!("adsum_states_conflated_total").increment(1);
            self.owed.push(of);
        }
    }

    fn owes(&self, of: *const dyn Renewable) -> bool {
        self.owed.iter().any(|owed| ptr::addr_eq(owed.as_ptr(), of))
    }

    /// Queues the states that are owed, as the client has read all that waited for it. False where there is none.
    pub(super) fn renew(&mut self) -> bool {
        for of in std::mem::take(&mut self.owed) {
            let Some(of) = of.upgrade() else { continue };
            let frames = of.renew();
            for entry in self.state_entries(frames) {
                self.entries.push(entry);
            }
            self.renewed.push(of);
        }
        !self.entries.is_empty()
    }
}
