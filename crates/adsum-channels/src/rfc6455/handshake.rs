//! The opening handshake: the upgrade from HTTP/1.1.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    AsHeaderName, CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{Method, Version};
use sha1::{Digest, Sha1};

/// The suffix that the protocol appends to a client's key before hashing it.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request is not a WebSocket upgrade. Each gets a 400, as in Phoenix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("a WebSocket upgrade must be a GET request")]
    Method,
    #[error("a WebSocket upgrade needs HTTP/1.1")]
    HttpVersion,
    #[error("not a WebSocket upgrade: no `upgrade: websocket` header")]
    Upgrade,
    #[error("not a WebSocket upgrade: the `connection` header does not name `upgrade`")]
    Connection,
    #[error("only version 13 of the WebSocket protocol is supported (`sec-websocket-version: 13`)")]
    WebSocketVersion,
    #[error("the `sec-websocket-key` header must be one base64 value of 16 bytes")]
    Key,
}

/// Checks an upgrade request and returns the `sec-websocket-accept` value for the response.
pub(crate) fn accept(request: &Parts) -> Result<HeaderValue, HandshakeError> {
    if request.method != Method::GET {
        return Err(HandshakeError::Method);
    }
    if request.version != Version::HTTP_11 {
        return Err(HandshakeError::HttpVersion);
    }
    let headers = &request.headers;
    if !lists(headers, UPGRADE, "websocket") {
        return Err(HandshakeError::Upgrade);
    }
    if !lists(headers, CONNECTION, "upgrade") {
        return Err(HandshakeError::Connection);
    }
    if only(headers, SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(HandshakeError::WebSocketVersion);
    }
    let key = only(headers, SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
    accept_value(key.as_bytes())
}

fn accept_value(key: &[u8]) -> Result<HeaderValue, HandshakeError> {
    // 16 bytes are 24 characters, for which the decoder needs 18 bytes. A longer key doesn't fit.
    let mut nonce = [0; 18];
    if STANDARD.decode_slice(key, &mut nonce) != Ok(16) {
        return Err(HandshakeError::Key);
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    Ok(HeaderValue::from_str(&STANDARD.encode(digest)).expect("base64 is ASCII"))
}

/// Whether a header, a list in one or several lines, contains `token`.
fn lists(headers: &HeaderMap, name: impl AsHeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that must occur only once.
fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// The example request of RFC 6455, modified by `change`.
    fn request(change: impl FnOnce(&mut Parts)) -> Parts {
        let request = http::Request::get("/socket/websocket?vsn=2.0.0")
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", KEY)
            .body(())
            .unwrap();
        let mut parts = request.into_parts().0;
        change(&mut parts);
        parts
    }

    fn with(name: &'static str, value: &'static str) -> Result<HeaderValue, HandshakeError> {
        accept(&request(|parts| {
            parts.headers.insert(name, HeaderValue::from_static(value));
        }))
    }

    fn with_another(name: &'static str, value: &'static str) -> Result<HeaderValue, HandshakeError> {
        accept(&request(|parts| {
            parts.headers.append(name, HeaderValue::from_static(value));
        }))
    }

    fn without(name: &str) -> HandshakeError {
        accept(&request(|parts| {
            parts.headers.remove(name);
        }))
        .unwrap_err()
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(accept(&request(|_| ())).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn tokens_may_be_in_any_case_and_in_lists() {
        assert!(with("connection", "keep-alive, UPGRADE").is_ok());
        assert!(with("connection", "keep-alive ,upgrade,x").is_ok());
        assert!(with_another("connection", "keep-alive").is_ok());
        assert!(with("upgrade", "h2c, WebSocket").is_ok());
    }

    #[test]
    fn a_request_without_an_upgrade_is_refused() {
        assert_eq!(accept(&request(|parts| parts.method = Method::POST)), Err(HandshakeError::Method));
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let refused = accept(&request(|parts| parts.version = version));
            assert_eq!(refused, Err(HandshakeError::HttpVersion));
        }
        assert_eq!(without("upgrade"), HandshakeError::Upgrade);
        assert_eq!(with("upgrade", "websockets"), Err(HandshakeError::Upgrade));
        assert_eq!(without("connection"), HandshakeError::Connection);
        assert_eq!(with("connection", "keep-alive"), Err(HandshakeError::Connection));
        assert_eq!(without("sec-websocket-version"), HandshakeError::WebSocketVersion);
        assert_eq!(with("sec-websocket-version", "8"), Err(HandshakeError::WebSocketVersion));
        assert_eq!(with_another("sec-websocket-version", "8"), Err(HandshakeError::WebSocketVersion));
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        assert_eq!(without("sec-websocket-key"), HandshakeError::Key);
        assert_eq!(with_another("sec-websocket-key", KEY), Err(HandshakeError::Key));
        for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZTE=", "dGhlIHNhbXBsZSBub25jZTEy", "*"]
        {
            assert_eq!(with("sec-websocket-key", key), Err(HandshakeError::Key), "{key:?}");
        }
        assert_eq!(with("sec-websocket-key", "dGhlIHNhbXBsZSBub25j*Q=="), Err(HandshakeError::Key));
    }
}
