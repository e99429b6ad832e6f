//! A client that asks to connect, and what the program makes of it.

use std::{error::Error, fmt, net::SocketAddr};

use axum::extract::{ConnectInfo, OriginalUri, Query, rejection::QueryRejection};
use http::{Extensions, HeaderMap, Uri, request::Parts};
use serde::de::DeserializeOwned;

/// The request with which a client asks for a socket.
#[derive(Debug)]
pub struct Connect {
    parts: Parts,
}

impl Connect {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// The parameters the client was given, read as a type.
    ///
    /// # Errors
    /// They don't have the shape of `T`. With `?` in a `connect` function that refuses the client.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, QueryRejection> {
        Query::try_from_uri(&self.parts.uri).map(|Query(params)| params)
    }

    /// The parameters as they stand in the URI, `vsn` of the protocol among them.
    pub fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The URI as the client has sent it, wherever the socket is nested.
    pub fn uri(&self) -> &Uri {
        self.extensions().get().map_or(&self.parts.uri, |OriginalUri(uri)| uri)
    }

    /// The client's address, where the server was started with
    /// [`into_make_service_with_connect_info::<SocketAddr>`](axum::Router::into_make_service_with_connect_info).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.extensions().get().map(|ConnectInfo(peer)| *peer)
    }

    /// What the server's layers have left with the request.
    pub fn extensions(&self) -> &Extensions {
        &self.parts.extensions
    }
}

/// Turns a client away: it is answered with 403 and an empty body.
///
/// Any error becomes one by `?`. The reason is for the log only.
pub struct Refused {
    reason: Box<dyn Error + Send + Sync>,
}

impl Refused {
    /// Refuses for a reason that the log will show.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { reason: reason.into() }
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

/// What the program knows of a socket: one value of each type, given when it connected.
///
/// ```
/// # use adsum_channels::Assigns;
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// let assigns = Assigns::new().with(UserId(7));
/// assert_eq!(assigns.get::<UserId>().map(|id| id.0), Some(7));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Assigns {
    values: Extensions,
}

impl Assigns {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value, in place of one of the same type.
    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.values.insert(value);
        self
    }

    /// The value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get()
    }
}
