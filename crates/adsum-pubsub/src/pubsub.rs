//! The handle to a node's topics: subscribe and broadcast.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::{
    adapter::{Adapter, BroadcastError, Inbound, QueueLimits},
    event,
    ids::SubscriberId,
    inbox::{DEFAULT_INBOX_CAPACITY, Inbox},
    message::Message,
    metrics::{self, Metrics, Sample, Source, Value},
    payload::{IntoPayload, Json},
    registry::{Attachment, Registry},
    subscribers::Subscriber,
    topic::Topic,
};

/// A handle to this node's topics. Clones share them.
#[derive(Clone)]
pub struct PubSub {
    pub(crate) registry: Arc<Registry>,
    adapter: Arc<dyn Adapter>,
}

impl PubSub {
    /// A `PubSub` that reaches other nodes through an adapter.
    pub fn new(adapter: impl Adapter) -> Self {
        let adapter: Arc<dyn Adapter> = Arc::new(adapter);
        let metrics = adapter.metrics().unwrap_or_else(Metrics::new);
        let registry = Arc::new(Registry::new(adapter.clone(), metrics.clone()));
        let source: Arc<dyn Source> = registry.clone();
        metrics.register(Arc::downgrade(&source));
        let target = Arc::downgrade(&registry);
        adapter.start(Inbound::new(target));
        Self { registry, adapter }
    }

    /// Whether another handle is a clone of this one, with the same topics.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.registry, &other.registry)
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        self.adapter.node()
    }

    /// This node's region, if it has one.
    pub fn region(&self) -> Option<&str> {
        self.adapter.region()
    }

    /// Whether other nodes can exist. False for [`PubSub::local`].
    pub fn is_networked(&self) -> bool {
        self.adapter.is_networked()
    }

    /// How much can wait to be sent to other nodes. `None` if there is no bound.
    pub fn queue_limits(&self) -> Option<QueueLimits> {
        self.adapter.queue_limits()
    }

    /// Whether the network between the nodes is reachable now, and every change of that.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.adapter.connected()
    }

    /// Hands all metrics of this node to the recorder of the `metrics` crate. Call it at each scrape, or at an interval
    /// for a recorder that pushes; the module [`metrics`](crate::metrics) says more.
    ///
    /// ```
    /// # use adsum_pubsub as adsum;
    /// # async fn run(pubsub: adsum::PubSub) {
    /// let mut times = tokio::time::interval(std::time::Duration::from_secs(10));
    /// loop {
    ///     times.tick().await;
    ///     pubsub.record_metrics();
    /// }
    /// # }
    /// ```
    ///
    /// A process that has several nodes, as tests have, records them as one: counters add up, and gauges are those of
    /// the node that was recorded last.
    pub fn record_metrics(&self) {
        metrics::process().record();
        self.metrics().record();
    }

    /// Returns the values of all metrics of this node, without a recorder: for a page of the operator's.
    pub fn read_metrics(&self) -> Vec<Sample> {
        let mut samples = self.metrics().read();
        for of_process in metrics::process().read() {
            let same = |sample: &&mut Sample| {
                (sample.metric.name, &sample.labels) == (of_process.metric.name, &of_process.labels)
            };
            match samples.iter_mut().find(same) {
                Some(Sample { value: Value::Count(count), .. }) => {
                    if let Value::Count(more) = of_process.value {
                        *count += more;
                    }
                }
                _ => samples.push(of_process),
            }
        }
        samples.sort_by(|a, b| (a.metric.name, &a.labels).cmp(&(b.metric.name, &b.labels)));
        samples
    }

    /// Returns where this node counts: for what belongs to it, such as a transport of the program's own.
    pub fn metrics(&self) -> &Arc<Metrics> {
        self.registry.metrics()
    }

    /// Returns an inbox of at most [`DEFAULT_INBOX_CAPACITY`] messages, subscribed to one topic.
    pub fn subscribe(&self, topic: impl Into<Topic>) -> Inbox {
        let mut inbox = self.inbox(DEFAULT_INBOX_CAPACITY);
        inbox.subscribe(topic);
        inbox
    }

    /// Returns an inbox of at most `capacity` messages (at least one), not subscribed to any topic yet.
    pub fn inbox(&self, capacity: usize) -> Inbox {
        Inbox::new(self.registry.clone(), capacity)
    }

    /// Calls a subscriber with every message of a topic, until the attachment is dropped.
    ///
    /// A subscriber that is attached twice is called twice. A concurrent broadcast may still call it shortly after the
    /// attachment was dropped.
    ///
    /// The attachment keeps the subscriber alive. So a subscriber that owns its own attachment leaks.
    pub fn attach(
        &self,
        topic: impl Into<Topic>,
        id: SubscriberId,
        subscriber: Arc<dyn Subscriber>,
    ) -> Attachment {
        self.registry.attach(topic.into(), id, subscriber)
    }

    /// The number of subscriptions to a topic on this node.
    pub fn subscribers(&self, topic: &str) -> usize {
        self.registry.count(topic)
    }

    /// Sends an event to all subscribers of a topic, on all nodes.
    ///
    /// Delivery is at most once. Each subscriber gets the messages of one sender to one topic in the order sent. When
    /// this returns, the subscribers of this node have been called, unless there are more than 1,024: then a task calls
    /// them and yields in between.
    ///
    /// Event names that begin with `phx_` or `presence_` are refused: they belong to the protocol, and clients act on
    /// them. A broadcast of `disconnect` to the id of a socket is allowed: it closes the sockets with that id.
    ///
    /// # Errors
    /// The event's name is refused or the payload can't be encoded, so no subscriber gets it; or it was not sent to the
    /// other nodes.
    pub fn broadcast(
        &self,
        topic: impl Into<Topic>,
        event: impl Into<Box<str>>,
        payload: impl IntoPayload,
    ) -> Result<(), BroadcastError> {
        self.send(&Arc::new(message(topic, event, payload)?), None)
    }

    /// Closes all sockets with an id, on all nodes, for example those of a user who signs out. The program assigns the
    /// id when a socket connects. Clients reconnect, and may then be refused.
    ///
    /// In Phoenix this is a broadcast of `disconnect` to the id.
    ///
    /// # Errors
    /// It was not sent to the other nodes. The sockets of this node are closed.
    pub fn disconnect(&self, socket_id: impl Into<Topic>) -> Result<(), BroadcastError> {
        self.broadcast(socket_id, event::DISCONNECT, Json::empty_object())
    }

    /// As [`broadcast`](Self::broadcast), but skips one subscriber of this node, usually the sender.
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

    /// Delivers a message to the subscribers of this node only, without checking its event's name. Use it to send
    /// events of the protocol, as presence does.
    pub fn deliver(&self, message: Message) {
        self.registry.dispatch(&Arc::new(message), None);
    }

    /// As [`broadcast`](Self::broadcast), to the subscribers of one node only. An unknown node is no error.
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

    /// Leaves the cluster, at the end of a program; `adsum::serve` does it with the presences that it is given. Waits until all earlier broadcasts are sent and the other nodes
    /// have had time to verify them: half a second if there is a secret, and at most 1.5 s.
    ///
    /// From this call on, broadcasts reach this node alone and fail with [`BroadcastError::Disconnected`]. Dropping the
    /// last handle does the same in the background, if the runtime keeps running.
    ///
    /// # Panics
    /// The node has an engine, and this is awaited outside of a tokio runtime.
    pub async fn close(&self) {
        self.adapter.close().await;
    }

    fn send(&self, message: &Arc<Message>, from: Option<SubscriberId>) -> Result<(), BroadcastError> {
        // The other nodes first: the message travels while this node delivers.
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
