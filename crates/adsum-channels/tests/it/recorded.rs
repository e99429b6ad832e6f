//! Long poll between nodes, while somebody on the engine records everything and replays it.

use std::time::Duration;

use adsum_channels::SocketBuilder;
use adsum_pubsub::{
    Inbox,
    bus::{Bus, Recorded},
};
use serde_json::json;
use tokio::time::sleep;

use crate::{longpoll::Server, observing::Counted};

/// Longer than a message counts as fresh.
const STALE: Duration = Duration::from_millis(5_200);

async fn server(bus: &Bus, name: &str) -> Server {
    Server::start_on(bus.node(name).await, |socket| socket)
}

/// The number of messages since the last call.
fn heard(inbox: &mut Inbox) -> usize {
    std::iter::from_fn(|| inbox.try_recv()).map(Result::unwrap).count()
}

/// Replays everything, in order and in reverse, and waits until nodes have done what they do with it.
async fn replay(bus: &Bus, recorded: &[Recorded]) {
    for message in recorded.iter().chain(recorded.iter().rev()) {
        bus.replay(message);
    }
    sleep(Duration::from_secs(1)).await;
}

fn replayed(server: &Server) -> f64 {
    Counted(server.pubsub.read_metrics()).get("adsum_refused_messages_total", &["bus", "replayed"])
}

#[tokio::test(start_paused = true)]
async fn a_recorded_post_and_poll_are_executed_once() {
    let bus = Bus::default();
    let (a, b) = (server(&bus, "a").await, server(&bus, "b").await);
    let at_b = a.open("2.0.0").await.at(&b);
    at_b.join().await;
    let mut room = a.pubsub.subscribe("room:a");
    assert_eq!(at_b.post(r#"["1","2","room:a","shout",1]"#).await, json!({"status": 200}));
    assert_eq!(at_b.messages().await, [json!([null, null, "room:a", "shout", 1])]);
    assert_eq!(heard(&mut room), 1);
    for before in [Duration::ZERO, STALE] {
        sleep(before).await;
        let (recorded, refused) = (bus.recorded(), replayed(&a));
        replay(&bus, &recorded).await;
        assert_eq!(heard(&mut room), 0);
        assert!(replayed(&a) > refused && replayed(&b) > 0.0);
        // A replayed poll takes no message from the client, and a replayed answer brings none.
        a.pubsub.broadcast("room:a", "said", 2).unwrap();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(at_b.messages().await, [json!([null, null, "room:a", "said", 2])]);
        assert_eq!(heard(&mut room), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorded_post_does_nothing_at_a_node_that_has_restarted() {
    let bus = Bus::default();
    let (a, b) = (server(&bus, "a").await, server(&bus, "b").await);
    let at_a = a.open("2.0.0").await;
    let (query, at_b) = (at_a.query.clone(), at_a.at(&b));
    at_b.join().await;
    assert_eq!(at_b.post(r#"["1","2","room:a","shout",1]"#).await, json!({"status": 200}));
    drop(at_b);
    drop(a);
    let recorded = bus.recorded();
    // The earlier run no longer answers for its messages.
    sleep(Duration::from_secs(1)).await;

    let a = server(&bus, "a").await;
    // It has a session in the same room, and hears its relay.
    let client = a.open("2.0.0").await;
    client.join().await;
    let mut room = a.pubsub.subscribe("room:a");
    replay(&bus, &recorded).await;
    sleep(STALE).await;
    replay(&bus, &recorded).await;
    assert!(replayed(&a) > 0.0);
    assert_eq!(heard(&mut room), 0);
    assert_eq!(b.json("POST", &query, &[], "[]").await, json!({"status": 410}), "its session is gone");
    assert_eq!(client.at(&b).post(r#"["1","2","room:a","shout",1]"#).await, json!({"status": 200}));
    assert_eq!(heard(&mut room), 1);
}

/// Nodes that haven't heard each other for a while verify each other again, and keep less than a long message meanwhile.
#[tokio::test(start_paused = true)]
async fn long_messages_between_nodes_that_were_silent_are_passed_on() {
    let bus = Bus::default();
    let (a, b) = (server(&bus, "a").await, server(&bus, "b").await);
    let at_a = a.open("2.0.0").await;
    at_a.join().await;
    let be_silent = async || {
        for _ in 0..4 {
            assert_eq!(at_a.poll().await["status"], 204);
        }
    };
    let long = "x".repeat(900_000);
    be_silent().await;
    let line = format!(r#"["1","2","room:a","echo","{long}"]"#);
    assert_eq!(at_a.at(&b).post(line).await, json!({"status": 200}));
    assert_eq!(at_a.messages().await[0][1], "2");
    be_silent().await;
    a.pubsub.local_broadcast("room:a", "said", json!(long)).unwrap();
    assert_eq!(at_a.at(&b).messages().await, [json!([null, null, "room:a", "said", long])]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_is_held_for_long_is_answered_with_a_long_message() {
    let bus = Bus::default();
    let long_window = |socket: SocketBuilder<_>| socket.longpoll_window(Duration::from_mins(2));
    let a = Server::start_on(bus.node("a").await, long_window);
    let b = Server::start_on(bus.node("b").await, long_window);
    let at_b = a.open("2.0.0").await.at(&b);
    at_b.join().await;
    let long = json!("x".repeat(900_000));
    let said = async {
        sleep(Duration::from_secs(100)).await;
        a.pubsub.local_broadcast("room:a", "said", long.clone()).unwrap();
    };
    let (messages, ()) = tokio::join!(at_b.messages(), said);
    assert_eq!(messages, [json!([null, null, "room:a", "said", long])]);
}
