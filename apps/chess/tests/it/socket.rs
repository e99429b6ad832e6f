use std::path::Path;

use adsum::PubSub;
use chess::{Db, Hall, Name, Origin, Sessions, Site, site};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    pages::{WEB, cookie_of},
    site::settings,
};

/// A site that listens, and the cookie of somebody who is signed in there.
struct Served {
    address: String,
    cookie: String,
}

async fn serve() -> Served {
    serve_at(None).await
}

async fn serve_at(origin: Option<Origin>) -> Served {
    let db = Db::open("sqlite::memory:", 1).await.unwrap();
    let settings = settings();
    let sessions = Sessions::new(db.clone(), settings.session_lifetime());
    let anna = db.create_user(&Name::parse("Anna").unwrap()).await.unwrap();
    let is_https = origin.as_ref().is_some_and(Origin::is_https);
    let ours = if is_https { sessions.clone().secure() } else { sessions.clone() };
    let cookie = cookie_of(ours.sign_in(anna.id).await.unwrap());
    let hall = Hall::open(PubSub::local(), db.clone(), settings).await.unwrap();
    let router = site(Site { db, sessions, hall, origin, hosts: Vec::new() }, Path::new(WEB)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async { axum::serve(listener, router).await });
    Served { address, cookie }
}

/// Asks for a socket; the status of the answer.
async fn status_of_socket(address: &str, headers: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         {headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status_line = [0; "HTTP/1.1 101".len()];
    stream.read_exact(&mut status_line).await.unwrap();
    std::str::from_utf8(&status_line[9..]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn only_who_is_signed_in_gets_a_socket() {
    let Served { address, cookie } = serve().await;
    assert_eq!(status_of_socket(&address, &format!("Cookie: {cookie}\r\n")).await, 101);
    assert_eq!(status_of_socket(&address, "").await, 403);
    let forged = format!("{}x", &cookie[..cookie.len() - 1]);
    assert_eq!(status_of_socket(&address, &format!("Cookie: {forged}\r\n")).await, 403);
    assert_eq!(status_of_socket(&address, "Cookie: chess_session=1\r\n").await, 403);

    let guessed = format!("chess_session={}", "0".repeat(64));
    assert_eq!(status_of_socket(&address, &format!("Cookie: {guessed}\r\n")).await, 403);
}

#[tokio::test]
async fn another_site_cannot_use_the_cookie() {
    let Served { address, cookie } = serve().await;
    let from = |origin: &str| format!("Cookie: {cookie}\r\nOrigin: {origin}\r\n");
    assert_eq!(status_of_socket(&address, &from(&format!("http://{address}"))).await, 101);
    for other in ["https://elsewhere.example", "http://127.0.0.1.elsewhere.example", "null"] {
        assert_eq!(status_of_socket(&address, &from(other)).await, 403, "{other}");
    }
}

/// Behind a proxy that passes on neither the host nor TLS.
#[tokio::test]
async fn the_site_can_be_told_its_origin() {
    let Served { address, cookie } = serve_at(Some("https://chess.example".parse().unwrap())).await;
    assert!(cookie.starts_with("__Host-chess_session="), "{cookie}");
    let from = |origin: &str| format!("Cookie: {cookie}\r\nOrigin: {origin}\r\n");
    assert_eq!(status_of_socket(&address, &from("https://chess.example")).await, 101);
    for other in ["http://chess.example", "https://elsewhere.example", &format!("http://{address}")] {
        assert_eq!(status_of_socket(&address, &from(other)).await, 403, "{other}");
    }
    let plain = cookie.replace("__Host-", "");
    let headers = format!("Cookie: {plain}\r\nOrigin: https://chess.example\r\n");
    assert_eq!(status_of_socket(&address, &headers).await, 403, "a cookie that anybody could have planted");
}
