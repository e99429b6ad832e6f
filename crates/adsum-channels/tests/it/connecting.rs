//! Who may connect.

use std::net::SocketAddr;

use adsum_channels::{Assigns, Connect, SocketBuilder};

use crate::server::{Server, Transport};

async fn a_refused_client_gets_an_empty_403(transport: Transport) {
    let server = Server::start(transport).await;
    let refused = Err((403, Vec::new()));
    assert_eq!(server.connect("vsn=2.0.0", &[]).await.map(drop), refused);
    assert_eq!(server.connect("vsn=2.0.0&user_id=u", &[("x-unwanted", "1")]).await.map(drop), refused);
}

async fn other_versions_are_refused(transport: Transport) {
    let server = Server::start(transport).await;
    for query in ["user_id=u&vsn=9.0.0", "user_id=u&vsn=x", "user_id=u&vsn="] {
        assert_eq!(server.connect(query, &[]).await.map(drop), Err((403, Vec::new())), "{query}");
    }
}

async fn a_client_that_names_no_version_speaks_the_first(transport: Transport) {
    let server = Server::start(transport).await;
    for query in ["user_id=u", "user_id=u&vsn=1.0.0"] {
        let mut client = server.connect(query, &[]).await.expect("the client is accepted");
        client.send(r#"{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}"#).await;
        let ok = r#"{"response":{},"status":"ok"}"#;
        let reply = |n| format!(r#"{{"topic":"room:a","event":"phx_reply","payload":{ok},"ref":"{n}"}}"#);
        client.expect(&reply(1)).await;
        client.send(r#"{"topic":"room:a","event":"shout","payload":{"n":1},"ref":"2"}"#).await;
        client.expect(r#"{"topic":"room:a","event":"shout","payload":{"n":1},"ref":null}"#).await;
        client.send(r#"{"topic":"room:a","event":"phx_leave","payload":{},"ref":"3"}"#).await;
        client.expect(&reply(3)).await;
        client.expect(r#"{"topic":"room:a","event":"phx_close","payload":{},"ref":"1"}"#).await;
    }
}

async fn pages_of_other_origins_are_refused_unless_wanted(transport: Transport) {
    let evil: &[_] = &[("origin", "https://evil.example")];
    let query = "vsn=2.0.0&user_id=u";
    let server = Server::start(transport).await;
    assert_eq!(server.connect(query, evil).await.map(drop), Err((403, Vec::new())));
    assert!(server.connect(query, &[("origin", "http://localhost:4000")]).await.is_ok());
    let open = Server::start_with(transport, SocketBuilder::any_origin).await;
    assert!(open.connect(query, evil).await.is_ok());
}

async fn a_token_is_sent_as_a_subprotocol(transport: Transport) {
    let server = Server::start(transport).await;
    let offered = &[("sec-websocket-protocol", "phoenix, base64url.bearer.phx.c2VjcmV0")];
    // The client gives up unless `phoenix` is chosen.
    let mut client = server.connect("vsn=2.0.0&user_id=u", offered).await.expect("the client is accepted");
    client.join("room:a", "1").await;
    client.send(r#"["1","2","room:a","token",{}]"#).await;
    client.expect(r#"["1","2","room:a","phx_reply",{"response":"secret","status":"ok"}]"#).await;
}

async fn all_sockets_of_an_id_are_told_to_disconnect(transport: Transport) {
    let server = Server::start(transport).await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    let mut other = server.connect("vsn=2.0.0&user_id=other", &[]).await.expect("the client is accepted");
    server.pubsub.broadcast("user:u", "unknown", ()).unwrap();
    one.expect_nothing().await;
    server.pubsub.broadcast("user:u", "disconnect", ()).unwrap();
    one.expect_close(1001).await;
    two.expect_close(1001).await;
    other.expect_nothing().await;
}

async fn what_is_no_upgrade_is_a_bad_request(transport: Transport) {
    let server = Server::start(transport).await;
    for method in ["GET", "POST", "DELETE"] {
        let text =
            format!("{method} /socket/websocket?vsn=2.0.0&user_id=u HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(server.request(&text).await, "HTTP/1.1 400 Bad Request", "{method}");
    }
}

async fn the_program_sees_the_whole_request(transport: Transport) {
    let server = Server::start_with(transport, |socket| {
        socket.connect(async |_, request: Connect| {
            assert_eq!(request.uri().path(), "/socket/websocket");
            assert_eq!(request.query(), "vsn=2.0.0&a=1");
            assert_eq!(request.headers()["x-test"], "yes");
            assert!(request.peer().is_none_or(|peer| peer == SocketAddr::from(([127, 0, 0, 1], 1))));
            Ok(Assigns::new())
        })
    })
    .await;
    let mut client = server.connect("vsn=2.0.0&a=1", &[("x-test", "yes")]).await.ok().unwrap();
    client.expect_nothing().await;
}

async fn everybody_may_connect_where_nothing_is_said(transport: Transport) {
    let server = Server::start_with(transport, |_| {
        let (log, _) = tokio::sync::mpsc::unbounded_channel();
        SocketBuilder::new(crate::room::App {
            log,
            gate: tokio::sync::Semaphore::new(0),
            senders: parking_lot::Mutex::default(),
        })
    })
    .await;
    server.connect("vsn=2.0.0", &[]).await.ok().unwrap().expect_nothing().await;
}

over_both!(
    a_refused_client_gets_an_empty_403,
    other_versions_are_refused,
    a_client_that_names_no_version_speaks_the_first,
    a_token_is_sent_as_a_subprotocol,
    all_sockets_of_an_id_are_told_to_disconnect,
    pages_of_other_origins_are_refused_unless_wanted,
    what_is_no_upgrade_is_a_bad_request,
    the_program_sees_the_whole_request,
    everybody_may_connect_where_nothing_is_said,
);
