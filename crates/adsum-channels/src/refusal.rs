//! Why a client that asks to connect is turned away.

use std::{error::Error, fmt};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use parking_lot::Mutex;

use crate::log::cut_name;

/// Turns a client away: it is answered with 403 and an empty body, or as
/// [`on_refused`](crate::SocketBuilder::on_refused) says.
///
/// Any error becomes one by `?`, also a boxed one or one of `anyhow`. The client doesn't see it, unless `on_refused`
/// tells it. The rejection of an extractor keeps its answer: a 401 stays a 401.
pub struct Refused {
    reason: Box<dyn Error + Send + Sync>,
    /// Sent once, instead of an empty 403. A response can't be shared between threads.
    response: Mutex<Option<Box<Response>>>,
}

/// An extractor has turned the request down; from [`Connect::extract`](crate::Connect::extract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the extractor {extractor} rejects the request with {status}")]
#[non_exhaustive]
pub struct Rejected {
    /// The extractor's type.
    pub extractor: &'static str,
    /// The status of its answer.
    pub status: StatusCode,
}

impl Refused {
    /// Refuses for a reason that the log will show.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { reason: reason.into(), response: Mutex::new(None) }
    }

    pub(crate) fn rejected<E>(rejection: impl IntoResponse) -> Self {
        let response = rejection.into_response();
        let reason = Rejected { extractor: std::any::type_name::<E>(), status: response.status() };
        Self { reason: reason.into(), response: Mutex::new(Some(Box::new(response))) }
    }

    /// The answer of the extractor that has rejected the request, for an
    /// [`on_refused`](crate::SocketBuilder::on_refused) that wants to send it. `None` if there is none, or if it was taken
    /// before.
    pub fn take_response(&self) -> Option<Response> {
        self.response.lock().take().map(|response| *response)
    }

    /// The reason, to be looked at by its `downcast_ref`.
    pub fn reason(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.reason
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Refused {
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
    /// The query of its URI can't be read, for this reason: an escape or its UTF-8 is broken. A client gets 400.
    Query(&'static str),
    /// It is a page of an origin that isn't accepted.
    Origin,
    /// It is sent to a host that is none of [`host`](crate::SocketBuilder::host).
    Host,
    /// It offers subprotocols, and none that [`subprotocols`](crate::SocketBuilder::subprotocols) names.
    Subprotocol,
    /// The server goes: it takes no more clients, who find another one when they try again. A WebSocket gets 503.
    Draining,
    /// As many sockets are open as may be. A WebSocket gets 503, or 429 for a limit of one client.
    Limit(SocketLimit),
    /// The program's [`connect`](crate::SocketBuilder::connect) has refused it.
    Program(Refused),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(vsn) => write!(f, "version \"{}\" of the protocol isn't spoken", cut_name(vsn)),
            Self::Query(reason) => f.write_str(reason),
            Self::Origin => f.write_str("the page's origin isn't accepted; see `SocketBuilder::origins`"),
            Self::Host => f.write_str("the request's host isn't ours; see `SocketBuilder::host`"),
            Self::Subprotocol => f.write_str("none of the subprotocols that the client offers is known"),
            Self::Draining => f.write_str("the server is draining its sockets"),
            Self::Limit(limit) => limit.fmt(f),
            Self::Program(refused) => refused.fmt(f),
        }
    }
}

/// A limit on the number of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketLimit {
    /// [`max_sockets`](crate::SocketBuilder::max_sockets) of all clients.
    Sockets,
    /// [`max_longpoll_sessions`](crate::SocketBuilder::max_longpoll_sessions) of all clients.
    LongPollSessions,
    /// [`max_sockets_per_address`](crate::SocketBuilder::max_sockets_per_address).
    Address,
    /// [`max_sockets_per_key`](crate::SocketBuilder::max_sockets_per_key).
    Key,
}

impl SocketLimit {
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Sockets => "max_sockets",
            Self::LongPollSessions => "max_longpoll_sessions",
            Self::Address => "max_sockets_per_address",
            Self::Key => "max_sockets_per_key",
        }
    }

    /// 503 for a full node, which makes a balancer ask the next one; 429 for a client that has too many.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Sockets | Self::LongPollSessions => StatusCode::SERVICE_UNAVAILABLE,
            Self::Address | Self::Key => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

impl fmt::Display for SocketLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sockets => "too many sockets are open",
            Self::LongPollSessions => "too many long poll sessions are open",
            Self::Address => "the client's address has too many sockets",
            Self::Key => "the client's key has too many sockets",
        })
    }
}
