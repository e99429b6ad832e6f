//! The files of the page.

use axum::{
    Router,
    extract::OriginalUri,
    http::{
        HeaderName, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::IntoResponse,
    routing::get,
};

const HTML: &str = include_str!("web/index.html");
/// Stands in the page before the names of its parts.
const BASE: &str = "{base}";

/// The page runs its own scripts alone, talks to its own origin alone, and stands in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Each with its type. `phoenix.mjs` is of the npm package `phoenix` 1.8.16, uPlot of `uplot` 1.6.32.
const FILES: [(&str, &str, &[u8]); 10] = [
    ("/app.js", SCRIPT, include_bytes!("web/app.js")),
    ("/views.js", SCRIPT, include_bytes!("web/views.js")),
    ("/explain.js", SCRIPT, include_bytes!("web/explain.js")),
    ("/plots.js", SCRIPT, include_bytes!("web/plots.js")),
    ("/app.css", STYLE, include_bytes!("web/app.css")),
    ("/phoenix.mjs", SCRIPT, include_bytes!("web/phoenix.mjs")),
    ("/uPlot.iife.min.js", SCRIPT, include_bytes!("web/uPlot.iife.min.js")),
    ("/uPlot.min.css", STYLE, include_bytes!("web/uPlot.min.css")),
    ("/phoenix.LICENSE", TEXT, include_bytes!("web/phoenix.LICENSE")),
    ("/uPlot.LICENSE", TEXT, include_bytes!("web/uPlot.LICENSE")),
];

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = get(async |OriginalUri(uri): OriginalUri| {
        respond("text/html; charset=utf-8", HTML.replace(BASE, &base(uri.path())))
    });
    FILES.into_iter().fold(Router::new().route("/", page), |router, (path, kind, bytes)| {
        router.route(path, get(async move || respond(kind, bytes)))
    })
}

/// The path before the names of the parts: relative, as a proxy may take a part of the path away. A page without a
/// slash at its end has its parts below its own name.
fn base(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    if last.is_empty() || !last.bytes().all(is_plain) { "./".to_owned() } else { format!("./{last}/") }
}

fn respond(kind: &'static str, body: impl IntoResponse) -> impl IntoResponse {
    const HEADERS: [(HeaderName, &str); 5] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    let mut response = body.into_response();
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_found_wherever_the_page_stands() {
        let paths = ["/", "", "/ops/presence", "/ops/presence/", "/a%20b", "/\"><script>"];
        assert_eq!(paths.map(base), ["./", "./", "./presence/", "./", "./a%20b/", "./"]);
    }
}
