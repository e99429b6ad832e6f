//! A custom transport.

use std::{collections::HashMap, sync::Arc, time::Duration};

use adsum_channels::{
    Acceptor, Client, DEFAULT_TIMEOUT, Drain, Outgoing, PubSub, Refusal, SocketBuilder, Sockets, Wire,
};
use http::{Request, request::Parts};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use crate::room::{App, Room, connect};

pub(crate) fn start(
    configure: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>,
) -> (Acceptor, PubSub, mpsc::UnboundedReceiver<String>) {
    let (sender, log) = mpsc::unbounded_channel();
    let app = App { log: sender, gate: Semaphore::new(0), senders: Mutex::new(HashMap::new()) };
    let socket = SocketBuilder::new(Arc::new(app)).connect(connect).channel::<Room>("room:*");
    let pubsub = PubSub::local();
    (configure(socket).into_acceptor(pubsub.clone()), pubsub, log)
}

/// Also returns the app, which opens the gate.
pub(crate) fn start_small(
    configure: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>,
) -> (Acceptor, Arc<App>) {
    let (sender, _) = mpsc::unbounded_channel();
    let app = Arc::new(App { log: sender, gate: Semaphore::new(0), senders: Mutex::new(HashMap::new()) });
    let socket = SocketBuilder::new(app.clone()).connect(connect).channel::<Room>("room:*");
    (configure(socket).into_acceptor(PubSub::local()), app)
}

fn request(query: &str) -> Parts {
    Request::get(format!("/?{query}")).body(()).unwrap().into_parts().0
}

pub(crate) async fn accept(acceptor: &Acceptor) -> Client {
    acceptor.accept("test", request("vsn=2.0.0&user_id=u")).await.unwrap()
}

pub(crate) async fn text(client: &mut Client) -> Value {
    match client.next().await {
        Outgoing::Text(text) => serde_json::from_slice(&text).unwrap(),
        other => panic!("no text but {other:?}"),
    }
}

async fn join(client: &mut Client) {
    client.receive(Wire::Text(br#"["1","1","room:a","phx_join",{}]"#)).unwrap();
    let ok = json!(["1", "1", "room:a", "phx_reply", {"response": {}, "status": "ok"}]);
    assert_eq!(text(client).await, ok);
}

#[tokio::test(start_paused = true)]
async fn its_clients_are_served_as_all_others() {
    let (acceptor, pubsub, mut log) = start(|socket| socket);
    let mut client = accept(&acceptor).await;
    join(&mut client).await;
    pubsub.broadcast("room:a", "said", json!(1)).unwrap();
    pubsub.broadcast("room:a", "said", json!(2)).unwrap();
    assert_eq!(text(&mut client).await, json!([null, null, "room:a", "said", 1]));
    assert_eq!(text(&mut client).await, json!([null, null, "room:a", "said", 2]));
    client.receive(Wire::Binary(b"\0\x01\x01\x06\x0612room:abinary")).unwrap();
    assert_eq!(client.next().await, Outgoing::Binary((&b"\x01\x01\x01\x06\x0212room:aok\x01"[..]).into()));
    assert!(client.receive(Wire::Text(b"[]")).is_err());
    assert!(tokio::time::timeout(Duration::from_secs(1), client.next()).await.is_err(), "nothing more");
    client.end().await;
    while log.recv().await.unwrap() != "terminate room:a Closed" {}
    assert_eq!(pubsub.subscribers("room:a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_dropped_leaves_nothing_behind() {
    let sockets = Sockets::new();
    let (acceptor, pubsub, mut log) = start(|socket| socket.sockets(&sockets));
    let mut client = accept(&acceptor).await;
    join(&mut client).await;
    drop(client);
    while log.recv().await.unwrap() != "extension dropped room:a" {}
    assert_eq!((pubsub.subscribers("room:a"), sockets.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn it_is_told_to_close() {
    let sockets = Sockets::new();
    let (acceptor, pubsub, mut log) = start(|socket| socket.sockets(&sockets));
    let mut client = accept(&acceptor).await;
    pubsub.broadcast("user:u", "disconnect", ()).unwrap();
    assert_eq!(client.next().await, Outgoing::Close(1001));
    client.end().await;

    let mut silent = accept(&acceptor).await;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(10)).await;
    join(&mut silent).await;
    assert_eq!(silent.next().await, Outgoing::Close(1002));
    assert_eq!(start.elapsed(), DEFAULT_TIMEOUT + Duration::from_secs(10));
    silent.end().await;

    let mut drained = accept(&acceptor).await;
    join(&mut drained).await;
    let (left, ()) = tokio::join!(sockets.drain(Drain::default()), async {
        assert_eq!(drained.next().await, Outgoing::Close(1012));
        drained.end().await;
    });
    assert_eq!(left, 0);
    while log.recv().await.unwrap() != "terminate room:a Draining" {}
    let refused = acceptor.accept("test", request("vsn=2.0.0&user_id=u")).await;
    assert!(matches!(refused, Err(Refusal::Draining)));
}

#[tokio::test(start_paused = true)]
async fn a_client_may_be_silent_for_ever_if_the_program_says_so() {
    let (acceptor, ..) = start(|socket| socket.timeout(None));
    let mut client = accept(&acceptor).await;
    join(&mut client).await;
    let year = Duration::from_hours(24 * 365);
    assert!(tokio::time::timeout(year, client.next()).await.is_err(), "it is not closed");
    client.receive(Wire::Text(br#"["1","2","room:a","echo",{}]"#)).unwrap();
    assert_eq!(text(&mut client).await[1], "2");
}

#[tokio::test(start_paused = true)]
async fn its_clients_are_refused_as_all_others() {
    let (acceptor, ..) = start(|socket| socket);
    let refused = async |query| acceptor.accept("test", request(query)).await.unwrap_err();
    assert!(matches!(refused("user_id=u&vsn=7.0.0").await, Refusal::Version(vsn) if vsn == "7.0.0"));
    assert!(matches!(refused("vsn=2.0.0").await, Refusal::Program(_)));
}

#[tokio::test(start_paused = true)]
async fn its_clients_live_as_long_as_the_acceptor_or_a_router() {
    let (acceptor, ..) = start(|socket| socket);
    let mut client = accept(&acceptor).await;
    let router: axum::Router = acceptor.router();
    drop(acceptor);
    join(&mut client).await;
    drop(router);
    assert_eq!(client.next().await, Outgoing::Close(1012));
}
