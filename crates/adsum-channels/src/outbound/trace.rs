//! The messages of one socket, as they pass its queue.

use tokio::sync::mpsc;

use crate::frame::Frame;

/// A message on its way to the one who watches.
pub(crate) enum Traced {
    Received { bytes: usize, text: String },
    Queued(Frame),
}

/// The end of a trace that is kept in the queue.
pub(crate) struct Trace {
    messages: mpsc::Sender<(u64, Traced)>,
    /// How many have been left out since the last one that went.
    skipped: u64,
}

impl Trace {
    /// Creates a trace for which this many messages may wait, and the other end of it, where each message comes with
    /// how many were left out before it.
    pub(crate) fn new(waiting: usize) -> (Self, mpsc::Receiver<(u64, Traced)>) {
        let (messages, received) = mpsc::channel(waiting);
        (Self { messages, skipped: 0 }, received)
    }

    pub(crate) fn note(&mut self, message: Traced) {
        match self.messages.try_reserve() {
            Ok(permit) => permit.send((std::mem::take(&mut self.skipped), message)),
            Err(_) => self.skipped += 1,
        }
    }

    /// Whether nobody watches any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.messages.is_closed()
    }
}
