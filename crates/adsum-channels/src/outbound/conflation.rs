//! Conflation for a client that reads too slowly: sends a state again in place of its changes.

use std::{
    ptr,
    sync::{Arc, Weak},
};

use super::{
    OutboundQueue, OutboundState,
    entry::{Entry, Renewable},
    trace::Traced,
};
use crate::frame::Frame;

impl OutboundQueue {
    /// Queues a state. While it is queued, there is room for as much again.
    pub(crate) fn push_state(&mut self, frames: Vec<Frame>) {
        if self.state != OutboundState::Open {
            return;
        }
        for entry in self.state_entries(frames) {
            self.put(entry);
        }
        // The connection's task may already wait for the stream, without a deadline.
        self.woken |= self.blocked;
    }

    /// Makes the entries of a state, which may be queued for a limited time.
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

    /// Queues a change of a state. If the client is too slow, it gets the state instead.
    pub(crate) fn push_change(&mut self, frame: Frame, of: &Arc<dyn Renewable>) {
        if !self.owes(Arc::as_ptr(of)) {
            self.put(Entry { frame, change_of: Some(Arc::downgrade(of)), is_timed: false });
        }
    }

    /// Removes the queued changes, except for a partly written one. Their states are then owed.
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
            self.entries.budget.metrics.states_conflated.increment();
            self.owed.push(of);
        }
    }

    fn owes(&self, of: *const dyn Renewable) -> bool {
        self.owed.iter().any(|owed| ptr::addr_eq(owed.as_ptr(), of))
    }

    /// Queues the owed states, once the client has read everything else. Returns whether there are any frames.
    pub(super) fn renew(&mut self) -> bool {
        for of in std::mem::take(&mut self.owed) {
            let Some(of) = of.upgrade() else { continue };
            let frames = of.renew();
            for entry in self.state_entries(frames) {
                if let Some(trace) = &mut self.trace {
                    trace.note(Traced::Queued(entry.frame.clone()));
                }
                self.entries.push(entry);
            }
            self.renewed.push(of);
        }
        !self.entries.is_empty()
    }
}
