//! State shared by the `PubSub` and the task that talks to the engine.

use std::{
    collections::HashSet,
    fmt::Write,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    adapter::{Adapter, BroadcastError, Inbound, QueueLimits, Queued},
    envelope::{Content, Control, Envelopes, MAX_NODE_BYTES, Opened, Refusal, Refused},
    interest::Interest,
    message::Message,
    metrics::{Counter, HighWater, Histogram, Metrics, Readings, Source, table},
    replay::{ANSWER_AFTER_LAST, FRESH, Numbers, Origin, Received, ReplayGuard, Timeline},
    topic::Topic,
};

/// Maximum number of refusals to log, one per reason and peer. All of them are counted.
const MAX_LOGGED_REFUSALS: usize = 64;

/// How long a closed node may take to send what is queued.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a closed node may take in all.
pub(crate) const MAX_CLOSE_TIME: Duration = CLOSE_TIMEOUT.saturating_add(ANSWER_AFTER_LAST);

/// A node's link to the other nodes.
pub(crate) struct EngineLink {
    /// The engine's name, for logs and errors.
    pub(crate) engine: &'static str,
    pub(crate) namespace: Box<str>,
    pub(crate) region: Option<Box<str>>,
    pub(crate) interest: Interest,
    pub(crate) connected: watch::Sender<bool>,
    pub(crate) inbound: OnceLock<Inbound>,
    /// Cancelled when the node is closed or dropped. The driver then sends what is queued, and stops.
    pub(crate) closing: CancellationToken,
    /// Cancelled once the driver has stopped.
    pub(crate) closed: CancellationToken,
    envelopes: Envelopes,
    /// The numbers of the messages that this node has sent.
    sent: Mutex<Timeline>,
    /// Refuses replayed messages. Used only with a secret: without one, origins can be forged.
    replays: Mutex<ReplayGuard<Message>>,
    queue: mpsc::Sender<Outgoing>,
    queued: Arc<OutgoingQueue>,
    pub(crate) limits: QueueLimits,
    pub(crate) round_trip: Arc<Histogram>,
    /// By [`Refusal`].
    refused: Box<[Arc<Counter>]>,
    logged: Mutex<HashSet<(Refusal, Box<str>)>>,
}

/// A message on its way to the engine.
pub(crate) struct Outgoing {
    pub(crate) subject: String,
    pub(crate) envelope: Bytes,
    /// Held until the message is sent or dropped.
    pub(crate) room: QueueShare,
}

/// A message's share of the queue's bytes. If it is dropped without [`sent`](Self::sent), the message counts as unsent.
pub(crate) struct QueueShare {
    queued: Arc<OutgoingQueue>,
    bytes: usize,
    /// Why the message is not sent. `None` if it is sent.
    unsent: Option<Unsent>,
}

/// Why a message isn't sent, in the order of the metric's labels.
#[derive(Clone, Copy)]
pub(crate) enum Unsent {
    Disconnected,
    Full,
    TooLarge,
    #[cfg_attr(not(feature = "redis"), allow(dead_code, reason = "NATS refuses no message by itself"))]
    Refused,
}

/// The bytes that wait to be sent, and the metrics of the link.
struct OutgoingQueue {
    bytes: AtomicUsize,
    metrics: Arc<Metrics>,
    /// By [`Unsent`].
    unsent: Box<[Arc<Counter>]>,
    most_bytes: HighWater,
    most_messages: HighWater,
}

impl OutgoingQueue {
    fn count_unsent(&self, reason: Unsent) {
        self.unsent[reason as usize].increment();
    }
}

impl QueueShare {
    /// Reserves bytes, or returns how many are in use if they don't fit.
    fn take(queued: &Arc<OutgoingQueue>, bytes: usize, max: usize) -> Result<Self, usize> {
        let before = queued.bytes.fetch_add(bytes, Ordering::Relaxed);
        queued.most_bytes.note((before + bytes).min(max));
        let room = Self { queued: queued.clone(), bytes, unsent: Some(Unsent::Disconnected) };
        if before + bytes <= max {
            return Ok(room);
        }
        room.unsent(Unsent::Full);
        Err(before)
    }

    /// The engine has the message.
    pub(crate) fn sent(mut self) {
        self.unsent = None;
    }

    /// The message is dropped for this reason.
    pub(crate) fn unsent(mut self, reason: Unsent) {
        self.unsent = Some(reason);
    }
}

impl Drop for QueueShare {
    fn drop(&mut self) {
        self.queued.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(reason) = self.unsent {
            self.queued.count_unsent(reason);
        }
    }
}

impl EngineLink {
    pub(crate) fn new(
        engine: &'static str,
        namespace: &str,
        region: Option<Box<str>>,
        envelopes: Envelopes,
        linger: Duration,
        limits: QueueLimits,
    ) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        let (queue, outgoing) = mpsc::channel(limits.messages);
        let metrics = Metrics::new();
        // It is zero from the start.
        metrics.counter(&table::LAGGED_MESSAGES, &[engine]);
        let link = Self {
            engine,
            namespace: namespace.into(),
            region,
            interest: Interest::new(linger),
            connected: watch::Sender::new(false),
            inbound: OnceLock::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            envelopes,
            sent: Mutex::default(),
            replays: Mutex::default(),
            queue,
            refused: metrics.counters(&table::REFUSED_MESSAGES, &[engine]),
            round_trip: metrics.histogram(&table::ENGINE_ROUND_TRIP_SECONDS, &[engine]),
            queued: Arc::new(OutgoingQueue {
                bytes: AtomicUsize::new(0),
                unsent: metrics.counters(&table::UNSENT_MESSAGES, &[engine]),
                metrics: metrics.clone(),
                most_bytes: HighWater::new("queue_bytes", Some(limits.bytes)),
                most_messages: HighWater::new("queue_messages", Some(limits.messages)),
            }),
            limits,
            logged: Mutex::default(),
        };
        let link = Arc::new(link);
        let source: Arc<dyn Source> = link.clone();
        metrics.register(Arc::downgrade(&source));
        (link, outgoing)
    }

    pub(crate) fn node(&self) -> &str {
        self.envelopes.node()
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.queued.metrics
    }

    /// The subject for messages of a topic.
    pub(crate) fn topic_subject(&self, topic: &str) -> String {
        self.subject('t', topic)
    }

    /// The subject for messages to one node.
    pub(crate) fn node_subject(&self, node: &str) -> String {
        self.subject('n', node)
    }

    /// Hashes a name, since engines give a meaning to some characters and limit the length.
    fn subject(&self, kind: char, name: &str) -> String {
        let mut subject = format!("{}.{kind}.", self.namespace);
        for byte in &Sha256::digest(name)[..16] {
            write!(subject, "{byte:02x}").expect("writing to a string never fails");
        }
        subject
    }

    /// Queues a message, to one node or to all.
    pub(crate) fn send(&self, to: Option<&str>, message: &Message) -> Result<(), BroadcastError> {
        if !*self.connected.borrow() {
            return Err(self.unsent(Unsent::Disconnected, self.disconnected()));
        }
        let Some(envelope) = self.envelopes.write(to, message, self.next_number()) else {
            return Err(self.unsent(Unsent::TooLarge, BroadcastError::TooLarge(message.payload().len())));
        };
        let subject = to.map_or_else(|| self.topic_subject(message.topic()), |node| self.node_subject(node));
        self.enqueue(subject, envelope)
    }

    fn enqueue(&self, subject: String, envelope: Bytes) -> Result<(), BroadcastError> {
        let queued = match QueueShare::take(&self.queued, envelope.len(), self.limits.bytes) {
            Ok(room) => match self.queue.try_send(Outgoing { subject, envelope, room }) {
                Ok(()) => {
                    let max = self.queue.max_capacity();
                    self.queued.most_messages.note(max - self.queue.capacity());
                    return Ok(());
                }
                // The node is closed, or its driver has stopped.
                Err(TrySendError::Closed(outgoing)) => {
                    outgoing.room.unsent(Unsent::Disconnected);
                    return Err(self.disconnected());
                }
                Err(TrySendError::Full(outgoing)) => {
                    outgoing.room.unsent(Unsent::Full);
                    Queued::Messages(self.queue.max_capacity())
                }
            },
            Err(bytes) => Queued::Bytes(bytes),
        };
        Err(BroadcastError::Full { engine: self.engine.into(), queued })
    }

    fn disconnected(&self) -> BroadcastError {
        BroadcastError::Disconnected { engine: self.engine.into() }
    }

    fn unsent(&self, reason: Unsent, error: BroadcastError) -> BroadcastError {
        self.queued.count_unsent(reason);
        error
    }

    fn next_number(&self) -> u64 {
        let mut sent = self.sent.lock();
        let number = sent.last() + 1;
        sent.note(Instant::now(), number);
        number
    }

    /// Whether other nodes may challenge this one: it has a secret, and has sent messages.
    pub(crate) fn can_be_challenged(&self) -> bool {
        self.envelopes.are_sealed() && self.sent.lock().last() > 0
    }

    /// Delivers an envelope from the engine, or refuses it.
    pub(crate) fn receive(&self, bytes: &[u8]) {
        match self.envelopes.open(bytes) {
            Ok(Some(opened)) if opened.to.is_none_or(|node| node == self.node()) => {
                self.receive_opened(opened, bytes.len());
            }
            Ok(_) => {}
            Err(refused) => self.refuse(&refused),
        }
    }

    fn receive_opened(&self, opened: Opened<'_>, bytes: usize) {
        let Opened { peer, origin, number, content, .. } = opened;
        let message = match content {
            Content::Message(message) if !self.envelopes.are_sealed() => return self.deliver(message),
            Content::Message(message) => message,
            Content::Control(control) => return self.on_control(peer, &origin, control),
        };
        let received = self.replays.lock().receive(Instant::now(), origin, number, bytes, message, || {
            let mut nonce = [0; 16];
            // Without randomness a predictable nonce is still better than none.
            let _ = getrandom::fill(&mut nonce);
            nonce
        });
        match received {
            Received::Deliver(message) => self.deliver(message),
            Received::Kept(None) => {}
            Received::Kept(Some(nonce)) => self.send_control(peer, &Control::Challenge { of: origin, nonce }),
            Received::Replayed => self.refuse(&Refused { why: Refusal::Replayed, peer }),
            Received::Overflow => self.refuse(&Refused { why: Refusal::Overflow, peer }),
        }
    }

    fn on_control(&self, peer: &str, origin: &Origin, control: Control) {
        match control {
            Control::Challenge { of, nonce } if of == *self.envelopes.origin() => {
                let mut sent = self.sent.lock();
                let numbers = Numbers { last: sent.last(), stale: sent.before(Instant::now(), FRESH) };
                drop(sent);
                self.send_control(peer, &Control::Answer { to: *origin, nonce, numbers });
            }
            Control::Answer { to, nonce, numbers } if to == *self.envelopes.origin() => {
                let answered = self.replays.lock().answered(Instant::now(), origin, &nonce, numbers);
                let Some((fresh, stale)) = answered else { return };
                for _ in 0..stale {
                    self.refuse(&Refused { why: Refusal::Replayed, peer });
                }
                for message in fresh {
                    self.deliver(message);
                }
                // Messages that have come meanwhile wait behind these, so that none overtakes.
                while let Some(message) = self.next_behind(origin) {
                    self.deliver(message);
                }
            }
            // For another node with the same name.
            Control::Challenge { .. } | Control::Answer { .. } => {}
        }
    }

    /// A function of its own, since a loop's condition would hold the lock during the body.
    fn next_behind(&self, origin: &Origin) -> Option<Message> {
        self.replays.lock().behind(origin)
    }

    /// Sends a control message. A lost one is sent again when the need arises again.
    fn send_control(&self, peer: &str, control: &Control) {
        if let Some(envelope) = self.envelopes.write_control(peer, control) {
            let _ = self.enqueue(self.node_subject(peer), envelope);
        }
    }

    /// Drops messages whose sender hasn't answered. Call it about twice a second.
    pub(crate) fn tidy(&self) {
        let unanswered = self.replays.lock().tidy(Instant::now());
        for _ in 0..unanswered {
            self.refuse(&Refused { why: Refusal::Unanswered, peer: "" });
        }
    }

    fn deliver(&self, message: Message) {
        let Some(inbound) = self.inbound.get() else { return };
        inbound.deliver(&Arc::new(message));
    }

    fn refuse(&self, refused: &Refused<'_>) {
        let Refused { why, peer } = *refused;
        self.refused[why as usize].increment();
        {
            let mut logged = self.logged.lock();
            if logged.len() >= MAX_LOGGED_REFUSALS || !logged.insert((why, peer.into())) {
                return;
            }
        }
        tracing::warn!(
            engine = self.engine,
            ?peer,
            reason = why.label(),
            "refused a message from another node: {}; further ones for this reason are only counted",
            why.explanation()
        );
    }
}

impl Source for EngineLink {
    fn read(&self, readings: &mut Readings) {
        let connected = usize::from(*self.connected.borrow());
        readings.add_count(&table::ENGINE_CONNECTED, &[self.engine], connected);
        self.queued.most_bytes.read(readings);
        self.queued.most_messages.read(readings);
    }
}

/// The adapter. Dropped with the last `PubSub`, it stops its driver.
pub(crate) struct NodeAdapter {
    link: Arc<EngineLink>,
}

impl NodeAdapter {
    pub(crate) fn new(link: Arc<EngineLink>) -> Self {
        Self { link }
    }
}

impl Drop for NodeAdapter {
    fn drop(&mut self) {
        self.link.closing.cancel();
    }
}

impl Adapter for NodeAdapter {
    fn node(&self) -> &str {
        self.link.node()
    }

    fn region(&self) -> Option<&str> {
        self.link.region.as_deref()
    }

    fn start(&self, inbound: Inbound) {
        // The task may run already: messages that arrive before this have no subscriber. Called only once.
        let _ = self.link.inbound.set(inbound);
    }

    fn broadcast(&self, message: &Arc<Message>) -> Result<(), BroadcastError> {
        self.link.send(None, message)
    }

    fn direct_broadcast(&self, node: &str, message: &Arc<Message>) -> Result<(), BroadcastError> {
        // No node has such a long name.
        if node.len() > MAX_NODE_BYTES {
            return Ok(());
        }
        self.link.send(Some(node), message)
    }

    fn queue_limits(&self) -> Option<QueueLimits> {
        Some(self.link.limits)
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.link.connected.subscribe()
    }

    fn metrics(&self) -> Option<Arc<Metrics>> {
        Some(self.link.metrics().clone())
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        // Now, not at the first poll: no message is accepted after this call.
        self.link.connected.send_replace(false);
        self.link.closing.cancel();
        Box::pin(async {
            // The driver stops within that time, unless nothing polls it.
            let _ = timeout(MAX_CLOSE_TIME, self.link.closed.cancelled()).await;
        })
    }

    fn subscribed(&self, topic: &Topic) {
        self.link.interest.join(topic);
    }

    fn unsubscribed(&self, topic: &Topic) {
        self.link.interest.leave(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    #[test]
    fn a_node_that_has_left_is_disconnected_and_its_queue_is_not_full() {
        let envelopes = Envelopes::new("adsum", "a", [0; 16], None);
        let limits = QueueLimits { messages: 1, bytes: 1024 };
        let (link, outgoing) = EngineLink::new("NATS", "adsum", None, envelopes, Duration::ZERO, limits);
        link.connected.send_replace(true);
        let message = Message::new("topic", "event", Payload::Binary(Bytes::new()));
        assert!(link.send(None, &message).is_ok());
        assert!(matches!(link.send(None, &message), Err(BroadcastError::Full { .. })));
        drop(outgoing);
        assert!(matches!(link.send(None, &message), Err(BroadcastError::Disconnected { .. })));
    }
}
