//! Who may connect: the protocol's version, the page's origin, and what the program says.

use std::sync::Arc;

use http::{
    HeaderMap, Uri,
    header::{HOST, ORIGIN},
    request::Parts,
    uri::Authority,
};

use crate::{Assigns, Connect, builder::Endpoint, serializer::Codec};

/// Decides about a client; none where it's refused, which is answered with 403 and logged here.
pub(crate) async fn admit(endpoint: &Endpoint, parts: Parts) -> Option<(Arc<Codec>, Assigns)> {
    let Some(codec) = endpoint.codec(&version(&parts.uri)) else {
        tracing::debug!(uri = %parts.uri.path(), "connect refused: the protocol's version is not spoken");
        return None;
    };
    if !is_origin_accepted(endpoint, &parts.headers, &parts.uri) {
        return None;
    }
    match (endpoint.connect)(Connect::new(parts)).await {
        Ok(assigns) => Some((codec, assigns)),
        Err(refused) => {
            tracing::debug!(reason = %refused, "connect refused");
            None
        }
    }
}

/// Whether the page that a request comes from may use the socket.
pub(crate) fn is_origin_accepted(endpoint: &Endpoint, headers: &HeaderMap, uri: &Uri) -> bool {
    let accepted = endpoint.options.any_origin || same_origin(headers, uri);
    if !accepted {
        tracing::warn!(
            origin = ?headers.get(ORIGIN),
            host = ?headers.get(HOST),
            "connect refused: the page is of another origin; `any_origin` would accept it"
        );
    }
    accepted
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
