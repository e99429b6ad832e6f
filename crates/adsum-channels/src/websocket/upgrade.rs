//! The HTTP request that becomes a socket.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode, Uri,
    header::{CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, UPGRADE},
    uri::Authority,
};
use hyper::upgrade::OnUpgrade;
use tokio_util::sync::CancellationToken;

use super::{connection, handshake, stream::Stream};
use crate::{Connect, builder::Owner};

/// Answers an upgrade request, and starts the socket's task.
pub(crate) async fn upgrade(owner: &Owner, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let accept = match handshake::accept(&parts) {
        Ok(accept) => accept,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
        return (StatusCode::BAD_REQUEST, "this connection can't be upgraded").into_response();
    };
    let Some(codec) = owner.endpoint.codec(&version(&parts.uri)) else {
        tracing::debug!(uri = %parts.uri.path(), "connect refused: the protocol's version is not spoken");
        return StatusCode::FORBIDDEN.into_response();
    };
    if !owner.endpoint.options.any_origin && !same_origin(&parts.headers, &parts.uri) {
        tracing::warn!(
            origin = ?parts.headers.get(ORIGIN),
            host = ?parts.headers.get(HOST),
            "connect refused: the page is of another origin; `any_origin` would accept it"
        );
        return StatusCode::FORBIDDEN.into_response();
    }
    let assigns = match (owner.endpoint.connect)(Connect::new(parts)).await {
        Ok(assigns) => assigns,
        Err(refused) => {
            tracing::debug!(reason = %refused, "connect refused");
            return StatusCode::FORBIDDEN.into_response();
        }
    };

    let endpoint = owner.endpoint.clone();
    // A token of its own: waiting on it takes no lock that other sockets take.
    let shutdown: CancellationToken = owner.shutdown.child_token();
    tokio::spawn(async move {
        let upgraded = tokio::select! {
            upgraded = on_upgrade => upgraded,
            () = shutdown.cancelled() => return,
        };
        match upgraded {
            Ok(upgraded) => {
                connection::run(endpoint, assigns, codec, Stream::new(upgraded), shutdown).await;
            }
            Err(error) => tracing::debug!(%error, "client went away during the upgrade"),
        }
    });

    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The protocol's version that a client asks for. One that doesn't ask means the first.
fn version(uri: &Uri) -> String {
    #[derive(serde::Deserialize)]
    struct Params {
        vsn: Option<String>,
    }
    let params = axum::extract::Query::<Params>::try_from_uri(uri);
    params.ok().and_then(|params| params.0.vsn).unwrap_or_else(|| "1.0.0".to_owned())
}

/// Whether a request comes from a page of the host that it is sent to, or from no page at all.
fn same_origin(headers: &HeaderMap, uri: &Uri) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(Authority::as_str));
    let host = host.and_then(|host| host.parse::<Uri>().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    match (host.as_ref().and_then(Uri::host), origin.as_ref().and_then(Uri::host)) {
        (Some(host), Some(origin)) => host.eq_ignore_ascii_case(origin),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_host_is_of_another_origin() {
        let same = |origin: &str, host: &str| {
            let headers =
                [(ORIGIN, origin), (HOST, host)].map(|(name, value)| (name, value.parse().unwrap()));
            same_origin(&HeaderMap::from_iter(headers), &Uri::from_static("/socket"))
        };
        assert!(same("http://localhost:4000", "localhost:4000"));
        assert!(same("https://Example.org", "example.org:8443"));
        assert!(same("http://[::1]:4000", "[::1]:4000"));
        assert!(!same("https://evil.org", "example.org"));
        assert!(!same("https://example.org.evil.org", "example.org"));
        assert!(!same("null", "example.org"));
        assert!(!same("file://", "example.org"));
        assert!(same_origin(&HeaderMap::new(), &Uri::from_static("/socket")));
    }

    #[test]
    fn who_asks_for_no_version_means_the_first() {
        assert_eq!(version(&Uri::from_static("/?a=%2&vsn=2.0.0")), "2.0.0");
        assert_eq!(version(&Uri::from_static("/?a=1")), "1.0.0");
    }
}
