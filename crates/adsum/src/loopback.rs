//! Keeps pages of other sites out of a listener that is for this machine alone, and has no login.

use axum::{
    extract::Request,
    http::{
        HeaderMap, StatusCode, Uri,
        header::{HOST, ORIGIN},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

/// The names of this machine that no other site can take.
pub(crate) const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Answers requests only that are sent to a name of this machine, and of pages only those of such a name.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    if is_ours(request.headers(), request.uri()) {
        return next.run(request).await;
    }
    let why =
        "this address is for this machine: ask for http://localhost or http://127.0.0.1, with its port\n";
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

fn is_ours(headers: &HeaderMap, uri: &Uri) -> bool {
    let host =
        headers.get(HOST).map_or_else(|| uri.authority().map(Authority::as_str), |host| host.to_str().ok());
    let is_name = |authority: &str| {
        let authority: Option<Authority> = authority.parse().ok();
        authority.is_some_and(|authority| {
            !authority.as_str().contains('@')
                && NAMES.iter().any(|name| authority.host().eq_ignore_ascii_case(name))
        })
    };
    let is_origin = |origin: &str| {
        let uri: Option<Uri> = origin.parse().ok();
        uri.is_some_and(|uri| uri.authority().is_some_and(|authority| is_name(authority.as_str())))
    };
    host.is_some_and(is_name)
        && headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(is_origin))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn ours(host: &'static str, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        is_ours(&headers, &Uri::from_static("/"))
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["localhost", "LOCALHOST:4000", "127.0.0.1:4000", "[::1]:4000", "[::1]"] {
            assert!(ours(host, None), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:4000", "a@localhost", ""]
        {
            assert!(!ours(host, None), "{host}");
        }
        assert!(!is_ours(&HeaderMap::new(), &Uri::from_static("/")));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        assert!(ours("localhost:4000", Some("http://localhost:4000")));
        assert!(ours("127.0.0.1:4000", Some("http://[::1]:4000")));
        for origin in ["https://evil.example", "http://localhost.evil.example", "null", "http://a@localhost"]
        {
            assert!(!ours("localhost:4000", Some(origin)), "{origin}");
        }
    }
}
