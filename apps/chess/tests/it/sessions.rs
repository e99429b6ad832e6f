//! Sessions end, and their sockets with them.

use axum::http::{Method, StatusCode};
use chess::{Db, Name, Sessions};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::Client,
    pages::cookie_of,
    postgres::on_both,
    site::{Served, settings},
};

/// The code of sockets that are told to disconnect. Silent ones are closed with another.
pub(crate) const DISCONNECTED: u16 = 1001;

/// Asks for something; the status.
pub(crate) async fn ask(address: &str, method: Method, path: &str, cookie: &str) -> StatusCode {
    let (status, _) = answer(address, method, path, cookie).await;
    status
}

async fn answer(address: &str, method: Method, path: &str, cookie: &str) -> (StatusCode, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer["HTTP/1.1 ".len()..][..3].parse().unwrap(), answer)
}

#[tokio::test]
async fn signing_out_ends_the_session_and_its_sockets_alone() {
    on_both("sign-out", async |url| {
        let site = Served::on(Db::open(&url, 4).await.unwrap(), settings()).await;
        let anna = site.person("Anna").await;
        let elsewhere = cookie_of(site.sessions.sign_in(anna.user.id).await.unwrap());
        let mut other = site.tab(&anna.user, &elsewhere).await;
        assert_eq!(ask(&site.address, Method::DELETE, "/session", &anna.cookie).await, 204);
        assert_eq!(anna.tab.closed().await, Some(DISCONNECTED));
        assert_eq!(Client::try_connect(&site.address, &anna.cookie).await.err(), Some(403));
        let (_, me) = answer(&site.address, Method::GET, "/me", &anna.cookie).await;
        assert!(me.ends_with(r#"{"user":null}"#), "{me}");
        other.push("lobby", "status", json!({ "status": "away" })).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn signing_out_everywhere_ends_them_all_and_nobody_elses() {
    on_both("everywhere", async |url| {
        let site = Served::on(Db::open(&url, 4).await.unwrap(), settings()).await;
        let (anna, mut ben) = (site.person("Anna").await, site.person("Ben").await);
        let elsewhere = cookie_of(site.sessions.sign_in(anna.user.id).await.unwrap());
        let other = site.tab(&anna.user, &elsewhere).await;
        assert_eq!(ask(&site.address, Method::DELETE, "/sessions", "").await, 401);
        assert_eq!(ask(&site.address, Method::DELETE, "/sessions", &elsewhere).await, 204);
        let codes = tokio::join!(anna.tab.closed(), other.closed());
        assert_eq!(codes, (Some(DISCONNECTED), Some(DISCONNECTED)));
        for cookie in [&anna.cookie, &elsewhere] {
            assert_eq!(Client::try_connect(&site.address, cookie).await.err(), Some(403));
        }
        ben.tab.push("lobby", "status", json!({ "status": "away" })).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_session_lasts_for_its_time_and_the_database_cannot_sign_in() {
    on_both("lifetime", async |url| {
        let db = Db::open(&url, 4).await.unwrap();
        let site = Served::on(db.clone(), settings()).await;
        let anna = site.person("Anna").await;
        let (_, name) = anna.cookie.split_once('=').unwrap();
        assert_eq!(name.len(), 64);
        let ended = Sessions::new(db.clone(), std::time::Duration::ZERO);
        let over = cookie_of(ended.sign_in(anna.user.id).await.unwrap());
        assert_eq!(Client::try_connect(&site.address, &over).await.err(), Some(403));
        // An old one is renewed as the page asks who it is.
        let short = Sessions::new(db.clone(), std::time::Duration::from_hours(1));
        let old = cookie_of(short.sign_in(anna.user.id).await.unwrap());
        let (_, me) = answer(&site.address, Method::GET, "/me", &old).await;
        assert!(me.contains(&format!("set-cookie: {old}")) && me.contains("Max-Age=15552000"), "{me}");
        let (_, me) = answer(&site.address, Method::GET, "/me", &old).await;
        assert!(!me.contains("set-cookie"), "{me}");
        let (_, me) = answer(&site.address, Method::GET, "/me", &anna.cookie).await;
        assert!(me.contains("\"Anna\"") && !me.contains("set-cookie"), "{me}");
    })
    .await;
}

#[tokio::test]
async fn cookies_are_of_this_host_alone_over_tls() {
    let db = Db::open("sqlite::memory:", 1).await.unwrap();
    let anna = db.create_user(&Name::parse("Anna").unwrap()).await.unwrap();
    let sessions = Sessions::new(db, std::time::Duration::from_hours(1));
    let set = |jar: axum_extra::extract::CookieJar| jar.iter().next().unwrap().to_string();
    let plain = set(sessions.sign_in(anna.id).await.unwrap());
    assert!(plain.starts_with("chess_session=") && plain.contains("HttpOnly"), "{plain}");
    assert!(
        plain.contains("SameSite=Lax") && plain.contains("Path=/") && !plain.contains("Secure"),
        "{plain}"
    );
    let secure = set(sessions.secure().sign_in(anna.id).await.unwrap());
    assert!(secure.starts_with("__Host-chess_session=") && secure.contains("; Secure"), "{secure}");
    assert!(secure.contains("; Path=/") && !secure.contains("Domain"), "{secure}");
}
