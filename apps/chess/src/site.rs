use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State, rejection::JsonRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use tower_http::services::{ServeDir, ServeFile};

use crate::{Accounts, CreateError, Hall, Name, Origin, Session, User};

/// The most bytes of a request's body; a name fits many times over.
const MAX_BODY_BYTES: usize = 4096;

/// The longest path that is looked for, in bytes. No page has a longer one, and file systems fail at names above it.
const MAX_PATH_BYTES: usize = 255;

/// Everything comes from the site itself, and nothing in the page may be inline: so a name that gets into it as
/// markup, by a mistake, still runs nothing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What the pages need.
#[derive(Debug, Clone)]
pub struct Site {
    /// The users.
    pub accounts: Accounts,
    /// Who is signed in.
    pub session: Session,
    /// Who is online.
    pub hall: Hall,
    /// Where browsers find the site. `None`: at the host that they ask for.
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

/// The site as a router: the page and its files from the folder `web`, `/me`, `/session` and the `/socket`.
///
/// # Errors
///
/// [`MissingFile`] if the folder is not that of the pages, or the `phoenix` package isn't installed beside it.
pub fn site(mut site: Site, web: &Path) -> Result<Router, MissingFile> {
    let phoenix = web.join("../node_modules/phoenix/priv/static/phoenix.mjs");
    for (file, advice) in [
        (web.join("index.html"), "--web has to name the folder of the pages, apps/chess/web"),
        (phoenix.clone(), "run npm ci in apps/chess"),
    ] {
        if !file.is_file() {
            return Err(MissingFile { path: file, advice });
        }
    }
    if site.origin.as_ref().is_some_and(Origin::is_https) {
        site.session = site.session.secure();
    }
    let socket =
        site.hall.socket(site.accounts.clone(), site.session.clone(), site.origin.as_ref(), &site.hosts);
    Ok(Router::new()
        .route("/me", get(me))
        .route("/session", post(sign_in).delete(sign_out))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Arc::new(site))
        .nest("/socket", socket)
        .route_service("/vendor/phoenix.mjs", ServeFile::new(phoenix))
        .fallback_service(ServeDir::new(web))
        .layer(middleware::from_fn(without_long_paths))
        .layer(middleware::map_response(with_headers)))
}

/// A request to sign in. It is JSON and nothing else, for another site's form can't send that.
#[derive(Deserialize)]
struct SignIn {
    name: String,
}

async fn me(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Response, Failure> {
    let user = match site.session.user_id(&headers) {
        Some(id) => site.accounts.user(id).await?,
        None => None,
    };
    Ok(Json(json!({ "user": user })).into_response())
}

async fn sign_in(
    State(site): State<Arc<Site>>,
    request: Result<Json<SignIn>, JsonRejection>,
) -> Result<Response, Failure> {
    let Json(SignIn { name }) =
        request.map_err(|error| Failure::refused(error.status(), error.body_text()))?;
    let name = Name::parse(&name)
        .map_err(|error| Failure::refused(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let user: User = match site.accounts.create(&name).await {
        Ok(user) => user,
        Err(taken @ CreateError::Taken) => {
            return Err(Failure::refused(StatusCode::CONFLICT, taken.to_string()));
        }
        Err(CreateError::Database(error)) => return Err(error.into()),
    };
    let cookie = site.session.sign_in(user.id);
    Ok((StatusCode::CREATED, cookie, Json(json!({ "user": user }))).into_response())
}

async fn sign_out(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    (site.session.sign_out(&headers), StatusCode::NO_CONTENT).into_response()
}

/// An answer other than the one hoped for: `{"error": ".."}`, meant for the person at the page.
struct Failure {
    status: StatusCode,
    error: String,
}

impl Failure {
    fn refused(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "the database failed");
        Self::refused(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong here. Please try again.")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error }))).into_response()
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
    // Files change only with the site, so a browser asks whether its copy is still good, and no more. What says
    // who somebody is isn't kept at all.
    let is_file = response.headers().contains_key(header::LAST_MODIFIED);
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
