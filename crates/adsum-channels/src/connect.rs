//! The request of a client to connect.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use axum::extract::{ConnectInfo, FromRequestParts, OriginalUri};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Uri,
    header::{SEC_WEBSOCKET_PROTOCOL, USER_AGENT},
    request::Parts,
};
use serde::de::DeserializeOwned;

use crate::{
    address::TrustedProxies,
    query::{self, ParamsError},
    refusal::Refused,
};

#[derive(Clone, Copy)]
struct ClientAddress(IpAddr);

/// The prefix of a token that is sent as a subprotocol.
const TOKEN_PROTOCOL: &str = "base64url.bearer.phx.";

/// The request with which a client connects: a WebSocket upgrade, or the first request of a long poll.
///
/// It has passed the layers and middleware around the router, and has the extensions that they added. axum's extractors
/// read it:
///
/// ```
/// # use adsum_channels as adsum;
/// use adsum::{Assigns, Connect, Refused};
/// use axum::{Extension, extract::{FromRef, State}};
///
/// #[derive(Clone)]
/// struct Session { user_id: u64 } // added by a middleware
///
/// #[derive(Clone)]
/// struct Database;
///
/// #[derive(Clone)]
/// struct App { database: Database }
///
/// impl FromRef<App> for Database {
///     fn from_ref(app: &App) -> Self { app.database.clone() }
/// }
///
/// async fn connect(app: App, mut request: Connect) -> Result<Assigns, Refused> {
///     let Extension(session) = request.extract::<Extension<Session>>().await?;
///     let State(database) = request.extract_with::<State<Database>, App>(&app).await?;
///     Ok(Assigns::new().with(session).with(database))
/// }
/// ```
#[derive(Clone)]
pub struct Connect {
    parts: Parts,
    subprotocol: Option<HeaderValue>,
}

impl Connect {
    pub(crate) fn new(parts: Parts, subprotocol: Option<HeaderValue>) -> Self {
        Self { parts, subprotocol }
    }

    /// Reads the client's parameters as a type.
    ///
    /// They are parsed as in Plug: the last of several values of one name wins, `user[id]=7` is a map or struct, and
    /// `roles[]=a` a list, as is `roles[0]=a`, which phoenix.js writes.
    ///
    /// # Errors
    /// They don't have the shape of `T`. With `?` in a `connect` function this refuses the client.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, ParamsError> {
        query::typed(&self.parts.uri)
    }

    /// The query of the URI, including the protocol version `vsn`.
    pub fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// The client's address: that of the connection, or the one that
    /// [`trusted_proxies`](crate::SocketBuilder::trusted_proxies) report. `None` if the server doesn't provide
    /// `ConnectInfo`.
    pub fn client_address(&self) -> Option<IpAddr> {
        self.extension().map(|ClientAddress(address)| *address)
    }

    pub(crate) fn find_client_address(&mut self, proxies: &TrustedProxies) -> Option<IpAddr> {
        let address = proxies.client_address(self.peer()?.ip(), &self.parts.headers);
        self.parts.extensions.insert(ClientAddress(address));
        Some(address)
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The headers that begin with `x-`, such as those added by a proxy.
    pub fn x_headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers_that(|name| name.starts_with("x-"))
    }

    /// The headers that begin with `sec-websocket-`. A long poll has none.
    pub fn sec_websocket_headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers_that(|name| name.starts_with("sec-websocket-"))
    }

    /// The headers `traceparent` and `tracestate` of distributed tracing.
    pub fn trace_context_headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers_that(|name| matches!(name, "traceparent" | "tracestate"))
    }

    fn headers_that(&self, wanted: fn(&str) -> bool) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.parts.headers.iter().filter(move |(name, _)| wanted(name.as_str()))
    }

    /// The `user-agent` header.
    pub fn user_agent(&self) -> Option<&str> {
        self.parts.headers.get(USER_AGENT)?.to_str().ok()
    }

    /// The chosen subprotocol: see [`subprotocols`](crate::SocketBuilder::subprotocols).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_ref()?.to_str().ok()
    }

    /// The token from the option `authToken` of phoenix.js 1.8: sent as a WebSocket subprotocol, or by long poll in the
    /// header `x-phoenix-authtoken`.
    pub fn auth_token(&self) -> Option<String> {
        match offered_subprotocols(&self.parts.headers).find_map(|offer| offer.strip_prefix(TOKEN_PROTOCOL)) {
            // Despite the name, phoenix.js encodes it in the standard alphabet.
            Some(encoded) => {
                String::from_utf8(STANDARD_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?).ok()
            }
            None => self.parts.headers.get("x-phoenix-authtoken")?.to_str().ok().map(str::to_owned),
        }
    }

    /// The full URI as the client sent it, also if the socket is nested.
    pub fn uri(&self) -> &Uri {
        self.extension().map_or(&self.parts.uri, |OriginalUri(uri)| uri)
    }

    /// The peer's address, if the server was started with
    /// [`into_make_service_with_connect_info::<SocketAddr>`](axum::Router::into_make_service_with_connect_info).
    /// Behind a proxy it is the proxy's; see [`client_address`](Self::client_address).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.extension().map(|ConnectInfo(peer)| *peer)
    }

    /// An extension that a layer or a middleware has added, for example a session.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.parts.extensions.get()
    }

    /// All extensions that the server's layers have added.
    pub fn extensions(&self) -> &Extensions {
        &self.parts.extensions
    }

    /// Runs an axum extractor that needs no state.
    ///
    /// # Errors
    /// The extractor rejects the request. With `?` in a `connect` function the client gets the extractor's response.
    pub async fn extract<E: FromRequestParts<()>>(&mut self) -> Result<E, Refused> {
        self.extract_with::<E, ()>(&()).await
    }

    /// Runs an axum extractor that needs state.
    ///
    /// # Errors
    /// As [`extract`](Self::extract).
    pub async fn extract_with<E: FromRequestParts<S>, S: Send + Sync>(
        &mut self,
        state: &S,
    ) -> Result<E, Refused> {
        E::from_request_parts(&mut self.parts, state).await.map_err(Refused::rejected::<E>)
    }
}

/// Shows only the names of headers and the path of the URI: the rest may contain secrets.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("path", &self.uri().path())
            .field("headers", &self.parts.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

/// The subprotocols that a client offers, in one header or several, including a token for authentication.
pub(crate) fn offered_subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_token_comes_as_a_subprotocol_or_in_a_header() {
        let token = |headers: &[(&str, &str)]| {
            let request = headers.iter().fold(Request::builder(), |request, (n, v)| request.header(*n, *v));
            Connect::new(request.body(()).unwrap().into_parts().0, None).auth_token()
        };
        let protocol = |value: &str| token(&[("sec-websocket-protocol", value)]);
        assert_eq!(protocol("phoenix, base64url.bearer.phx.c2VjcmV0Pz8+").as_deref(), Some("secret??>"));
        assert_eq!(protocol("phoenix"), None);
        assert_eq!(protocol("base64url.bearer.phx.!!!"), None);
        assert_eq!(token(&[("x-phoenix-authtoken", "secret")]).as_deref(), Some("secret"));
        assert_eq!(token(&[]), None);
    }

    fn of<'a>(headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> Vec<&'a str> {
        headers.map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn headers_are_had_by_kind_and_secrets_are_not_shown() {
        let names =
            ["x-forwarded-for", "sec-websocket-version", "traceparent", "tracestate", "user-agent", "cookie"];
        let request =
            names.iter().fold(Request::get("/?password=hunter2"), |r, name| r.header(*name, "hunter2"));
        let connect = Connect::new(request.body(()).unwrap().into_parts().0, None);
        assert_eq!(of(connect.x_headers()), ["x-forwarded-for"]);
        assert_eq!(of(connect.sec_websocket_headers()), ["sec-websocket-version"]);
        assert_eq!(of(connect.trace_context_headers()), ["traceparent", "tracestate"]);
        assert_eq!(connect.user_agent(), Some("hunter2"));
        let shown = format!("{connect:?}");
        assert!(shown.contains("cookie") && !shown.contains("hunter2"), "{shown}");
    }
}
