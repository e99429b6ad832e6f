//! The page for operators, as a program mounts it.

use std::{future::pending, time::Duration};

use adsum::{LocalNetwork, Presence, PubSub};
use axum::Router;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Serves a site on a port of its own, and returns that.
async fn serve(site: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { adsum::serve(listener, site).until(pending()).await });
    port
}

/// The whole answer to a request for a path, with further headers.
async fn get(port: u16, path: &str, host: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_page_finds_its_parts_wherever_it_is_mounted() {
    let presence = Presence::builder(PubSub::local()).start();
    let site = Router::new()
        .nest("/ops/presence", adsum::dashboard(&presence).into_router())
        .nest_service("/service", adsum::dashboard(&presence).into_router::<()>())
        .merge(adsum::dashboard(&presence).into_router());
    let port = serve(site).await;
    for (path, script) in [
        ("/ops/presence", "\"./presence/app.js\""),
        ("/service", "\"./service/app.js\""),
        ("/service/", "\"./app.js\""),
        ("/", "\"./app.js\""),
    ] {
        let page = get(port, path, "any.example", "").await;
        assert!(page.starts_with("HTTP/1.1 200") && page.contains(script), "{path}: {page}");
        assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self';"), "{page}");
        assert!(!page.contains("<script>") && !page.contains("style="), "the policy forbids what is inline");
    }
    for path in ["/ops/presence/app.js", "/service/phoenix.mjs", "/uPlot.LICENSE"] {
        assert!(get(port, path, "any.example", "").await.starts_with("HTTP/1.1 200"), "{path}");
    }
}

#[tokio::test]
async fn on_loopback_only_names_of_this_machine_are_answered() {
    let presence = Presence::builder(PubSub::local()).start();
    let port = serve(adsum::dashboard(&presence).loopback_only().into_router()).await;
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for path in ["/", "/app.js", "/live/websocket?vsn=2.0.0"] {
        for (host, origin) in [
            ("evil.example", ""),
            ("localhost", "origin: https://evil.example\r\n"),
            ("evil.example", upgrade),
        ] {
            let answer = get(port, path, host, origin).await;
            assert!(answer.starts_with("HTTP/1.1 421"), "{path} {host} {origin}: {answer}");
        }
    }
    assert!(
        get(port, "/", "localhost:1", "origin: http://127.0.0.1:2\r\n").await.starts_with("HTTP/1.1 200")
    );
}

#[tokio::test(start_paused = true)]
async fn while_nobody_looks_no_node_is_asked() {
    let network = LocalNetwork::new();
    let presence = Presence::builder(network.node("a")).start();
    let other = network.node("b");
    let mut questions = other.subscribe("adsum:explain:presence");
    let _router: Router = adsum::dashboard(&presence).into_router();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(questions.try_recv().is_none());
    // Other questions do come.
    presence.explain("room:1", "7").await;
    assert!(questions.try_recv().is_some_and(|question| question.is_ok()));
}
