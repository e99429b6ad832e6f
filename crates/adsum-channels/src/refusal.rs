//! Why a client that asks to connect is turned away.

use std::{error::Error, fmt};

use crate::log::cut_name;

/// Turns a client away: it is answered with 403 and an empty body, or as
/// [`on_refused`](crate::SocketBuilder::on_refused) says.
///
/// Any error becomes one by `?`. The client doesn't see it, unless `on_refused` tells it.
pub struct Refused {
    reason: Box<dyn Error + Send + Sync>,
}

impl Refused {
    /// Refuses for a reason that the log will show.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { reason: reason.into() }
    }

    /// The reason, to be looked at by its `downcast_ref`.
    pub fn reason(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.reason
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refused").field(&self.reason).finish()
    }
}

/// What a client was refused for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// It asks for this version of the protocol, which isn't spoken.
    Version(String),
    /// It is a page of an origin that isn't accepted.
    Origin,
    /// It offers subprotocols, and none that [`subprotocols`](crate::SocketBuilder::subprotocols) names.
    Subprotocol,
    /// The server goes: it takes no more clients, who find another one when they try again. A WebSocket gets 503.
    Draining,
    /// The program's [`connect`](crate::SocketBuilder::connect) has refused it.
    Program(Refused),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(vsn) => write!(f, "version \"{}\" of the protocol isn't spoken", cut_name(vsn)),
            Self::Origin => f.write_str("the page's origin isn't accepted; see `SocketBuilder::origins`"),
            Self::Subprotocol => f.write_str("none of the subprotocols that the client offers is known"),
            Self::Draining => f.write_str("the server is draining its sockets"),
            Self::Program(refused) => refused.fmt(f),
        }
    }
}
