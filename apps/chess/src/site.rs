//! The pages, and what they ask for over HTTP.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use tower_http::{
    compression::CompressionLayer,
    services::{ServeDir, ServeFile},
};

use crate::{Db, Hall, Origin, Problem, Sessions, accounts, bundle::Bundle, node::session_topic, past};

/// The most bytes of a request's body; a name fits many times over.
const MAX_BODY_BYTES: usize = 4096;

/// The longest path that is looked for, in bytes. No page has a longer one, and file systems fail at names above it.
const MAX_PATH_BYTES: usize = 255;

/// Everything comes from the site itself, and nothing in the page may be inline: so a name that gets into it as
/// markup, by a mistake, still runs nothing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The state that the pages need.
#[derive(Debug, Clone)]
pub struct Site {
    /// The users.
    pub db: Db,
    /// The sessions of signed-in users.
    pub sessions: Sessions,
    /// The users who are online.
    pub hall: Hall,
    /// The site's address for browsers. `None`: the host that they ask for.
    pub origin: Option<Origin>,
    /// The host names under which browsers may ask for the site. Empty: under any.
    pub hosts: Vec<String>,
}

/// A file that the pages need is not there.
#[derive(Debug, thiserror::Error)]
#[error("{} is missing: {advice}", path.display())]
pub struct MissingFile {
    path: PathBuf,
    advice: &'static str,
}

/// The site as a router: the page (for each of its views) and its files from the folder `web`, what it asks for over HTTP,
/// and the `/socket`.
///
/// # Errors
///
/// [`MissingFile`] if the folder is not that of the pages, or the packages of npm aren't installed beside it.
pub fn site(mut site: Site, web: &Path) -> Result<Router, MissingFile> {
    let phoenix = web.join("../node_modules/phoenix/priv/static/phoenix.mjs");
    // Its code alone: the pieces and markers in its assets aren't free for us.
    let board_folder = web.join("../node_modules/cm-chessboard/src");
    let index = web.join("index.html");
    for (file, advice) in [
        (index.clone(), "--web has to name the folder of the pages, apps/chess/web"),
        (phoenix.clone(), "run npm ci in apps/chess"),
    ] {
        if !file.is_file() {
            return Err(MissingFile { path: file, advice });
        }
    }
    let board = Bundle::read(&board_folder)
        .map_err(|_| MissingFile { path: board_folder, advice: "run npm ci in apps/chess" })?;
    if site.origin.as_ref().is_some_and(Origin::is_https) {
        site.sessions = site.sessions.secure();
    }
    let socket = site.hall.socket(site.sessions.clone(), site.origin.as_ref(), &site.hosts);
    // Compressed by the server. Answers with secrets are not: their length would tell of them.
    let files = Router::new()
        .route_service("/game/{id}", ServeFile::new(&index))
        .route_service("/you", ServeFile::new(index))
        .route_service("/vendor/phoenix.mjs", ServeFile::new(phoenix))
        .route("/vendor/board.mjs", get(async move |headers: HeaderMap| board.answer(&headers)))
        .fallback_service(ServeDir::new(web))
        .layer(CompressionLayer::new());
    Ok(Router::new()
        .route("/me", get(accounts::me))
        .route("/session", post(accounts::sign_in).delete(accounts::sign_out))
        .route("/sessions", delete(accounts::sign_out_everywhere))
        .route("/password", put(accounts::set_password))
        .route("/past", get(past::games))
        .route("/game/{id}/pgn", get(past::pgn))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(site))
        .nest("/socket", socket)
        .merge(files)
        .layer(middleware::from_fn(without_long_paths))
        .layer(middleware::map_response(with_headers)))
}

impl Site {
    /// The network that a client is counted under: an IPv4 address, or a network of IPv6, of which one person has all addresses.
    pub(crate) fn network(&self, request: &Request) -> IpAddr {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let client =
            peer.map(|ConnectInfo(peer)| self.hall.node.proxies.client_address(peer.ip(), request.headers()));
        match client {
            Some(IpAddr::V6(v6)) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            Some(v4) => v4,
            None => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// Closes the sockets of sessions that have ended, on all nodes.
    pub(crate) fn close_sockets(&self, sessions: impl IntoIterator<Item = String>) {
        for session in sessions {
            if let Err(error) = self.hall.node.pubsub.disconnect(session_topic(&session)) {
                tracing::error!(%error, "sockets of an ended session may still be open on other nodes");
            }
        }
    }
}

/// An answer other than the one hoped for.
pub(crate) struct Failure(pub(crate) StatusCode, pub(crate) Problem);

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, problem) = self;
        let retry_after = problem.retry_after_ms.map(|ms| HeaderValue::from(ms.div_ceil(1000)));
        let mut response = (status, Json(problem)).into_response();
        if let Some(retry_after) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, retry_after);
        }
        response
    }
}

/// Answers paths that name no file of any file system, at which serving files would fail.
async fn without_long_paths(request: Request, next: Next) -> Response {
    if request.uri().path().len() > MAX_PATH_BYTES {
        return StatusCode::NOT_FOUND.into_response();
    }
    next.run(request).await
}

async fn with_headers(mut response: Response) -> Response {
    // Files change only with the site, so a browser asks whether its copy is still good, and no more. Answers
    // that name a user aren't kept at all.
    let is_file =
        [header::LAST_MODIFIED, header::ETAG].iter().any(|name| response.headers().contains_key(name));
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CACHE_CONTROL, if is_file { "no-cache" } else { "no-store" }),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
