//! The adapter for nodes in a single process.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;

use crate::{
    adapter::{Adapter, BroadcastError, Inbound},
    message::Message,
    pubsub::PubSub,
    topic::Topic,
};

/// Nodes in one process that reach each other by function calls.
///
/// [`PubSub::local`] is the only node of its own network. Tests use several nodes as a cluster without a network.
///
/// ```
/// # use adsum_pubsub as adsum;
/// use adsum::{Json, LocalNetwork};
///
/// let network = LocalNetwork::new();
/// let (a, b) = (network.node("a"), network.node("b"));
/// let inbox = b.subscribe("news");
/// a.broadcast("news", "hello", Json::empty_object())?;
/// assert_eq!(inbox.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct LocalNetwork {
    nodes: Arc<Mutex<HashMap<Arc<str>, Inbound>>>,
}

impl LocalNetwork {
    /// A network without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node. It replaces a node with the same name, which gets no more messages from other nodes.
    pub fn node(&self, name: &str) -> PubSub {
        PubSub::new(LocalNode { name: name.into(), network: self.clone(), is_networked: true })
    }
}

impl PubSub {
    /// A `PubSub` for this process alone.
    pub fn local() -> Self {
        Self::new(LocalNode { name: "local".into(), network: LocalNetwork::new(), is_networked: false })
    }
}

impl fmt::Debug for LocalNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.nodes.lock().keys()).finish()
    }
}

struct LocalNode {
    name: Arc<str>,
    network: LocalNetwork,
    is_networked: bool,
}

impl LocalNode {
    /// The other nodes at this moment, copied out of the lock since delivery may take long.
    fn others(&self) -> Vec<Inbound> {
        let mut nodes = self.network.nodes.lock();
        nodes.retain(|_, node| !node.is_closed());
        nodes.iter().filter(|(name, _)| **name != self.name).map(|(_, node)| node.clone()).collect()
    }
}

impl Adapter for LocalNode {
    fn node(&self) -> &str {
        &self.name
    }

    fn start(&self, inbound: Inbound) {
        self.network.nodes.lock().insert(self.name.clone(), inbound);
    }

    fn broadcast(&self, message: &Arc<Message>) -> Result<(), BroadcastError> {
        for node in self.others() {
            node.deliver(message);
        }
        Ok(())
    }

    fn direct_broadcast(&self, node: &str, message: &Arc<Message>) -> Result<(), BroadcastError> {
        let node = self.network.nodes.lock().get(node).cloned();
        if let Some(node) = node {
            node.deliver(message);
        }
        Ok(())
    }

    fn is_networked(&self) -> bool {
        self.is_networked
    }

    // Nodes of one process need no subscriptions: a topic without subscribers costs one map lookup.
    fn subscribed(&self, _: &Topic) {}

    fn unsubscribed(&self, _: &Topic) {}
}
