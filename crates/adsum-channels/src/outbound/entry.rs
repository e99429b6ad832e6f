//! A queued frame, and the state that can replace it.

use std::{mem, sync::Weak};

use crate::frame::Frame;

/// A state that can be sent to the client again in place of its changes.
pub(crate) trait Renewable: Send + Sync {
    /// Returns the current state; empty if it is no longer wanted. Called with the queue's lock held.
    fn renew(&self) -> Vec<Frame>;
}

/// A queued frame.
pub(super) struct Entry {
    pub(super) frame: Frame,
    /// The state that it changes, if sending that state again can replace it. Weak, since a state belongs to the
    /// program, and must not be dropped under the queue's lock.
    pub(super) change_of: Option<Weak<dyn Renewable>>,
    /// Whether it is the last frame of something that may be queued for a limited time only.
    pub(super) is_timed: bool,
}

impl Entry {
    pub(super) fn plain(frame: Frame) -> Self {
        Self { frame, change_of: None, is_timed: false }
    }

    /// Its memory, including the entry itself, so that empty frames count as well.
    pub(super) fn cost(&self) -> usize {
        self.frame.len() + mem::size_of::<Self>()
    }
}
