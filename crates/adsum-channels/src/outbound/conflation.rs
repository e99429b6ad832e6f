//! What is done about a client that reads too slowly, before its socket is closed.

use std::{ptr, sync::Arc};

use super::{Entry, Queue};
use crate::frame::Frame;

/// A state that a client has been sent, and can be sent again in place of its changes.
pub(crate) trait Renewable: Send + Sync {
    /// The state as it is now; none where it isn't wanted any more. Called with the queue's lock held.
    fn renew(&self) -> Vec<Frame>;
}

impl Queue {
    /// Queues a state, for which room is made where it is large.
    pub(crate) fn push_state(&mut self, frames: Vec<Frame>) {
        self.make_room(&frames);
        for frame in frames {
            self.push(frame);
        }
    }

    /// A large state may wait, and as much again beside it.
    fn make_room(&mut self, state: &[Frame]) {
        let len: usize = state.iter().map(Frame::len).sum();
        self.max_cost = self.max_cost.max(2 * len);
    }

    /// Queues a change of a state. Where the client is too slow for it, it will get the state instead.
    pub(crate) fn push_change(&mut self, frame: Frame, of: &Arc<dyn Renewable>) {
        if !self.owes(of) {
            self.put(Entry { frame, change_of: Some(of.clone()) });
        }
    }

    /// Takes out the changes that wait, but for one that is half written. Their states are owed from now on.
    pub(super) fn conflate(&mut self) {
        let half = usize::from(self.offset > 0);
        let (kept, changes): (Vec<_>, Vec<_>) = self
            .entries
            .drain(..)
            .enumerate()
            .partition(|(index, entry)| *index < half || entry.change_of.is_none());
        self.entries = kept.into_iter().map(|(_, entry)| entry).collect();
        for (_, entry) in changes {
            self.cost -= entry.cost();
            if let Some(of) = entry.change_of {
                self.owe(of);
            }
        }
    }

    pub(super) fn owe(&mut self, of: Arc<dyn Renewable>) {
        if !self.owes(&of) {
            metrics::counter!("adsum_states_conflated_total").increment(1);
            self.owed.push(of);
        }
    }

    fn owes(&self, of: &Arc<dyn Renewable>) -> bool {
        self.owed.iter().any(|owed| ptr::addr_eq(Arc::as_ptr(owed), Arc::as_ptr(of)))
    }

    /// Queues the states that are owed, as the client has read all that waited for it. False where there is none.
    pub(super) fn renew(&mut self) -> bool {
        for of in std::mem::take(&mut self.owed) {
            let frames = of.renew();
            self.make_room(&frames);
            for frame in frames {
                let entry = Entry { frame, change_of: None };
                self.cost += entry.cost();
                self.entries.push_back(entry);
            }
        }
        !self.entries.is_empty()
    }
}
