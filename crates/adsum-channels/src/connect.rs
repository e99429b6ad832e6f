//! A client that asks to connect, and what the program makes of it.

use std::{error::Error, fmt, net::SocketAddr};

use adsum_pubsub::Topic;
use axum::extract::{ConnectInfo, OriginalUri, Query, rejection::QueryRejection};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use http::{Extensions, HeaderMap, Uri, header::SEC_WEBSOCKET_PROTOCOL, request::Parts};
use serde::de::DeserializeOwned;

/// What stands before a token that is sent as a subprotocol.
const TOKEN_PROTOCOL: &str = "base64url.bearer.phx.";

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

    /// The token that a client of phoenix.js 1.8 was given by its option `authToken`: sent as a WebSocket
    /// subprotocol, or by long poll in the header `x-phoenix-authtoken`.
    pub fn auth_token(&self) -> Option<String> {
        let protocols = self.parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let mut protocols =
            protocols.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        match protocols.find_map(|protocol| protocol.trim().strip_prefix(TOKEN_PROTOCOL)) {
            // Whatever its name says, phoenix.js writes it in the standard alphabet.
            Some(encoded) => {
                String::from_utf8(STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?).ok()
            }
            None => self.parts.headers.get("x-phoenix-authtoken")?.to_str().ok().map(str::to_owned),
        }
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
    id: Option<Topic>,
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

    /// Names the socket, such as `user_socket:7`, so that it can be closed from anywhere:
    /// `pubsub.broadcast("user_socket:7", "disconnect", json!({}))` closes all sockets of that name, on all nodes,
    /// with 1001. Their clients connect again, and `connect` may refuse them.
    #[must_use]
    pub fn id(mut self, id: impl Into<Topic>) -> Self {
        self.id = Some(id.into());
        self
    }

    pub(crate) fn socket_id(&self) -> Option<&Topic> {
        self.id.as_ref()
    }

    /// The value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_token_comes_as_a_subprotocol_or_in_a_header() {
        let token = |headers: &[(&str, &str)]| {
            let request = headers.iter().fold(Request::builder(), |request, (n, v)| request.header(*n, *v));
            Connect::new(request.body(()).unwrap().into_parts().0).auth_token()
        };
        let protocol = |value: &str| token(&[("sec-websocket-protocol", value)]);
        assert_eq!(protocol("phoenix, base64url.bearer.phx.c2VjcmV0Pz8+").as_deref(), Some("secret??>"));
        assert_eq!(protocol("phoenix"), None);
        assert_eq!(protocol("base64url.bearer.phx.!!!"), None);
        assert_eq!(token(&[("x-phoenix-authtoken", "secret")]).as_deref(), Some("secret"));
        assert_eq!(token(&[]), None);
    }
}
