use std::path::Path;

use adsum::PubSub;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use chess::{Db, Hall, MissingFile, Sessions, Site, site};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::site::settings;

pub(crate) const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web");

async fn router() -> Router {
    site_in(WEB).await.unwrap()
}

async fn site_in(web: &str) -> Result<Router, MissingFile> {
    let db = Db::open("sqlite::memory:", 1).await.unwrap();
    let settings = settings();
    let sessions = Sessions::new(db.clone(), settings.session_lifetime());
    let hall = Hall::open(PubSub::local(), db.clone(), settings).await.unwrap();
    site(Site { db, sessions, hall, origin: None, hosts: Vec::new() }, Path::new(web))
}

async fn call(router: &Router, method: Method, path: &str, cookie: &str, body: &str) -> Response {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::COOKIE, cookie)
        .body(Body::from(body.to_owned()))
        .unwrap();
    router.clone().oneshot(request).await.unwrap()
}

async fn sign_in(router: &Router, name: &str) -> Response {
    call(router, Method::POST, "/session", "", &json!({ "name": name }).to_string()).await
}

async fn me(router: &Router, cookie: &str) -> Value {
    json_of(call(router, Method::GET, "/me", cookie, "").await).await
}

async fn json_of(response: Response) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap()
}

/// The cookie as a browser sends it back.
pub(crate) fn cookie_of(answer: impl IntoResponse) -> String {
    let set = answer.into_response().headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    set.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn choose_a_name_come_back_sign_out() {
    let router = router().await;
    assert_eq!(me(&router, "").await, json!({ "user": null }));

    let response = sign_in(&router, "  Anna ").await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let cookie = cookie_of(response.headers().clone());
    let anna = json_of(response).await;
    assert_eq!(anna["user"]["name"], "Anna");
    assert_eq!(me(&router, &cookie).await["user"], anna["user"]);
    assert_eq!(me(&router, &cookie.replace("session=", "session=x")).await, json!({ "user": null }));

    let response = call(&router, Method::DELETE, "/session", &cookie, "").await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let gone = response.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(gone.starts_with("chess_session=;") && gone.contains("Max-Age=0"), "{gone}");
}

#[tokio::test]
async fn a_refused_name_says_why() {
    let router = router().await;
    sign_in(&router, "Anna").await;
    for (name, status, reason) in [
        ("anna", StatusCode::CONFLICT, "already has that name"),
        ("  ", StatusCode::UNPROCESSABLE_ENTITY, "enter a name"),
        (&"x".repeat(25), StatusCode::UNPROCESSABLE_ENTITY, "at most 24"),
        ("An\u{202E}na", StatusCode::UNPROCESSABLE_ENTITY, "can't be seen"),
    ] {
        let response = sign_in(&router, name).await;
        assert_eq!(response.status(), status, "{name}");
        assert!(!response.headers().contains_key(header::SET_COOKIE));
        let message = json_of(response).await["message"].as_str().unwrap().to_owned();
        assert!(message.contains(reason), "{message}");
    }
}

#[tokio::test]
async fn a_malformed_request_is_refused() {
    let router = router().await;
    for (body, status) in [
        ("", StatusCode::BAD_REQUEST),
        ("{", StatusCode::BAD_REQUEST),
        ("{}", StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"name": 7}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (&format!(r#"{{"name": "{}"}}"#, "x".repeat(5000)), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let response = call(&router, Method::POST, "/session", "", body).await;
        assert_eq!(response.status(), status, "{body}");
        assert!(json_of(response).await["message"].is_string());
    }
    let form = Request::post("/session")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from("name=Anna"))
        .unwrap();
    let response = router.oneshot(form).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn files_come_with_a_strict_policy() {
    let router = router().await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/game/abc", "text/html"),
        ("/app.js", "text/javascript"),
        ("/vendor/phoenix.mjs", "javascript"),
        ("/vendor/board.mjs", "javascript"),
    ] {
        let response = call(&router, Method::GET, path, "", "").await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let header = |name| response.headers()[name].to_str().unwrap();
        assert!(header("content-type").contains(kind), "{path}: {}", header("content-type"));
        assert!(header("content-security-policy").contains("script-src 'self'"));
        assert!(!header("content-security-policy").contains("unsafe"));
        assert_eq!(header("x-content-type-options"), "nosniff");
    }
    let unfree = "/vendor/..%2fnode_modules/cm-chessboard/assets/pieces/standard.svg";
    for path in ["/nothing", "/../Cargo.toml", "/..%2fCargo.toml", "/%00", unfree] {
        let response = call(&router, Method::GET, path, "", "").await;
        assert!(response.status().is_client_error(), "{path}: {}", response.status());
    }
    let session = call(&router, Method::GET, "/me", "", "").await;
    assert_eq!(session.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn files_are_compressed_and_asked_for_once() {
    let router = router().await;
    for path in ["/", "/style.css", "/game.js", "/vendor/phoenix.mjs", "/vendor/board.mjs"] {
        let ask = |name, value: &str| {
            let request = Request::get(path).header(name, value).body(Body::empty()).unwrap();
            router.clone().oneshot(request)
        };
        let packed = ask(header::ACCEPT_ENCODING, "gzip, br").await.unwrap();
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip", "{path}");
        assert_eq!(packed.headers()[header::VARY], "accept-encoding", "{path}");
        assert_eq!(packed.headers()[header::CACHE_CONTROL], "no-cache", "{path}");
        let plain = ask(header::ACCEPT_ENCODING, "identity").await.unwrap();
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING), "{path}");
        let etag = plain.headers()[header::ETAG].to_str().unwrap();
        assert_eq!(etag, packed.headers()[header::ETAG], "{path}");
        let known = ask(header::IF_NONE_MATCH, etag).await.unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED, "{path}");
    }
    // Answers to a person aren't.
    let request = Request::get("/me").header(header::ACCEPT_ENCODING, "gzip").body(Body::empty()).unwrap();
    let me = router.oneshot(request).await.unwrap();
    assert!(!me.headers().contains_key(header::CONTENT_ENCODING));
}

/// A module that the page doesn't name is asked for only once those that import it are there: a trip more each time.
#[test]
fn the_page_names_all_its_modules() {
    let page = std::fs::read_to_string(format!("{WEB}/index.html")).unwrap();
    for file in std::fs::read_dir(WEB).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|extension| extension == "js") && name != "app.js" {
            assert!(page.contains(&format!("<link rel=\"modulepreload\" href=\"/{name}\">")), "{name}");
        }
    }
}

#[tokio::test]
async fn no_path_is_an_error_of_the_server() {
    let router = router().await;
    let long = "a".repeat(8_000);
    for path in [
        &*format!("/{long}"),
        &format!("/{}", "a/".repeat(4_000)),
        &format!("/?{long}"),
        &format!("/socket/{long}"),
        "/%00",
        "/%ff",
        "/style.css/more",
        "/..%2f..%2fsrc",
        "//style.css",
    ] {
        let status = call(&router, Method::GET, path, "", "").await.status();
        assert!(!status.is_server_error(), "{status} for {}", &path[..path.len().min(40)]);
    }
}

#[tokio::test]
async fn missing_files_are_named_at_start() {
    let error = site_in("/no/such/web").await.unwrap_err();
    assert!(error.to_string().contains("/no/such/web/index.html is missing"), "{error}");
}
