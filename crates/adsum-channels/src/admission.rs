//! Who may connect: the protocol's version, the page's origin, and what the program says.

use std::sync::Arc;

use http::{
    HeaderMap, Uri,
    header::{HOST, ORIGIN},
    request::Parts,
};

use crate::{Assigns, Connect, endpoint::Endpoint, serializer::Codec};

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
    let accepted = endpoint.origins.accept(headers, uri);
    if !accepted {
        tracing::warn!(
            origin = ?headers.get(ORIGIN),
            host = ?headers.get(HOST),
            "connect refused: the page's origin isn't accepted; see `SocketBuilder::origins`"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_no_version_means_the_first() {
        assert_eq!(version(&Uri::from_static("/?a=%2&vsn=2.0.0")), "2.0.0");
        assert_eq!(version(&Uri::from_static("/?a=1")), "1.0.0");
    }
}
