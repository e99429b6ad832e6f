//! How messages reach other nodes.

use std::{
    borrow::Cow,
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
};

use tokio::sync::watch;

use crate::{Message, ReservedEvent, Topic, registry::Registry};

/// Carries messages between the nodes of a cluster.
///
/// No method may block: an adapter that talks to a network queues what it is given, in bounds. What one task
/// sends to a topic must arrive in the order sent, and none of it may come back to the node that sent it:
/// the [`PubSub`](crate::PubSub) has delivered it there already.
///
/// The feature `suite` has the tests that every adapter must pass.
pub trait Adapter: Send + Sync + 'static {
    /// This node's name, unique in the cluster.
    fn node(&self) -> &str;

    /// The region that this node is in, if it was given one: the name of a group of nodes with one link to the others.
    fn region(&self) -> Option<&str> {
        None
    }

    /// Called once, before all else, with where to hand what arrives from other nodes.
    fn start(&self, inbound: Inbound);

    /// Sends a message to all other nodes that have subscribers for its topic.
    ///
    /// # Errors
    /// The message can't be sent now. What was accepted may still be lost: delivery is at most once.
    fn broadcast(&self, message: &Arc<Message>) -> Result<(), BroadcastError>;

    /// Sends a message to one other node. A node that nobody knows is no error.
    ///
    /// # Errors
    /// As [`broadcast`](Adapter::broadcast).
    fn direct_broadcast(&self, node: &str, message: &Arc<Message>) -> Result<(), BroadcastError>;

    /// Whether there can be other nodes at all. Where there can't, presences are not made ready for them.
    fn is_networked(&self) -> bool {
        true
    }

    /// Whether what connects the nodes is reached at this time, and every change of that. One that was away
    /// counts as reached again once all interest is known to it again.
    ///
    /// The default is for adapters that are never without their network.
    fn connected(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }

    /// Leaves the other nodes: resolves once what was accepted before has gone out, or after a bounded time. What is
    /// sent after this call fails.
    ///
    /// The default is for adapters that send at once.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    /// A topic has its first subscriber on this node. Called with a lock held: it must not call back.
    fn subscribed(&self, topic: &Topic);

    /// A topic has lost its last subscriber on this node. Called with a lock held: it must not call back.
    fn unsubscribed(&self, topic: &Topic);
}

/// The largest payload that goes from node to node, in bytes. Engines have limits of their own (1 MiB, if nobody has
/// set another, for NATS); a larger thing is best sent in parts, or as a link.
pub const MAX_MESSAGE_BYTES: usize = 512 * 1024;

/// The longest name of a region, in bytes.
pub const MAX_REGION_BYTES: usize = 64;

/// Where an adapter hands what arrives from other nodes. It doesn't keep the `PubSub` alive.
#[derive(Clone)]
pub struct Inbound(pub(crate) Weak<Registry>);

impl Inbound {
    /// Delivers a message of another node to this node's subscribers: before it returns, unless they are many.
    pub fn deliver(&self, message: &Arc<Message>) {
        if let Some(registry) = self.0.upgrade() {
            registry.dispatch(message, None);
        }
    }

    /// Whether the `PubSub` is gone, so that nobody is left to deliver to.
    pub fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbound")
    }
}

/// A message that wasn't sent, or not to all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The payload can't be written as JSON. Nobody has got the message.
    #[error("the payload can't be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// The event's name belongs to the protocol. Nobody has got the message.
    #[error(transparent)]
    Reserved(#[from] ReservedEvent),
    /// The adapter has no connection to the other nodes. Of a broadcast, subscribers of this node have got
    /// the message nonetheless.
    #[error("not connected to the other nodes: {engine} is away")]
    Disconnected {
        /// What connects the nodes, such as `NATS`.
        engine: Cow<'static, str>,
    },
    /// The message is too large to go to other nodes: see [`MAX_MESSAGE_BYTES`]. Of a broadcast, subscribers of this
    /// node have got the message nonetheless.
    #[error("the message is too large for other nodes: its payload has {0} bytes")]
    TooLarge(usize),
    /// More is waiting to be sent than the adapter may hold. Of a broadcast, subscribers of this node have got
    /// the message nonetheless.
    #[error("the queue of {engine} is full: {waiting} wait")]
    Full {
        /// What connects the nodes, such as `NATS`.
        engine: Cow<'static, str>,
        /// What waits to be sent.
        waiting: Waiting,
    },
}

/// What waits in the queue of an adapter that takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// As many messages as it may hold.
    Messages(usize),
    /// As many bytes as it may hold, or nearly.
    Bytes(usize),
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages(messages) => write!(f, "{messages} messages"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}
