//! Several nodes, in one process.

use std::time::Duration;

use adsum::{Drain, LocalNetwork, Presence, PubSub, Sockets};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{Does, Script, diff, expect, meta, nothing, settle};

const HANDOFF: Duration = Duration::from_secs(10);

fn node(network: &LocalNetwork, name: &str) -> (Presence, PubSub) {
    let pubsub = network.node(name);
    let presence = Presence::builder(pubsub.clone()).diff_interval(Duration::ZERO).handoff(HANDOFF).start();
    (presence, pubsub)
}

fn reason(diff: &Value, key: &str) -> Value {
    diff["leaves"][key]["metas"][0]["phx_reason"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_presence_of_one_node_is_told_on_all() {
    let network = LocalNetwork::new();
    let ((a, _), (b, heard)) = (node(&network, "a"), node(&network, "b"));
    let (a_ready, b_ready) = tokio::join!(a.ready(), b.ready());
    assert_eq!((a_ready, b_ready), (Ok(()), Ok(())));
    let mut inbox = heard.subscribe("room");

    let mut owner = a.owner();
    owner.track("room", "7", meta(1)).unwrap();
    expect(&diff(&mut inbox).await, json!({"7": [1]}), nothing());
    owner.update("room", "7", meta(2)).unwrap();
    expect(&diff(&mut inbox).await, json!({"7": [2]}), json!({"7": [1]}));
    assert_eq!(b.list("room").await["7"].metas.len(), 1);
    owner.untrack("room", "7");
    let left = diff(&mut inbox).await;
    expect(&left, nothing(), json!({"7": [2]}));
    assert_eq!(reason(&left, "7"), "left");
}

#[tokio::test(start_paused = true)]
async fn presences_of_another_name_are_apart() {
    let network = LocalNetwork::new();
    let a = Presence::builder(network.node("a")).name("one").start();
    let b = Presence::builder(network.node("b")).name("other").start();
    let _ = tokio::join!(a.ready(), b.ready());
    let mut owner = a.owner();
    owner.track("room", "7", meta(1)).unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(b.count("room"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_without_a_word_is_unreachable_after_three_heartbeats() {
    let network = LocalNetwork::new();
    let ((a, pubsub), (b, heard)) = (node(&network, "a"), node(&network, "b"));
    let _ = tokio::join!(a.ready(), b.ready());
    let mut owner = a.owner();
    owner.track("room", "7", meta(1)).unwrap();
    let mut inbox = heard.subscribe("room");
    sleep(Duration::from_millis(10)).await;
    assert_eq!(b.count("room"), 1);
    // Its tasks end before they can tell other nodes.
    drop((owner, a, pubsub));
    let killed = tokio::time::Instant::now();
    let left = diff(&mut inbox).await;
    let left = if left["joins"] == json!({}) { left } else { diff(&mut inbox).await };
    assert_eq!(reason(&left, "7"), "unreachable");
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_within_the_handoff_was_never_gone() {
    let network = LocalNetwork::new();
    let ((a, a_pubsub), (b, heard)) = (node(&network, "a"), node(&network, "b"));
    let _ = tokio::join!(a.ready(), b.ready());
    let mut owner = a.owner();
    owner.track("room", "7", meta(1)).unwrap();
    owner.track("room", "8", meta(1)).unwrap();
    sleep(Duration::from_millis(100)).await;
    let mut inbox = heard.subscribe("room");
    let began = tokio::time::Instant::now();
    a.drain(&Sockets::new(), Drain::default()).await;
    assert!(began.elapsed() < Duration::from_millis(200), "b has said that it holds the set");
    drop((owner, a, a_pubsub));
    sleep(Duration::from_secs(5)).await;
    let mut again = b.owner();
    again.track("room", "7", meta(2)).unwrap();
    // One diff, in which the new presence takes the old one's place.
    let change = diff(&mut inbox).await;
    expect(&change, json!({"7": [2]}), json!({"7": [1]}));
    assert_eq!(reason(&change, "7"), Value::Null);
    // A presence whose client doesn't come back leaves when the time is over.
    let change = diff(&mut inbox).await;
    expect(&change, nothing(), json!({"8": [1]}));
    assert_eq!(reason(&change, "8"), "draining");
    assert!(began.elapsed() <= HANDOFF + Duration::from_secs(1));
    drop(again);
    expect(&diff(&mut inbox).await, nothing(), json!({"7": [2]}));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_seen_on_all_nodes() {
    let network = LocalNetwork::new();
    let scripts = [Script::answering(json!({"age": 1})), Script::answering(json!({"age": 1}))];
    let nodes = ["a", "b"].map(|name| network.node(name));
    let presence = |node: usize| {
        let builder = Presence::builder(nodes[node].clone()).handler(scripts[node].clone());
        builder.diff_interval(Duration::ZERO).start()
    };
    let (a, b) = (presence(0), presence(1));
    let _ = tokio::join!(a.ready(), b.ready());
    let mut inbox = nodes[1].subscribe("room");
    let mut owner = a.owner();
    owner.track("room", "7", meta(1)).unwrap();
    assert_eq!(diff(&mut inbox).await["joins"]["7"]["age"], 1);
    for script in &scripts {
        script.then(Does::Answers(json!({"age": 2})));
    }
    a.refresh("room", "7");
    settle().await;
    assert_eq!(diff(&mut inbox).await["joins"]["7"]["age"], 2);
    assert_eq!(b.list("room").await["7"].info.as_deref(), Some(&json!({"age": 2})));
}

#[test]
fn a_drain_does_not_wait_for_a_runtime_that_has_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first = runtime();
    let presence = first.block_on(async { Presence::builder(PubSub::local()).start() });
    drop(first);
    let drained = runtime().block_on(async {
        tokio::time::timeout(Duration::from_secs(20), presence.drain(&Sockets::new(), Drain::default())).await
    });
    assert_eq!(drained, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn without_a_network_a_node_is_ready_at_once() {
    let presence = Presence::builder(PubSub::local()).start();
    let began = tokio::time::Instant::now();
    assert_eq!(presence.ready().await, Ok(()));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(presence.drain(&Sockets::new(), Drain::default()).await, 0);
}
