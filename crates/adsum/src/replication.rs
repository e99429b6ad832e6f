//! The task that keeps this node in step with the others.
//!
//! It is the shell around [`Cluster`], the state machine: it hands it messages and the time, and does what comes
//! out. Whatever is lost on the way, here or in the network, the nodes find out and mend by themselves.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use adsum_pubsub::{
    Attachment, BroadcastError, Json, Message as Broadcast, NODE_DOWN, NODES_TOPIC, Payload, PubSub,
    Subscriber, SubscriberId, Topic, tasks,
};
use adsum_tracker::{
    Cluster, ClusterMessage, ClusterOptions, Effect, Key, MessageError, NodeInfo, Replica, Report, Time,
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{NotReady, core::Core, handler::PresenceHandler, layer::PresenceLayer};

/// Messages of other nodes that wait are dropped beyond so many bytes.
const INBOX_BYTES: usize = 64 * 1024 * 1024;
/// So many messages are taken in before the time is looked at and the effects are seen to.
const MESSAGES_AT_ONCE: usize = 64;
/// Refreshes of other nodes that wait are dropped beyond so many.
const REFRESHES: usize = 4096;

/// The events on a presence's own topic.
const SET: &str = "set";
const REFRESH: &str = "refresh";

/// How far this node is with the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyncStatus {
    Starting,
    Ready,
    NotSynced,
    EngineAway,
    Duplicate(String),
    /// It has panicked, and is started again. `was_live`: other nodes knew this one as up.
    Failed {
        was_live: bool,
    },
}

impl SyncStatus {
    pub(crate) fn health(&self) -> Result<(), NotReady> {
        match self {
            Self::Ready => Ok(()),
            Self::Starting => Err(NotReady::Starting),
            Self::NotSynced => Err(NotReady::NotSynced),
            Self::EngineAway => Err(NotReady::EngineAway),
            Self::Duplicate(node) => Err(NotReady::DuplicateNode(node.clone())),
            Self::Failed { .. } => Err(NotReady::Failed),
        }
    }

    fn was_live(&self) -> bool {
        match self {
            Self::Ready | Self::NotSynced => true,
            Self::Failed { was_live } => *was_live,
            Self::Starting | Self::EngineAway | Self::Duplicate(_) => false,
        }
    }
}

/// What waits for the task.
pub(crate) struct ReplicationInbox {
    waiting: Mutex<InboxState>,
    wake: Notify,
}

#[derive(Default)]
struct InboxState {
    messages: VecDeque<Bytes>,
    bytes: usize,
    refreshes: VecDeque<(Topic, Key)>,
    leave: Option<oneshot::Sender<HandedOver>>,
    /// Those who ask which nodes there are. Each waits for the answer, so there are no more than callers.
    node_requests: Vec<oneshot::Sender<Vec<NodeInfo>>>,
    /// This node has been asked to leave.
    leaving: bool,
    /// The task has ended: nobody takes what waits any more.
    closed: bool,
}

/// How many nodes hold this one's final set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandedOver {
    pub(crate) held: usize,
    pub(crate) of: usize,
}

impl ReplicationInbox {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::default(), wake: Notify::new() }
    }

    /// Something has changed in the set.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// What is received is an error where the task has ended.
    pub(crate) fn leave(&self) -> oneshot::Receiver<HandedOver> {
        let (told, left) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.leaving = true;
        if !waiting.closed {
            waiting.leave = Some(told);
        }
        drop(waiting);
        self.wake();
        left
    }

    /// What is received is an error if the task has ended, or fails before it answers.
    pub(crate) fn nodes(&self) -> oneshot::Receiver<Vec<NodeInfo>> {
        let (request, nodes) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if !waiting.closed {
            waiting.node_requests.push(request);
        }
        drop(waiting);
        self.wake();
        nodes
    }

    fn push(&self, message: &Bytes) {
        let mut waiting = self.waiting.lock();
        if waiting.closed || waiting.bytes + message.len() > INBOX_BYTES {
            drop(waiting);
            metrics::counter!("adsum_cluster_messages_dropped_total").increment(1);
            return;
        }
        waiting.bytes += message.len();
        waiting.messages.push_back(message.clone());
        drop(waiting);
        self.wake();
    }
}

impl Subscriber for ReplicationInbox {
    fn deliver(&self, message: &Arc<Broadcast>) {
        match message.payload() {
            Payload::Binary(bytes) if message.event() == SET => self.push(bytes),
            Payload::Json(json) if message.event() == REFRESH => {
                let Ok(refresh) = json.decode::<(Topic, Key)>() else { return };
                let mut waiting = self.waiting.lock();
                if waiting.refreshes.len() < REFRESHES {
                    waiting.refreshes.push_back(refresh);
                }
                drop(waiting);
                self.wake();
            }
            _ => {}
        }
    }
}

/// The way to the same presence on other nodes.
#[derive(Clone)]
pub(crate) struct PeerTopic {
    pubsub: PubSub,
    topic: Topic,
    id: SubscriberId,
}

impl PeerTopic {
    /// Presences of different names don't see each other. No client can join this topic: those that begin like it
    /// are kept for the nodes.
    pub(crate) fn new(pubsub: PubSub, name: &str) -> Self {
        Self { pubsub, topic: format!("adsum:presence:{name}").into(), id: SubscriberId::unique() }
    }

    pub(crate) fn attach(&self, inbox: &Arc<ReplicationInbox>) -> Option<Attachment> {
        self.pubsub.is_networked().then(|| self.pubsub.attach(self.topic.clone(), self.id, inbox.clone()))
    }

    /// Has all other nodes refresh a key.
    pub(crate) fn refresh(&self, topic: &Topic, key: &Key) {
        if self.pubsub.is_networked()
            && let Ok(payload) = Json::encode(&(topic, key))
        {
            note_loss(self.pubsub.broadcast_from(self.id, &self.topic, REFRESH, payload));
        }
    }

    fn broadcast(&self, message: &ClusterMessage) {
        let payload = Payload::Binary(message.encode().into());
        note_loss(self.pubsub.broadcast_from(self.id, &self.topic, SET, payload));
    }

    fn send(&self, node: &str, message: &ClusterMessage) {
        let payload = Payload::Binary(message.encode().into());
        note_loss(self.pubsub.direct_broadcast(node, &self.topic, SET, payload));
    }
}

/// What isn't sent now is found missing by the next heartbeat, and asked for.
fn note_loss(sent: Result<(), BroadcastError>) {
    if let Err(error) = sent {
        metrics::counter!("adsum_cluster_messages_unsent_total").increment(1);
        tracing::debug!(%error, "a message to other nodes was not sent");
    }
}

/// Keeps the node in the cluster for as long as it is polled. After a panic it goes on as a new incarnation, with a new
/// state but for what is in the set.
pub(crate) fn run<H: PresenceHandler>(
    core: Arc<Core<H>>,
    inbox: Arc<ReplicationInbox>,
    peer_topic: PeerTopic,
    options: ClusterOptions,
    status: watch::Sender<SyncStatus>,
) -> impl Future<Output = ()> + Send {
    // Also where the runtime ends before it is polled at all.
    let closing = Closing(inbox.clone());
    async move {
        let _closing = closing;
        restarted(core, inbox, peer_topic, options, status).await;
    }
}

/// Says, once dropped, that nobody takes what waits any more.
struct Closing(Arc<ReplicationInbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        let waited =
            mem::replace(&mut *self.0.waiting.lock(), InboxState { closed: true, ..InboxState::default() });
        drop(waited);
    }
}

async fn restarted<H: PresenceHandler>(
    core: Arc<Core<H>>,
    inbox: Arc<ReplicationInbox>,
    peer_topic: PeerTopic,
    options: ClusterOptions,
    status: watch::Sender<SyncStatus>,
) {
    let began = Instant::now();
    let last = Arc::new(Mutex::new(None));
    tasks::restarted("replication", || {
        let failed = last.lock().take();
        // A node that was leaving when it failed is gone for the others: nobody waits for it any more.
        let ends = failed.is_some() && inbox.waiting.lock().leaving;
        let replication = (!ends).then(|| {
            let (core, inbox, peer_topic, options) =
                (core.clone(), inbox.clone(), peer_topic.clone(), options.clone());
            Replication::new(core, inbox, peer_topic, options, status.clone(), began, last.clone(), failed)
        });
        async move {
            if let Some(replication) = replication {
                replication.run().await;
            }
        }
    })
    .await;
}

/// The replica that a failed run was.
type LastRun = Arc<Mutex<Option<Replica>>>;

/// One run of the task.
struct Replication<H: PresenceHandler> {
    core: Arc<Core<H>>,
    cluster: Cluster<PresenceLayer<H>>,
    inbox: Arc<ReplicationInbox>,
    peer_topic: PeerTopic,
    _attachment: Option<Attachment>,
    status: watch::Sender<SyncStatus>,
    began: Instant,
    last: LastRun,
    left: Option<oneshot::Sender<HandedOver>>,
    /// The kinds of broken messages that were logged already.
    logged: Vec<MessageError>,
}

impl<H: PresenceHandler> Drop for Replication<H> {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            *self.last.lock() = Some(self.cluster.replica().clone());
            let was_live = self.status.borrow().was_live();
            self.status.send_replace(SyncStatus::Failed { was_live });
        }
        let mut waiting = self.inbox.waiting.lock();
        let waited = mem::take(&mut *waiting);
        waiting.leaving = waited.leaving;
        // Who asked it to leave after it has failed hears that there is nobody to wait for.
        waiting.closed = !failed || waited.leaving;
        drop(waiting);
    }
}

impl<H: PresenceHandler> Replication<H> {
    #[expect(clippy::too_many_arguments, reason = "it is called in one place")]
    fn new(
        core: Arc<Core<H>>,
        inbox: Arc<ReplicationInbox>,
        peer_topic: PeerTopic,
        options: ClusterOptions,
        status: watch::Sender<SyncStatus>,
        began: Instant,
        last: LastRun,
        failed: Option<Replica>,
    ) -> Self {
        let attachment = peer_topic.attach(&inbox);
        let tracker = core.tracker.clone();
        let region = peer_topic.pubsub.region().map(Into::into);
        let cluster = match failed {
            None => {
                let seed = tracker.replica().incarnation.random;
                Cluster::start(Time::ZERO, tracker, region, options, seed)
            }
            Some(failed) => {
                let mut me = Replica::start(failed.name);
                // The clock may have been set back, or stand still.
                me.incarnation.started =
                    me.incarnation.started.max(failed.incarnation.started.saturating_add(1));
                tracing::info!(replica = %me, "goes on as a new incarnation");
                let (now, seed) = (Time::new(began.elapsed()), me.incarnation.random);
                let was_live = status.borrow().was_live();
                Cluster::restart(now, me, was_live, tracker, region, options, seed)
            }
        };
        Self {
            core,
            cluster,
            inbox,
            peer_topic,
            _attachment: attachment,
            status,
            began,
            last,
            left: None,
            logged: Vec::new(),
        }
    }

    async fn run(mut self) {
        let mut connected = self.peer_topic.pubsub.connected();
        let mut can_change = true;
        self.see_to_connection(&mut connected);
        loop {
            self.see_to_effects().await;
            let wake_at = self.cluster.wake_at();
            let due = async {
                // A time so far ahead that the clock can't tell it is never.
                let wake_at = wake_at.since_zero();
                match self.began.checked_add(wake_at).filter(|_| wake_at < Duration::from_hours(24 * 365)) {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.inbox.wake.notified() => {}
                changed = connected.changed(), if can_change => {
                    can_change = changed.is_ok();
                    self.see_to_connection(&mut connected);
                }
                () = due => {}
            }
            self.see_to_inbox().await;
        }
    }

    fn now(&self) -> Time {
        Time::new(self.began.elapsed())
    }

    fn see_to_connection(&mut self, connected: &mut watch::Receiver<bool>) {
        let is_connected = *connected.borrow_and_update();
        self.cluster.connected(self.now(), is_connected);
    }

    /// Takes what waits, and does what is due: also in between, for a node that hears so much that it says nothing
    /// is taken for dead.
    async fn see_to_inbox(&mut self) {
        loop {
            let (messages, refreshes, leave, node_requests) = {
                let mut waiting = self.inbox.waiting.lock();
                let count = waiting.messages.len().min(MESSAGES_AT_ONCE);
                let messages: Vec<_> = waiting.messages.drain(..count).collect();
                waiting.bytes -= messages.iter().map(Bytes::len).sum::<usize>();
                let node_requests = mem::take(&mut waiting.node_requests);
                (messages, mem::take(&mut waiting.refreshes), waiting.leave.take(), node_requests)
            };
            for (topic, key) in refreshes {
                self.core.refresh(&topic, &key);
            }
            let is_last = messages.len() < MESSAGES_AT_ONCE;
            for bytes in messages {
                match ClusterMessage::decode(&bytes) {
                    Ok(message) => self.cluster.handle(self.now(), message),
                    Err(error) => self.refuse(error),
                }
            }
            if let Some(told) = leave {
                self.left = Some(told);
                self.cluster.leave(self.now(), self.core.timing.handoff);
            }
            self.cluster.tick(self.now());
            if !node_requests.is_empty() {
                let nodes = self.cluster.nodes(self.now());
                for request in node_requests {
                    // One that has given up doesn't need it.
                    let _ = request.send(nodes.clone());
                }
            }
            self.see_to_effects().await;
            if is_last {
                return;
            }
        }
    }

    async fn see_to_effects(&mut self) {
        for effect in self.cluster.take_effects() {
            match effect {
                Effect::Broadcast(message) => self.peer_topic.broadcast(&message),
                Effect::Send(node, message) => self.peer_topic.send(&node, &message),
                Effect::Changed(topic) => {
                    self.core.flush(&topic);
                    // A thousand topics may have changed at once; what else runs here gets its turn.
                    tokio::task::consume_budget().await;
                }
                Effect::Report(report) => self.report(report),
            }
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Ready { synced: true } => {
                self.status.send_replace(SyncStatus::Ready);
            }
            Report::Ready { synced: false } => {
                let stands = if *self.peer_topic.pubsub.connected().borrow() {
                    tracing::warn!("not in sync with all nodes yet; lists may lack presences of other nodes");
                    SyncStatus::NotSynced
                } else {
                    tracing::warn!(
                        "the engine is not reached; this node serves its own clients only until it is"
                    );
                    SyncStatus::EngineAway
                };
                self.status.send_if_modified(|status| {
                    let starts = matches!(status, SyncStatus::Starting | SyncStatus::Failed { .. });
                    if starts {
                        *status = stands;
                    }
                    starts
                });
            }
            Report::DuplicateNode(twin) => {
                tracing::error!(
                    node = &*twin.name, %twin,
                    "another node of this name is alive: this one serves its own clients only, and no other \
                     node sees its presences; give every node a name of its own"
                );
                self.status.send_replace(SyncStatus::Duplicate(twin.name.to_string()));
            }
            Report::DuplicateGone(twin) => {
                tracing::info!(%twin, "the other node of this name is gone; this one takes part in the cluster");
                // Until it says how far it is in sync.
                self.status.send_replace(SyncStatus::Starting);
            }
            Report::Up(replica) => tracing::info!(%replica, "a node is up"),
            Report::Down(replica) => {
                tracing::warn!(%replica, "a node is silent; its presences are hidden until it is heard again");
                // Whoever waits for that node hears of it: long polls of its sessions, say.
                let _ = self.peer_topic.pubsub.local_broadcast(NODES_TOPIC, NODE_DOWN, &*replica.name);
            }
            Report::LinkBroken { region, nodes } => {
                metrics::counter!("adsum_region_links_broken_total").increment(1);
                tracing::warn!(
                    region = &*region,
                    nodes,
                    "no node of another region is heard: its link counts as broken, and its presences stay for the \
                     engine_grace"
                );
            }
            Report::LinkRestored { region } => {
                tracing::info!(region = &*region, "a region is heard again");
            }
            Report::Departed(replica) => tracing::info!(%replica, "a node has left"),
            Report::Left { held, of } => {
                tracing::info!(held, of, "left; so many other nodes hold the final set");
                if let Some(told) = self.left.take() {
                    let _ = told.send(HandedOver { held, of });
                }
            }
        }
    }

    /// Counts a message that can't be taken, and logs it, each kind once.
    fn refuse(&mut self, error: MessageError) {
        metrics::counter!("adsum_cluster_messages_refused_total").increment(1);
        if !self.logged.contains(&error) {
            tracing::error!(%error, "a message of another node was refused; further ones like it are only counted");
            self.logged.push(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: usize) -> Arc<Broadcast> {
        Arc::new(Broadcast::new("t", SET, Payload::Binary(vec![0; bytes].into())))
    }

    fn held(inbox: &ReplicationInbox) -> (usize, usize) {
        let waiting = inbox.waiting.lock();
        (waiting.messages.len(), waiting.bytes)
    }

    #[test]
    fn an_inbox_holds_its_bytes_and_no_more() {
        let inbox = ReplicationInbox::new();
        let message = said(INBOX_BYTES / 4);
        for _ in 0..4 {
            inbox.deliver(&message);
        }
        assert_eq!(held(&inbox), (4, INBOX_BYTES));
        inbox.deliver(&said(1));
        assert_eq!(held(&inbox), (4, INBOX_BYTES));
    }

    #[test]
    fn only_so_many_refreshes_wait() {
        let inbox = ReplicationInbox::new();
        for n in 0..REFRESHES + 2 {
            assert_eq!(inbox.waiting.lock().refreshes.len(), n.min(REFRESHES));
            let refresh = Json::encode(&("t", n.to_string())).expect("strings are JSON");
            inbox.deliver(&Arc::new(Broadcast::new("t", REFRESH, refresh.into())));
        }
    }
}
