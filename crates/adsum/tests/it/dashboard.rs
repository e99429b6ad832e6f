//! The page for operators, as a program mounts it.

use std::{future::pending, time::Duration};

use adsum::{LocalNetwork, ParamFilter, Presence, PubSub};
use axum::Router;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::channels::{Client, connect_to};

/// A page that is open.
struct Page(Client);

impl Page {
    async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut page = Self(connect_to("/live", stream).await);
        assert_eq!(page.ask("phx_join", json!({})).await["status"], "ok");
        page
    }

    /// The reply to a message.
    async fn ask(&mut self, event: &str, payload: Value) -> Value {
        self.0.send(&json!(["1", event, "console", event, payload]).to_string()).await;
        loop {
            let frame = self.0.frame().await;
            if frame[3] == "phx_reply" && frame[1] == event {
                return frame[4].clone();
            }
        }
    }
}

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

#[tokio::test]
async fn after_the_last_page_has_left_no_node_is_asked() {
    let network = LocalNetwork::new();
    let presence = Presence::builder(network.node("a")).start();
    let other = network.node("b");
    let mut questions = other.subscribe("adsum:explain:presence");
    let port = serve(adsum::dashboard(&presence).into_router()).await;
    let pages = [Page::open(port).await, Page::open(port).await];
    let [first, second] = pages;
    drop(first);
    for _ in 0..2 {
        assert!(questions.recv().await.is_ok(), "one page looks on");
    }
    drop(second);
    // Time passes only while nothing else can happen, so the server has noticed the end within the first minute.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_mins(1)).await;
    while questions.try_recv().is_some() {}
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(questions.try_recv().is_none());
}

#[tokio::test]
async fn a_page_disconnects_sockets_only_if_it_may() {
    for allowed in [false, true] {
        let presence = Presence::builder(PubSub::local()).start();
        let dashboard = adsum::dashboard(&presence);
        let dashboard = if allowed { dashboard.allow_disconnect() } else { dashboard };
        let mut page = Page::open(serve(dashboard.into_router()).await).await;
        let reply = page.ask("disconnect", json!({"id": "users:7"})).await;
        if allowed {
            assert_eq!(reply["status"], "ok");
        } else {
            assert_eq!(reply, json!({"status": "error", "response": {"reason": "this page can't do that"}}));
        }
    }
}

#[tokio::test]
async fn members_of_metas_are_filtered_as_the_program_says() {
    let presence = Presence::builder(PubSub::local()).start();
    let mut owner = presence.owner();
    let secrets = json!({"token": "abc", "card": "4711", "status": "here"});
    owner.track("room:1", 7, Map::from_iter(secrets.as_object().unwrap().clone())).unwrap();
    let shown = async |dashboard: adsum::Dashboard<adsum::NoFetch>| {
        let mut page = Page::open(serve(dashboard.into_router()).await).await;
        let reply = page.ask("page", json!({"topic": "room:1"})).await;
        reply["response"]["keys"][0]["presences"][0]["meta"].as_str().unwrap().to_owned()
    };
    let meta = shown(adsum::dashboard(&presence)).await;
    assert!(meta.contains("4711") && meta.contains("here") && !meta.contains("abc"), "{meta}");
    let meta = shown(adsum::dashboard(&presence).filter(ParamFilter::discard(["card"]))).await;
    assert!(!meta.contains("4711") && meta.contains("here") && meta.contains("abc"), "{meta}");
}
