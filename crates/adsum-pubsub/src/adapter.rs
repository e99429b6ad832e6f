//! How messages reach other nodes.

use std::{
    borrow::Cow,
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
};

use tokio::sync::watch;

use crate::{event::ReservedEvent, message::Message, metrics::Metrics, topic::Topic};

/// Carries messages between the nodes of a cluster.
///
/// No method may block: an adapter that talks to a network puts messages into a bounded queue. Messages that one task
/// sends to a topic must arrive in the order sent. None may come back to the node that sent it, since the
/// [`PubSub`](crate::PubSub) has already delivered it there.
///
/// The feature `suite` has the tests that every adapter must pass.
pub trait Adapter: Send + Sync + 'static {
    /// This node's name, unique in the cluster.
    fn node(&self) -> &str;

    /// The region of this node, if it has one: the name of a group of nodes that reach the others over one link.
    fn region(&self) -> Option<&str> {
        None
    }

    /// Starts the adapter. Called once, before all other methods. Messages from other nodes go to `inbound`.
    fn start(&self, inbound: Inbound);

    /// Sends a message to all other nodes that have subscribers for its topic.
    ///
    /// # Errors
    /// The message can't be sent now. An accepted message may still be lost: delivery is at most once.
    fn broadcast(&self, message: &Arc<Message>) -> Result<(), BroadcastError>;

    /// Sends a message to one other node. An unknown node is no error.
    ///
    /// # Errors
    /// As [`broadcast`](Adapter::broadcast).
    fn direct_broadcast(&self, node: &str, message: &Arc<Message>) -> Result<(), BroadcastError>;

    /// Whether other nodes can exist at all. If not, presences are not prepared for replication.
    fn is_networked(&self) -> bool {
        true
    }

    /// Whether the network between the nodes is reachable now, and every change of that. After an outage it counts as
    /// reachable once it knows all of this node's subscriptions again.
    ///
    /// The default is for adapters whose network can't fail.
    fn connected(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }

    /// How much can wait to be sent. Messages that take more in one go fail with [`BroadcastError::Full`] however often
    /// they are sent. `None` if there is no bound.
    fn queue_limits(&self) -> Option<QueueLimits> {
        None
    }

    /// Returns the metrics of the adapter, if it counts before it is started.
    #[doc(hidden)]
    fn metrics(&self) -> Option<Arc<Metrics>> {
        None
    }

    /// Leaves the cluster. Resolves once all accepted messages are sent, or after a bounded time. Sending fails after
    /// this call.
    ///
    /// The default is for adapters that send at once.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    /// A topic got its first subscriber on this node. Called with a lock held, so it must not call back.
    fn subscribed(&self, topic: &Topic);

    /// A topic lost its last subscriber on this node. Called with a lock held, so it must not call back.
    fn unsubscribed(&self, topic: &Topic);
}

/// Maximum size of a payload between nodes, in bytes. Engines have limits of their own (NATS: 1 MiB by default). Send
/// anything larger in parts, or as a link.
pub const MAX_MESSAGE_BYTES: usize = 512 * 1024;

/// Maximum length of a region's name, in bytes.
pub const MAX_REGION_BYTES: usize = 64;

/// Takes the messages that an adapter receives from other nodes. It doesn't keep the `PubSub` alive.
#[derive(Clone)]
pub struct Inbound(Weak<dyn Deliver>);

/// Delivers messages to the subscribers of this node.
pub(crate) trait Deliver: Send + Sync {
    fn deliver(self: Arc<Self>, message: &Arc<Message>);
}

impl Inbound {
    pub(crate) fn new(target: Weak<dyn Deliver>) -> Self {
        Self(target)
    }

    /// Delivers a message from another node to this node's subscribers: before it returns, unless they are many.
    pub fn deliver(&self, message: &Arc<Message>) {
        if let Some(target) = self.0.upgrade() {
            target.deliver(message);
        }
    }

    /// Whether the `PubSub` is gone, so that no subscriber is left.
    pub fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbound")
    }
}

/// A message was not sent, or not to all nodes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The payload can't be encoded as JSON. No subscriber got the message.
    #[error("the payload can't be encoded as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// The event's name belongs to the protocol. No subscriber got the message.
    #[error(transparent)]
    Reserved(#[from] ReservedEvent),
    /// The adapter has no connection to the other nodes. A broadcast has still reached the subscribers of this node.
    #[error("not connected to the other nodes: {engine} is unreachable; the message was not sent to them")]
    Disconnected {
        /// The engine between the nodes, such as `NATS`.
        engine: Cow<'static, str>,
    },
    /// The message is too large for other nodes: see [`MAX_MESSAGE_BYTES`]. A broadcast has still reached the
    /// subscribers of this node.
    #[error(
        "the message is too large for other nodes: its payload has {0} bytes, the maximum is {MAX_MESSAGE_BYTES}"
    )]
    TooLarge(usize),
    /// The adapter's queue is full. A broadcast has still reached the subscribers of this node.
    #[error("the queue to {engine} is full: {queued} are waiting; the message was not sent to other nodes")]
    Full {
        /// The engine between the nodes, such as `NATS`.
        engine: Cow<'static, str>,
        /// How much the queue holds.
        queued: Queued,
    },
}

/// How much the queue of an adapter can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// The maximum number of messages.
    pub messages: usize,
    /// The maximum number of bytes.
    pub bytes: usize,
}

/// How much a full queue of an adapter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// The maximum number of messages.
    Messages(usize),
    /// The maximum number of bytes, or nearly.
    Bytes(usize),
}

impl fmt::Display for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages(messages) => write!(f, "{messages} messages"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}
