//! Limits on the number of sockets: in total, per address, per key.

use std::sync::Arc;

use adsum_channels::{Level, SocketBuilder};
use serde_json::{Value, json};

use crate::{
    client::Client,
    longpoll::Server as LongPollServer,
    observing::Written,
    room::App,
    server::{Server, Transport},
};

const QUERY: &str = "vsn=2.0.0&user_id=u";

/// The peer of each connection is 127.0.0.1, as behind a proxy on the same machine.
async fn start(configure: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>) -> Server {
    Server::start_with(Transport::Duplex, configure).await
}

/// Connects once the server has seen that another socket has closed.
async fn connect_at_last(server: &Server, query: &str, headers: &[(&'static str, &'static str)]) -> Client {
    loop {
        match server.connect(query, headers).await {
            Ok(client) => return client,
            Err((503 | 429, _)) => tokio::task::yield_now().await,
            Err(refused) => panic!("{refused:?}"),
        }
    }
}

async fn refusal(server: &Server, query: &str, headers: &[(&'static str, &'static str)]) -> (u16, String) {
    let (status, reason) = server.connect(query, headers).await.map(drop).unwrap_err();
    (status, String::from_utf8(reason).unwrap())
}

#[tokio::test]
async fn sockets_in_all_have_a_limit_and_what_closes_makes_room() {
    let server = start(|socket| socket.max_sockets(2)).await;
    let (_one, two) = (server.client().await, server.client().await);
    assert_eq!(refusal(&server, QUERY, &[]).await, (503, "too many sockets are open".to_owned()));
    two.close().await;
    connect_at_last(&server, QUERY, &[]).await;
}

#[tokio::test]
async fn a_key_has_a_limit_of_its_own() {
    let server = start(|socket| socket.max_sockets_per_key(1)).await;
    let one = server.client().await;
    let (status, reason) = refusal(&server, QUERY, &[]).await;
    assert_eq!((status, &*reason), (429, "the client's key has too many sockets"));
    let _other = server.connect("vsn=2.0.0&user_id=v", &[]).await.unwrap();
    one.close().await;
    connect_at_last(&server, QUERY, &[]).await;
}

#[tokio::test]
async fn an_address_has_a_limit_of_its_own_and_trusted_proxies_say_which_it_is() {
    let from = |address: &'static str| [("x-forwarded-for", address)];
    let server =
        start(|socket| socket.max_sockets_per_address(1).trusted_proxies(["127.0.0.0/8", "::1"])).await;
    let one = server.connect(QUERY, &from("9.9.9.9, 192.0.2.1")).await.unwrap();
    let (status, reason) = refusal(&server, QUERY, &from("8.8.8.8, 192.0.2.1")).await;
    assert_eq!((status, &*reason), (429, "the client's address has too many sockets"));
    let _two = server.connect(QUERY, &from("192.0.2.2")).await.unwrap();
    let _v6 = server.connect(QUERY, &from("2001:db8::1")).await.unwrap();
    assert_eq!(refusal(&server, QUERY, &from("2001:db8::2")).await.0, 429, "one client has all of a /64");
    let _other = server.connect(QUERY, &from("2001:db8:0:1::1")).await.unwrap();
    one.close().await;
    connect_at_last(&server, QUERY, &from("192.0.2.1")).await;
}

#[tokio::test]
async fn nobody_is_believed_who_is_not_trusted() {
    let (log, _guard) = Written::at(Level::WARN);
    let server = start(|socket| socket.max_sockets_per_address(1)).await;
    let _one = server.connect(QUERY, &[("x-forwarded-for", "192.0.2.1")]).await.unwrap();
    for _ in 0..100 {
        assert_eq!(refusal(&server, QUERY, &[("x-forwarded-for", "192.0.2.2")]).await.0, 429);
    }
    // The log explains what may be wrong, and a flood of refusals doesn't flood the log.
    assert!((1..=20).contains(&log.count("trusted_proxies")));
    assert_eq!(log.count("127.0.0.1"), log.count("refused a socket"));
}

#[tokio::test(start_paused = true)]
async fn long_poll_sessions_have_a_limit_at_which_phoenix_pauses() {
    let server = LongPollServer::start_with(|socket| socket.max_longpoll_sessions(2));
    for _ in 0..2 {
        let (_, _, body) = server.request("GET", QUERY, &[], "").await;
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["status"], 410);
    }
    let (status, _, body) = server.request("GET", QUERY, &[], "").await;
    assert_eq!(status, 503);
    let expected = json!({"status": 403, "reason": "too many long poll sessions are open"});
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
}
