//! Long poll between nodes whose queue to each other is small.

use std::{collections::HashMap, sync::Arc};

use adsum_pubsub::{Adapter, BroadcastError, Inbound, Message, PubSub, QueueLimits, Queued, Topic};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{longpoll::Server, observing::Counted};

const MIB: usize = 1024 * 1024;

/// A network in which few messages may wait.
#[derive(Clone)]
struct Narrow {
    name: &'static str,
    nodes: Arc<Mutex<HashMap<&'static str, Inbound>>>,
    queue: mpsc::Sender<(String, Arc<Message>)>,
    limits: QueueLimits,
}

impl Narrow {
    fn two(limits: QueueLimits) -> [PubSub; 2] {
        let (queue, mut queued) = mpsc::channel::<(String, Arc<Message>)>(limits.messages);
        let a = Self { name: "a", nodes: Arc::default(), queue, limits };
        let nodes = a.nodes.clone();
        tokio::spawn(async move {
            while let Some((node, message)) = queued.recv().await {
                let inbound = nodes.lock().get(&*node).cloned();
                inbound.unwrap().deliver(&message);
            }
        });
        let b = Self { name: "b", ..a.clone() };
        [a, b].map(PubSub::new)
    }
}

impl Adapter for Narrow {
    fn node(&self) -> &str {
        self.name
    }

    fn start(&self, inbound: Inbound) {
        self.nodes.lock().insert(self.name, inbound);
    }

    fn broadcast(&self, _: &Arc<Message>) -> Result<(), BroadcastError> {
        Ok(())
    }

    fn direct_broadcast(&self, node: &str, message: &Arc<Message>) -> Result<(), BroadcastError> {
        let queued = Queued::Messages(self.limits.messages);
        let sent = self.queue.try_send((node.to_owned(), message.clone()));
        sent.map_err(|_| BroadcastError::Full { engine: "Narrow".into(), queued })
    }

    fn queue_limits(&self) -> Option<QueueLimits> {
        Some(self.limits)
    }

    fn subscribed(&self, _: &Topic) {}

    fn unsubscribed(&self, _: &Topic) {}
}

#[tokio::test(start_paused = true)]
async fn a_post_that_never_fits_between_the_nodes_is_refused_and_others_are_passed_on() {
    // A message of a mebibyte takes three parts.
    for (messages, bytes) in [(2, 16 * MIB), (3, MIB), (3, 2 * MIB)] {
        let [a, b] = Narrow::two(QueueLimits { messages, bytes })
            .map(|node| Server::start_on(node, |socket| socket.max_message_bytes(2 * MIB)));
        let at_b = a.open("2.0.0").await.at(&b);
        at_b.join().await;
        let long = format!(r#"["1","2","room:a","echo","{}"]"#, "x".repeat(MIB));
        let (status, _, said) = b.request("POST", &at_b.query, &[], long).await;
        let said = String::from_utf8(said).unwrap();
        if (messages, bytes) == (3, 2 * MIB) {
            assert_eq!((status.as_u16(), &*said), (200, r#"{"status":200}"#));
        } else {
            assert_eq!(status, 400, "{said}");
            assert!(said.contains("NodeBuilder::queue"), "{said}");
        }
        assert_eq!(at_b.post(r#"["1","3","room:a","echo",1]"#).await, json!({"status": 200}));
        let hit = if (messages, bytes) == (3, 2 * MIB) { 0.0 } else { 1.0 };
        Counted(b.pubsub.read_metrics()).assert("adsum_limits_hit_total", &["queue_bytes"], hit);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_to_a_client_that_never_fits_between_the_nodes_ends_its_session() {
    // A message of a mebibyte takes three parts.
    let [a, b] = Narrow::two(QueueLimits { messages: 2, bytes: 16 * MIB })
        .map(|node| Server::start_on(node, |socket| socket));
    let at_a = a.open("2.0.0").await;
    let at_b = at_a.at(&b);
    at_b.join().await;
    let long = json!("x".repeat(MIB));
    // A poll at the node of the session gets it.
    a.pubsub.broadcast("room:a", "said", long.clone()).unwrap();
    assert_eq!(at_a.messages().await, [json!([null, null, "room:a", "said", long])]);
    a.pubsub.broadcast("room:a", "said", long.clone()).unwrap();
    let answer = at_b.poll().await;
    assert_eq!(answer["status"], 410);
    assert_ne!(answer["token"], json!(at_b.token), "a new session");
    assert_eq!(at_a.post("[]").await, json!({"status": 410}), "the old one is gone");
    let counted = Counted(a.pubsub.read_metrics());
    counted.assert("adsum_sockets", &["longpoll"], 0.0);
    counted.assert("adsum_sockets_closed_total", &["too_slow"], 1.0);
    counted.assert("adsum_sockets_overflowed_total", &["nodes"], 1.0);
    counted.assert("adsum_limits_hit_total", &["queue_bytes"], 1.0);
}

#[tokio::test(start_paused = true)]
async fn messages_that_fit_between_the_nodes_one_by_one_are_passed_on_apart() {
    let [a, b] = Narrow::two(QueueLimits { messages: 8, bytes: 64 * 1024 })
        .map(|node| Server::start_on(node, |socket| socket));
    let at_b = a.open("2.0.0").await.at(&b);
    at_b.join().await;
    let text = "x".repeat(40 * 1024);
    let lines = ["2", "3", "4"].map(|n| format!(r#"["1","{n}","room:a","echo","{text}"]"#));
    assert_eq!(at_b.post(lines.join("\n")).await, json!({"status": 200}));
    for n in ["2", "3", "4"] {
        let messages = at_b.messages().await;
        assert_eq!((messages.len(), &messages[0][1]), (1, &json!(n)));
    }
}
