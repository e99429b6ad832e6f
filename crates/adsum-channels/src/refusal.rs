//! Reasons to refuse a client that connects.

use std::{error::Error, fmt};

use adsum_pubsub::log::cut_name;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use parking_lot::Mutex;

/// Refuses a client: it gets a 403 with an empty body, or the response of
/// [`on_refused`](crate::SocketBuilder::on_refused).
///
/// `?` converts any error, including boxed errors and those from `anyhow`. The client doesn't see the error, unless
/// `on_refused` sends it. The rejection of an extractor keeps its response: a 401 stays a 401.
pub struct Refused {
    reason: Box<dyn Error + Send + Sync>,
    /// Sent once, instead of an empty 403. In a mutex, since a response isn't `Sync`.
    response: Mutex<Option<Box<Response>>>,
}

/// An extractor has rejected the request; from [`Connect::extract`](crate::Connect::extract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the extractor {extractor} rejected the request with {status}")]
#[non_exhaustive]
pub struct Rejected {
    /// The extractor's type.
    pub extractor: &'static str,
    /// The status of its response.
    pub status: StatusCode,
}

impl Refused {
    /// Refuses for a reason that is logged.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { reason: reason.into(), response: Mutex::new(None) }
    }

    pub(crate) fn rejected<E>(rejection: impl IntoResponse) -> Self {
        let response = rejection.into_response();
        let reason = Rejected { extractor: std::any::type_name::<E>(), status: response.status() };
        Self { reason: reason.into(), response: Mutex::new(Some(Box::new(response))) }
    }

    /// Takes the response of the extractor that has rejected the request, so that an
    /// [`on_refused`](crate::SocketBuilder::on_refused) can send it. `None` if there is none, or if it was already
    /// taken.
    pub fn take_response(&self) -> Option<Response> {
        self.response.lock().take().map(|response| *response)
    }

    /// The reason; inspect it with `downcast_ref`.
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

/// Why a client was refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The client requests this protocol version, which isn't supported.
    Version(String),
    /// The query of the URI is malformed, for this reason: an invalid escape or invalid UTF-8. The client gets a 400.
    Query(&'static str),
    /// The page's origin isn't accepted.
    Origin,
    /// The request's host is none of [`host`](crate::SocketBuilder::host).
    Host,
    /// None of the offered subprotocols is in [`subprotocols`](crate::SocketBuilder::subprotocols).
    Subprotocol,
    /// The server is draining and accepts no more clients, which find another server when they retry. A WebSocket gets
    /// a 503.
    Draining,
    /// The maximum number of sockets is open. A WebSocket gets a 503, or a 429 for a limit of one client.
    Limit(SocketLimit),
    /// The program's [`connect`](crate::SocketBuilder::connect) has refused the client.
    Program(Refused),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(vsn) => write!(f, "version \"{}\" of the protocol isn't supported", cut_name(vsn)),
            Self::Query(reason) => f.write_str(reason),
            Self::Origin => f.write_str("the page's origin isn't accepted; see `SocketBuilder::origins`"),
            Self::Host => f.write_str("the request's host isn't accepted; see `SocketBuilder::host`"),
            Self::Subprotocol => f.write_str(
                "none of the offered subprotocols is supported; see `SocketBuilder::subprotocols`",
            ),
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
    /// [`max_sockets`](crate::SocketBuilder::max_sockets), over all clients.
    Sockets,
    /// [`max_longpoll_sessions`](crate::SocketBuilder::max_longpoll_sessions), over all clients.
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

    /// 503 for a full node, which makes a load balancer try the next one; 429 for a client that has too many.
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
