//! A node handles messages from other nodes, however many they are and whatever they contain.

use std::{sync::Arc, time::Duration};

use adsum::{LocalNetwork, NotReady, Presence, PubSub, SubscriberId};
use adsum_pubsub::{Message, Payload, Subscriber};
use adsum_tracker::{ClusterMessage as Said, Incarnation, Replica};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{advance, sleep};

use crate::{
    metrics::value,
    support::{meta, settle},
};

/// The topic on which the nodes of a presence with the default name talk.
const TOPIC: &str = "adsum:presence:presence";

fn node(network: &LocalNetwork, name: &str) -> Presence {
    Presence::builder(network.node(name)).diff_interval(Duration::ZERO).start()
}

fn says(pubsub: &PubSub, payload: Vec<u8>) {
    pubsub.broadcast(TOPIC, "set", Payload::Binary(payload.into())).unwrap();
}

/// A replica that started at the beginning of time.
fn replica(name: &str) -> Replica {
    Replica { name: name.into(), incarnation: Incarnation { started: 1, random: 1 } }
}

#[tokio::test(start_paused = true)]
async fn a_node_hears_on_after_more_than_its_inbox_holds_has_passed_through() {
    let network = LocalNetwork::new();
    let (a, b) = (node(&network, "a"), node(&network, "b"));
    let _ = tokio::join!(a.ready(), b.ready());
    let stranger = network.node("stranger");
    // Large ones first, so that the small ones would fill the rest to the last byte.
    for bytes in [1024 * 1024, 16 * 1024, 512, 16, 1] {
        let message = bytes::Bytes::from(vec![0xff; bytes]);
        for _ in 0..70 {
            stranger.broadcast(TOPIC, "set", Payload::Binary(message.clone())).unwrap();
            settle().await;
        }
    }
    let mut owner = b.owner();
    owner.track("room", "7", meta(1)).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(a.count("room"), 1);
    let refused = ["protocol", "broken"].map(|reason| {
        value(&PubSub::from(&a), "adsum_cluster_messages_refused_total", &["presence", reason])
    });
    assert!((refused.iter().sum::<f64>() - 350.0).abs() < 1e-9, "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_for_which_a_node_has_no_room_is_dropped_and_counted() {
    let network = LocalNetwork::new();
    let a = node(&network, "a");
    assert_eq!(a.ready().await, Ok(()));
    let stranger = network.node("stranger");
    let message = bytes::Bytes::from(vec![0xff; 1024 * 1024]);
    for _ in 0..66 {
        stranger.broadcast(TOPIC, "set", Payload::Binary(message.clone())).unwrap();
    }
    let pubsub = PubSub::from(&a);
    let count = |name: &str, label: &str| value(&pubsub, name, &[label]);
    assert!((count("adsum_cluster_messages_dropped_total", "presence") - 2.0).abs() < 1e-9);
    assert!((count("adsum_limit_high_water_ratio", "replication_inbox_bytes") - 1.0).abs() < 1e-9);
}

/// Notes the welcomes and the heartbeats of a node, in their order.
#[derive(Default)]
struct Notes(Mutex<Vec<&'static str>>);

impl Subscriber for Notes {
    fn deliver(&self, message: &Arc<Message>) {
        let Payload::Binary(bytes) = message.payload() else { return };
        match Said::decode(bytes) {
            Ok(Said::Heartbeat { .. }) => self.0.lock().push("heartbeat"),
            Ok(Said::Welcome { .. }) => self.0.lock().push("welcome"),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flooded_node_sends_its_heartbeat_between_the_messages() {
    let network = LocalNetwork::new();
    let a = node(&network, "a");
    assert_eq!(a.ready().await, Ok(()));
    let stranger = network.node("stranger");
    let notes = Arc::new(Notes::default());
    let _attached = stranger.attach(TOPIC, SubscriberId::unique(), notes.clone());
    let hello = Said::Hello { from: replica("stranger") }.encode();
    for _ in 0..3_000 {
        says(&stranger, hello.clone());
    }
    // The heartbeat and the messages are due together. Other tasks get their turn in between.
    advance(Duration::from_secs(1)).await;
    for _ in 0..10 {
        settle().await;
    }
    let notes = notes.0.lock();
    let welcomes = notes.iter().filter(|note| **note == "welcome").count();
    assert_eq!(welcomes, 3_000, "all were heard");
    let before = notes.iter().position(|note| *note == "heartbeat").expect("it sends one");
    assert!(before < 200, "{before} messages were answered before the heartbeat was sent");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_told_as_one_also_once_the_time_to_sync_is_over() {
    let network = LocalNetwork::new();
    let a = node(&network, "a");
    let stranger = network.node("stranger");
    let beat = |name: &str, version: u64| {
        let versions = serde_json::from_value(json!(vec![version; 64])).unwrap();
        Said::Heartbeat { from: replica(name), region: None, versions }.encode()
    };
    // It is never in sync with one node, and hears a twin before the time to sync is over.
    for round in 0..20 {
        says(&stranger, beat("silent", 1));
        if round >= 6 {
            says(&stranger, beat("a", 0));
        }
        sleep(Duration::from_millis(500)).await;
    }
    let duplicate = Err(NotReady::DuplicateNode("a".into()));
    assert_eq!((a.health(), a.ready().await), (duplicate.clone(), duplicate));
    assert!(value(&PubSub::from(&a), "adsum_twins_total", &["presence"]) >= 1.0);
}
