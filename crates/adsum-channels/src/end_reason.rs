//! Why a channel ends.

/// Why a channel ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The client has left the topic.
    Left,
    /// The socket is closed, or its connection lost.
    Closed,
    /// The socket is closed because its server is drained: see [`Sockets::drain`](crate::Sockets::drain). The client
    /// will rejoin on another one.
    Draining,
    /// The client has joined the same topic again on the same socket.
    DuplicateJoin,
    /// The channel stopped by [`Stop::normal`](crate::Stop::normal).
    Stopped,
    /// The channel stopped by [`Stop::shutdown`](crate::Stop::shutdown).
    Shutdown,
    /// The channel's mailbox overflowed.
    Overloaded,
    /// The channel failed, or panicked.
    Crashed,
}
