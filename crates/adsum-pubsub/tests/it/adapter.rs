use std::{
    collections::HashMap,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use adsum_pubsub::{Adapter, BroadcastError, Inbound, Json, Message, Payload, PubSub, SubscriberId, Topic};
use parking_lot::Mutex;

use crate::Recorder;

#[derive(Default)]
struct Log {
    /// The calls of `subscribed` and `unsubscribed`.
    interest: Vec<(Topic, bool)>,
    inbound: Option<Inbound>,
}

/// An adapter without a connection.
#[derive(Clone)]
struct Offline {
    log: Arc<Mutex<Log>>,
    /// Whether `unsubscribed` waits for another thread to try to subscribe meanwhile.
    slow: Arc<AtomicBool>,
    leaving: Arc<Barrier>,
    heard: (SyncSender<()>, Arc<Mutex<Receiver<()>>>),
}

impl Default for Offline {
    fn default() -> Self {
        let (sender, receiver) = sync_channel(1);
        Self {
            log: Arc::default(),
            slow: Arc::default(),
            leaving: Arc::new(Barrier::new(2)),
            heard: (sender, Arc::new(Mutex::new(receiver))),
        }
    }
}

impl Offline {
    fn interest(&self) -> Vec<(String, bool)> {
        self.log.lock().interest.drain(..).map(|(topic, on)| (topic.to_string(), on)).collect()
    }
}

impl Adapter for Offline {
    fn node(&self) -> &'static str {
        "offline"
    }

    fn start(&self, inbound: Inbound) {
        self.log.lock().inbound = Some(inbound);
    }

    fn broadcast(&self, _: &Arc<Message>) -> Result<(), BroadcastError> {
        Err(BroadcastError::Disconnected { engine: "a test".into() })
    }

    fn direct_broadcast(&self, _: &str, message: &Arc<Message>) -> Result<(), BroadcastError> {
        self.broadcast(message)
    }

    fn subscribed(&self, topic: &Topic) {
        self.log.lock().interest.push((topic.clone(), true));
        let _ = self.heard.0.try_send(());
    }

    fn unsubscribed(&self, topic: &Topic) {
        if self.slow.load(Ordering::Relaxed) {
            self.leaving.wait();
            // Gives the other thread time to overtake; if it can't, this merely times out.
            let _ = self.heard.1.lock().recv_timeout(Duration::from_millis(200));
        }
        self.log.lock().interest.push((topic.clone(), false));
    }
}

#[test]
fn it_hears_of_the_first_and_the_last_subscriber_only() {
    let adapter = Offline::default();
    let pubsub = PubSub::new(adapter.clone());
    let mut inbox = pubsub.subscribe("a");
    inbox.subscribe("a");
    let other = pubsub.subscribe("a");
    inbox.subscribe("b");
    assert_eq!(adapter.interest(), [("a".to_owned(), true), ("b".to_owned(), true)]);

    inbox.unsubscribe("a");
    assert_eq!(adapter.interest(), []);
    drop(other);
    inbox.unsubscribe("b");
    inbox.unsubscribe("b");
    assert_eq!(adapter.interest(), [("a".to_owned(), false), ("b".to_owned(), false)]);
    inbox.subscribe("a");
    drop(inbox);
    assert_eq!(adapter.interest(), [("a".to_owned(), true), ("a".to_owned(), false)]);
}

#[test]
fn a_last_and_a_first_subscriber_do_not_overtake_each_other() {
    let adapter = Offline::default();
    let pubsub = PubSub::new(adapter.clone());
    let leaves = pubsub.subscribe("t");
    assert_eq!(adapter.interest(), [("t".to_owned(), true)]);

    while adapter.heard.1.lock().try_recv().is_ok() {}
    adapter.slow.store(true, Ordering::Relaxed);
    let joins = thread::scope(|scope| {
        scope.spawn(|| drop(leaves));
        adapter.leaving.wait();
        pubsub.subscribe("t")
    });
    adapter.slow.store(false, Ordering::Relaxed);
    assert_eq!(adapter.interest(), [("t".to_owned(), false), ("t".to_owned(), true)]);
    drop(joins);
}

#[test]
fn its_errors_are_reported_and_this_node_is_served_nonetheless() {
    let pubsub = PubSub::new(Offline::default());
    let inbox = pubsub.subscribe("t");
    let error = pubsub.broadcast("t", "e", ()).unwrap_err();
    assert!(matches!(error, BroadcastError::Disconnected { .. }), "{error}");
    assert_eq!(inbox.len(), 1);
    assert!(pubsub.direct_broadcast("elsewhere", "t", "e", ()).is_err());
    assert_eq!(inbox.len(), 1);
    pubsub.local_broadcast("t", "e", ()).unwrap();
    pubsub.direct_broadcast("offline", "t", "e", ()).unwrap();
    assert_eq!(inbox.len(), 3);
}

#[test]
fn a_payload_that_cannot_be_encoded_reaches_nobody() {
    let pubsub = PubSub::local();
    let inbox = pubsub.subscribe("t");
    let keys_are_no_text = HashMap::from([((1, 2), 3)]);
    let error = pubsub.broadcast("t", "e", keys_are_no_text).unwrap_err();
    assert!(matches!(error, BroadcastError::Encode(_)), "{error}");
    assert!(inbox.is_empty());
}

#[test]
fn messages_are_delivered_until_the_pubsub_is_gone() {
    let adapter = Offline::default();
    let pubsub = PubSub::new(adapter.clone());
    let inbound = adapter.log.lock().inbound.clone().unwrap();
    let recorder = Arc::new(Recorder::default());
    let attachment = pubsub.attach("t", SubscriberId::unique(), recorder.clone());
    let message = Arc::new(Message::new("t", "e", Payload::Json(Json::empty_object())));

    inbound.deliver(&message);
    assert_eq!(recorder.take(), ["e"]);
    drop(pubsub);
    assert!(!inbound.is_closed(), "an attachment keeps the topics alive");
    inbound.deliver(&message);
    assert_eq!(recorder.take(), ["e"]);
    drop(attachment);
    assert!(inbound.is_closed());
    inbound.deliver(&message);
    assert_eq!(recorder.take(), [""; 0]);
}
