//! Tasks of a presence that panic are restarted, and no presence is seen to leave.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use adsum::{
    Adapter, BroadcastError, Drain, Inbound, Inbox, Message, NotReady, Payload, Presence, PubSub, Sockets,
    Subscriber, SubscriberId, Topic,
};
use adsum_tracker::ClusterMessage as Said;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::{
    metrics::value,
    support::{meta, plain, settle},
};

/// A network on which replication can be made to panic: sending does, in the task that sends.
#[derive(Clone, Default)]
struct Network {
    nodes: Arc<Mutex<HashMap<&'static str, Inbound>>>,
    /// How many more times a message of the node `a` about its presences panics.
    fails: Arc<AtomicUsize>,
}

struct Node {
    name: &'static str,
    network: Network,
}

impl Node {
    fn fail(&self, message: &Message) {
        let Payload::Binary(bytes) = message.payload() else { return };
        if self.name == "a"
            && matches!(Said::decode(bytes), Ok(Said::Heartbeat { .. } | Said::Batches { .. }))
            && self
                .network
                .fails
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |times| times.checked_sub(1))
                .is_ok()
        {
            panic!("on purpose");
        }
    }

    fn send(&self, message: &Arc<Message>, is_for: impl Fn(&str) -> bool) {
        self.fail(message);
        let nodes = self.network.nodes.lock().clone();
        for (_, inbound) in nodes.iter().filter(|(name, _)| **name != self.name && is_for(name)) {
            inbound.deliver(message);
        }
    }
}

impl Adapter for Node {
    fn node(&self) -> &str {
        self.name
    }

    fn start(&self, inbound: Inbound) {
        self.network.nodes.lock().insert(self.name, inbound);
    }

    fn broadcast(&self, message: &Arc<Message>) -> Result<(), BroadcastError> {
        self.send(message, |_| true);
        Ok(())
    }

    fn direct_broadcast(&self, node: &str, message: &Arc<Message>) -> Result<(), BroadcastError> {
        self.send(message, |name| name == node);
        Ok(())
    }

    fn subscribed(&self, _: &Topic) {}

    fn unsubscribed(&self, _: &Topic) {}
}

fn node(network: &Network, name: &'static str) -> (Presence, PubSub) {
    let pubsub = PubSub::new(Node { name, network: network.clone() });
    (Presence::builder(pubsub.clone()).diff_interval(Duration::ZERO).start(), pubsub)
}

fn hears_nothing(inbox: &mut Inbox) {
    if let Some(message) = inbox.try_recv() {
        panic!("{:?}", message.unwrap().payload().decode::<serde_json::Value>());
    }
}

async fn failed(presence: &Presence) {
    timeout(Duration::from_secs(5), async {
        while presence.health() != Err(NotReady::Failed) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("its replication fails");
}

#[tokio::test(start_paused = true)]
async fn replication_that_panics_goes_on_and_nobody_is_seen_to_leave() {
    let network = Network::default();
    let ((a, on_a), (b, on_b)) = (node(&network, "a"), node(&network, "b"));
    assert_eq!(a.health(), Err(NotReady::Starting));
    let _ = tokio::join!(a.ready(), b.ready());
    let (mut first, mut second) = (a.owner(), b.owner());
    for key in ["1", "2", "3"] {
        first.track("room", key, meta(key)).unwrap();
        second.track("hall", key, meta(key)).unwrap();
    }
    sleep(Duration::from_secs(2)).await;
    let refs = |presence: &Presence| {
        let presence = presence.clone();
        async move {
            let mut refs: Vec<_> = presence
                .list("room")
                .await
                .into_values()
                .chain(presence.list("hall").await.into_values())
                .flat_map(|entry| entry.metas)
                .map(|meta| meta.reference)
                .collect();
            refs.sort();
            refs
        }
    };
    let before = refs(&a).await;
    assert_eq!((before.len(), refs(&b).await), (6, before.clone()));

    let (mut ear_a, mut ear_b) = (on_a.inbox(100), on_b.inbox(100));
    for inbox in [&mut ear_a, &mut ear_b] {
        inbox.subscribe("room");
        inbox.subscribe("hall");
    }
    for times in [1, 2] {
        network.fails.store(times, Ordering::Relaxed);
        failed(&a).await;
        assert_eq!(a.ready().await, Err(NotReady::Failed));
        sleep(Duration::from_secs(10)).await;
        assert_eq!((a.health(), b.health()), (Ok(()), Ok(())));
        assert_eq!((refs(&a).await, refs(&b).await), (before.clone(), before.clone()));
        hears_nothing(&mut ear_a);
        hears_nothing(&mut ear_b);
    }

    // Other tests of this process may count in the same series.
    assert!(value(&on_a, "adsum_task_panics_total", &["replication"]) >= 3.0);

    // Changes go on, and those made meanwhile are sent.
    network.fails.store(1, Ordering::Relaxed);
    failed(&a).await;
    first.untrack("room", "1");
    first.track("room", "4", meta(4)).unwrap();
    second.untrack("hall", "2");
    sleep(Duration::from_secs(10)).await;
    assert_eq!((b.count("room"), a.count("hall")), (3, 2));
    assert!(b.get_by_key("room", "4").await.is_some() && b.get_by_key("room", "1").await.is_none());
    drop((first, second));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((b.count("room"), a.count("hall")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn presences_that_linger_end_though_replication_has_panicked() {
    let network = Network::default();
    let ((a, _on_a), (b, _on_b)) = (node(&network, "a"), node(&network, "b"));
    let _ = tokio::join!(a.ready(), b.ready());
    let mut owner = b.owner();
    owner.track("room", "7", meta(1)).unwrap();
    b.drain(&Sockets::new(), Drain::default()).await;
    drop(owner);
    network.fails.store(1, Ordering::Relaxed);
    failed(&a).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!((a.count("room"), a.health()), (0, Ok(())));
}

/// Panics with each diff that it receives.
struct Deaf;

impl Subscriber for Deaf {
    fn deliver(&self, message: &Arc<Message>) {
        assert!(message.event() != "presence_diff", "on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_costs_the_topic_nothing() {
    let (presence, pubsub) = plain(|builder| builder);
    let deaf = pubsub.attach("room", SubscriberId::unique(), Arc::new(Deaf));
    let mut owner = presence.owner();
    owner.track("room", "1", meta(1)).unwrap();
    owner.track("room", "2", meta(2)).unwrap();
    sleep(Duration::from_secs(1)).await;
    drop(deaf);
    let mut inbox = pubsub.subscribe("room");
    owner.track("room", "3", meta(3)).unwrap();
    sleep(Duration::from_secs(1)).await;
    settle().await;
    let message = inbox.try_recv().expect("later diffs are sent").unwrap();
    assert_eq!(message.event(), "presence_diff");
    assert_eq!(presence.count("room"), 3);
}
