//! The queue's side of a transport.

use std::{
    io::{self, IoSlice},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;

use crate::frame::Frame;

/// An item of the outbound queue.
#[derive(Debug)]
pub(crate) enum Item {
    /// A message.
    Frame(Frame),
    /// A request for a pong with the same payload.
    Ping([u8; 4]),
    /// The answer to a ping, with the ping's payload.
    Pong(Bytes),
    /// The end of the connection, with its code.
    Close(u16),
}

/// The parts of a transport that the queue needs.
pub(crate) struct Transport {
    /// Encodes an item. Returns `None` if the transport doesn't send such items.
    pub(crate) encode: fn(Item) -> Option<Frame>,
    /// The stream, if others than the connection's task may write to it.
    pub(crate) stream: Option<Arc<dyn DirectStream>>,
}

impl Transport {
    /// A transport that takes messages out of the queue, and looks at its state to see whether to close.
    pub(crate) fn polled() -> Self {
        let encode = |item| match item {
            Item::Frame(frame) => Some(frame),
            Item::Ping(_) | Item::Pong(_) | Item::Close(_) => None,
        };
        Self { encode, stream: None }
    }
}

/// A stream that any thread may write to.
pub(crate) trait DirectStream: Send + Sync {
    /// Writes what the stream accepts now.
    fn try_write(&self, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
}
