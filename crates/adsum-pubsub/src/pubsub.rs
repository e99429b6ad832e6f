//! The face of the crate: subscribe and broadcast.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::{
    Adapter, Attachment, BroadcastError, DEFAULT_INBOX_CAPACITY, Inbound, Inbox, IntoPayload, Json,
    LocalNetwork, Message, Subscriber, SubscriberId, Topic, event, registry::Registry,
};

/// A handle to this node's topics. Clones share them.
#[derive(Clone)]
pub struct PubSub {
    pub(crate) registry: Arc<Registry>,
    adapter: Arc<dyn Adapter>,
}

impl PubSub {
    /// A `PubSub` of this process alone.
    pub fn local() -> Self {
        LocalNetwork::alone()
    }

    /// A `PubSub` that reaches other nodes through an adapter.
    pub fn new(adapter: impl Adapter) -> Self {
        let adapter: Arc<dyn Adapter> = Arc::new(adapter);
        let registry = Arc::new(Registry::new(adapter.clone()));
        adapter.start(Inbound(Arc::downgrade(&registry)));
        Self { registry, adapter }
    }

    /// Whether another handle is to the same topics: a clone of this one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.registry, &other.registry)
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        self.adapter.node()
    }

    /// The region that this node was started in, if any.
    pub fn region(&self) -> Option<&str> {
        self.adapter.region()
    }

    /// Whether there can be other nodes: not for [`PubSub::local`].
    pub fn is_networked(&self) -> bool {
        self.adapter.is_networked()
    }

    /// Whether the network between the nodes is reached at this time, and every change of that.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.adapter.connected()
    }

    /// A queue of at most [`DEFAULT_INBOX_CAPACITY`] messages, subscribed to one topic.
    pub fn subscribe(&self, topic: impl Into<Topic>) -> Inbox {
        let mut inbox = self.inbox(DEFAULT_INBOX_CAPACITY);
        inbox.subscribe(topic);
        inbox
    }

    /// A queue of at most `capacity` messages (at least one), subscribed to nothing yet.
    pub fn inbox(&self, capacity: usize) -> Inbox {
        Inbox::new(self.clone(), capacity)
    }

    /// Has a subscriber called with every message of a topic, for as long as the attachment lives.
    ///
    /// Attached twice, it is called twice. A broadcast that another thread is just making may still call it
    /// shortly after the attachment was dropped.
    ///
    /// The attachment keeps the subscriber alive: one that a subscriber holds of itself is never dropped, unless
    /// somebody takes it out.
    pub fn attach(
        &self,
        topic: impl Into<Topic>,
        id: SubscriberId,
        subscriber: Arc<dyn Subscriber>,
    ) -> Attachment {
        self.registry.attach(topic.into(), id, subscriber)
    }

    /// How many subscriptions a topic has on this node.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.registry.count(topic)
    }

    /// Sends an event to all subscribers of a topic, on all nodes.
    ///
    /// Delivery is at most once; each subscriber gets the messages of one sender to one topic in the order sent.
    /// When this returns, the subscribers of this node have been called, unless they are more than 1,024: then a
    /// task calls them, and others run in between.
    ///
    /// Names of events that begin with `phx_` or `presence_` are refused: they belong to the protocol, and clients
    /// act on them. A broadcast of `disconnect` to the id of a socket is allowed: it closes the sockets of that id.
    ///
    /// # Errors
    /// The event's name is refused or the payload can't be encoded, and nobody gets it; or it didn't go out to the
    /// other nodes.
    pub fn broadcast(
        &self,
        topic: impl Into<Topic>,
        event: impl Into<Box<str>>,
        payload: impl IntoPayload,
    ) -> Result<(), BroadcastError> {
        self.send(&Arc::new(message(topic, event, payload)?), None)
    }

    /// Closes all sockets of an id, on all nodes, such as those of a user who signs out. The id is what the program
    /// has given them when they connected. Their clients connect again, and may be refused then.
    ///
    /// In Phoenix this is a broadcast of `disconnect` to the id.
    ///
    /// # Errors
    /// It didn't go out to the other nodes. The sockets of this node are closed.
    pub fn disconnect(&self, socket_id: impl Into<Topic>) -> Result<(), BroadcastError> {
        self.broadcast(socket_id, event::DISCONNECT, Json::empty_object())
    }

    /// As [`broadcast`](Self::broadcast), but passes over one subscriber of this node, with all its
    /// subscriptions: the sender, as a rule.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_from(
        &self,
        from: SubscriberId,
        topic: impl Into<Topic>,
        event: impl Into<Box<str>>,
        payload: impl IntoPayload,
    ) -> Result<(), BroadcastError> {
        self.send(&Arc::new(message(topic, event, payload)?), Some(from))
    }

    /// As [`broadcast`](Self::broadcast), to subscribers of this node only.
    ///
    /// # Errors
    /// The event's name is refused or the payload can't be encoded.
    pub fn local_broadcast(
        &self,
        topic: impl Into<Topic>,
        event: impl Into<Box<str>>,
        payload: impl IntoPayload,
    ) -> Result<(), BroadcastError> {
        self.deliver(message(topic, event, payload)?);
        Ok(())
    }

    /// Delivers a message to the subscribers of this node only, whatever its event is called: for those who speak
    /// the protocol themselves, as presence does.
    pub fn deliver(&self, message: Message) {
        self.registry.dispatch(&Arc::new(message), None);
    }

    /// As [`broadcast`](Self::broadcast), to subscribers of one node only. An unknown node is no error.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast).
    pub fn direct_broadcast(
        &self,
        node: &str,
        topic: impl Into<Topic>,
        event: impl Into<Box<str>>,
        payload: impl IntoPayload,
    ) -> Result<(), BroadcastError> {
        let message = Arc::new(message(topic, event, payload)?);
        if node == self.node() {
            self.registry.dispatch(&message, None);
            return Ok(());
        }
        self.adapter.direct_broadcast(node, &message)
    }

    /// Leaves the cluster, at the end of a program: waits until what was broadcast before has gone out, and until the
    /// other nodes have had the time to take it. It takes half a second if there is a secret, and at most 1.5 s.
    ///
    /// From this call on, broadcasts serve this node alone and fail with [`BroadcastError::Disconnected`]. Dropping the
    /// last handle does the same in the background, if the runtime goes on.
    pub async fn close(&self) {
        self.adapter.close().await;
    }

    fn send(&self, message: &Arc<Message>, from: Option<SubscriberId>) -> Result<(), BroadcastError> {
        // The other nodes first: what is on the wire travels while this node delivers.
        let sent = self.adapter.broadcast(message);
        self.registry.dispatch(message, from);
        sent
    }
}

fn message(
    topic: impl Into<Topic>,
    event: impl Into<Box<str>>,
    payload: impl IntoPayload,
) -> Result<Message, BroadcastError> {
    let event = event.into();
    event::check_broadcast(&event)?;
    Ok(Message::new(topic, event, payload.into_payload()?))
}

impl fmt::Debug for PubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSub").field("node", &self.node()).finish_non_exhaustive()
    }
}
