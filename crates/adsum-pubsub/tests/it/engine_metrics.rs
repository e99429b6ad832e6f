//! The metrics of a node's engine.

use std::time::Duration;

use adsum_pubsub::{
    BroadcastError, MAX_MESSAGE_BYTES, Payload, PubSub,
    metrics::{Buckets, Value},
};
use tokio::time::timeout;

use crate::{
    counters,
    engines::{DEADLINE, becomes, hear},
    server::{Kind, Server},
};

const UNSENT: &str = "adsum_unsent_messages_total";

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Nats => "NATS",
        Kind::Redis => "Redis",
    }
}

fn unsent(node: &PubSub, reason: &str) -> u64 {
    counters::value(&node.read_metrics(), UNSENT, reason)
}

/// The value of a metric whose only label is the engine.
fn of_engine(node: &PubSub, kind: Kind, name: &str) -> Value {
    let samples = node.read_metrics();
    let series = samples.into_iter().find(|sample| sample.metric.name == name);
    let series = series.unwrap_or_else(|| panic!("there is no {name}"));
    assert_eq!(series.labels.iter().map(|label| &**label).collect::<Vec<_>>(), [label(kind)]);
    series.value
}

async fn messages_that_are_not_sent_are_counted_by_reason(kind: Kind) {
    let mut server = Server::start(kind);
    let node = server.builder("a").queue(2, 1 << 20).start().await.unwrap();
    assert_eq!(of_engine(&node, kind, "adsum_engine_connected"), Value::Gauge(1.0));
    let too_large = Payload::Binary(vec![0; MAX_MESSAGE_BYTES + 1].into());
    node.broadcast("t", "too large", too_large).unwrap_err();
    // The node's task doesn't run in between.
    for n in 0..5 {
        let sent = node.broadcast("t", "said", ());
        assert_eq!(matches!(sent, Err(BroadcastError::Full { .. })), n >= 2, "{sent:?}");
    }
    let reasons = ["too_large", "full", "refused", "disconnected"];
    assert_eq!(reasons.map(|reason| unsent(&node, reason)), [1, 3, 0, 0]);
    server.kill();
    becomes(&mut node.connected(), false).await;
    assert_eq!(of_engine(&node, kind, "adsum_engine_connected"), Value::Gauge(0.0));
    // Queued messages may have gone out or not, before the engine ended.
    let before = unsent(&node, "disconnected");
    assert!(before <= 2, "{before}");
    node.broadcast("t", "said", ()).unwrap_err();
    assert_eq!(reasons.map(|reason| unsent(&node, reason)), [1, 3, 0, before + 1]);
}

#[tokio::test]
async fn messages_that_are_not_sent_are_counted_by_reason_on_nats() {
    messages_that_are_not_sent_are_counted_by_reason(Kind::Nats).await;
}

#[tokio::test]
async fn messages_that_are_not_sent_are_counted_by_reason_on_redis() {
    messages_that_are_not_sent_are_counted_by_reason(Kind::Redis).await;
}

/// Redis may take the right to publish from a user that is connected.
#[tokio::test]
async fn messages_that_redis_refuses_are_counted() {
    let user = ["--user", "ann", "on", ">p", "&*", "+@all"];
    let server = Server::with(Kind::Redis, &user);
    let node = server.builder("a").user("ann", "p").start().await.unwrap();
    server.command("ACL SETUSER ann -publish");
    node.broadcast("t", "said", ()).unwrap();
    counters::reaches(&[node.metrics()], UNSENT, "refused", 1).await;
    assert!(*node.connected().borrow(), "the connection stays");
}

fn round_trips(node: &PubSub, kind: Kind) -> Buckets {
    match of_engine(node, kind, "adsum_engine_round_trip_seconds") {
        Value::Buckets(buckets) => buckets,
        other => panic!("{other:?}"),
    }
}

async fn the_time_to_the_engine_is_measured(kind: Kind) {
    let pause = Duration::from_millis(300);
    let server = Server::start(kind);
    let node = |name| server.builder(name).ping_interval(pause).start();
    let (a, b) = (node("a").await.unwrap(), node("b").await.unwrap());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;
    let measured = async {
        while round_trips(&a, kind).count() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, measured).await.expect("a round trip is measured");
    let slowest = round_trips(&a, kind).quantile(1.0);
    assert!(slowest.is_some_and(|slowest| slowest <= DEADLINE.as_secs_f64()), "{slowest:?}");
}

#[tokio::test]
async fn the_time_to_nats_is_measured() {
    the_time_to_the_engine_is_measured(Kind::Nats).await;
}

#[tokio::test]
async fn the_time_to_redis_is_measured() {
    the_time_to_the_engine_is_measured(Kind::Redis).await;
}
