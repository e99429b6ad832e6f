//! The adapter of a single process: nothing to connect to.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::Mutex;

use crate::{Adapter, BroadcastError, Inbound, Message, PubSub, Topic};

/// Nodes that live in one process and reach each other by a function call.
///
/// [`PubSub::local`] is the only node of a network of its own. Several nodes are of use in tests: a cluster
/// without a network.
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

    /// Adds a node. It takes the place of one with the same name, which from then on hears no other node.
    pub fn node(&self, name: &str) -> PubSub {
        PubSub::new(Node { name: name.into(), network: self.clone(), is_networked: true })
    }

    /// The only node of a network that nobody else can reach.
    pub(crate) fn alone() -> PubSub {
        PubSub::new(Node { name: "local".into(), network: Self::new(), is_networked: false })
    }
}

impl fmt::Debug for LocalNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.nodes.lock().keys()).finish()
    }
}

struct Node {
    name: Arc<str>,
    network: LocalNetwork,
    is_networked: bool,
}

impl Node {
    /// The nodes at this moment, taken out of the lock: delivery may take its time.
    fn others(&self) -> Vec<Inbound> {
        let mut nodes = self.network.nodes.lock();
        nodes.retain(|_, node| !node.is_closed());
        nodes.iter().filter(|(name, _)| **name != self.name).map(|(_, node)| node.clone()).collect()
    }
}

impl Adapter for Node {
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

    // Nodes of one process need no interest: a topic without subscribers costs a look into a map.
    fn subscribed(&self, _: &Topic) {}

    fn unsubscribed(&self, _: &Topic) {}
}
