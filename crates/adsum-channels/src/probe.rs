//! A handle to one open socket, for operators.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::{about::SocketDetails, outbound::Outbound, trace::SocketTrace};

/// A handle to the socket of a channel, for operators; from [`Socket::probe`](crate::Socket::probe). It keeps no socket
/// open. Clones are handles to the same socket.
#[derive(Clone)]
pub struct SocketProbe(Weak<Outbound>);

impl SocketProbe {
    pub(crate) fn new(outbound: &Arc<Outbound>) -> Self {
        Self(Arc::downgrade(outbound))
    }

    /// The socket as it is now. `None` once it is gone, channels included.
    pub fn details(&self) -> Option<SocketDetails> {
        self.0.upgrade()?.details()
    }

    /// Watches the messages of the socket, in both directions, until the trace is dropped or the socket is gone. A
    /// socket has one trace at a time: a new one ends the one before. `None` if the socket is gone.
    ///
    /// A socket that nobody watches pays a comparison for each message.
    pub fn trace(&self) -> Option<SocketTrace> {
        let outbound = self.0.upgrade()?;
        let filter = outbound.about()?.context.watch.filter.clone();
        Some(SocketTrace::start(&outbound, filter))
    }
}

impl fmt::Debug for SocketProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketProbe").field(&self.details()).finish()
    }
}
