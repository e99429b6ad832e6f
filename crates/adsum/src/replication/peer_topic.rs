//! The topic on which the nodes of a presence talk.

use std::sync::Arc;

use adsum_pubsub::{Attachment, BroadcastError, Json, Payload, PubSub, Subscriber, SubscriberId, Topic};
use adsum_tracker::{ClusterMessage, Key};

use crate::presence_metrics::PresenceMetrics;

/// The event of a message of the cluster.
pub(super) const SET: &str = "set";
/// The event of a key to be refreshed.
pub(super) const REFRESH: &str = "refresh";

/// The topic on which the nodes of a presence talk.
#[derive(Clone)]
pub(crate) struct PeerTopic {
    pub(super) pubsub: PubSub,
    topic: Topic,
    id: SubscriberId,
    metrics: Arc<PresenceMetrics>,
}

impl PeerTopic {
    /// Makes the topic of the presence of this name. No client can join it, as its prefix is reserved for nodes.
    pub(crate) fn new(pubsub: PubSub, name: &str, metrics: Arc<PresenceMetrics>) -> Self {
        let topic = format!("adsum:presence:{name}").into();
        Self { pubsub, topic, id: SubscriberId::unique(), metrics }
    }

    /// Subscribes the inbox, if there is a network.
    pub(super) fn attach(&self, inbox: Arc<dyn Subscriber>) -> Option<Attachment> {
        self.pubsub.is_networked().then(|| self.pubsub.attach(self.topic.clone(), self.id, inbox))
    }

    /// Lets all other nodes refresh a key.
    pub(crate) fn refresh(&self, topic: &Topic, key: &Key) {
        if self.pubsub.is_networked()
            && let Ok(payload) = Json::encode(&(topic, key))
        {
            self.note_loss(self.pubsub.broadcast_from(self.id, &self.topic, REFRESH, payload));
        }
    }

    /// Sends a message to all other nodes.
    pub(super) fn broadcast(&self, message: &ClusterMessage) {
        let payload = Payload::Binary(message.encode().into());
        self.note_loss(self.pubsub.broadcast_from(self.id, &self.topic, SET, payload));
    }

    /// Sends a message to one node.
    pub(super) fn send(&self, node: &str, message: &ClusterMessage) {
        let payload = Payload::Binary(message.encode().into());
        self.note_loss(self.pubsub.direct_broadcast(node, &self.topic, SET, payload));
    }

    /// Counts a message that wasn't sent. The next heartbeat shows that it is missing, and it is pulled.
    fn note_loss(&self, sent: Result<(), BroadcastError>) {
        if let Err(error) = sent {
            self.metrics.messages_unsent.increment();
            tracing::debug!(%error, "a message to other nodes was not sent; they pull it after the next heartbeat");
        }
    }
}
