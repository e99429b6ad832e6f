//! The task that keeps this node in step with the others.
//!
//! It is the shell around [`Cluster`], the state machine: it passes messages and the time in, and does what comes out.
//! The nodes detect and repair any loss, here or in the network.

mod inbox;
mod peer_topic;
mod turn;

use std::{sync::Arc, time::Duration};

use adsum_pubsub::{Attachment, NODE_DOWN, NODES_TOPIC, tasks};
use adsum_tracker::{Cluster, ClusterMessage, ClusterOptions, Effect, MessageError, Replica, Report, Time};
use parking_lot::Mutex;
use tokio::{
    sync::{oneshot, watch},
    task::yield_now,
    time::{Instant, sleep_until},
};
use tracing::debug_span;

use self::{
    inbox::{HandedOver, HeldRequest, InboxPart},
    turn::Turn,
};
pub(crate) use self::{
    inbox::{INBOX_BYTES, ReplicationInbox},
    peer_topic::PeerTopic,
};
use crate::{core::Core, handler::PresenceHandler, layer::PresenceLayer, sync_status::SyncStatus};

/// Keeps the node in the cluster while it is polled. After a panic it goes on as a new incarnation, with a new state
/// except for the presences in the set.
pub(crate) fn run<H: PresenceHandler>(
    core: Arc<Core<H>>,
    inbox: Arc<ReplicationInbox>,
    peer_topic: PeerTopic,
    options: ClusterOptions,
    status: watch::Sender<SyncStatus>,
) -> impl Future<Output = ()> + Send {
    // Made here, so that it also closes the inbox if the runtime ends before the first poll.
    let closing = CloseOnDrop(inbox.clone());
    async move {
        let _closing = closing;
        restarted(core, inbox, peer_topic, options, status).await;
    }
}

/// Closes the inbox when it is dropped.
struct CloseOnDrop(Arc<ReplicationInbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.clear(true);
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
        // To the others, a node that failed while it was leaving is gone: it doesn't start again.
        let ends = failed.is_some() && inbox.is_leaving();
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

/// The replica of a failed run.
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
    turn: Turn,
}

impl<H: PresenceHandler> Drop for Replication<H> {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            *self.last.lock() = Some(self.cluster.replica().clone());
            let was_live = self.status.borrow().was_live();
            self.status.send_replace(SyncStatus::Failed { was_live });
        }
        self.inbox.clear(!failed);
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
        let attachment = peer_topic.attach(inbox.clone());
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
                tracing::info!(replica = %me, "replication restarts as a new incarnation");
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
            turn: Turn::default(),
        }
    }

    async fn run(mut self) {
        let mut connected = self.peer_topic.pubsub.connected();
        let mut can_change = true;
        self.check_connection(&mut connected);
        loop {
            self.do_effects().await;
            let wake_at = self.cluster.wake_at();
            let due = async {
                // A time beyond the range of the clock is never.
                let wake_at = wake_at.since_zero();
                match self.began.checked_add(wake_at).filter(|_| wake_at < Duration::from_hours(24 * 365)) {
                    // More is to be done at once, as while a snapshot is read: first other tasks and timers get their turn.
                    Some(at) if at <= Instant::now() => yield_now().await,
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.inbox.changed() => {}
                changed = connected.changed(), if can_change => {
                    can_change = changed.is_ok();
                    self.check_connection(&mut connected);
                }
                () = due => {}
            }
            self.drain_inbox().await;
        }
    }

    fn now(&self) -> Time {
        Time::new(self.began.elapsed())
    }

    fn check_connection(&mut self, connected: &mut watch::Receiver<bool>) {
        let is_connected = *connected.borrow_and_update();
        self.cluster.connected(self.now(), is_connected);
    }

    /// Handles what is in the inbox, and does what is due in between as well: a node that only listens would be taken
    /// for dead.
    async fn drain_inbox(&mut self) {
        loop {
            let InboxPart { messages, is_last, refreshes, leave, node_requests, held_requests } =
                self.inbox.take();
            for (topic, key) in refreshes {
                self.work(|it| it.core.refresh(&topic, &key)).await;
            }
            for bytes in messages {
                self.work(|it| it.handle(&bytes)).await;
            }
            if let Some(told) = leave {
                self.left = Some(told);
                self.cluster.leave(self.now(), self.core.timing.handoff);
            }
            self.work(|it| it.cluster.tick(it.now())).await;
            if !node_requests.is_empty() {
                let nodes = self.cluster.nodes(self.now());
                for request in node_requests {
                    // Ignore the error: the caller has given up.
                    let _ = request.send(nodes.clone());
                }
            }
            for HeldRequest { topic, key, most, answer } in held_requests {
                let _ = answer.send(self.cluster.held(self.now(), &topic, &key, most));
            }
            self.do_effects().await;
            if is_last {
                return;
            }
        }
    }

    async fn do_effects(&mut self) {
        self.core.metrics.counted(self.cluster.take_counts());
        let now = self.now();
        self.core.metrics.keep_nodes(|| self.cluster.nodes(now));
        for effect in self.cluster.take_effects() {
            self.work(|it| match effect {
                Effect::Broadcast(message) => it.peer_topic.broadcast(&message),
                Effect::Send(node, message) => it.peer_topic.send(&node, &message),
                Effect::Changed(topic) => it.core.flush(&topic),
                Effect::Report(report) => it.report(report),
            })
            .await;
        }
    }

    fn handle(&mut self, bytes: &[u8]) {
        match ClusterMessage::decode(bytes) {
            Ok(message) => {
                let batches = match &message {
                    ClusterMessage::Batches { batches, .. } | ClusterMessage::Run { batches, .. } => {
                        batches.len()
                    }
                    _ => 0,
                };
                let _span = (batches > 0).then(|| debug_span!("batch", batches).entered());
                self.cluster.handle(self.now(), message);
            }
            Err(error) => self.refuse(error),
        }
    }

    /// Does a step, after which other tasks get their turn if it is time. That is the machine's time, which tests don't pause.
    async fn work(&mut self, step: impl FnOnce(&mut Self)) {
        let began = std::time::Instant::now();
        step(self);
        self.turn.worked(began.elapsed()).await;
    }

    fn report(&mut self, report: Report) {
        self.core.metrics.reported(&report);
        match report {
            Report::Ready { synced: true } => {
                self.status.send_replace(SyncStatus::Ready);
            }
            Report::Ready { synced: false } => {
                let new = if *self.peer_topic.pubsub.connected().borrow() {
                    tracing::warn!(
                        "not in sync with all nodes within the sync_timeout; lists lack presences until they arrive"
                    );
                    SyncStatus::NotSynced
                } else {
                    tracing::warn!(
                        "the engine is not reached; this node serves only its own clients until it is"
                    );
                    SyncStatus::EngineAway
                };
                self.status.send_if_modified(|status| {
                    let starts = matches!(status, SyncStatus::Starting | SyncStatus::Failed { .. });
                    if starts {
                        *status = new;
                    }
                    starts
                });
            }
            Report::DuplicateNode(twin) => {
                tracing::error!(
                    node = &*twin.name, %twin,
                    "another node of this name is alive: this one serves only its own clients, and no other \
                     node sees its presences; give every node a unique name"
                );
                self.status.send_replace(SyncStatus::Duplicate(twin.name.to_string()));
            }
            Report::DuplicateGone(twin) => {
                tracing::info!(%twin, "the other node of this name is gone; this one takes part in the cluster");
                // The next report says whether it is in sync.
                self.status.send_replace(SyncStatus::Starting);
            }
            Report::Up(replica) => {
                tracing::info!(%replica, "a node is up");
                self.core.leaves.note_run(&replica);
            }
            Report::Down(replica) => {
                let silent_for = self.cluster.silence_of(self.now(), &replica).unwrap_or_default();
                self.core.leaves.note_down(&replica, silent_for);
                tracing::warn!(%replica, "a node is silent; its presences are hidden until it is heard again");
                // For those that wait for that node, such as long polls of its sessions.
                let _ = self.peer_topic.pubsub.local_broadcast(NODES_TOPIC, NODE_DOWN, &*replica.name);
            }
            Report::LinkBroken { region, nodes } => {
                tracing::warn!(
                    region = &*region,
                    nodes,
                    "all nodes of another region are silent: the link to it counts as broken, and its presences stay for \
                     the engine_grace"
                );
            }
            Report::LinkRestored { region } => {
                tracing::info!(region = &*region, "a region is heard again");
            }
            Report::Departed(replica) => {
                tracing::info!(%replica, "a node has left");
                self.core.leaves.note_run(&replica);
            }
            Report::Left { held, of } => {
                tracing::info!(held, of, "left the cluster; `held` of `of` nodes confirmed the final set");
                if let Some(told) = self.left.take() {
                    let _ = told.send(HandedOver { held, of });
                }
            }
        }
    }

    /// Counts a message that is refused, and logs the first of each kind.
    fn refuse(&mut self, error: MessageError) {
        self.core.metrics.refused(&error);
        if !self.logged.contains(&error) {
            tracing::error!(%error, "refused a message from another node; further ones like it are only counted");
            self.logged.push(error);
        }
    }
}
