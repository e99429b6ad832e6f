//! The nodes of a cluster as a node reports them to operators, and its own state at the start.

use std::{sync::Arc, time::Duration};

use adsum::{
    Adapter, BroadcastError, Health, LocalNetwork, Message, NodeState, NotReady, Presence, PubSub, Topic,
};
use adsum_pubsub::Inbound;
use tokio::{sync::watch, time::Instant};

use crate::metrics::value;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn each_node_lists_itself_and_the_others() {
    let network = LocalNetwork::new();
    let start = |name: &str| Presence::builder(network.node(name)).start();
    let (a, b) = (start("a"), start("b"));
    let mut owner = a.owner();
    owner.track("room", "7", crate::support::meta(1)).unwrap();
    assert_eq!((a.ready().await, b.ready().await), (Ok(()), Ok(())));
    let nodes = b.nodes().await;
    let told: Vec<_> = nodes.iter().map(|n| (&*n.name, n.is_self, n.state, n.presences, n.behind)).collect();
    assert_eq!(told, [("a", false, NodeState::Up, 1, 0), ("b", true, NodeState::Up, 0, 0)]);

    drop((owner, a));
    tokio::time::sleep(5 * SECOND).await;
    let nodes = b.nodes().await;
    assert_eq!(nodes[0].state, NodeState::Down);
    assert!(nodes[0].silent_for >= 3 * SECOND, "{nodes:?}");
}

/// An engine that connects when the test says so, and refuses each message.
struct Away(watch::Sender<bool>);

impl Adapter for Away {
    fn node(&self) -> &'static str {
        "a"
    }

    fn start(&self, _: Inbound) {}

    fn broadcast(&self, _: &Arc<Message>) -> Result<(), BroadcastError> {
        Err(BroadcastError::Disconnected { engine: "Away".into() })
    }

    fn direct_broadcast(&self, _: &str, _: &Arc<Message>) -> Result<(), BroadcastError> {
        Ok(())
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    fn subscribed(&self, _: &Topic) {}

    fn unsubscribed(&self, _: &Topic) {}
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_not_reached_is_told_from_nodes_that_are_not_in_sync() {
    let connected = watch::Sender::new(false);
    let presence = Presence::builder(PubSub::new(Away(connected.clone()))).start();
    let began = Instant::now();
    assert_eq!(presence.ready().await, Err(NotReady::EngineAway));
    assert!((5 * SECOND..6 * SECOND).contains(&began.elapsed()));
    assert_eq!(presence.health(), Err(NotReady::EngineAway));
    assert_eq!(presence.nodes().await[0].state, NodeState::Starting);

    connected.send_replace(true);
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!((presence.health(), presence.ready().await), (Ok(()), Ok(())));

    // Once the node was ready, an outage changes nothing.
    connected.send_replace(false);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(presence.health(), Ok(()));
    let health = Health::new(&presence);
    assert_eq!(health.ready(), Ok(()));
    // Unless the program wants otherwise.
    let health = health.needs_engine(true);
    assert_eq!(health.ready(), Err(NotReady::EngineAway));
    connected.send_replace(true);
    assert_eq!(health.ready(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn messages_to_other_nodes_that_are_not_sent_are_counted() {
    let pubsub = PubSub::new(Away(watch::Sender::new(true)));
    let presence = Presence::builder(pubsub.clone()).start();
    presence.ready().await.unwrap();
    let unsent = || value(&pubsub, "adsum_cluster_messages_unsent_total", &["presence"]);
    let before = unsent();
    // A heartbeat a second, and nothing else.
    tokio::time::sleep(10 * SECOND).await;
    let beats = unsent() - before;
    assert!((9.0..=11.0).contains(&beats), "{beats}");
    let mut owner = presence.owner();
    owner.track("room", "7", crate::support::meta(1)).unwrap();
    tokio::time::sleep(SECOND / 100).await;
    assert!(unsent() > before + beats, "the change is not sent either");
}
