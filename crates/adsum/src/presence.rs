//! The handle of a presence.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use adsum_channels::{Depart, Drain, Sockets};
use adsum_pubsub::{
    PubSub, Topic,
    metrics::Source,
    tasks::{self, Task},
};
use adsum_tracker::{ClusterOptions, Key, LeaveReason, NodeInfo, OverLimit, OwnerExit};
use tokio::sync::watch;

use crate::{
    core::Core,
    entry::{Entry, Presences, Snapshot},
    exchange::{self, Exchange},
    flusher::{self, FlusherEnd},
    handler::{NoFetch, PresenceHandler},
    replication::{self, PeerTopic, ReplicationInbox},
    sync_status::{NotReady, SyncStatus},
};

/// Tracks who is in a topic, and tells its subscribers as it changes. Clones share everything.
///
/// Presences are tracked for a channel ([`track`](Self::track)) or for any task ([`owner`](Self::owner)), and
/// leave with it.
pub struct Presence<H: PresenceHandler = NoFetch> {
    pub(crate) core: Arc<Core<H>>,
    peer_topic: PeerTopic,
    pub(crate) inbox: Arc<ReplicationInbox>,
    pub(crate) exchange: Arc<Exchange>,
    status: watch::Receiver<SyncStatus>,
    tasks: Arc<PresenceTasks<H>>,
}

impl<H: PresenceHandler> Presence<H> {
    pub(crate) fn start(
        core: Core<H>,
        inbox: Arc<ReplicationInbox>,
        peer_topic: PeerTopic,
        exchange: Arc<Exchange>,
        options: ClusterOptions,
        new_status: watch::Sender<SyncStatus>,
    ) -> Self {
        let core = Arc::new(core);
        let source: Arc<dyn Source> = core.clone();
        core.pubsub.metrics().register(Arc::downgrade(&source));
        drop(source);
        let status = core.status.clone();
        let ending = FlusherEnd(core.clone());
        let flusher = tasks::spawn("flusher", async move {
            let ending = ending;
            tasks::restarted("flusher", || flusher::run(&ending.0)).await;
        });
        let replication =
            replication::run(core.clone(), inbox.clone(), peer_topic.clone(), options, new_status);
        let replication = tasks::spawn("replication", replication);
        // Without other nodes, there is nobody to answer.
        let answering = core.pubsub.is_networked().then(|| {
            let (core, inbox, exchange) = (core.clone(), inbox.clone(), exchange.clone());
            tasks::spawn("explain", async move {
                tasks::restarted("explain", || exchange::run(&core, &inbox, &exchange)).await;
            })
        });
        let tasks = Arc::new(PresenceTasks {
            _flusher: flusher,
            _replication: replication,
            _answering: answering,
            _ending: FlusherEnd(core.clone()),
        });
        Self { core, peer_topic, inbox, exchange, status, tasks }
    }

    /// Waits until this node has the presences of all others. Accept sockets after it: clients of a node with half of
    /// the presences would see the other half leave.
    ///
    /// Returns at once without a network, after two heartbeats if there is no other node, and in any case once nothing
    /// has come from the others for the cluster's `sync_timeout`.
    ///
    /// # Errors
    /// There is no full view yet, the engine is not reached, or another node of this name is alive. This node can still
    /// serve its own clients, so most programs log the error and go on: the node keeps retrying.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let mut status = self.status.clone();
        let known = status.wait_for(|status| *status != SyncStatus::Starting).await;
        // An error: the task has ended with its runtime.
        known.map_or(Err(NotReady::Failed), |status| status.health())
    }

    /// Checks whether this node is ready, for a health check; [`ready`](Self::ready) waits for it at the start.
    ///
    /// An outage of the engine after the start isn't an error: all nodes have it, and recover without any action.
    ///
    /// # Errors
    /// As [`ready`](Self::ready), or the node is still starting.
    pub fn health(&self) -> Result<(), NotReady> {
        self.status.borrow().health()
    }

    /// Returns the nodes of the cluster as this one knows them, itself included, by name: for an operator's page or
    /// metric. [`NodeInfo`] has the state of each, how far this node is behind it, and how long it has been silent.
    ///
    /// Without a network, it is this node only. Empty if the replication task has failed: see [`health`](Self::health).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use adsum::{NodeState, Presence, PubSub};
    ///
    /// let presence = Presence::builder(PubSub::local()).start();
    /// let nodes = presence.nodes().await;
    /// assert!(nodes.iter().all(|node| node.state == NodeState::Up && node.behind == 0));
    /// println!("{}", serde_json::to_string(&nodes).expect("they are JSON"));
    /// # }
    /// ```
    pub async fn nodes(&self) -> Vec<NodeInfo> {
        self.inbox.nodes().await.unwrap_or_default()
    }

    /// Leaves the cluster before the program ends: closes all sockets, batch by batch, and keeps the presences of this
    /// node for the [`handoff`](crate::Builder::handoff), so that clients that come back on other nodes were never
    /// gone. Waits at most a second until the other nodes have the presences.
    ///
    /// Returns how many sockets are still open when the time of the drain is over.
    ///
    /// [`serve`](crate::serve()) does this for the presences that it is given, and closes their `PubSub`. A program with
    /// a server of its own calls [`PubSub::close`](crate::PubSub::close) at its end.
    pub async fn drain(&self, sockets: &Sockets, drain: Drain) -> usize {
        self.departing();
        let left_open = sockets.drain(drain).await;
        self.depart().await;
        left_open
    }

    fn set_owner_exit(&self) {
        let handoff = self.core.timing.handoff;
        self.core.tracker.set_owner_exit(if handoff.is_zero() {
            OwnerExit::Leave(LeaveReason::Draining)
        } else {
            OwnerExit::Depart(LeaveReason::Draining, handoff)
        });
    }

    /// Checks a key that a client chooses, so that `join` refuses one that can't be tracked. If instead the
    /// [`track`](Self::track) after the join fails, the channel crashes, and its client joins again and again.
    ///
    /// ```
    /// # use adsum::{JoinError, Presence, PubSub};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let presence = Presence::builder(PubSub::local()).start();
    /// let refused = presence.check_key(&"x".repeat(1000)).map_err(JoinError::reason);
    /// assert!(refused.is_err());
    /// # }
    /// ```
    ///
    /// # Errors
    /// The key is over the [limit](crate::Limits::key_bytes).
    pub fn check_key(&self, key: &str) -> Result<(), OverLimit> {
        self.core.tracker.limits().check_key(key)
    }

    /// Returns the presences of a topic, with their infos. Asks `fetch` for keys without a fresh info.
    ///
    /// Never fails: if `fetch` does, the last known infos are used, or none.
    pub async fn list(&self, topic: impl Into<Topic>) -> Presences<H> {
        let topic = topic.into();
        self.core.fetch_for_list(&topic).await;
        let snapshot = self.core.tracker.lock(&topic).topic_mut(&topic).map(|set| {
            // The program may send the list as a state, so diffs have to tell when its rows leave.
            set.mark_shown();
            Snapshot::of::<H>(set)
        });
        snapshot.map_or_else(Presences::new, Snapshot::decode)
    }

    /// Returns a page of a topic's presences: at most `limit` keys, in the order of their bytes, after the key `after`
    /// or from the first. For topics whose list is too long to read at once.
    ///
    /// Pages that are read one after the other contain all presences that are there the whole time.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # use adsum::{Presence, PubSub};
    /// # let presence = Presence::builder(PubSub::local()).start();
    /// # let mut owner = presence.owner();
    /// # for n in 0..250 {
    /// #     owner.track("hall", n.to_string(), serde_json::Map::new()).unwrap();
    /// # }
    /// let mut after = None;
    /// let mut seen = 0;
    /// loop {
    ///     let page = presence.page("hall", after.as_deref(), 100).await;
    ///     let Some((last, _)) = page.last() else { break };
    ///     seen += page.len();
    ///     after = Some(last.to_string());
    /// }
    /// assert_eq!(seen, presence.key_count("hall"));
    /// # }
    /// ```
    pub async fn page(
        &self,
        topic: impl Into<Topic>,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<(Key, Entry<H>)> {
        let topic = topic.into();
        let keys: Vec<Key> = {
            let shard = self.core.tracker.lock(&topic);
            let Some(set) = shard.topic(&topic) else { return Vec::new() };
            set.groups_after(after).take(limit).map(|(key, _)| key.clone()).collect()
        };
        self.core.fetch_for_keys(&topic, &keys).await;
        let page = self.core.tracker.lock(&topic).topic_mut(&topic).map(|set| {
            set.mark_shown();
            Snapshot::page::<H>(set, after, limit)
        });
        page.map_or_else(Vec::new, Snapshot::decode_in_order)
    }

    /// Returns the presences of one key in a topic, as [`list`](Self::list) does. `None` if the key isn't there.
    pub async fn get_by_key(&self, topic: impl Into<Topic>, key: impl Into<Key>) -> Option<Entry<H>> {
        let (topic, key) = (topic.into(), key.into());
        self.core.fetch_for_key(&topic, &key).await;
        let (info, rows) = {
            let shard = self.core.tracker.lock(&topic);
            let group = shard.topic(&topic)?.group(&key)?;
            (group.layer().value(), group.rows().to_vec())
        };
        let mut entry = Entry::new(info);
        for row in rows {
            entry.push(&row, row.previous(), None);
        }
        Some(entry)
    }

    /// Whether anything is tracked under a key of a topic. Doesn't ask `fetch`, and doesn't wait.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use adsum::{Presence, PubSub};
    /// # let presence = Presence::builder(PubSub::local()).start();
    /// # let mut owner = presence.owner();
    /// owner.track("room:1", 7, serde_json::Map::new())?;
    /// assert!(presence.contains("room:1", 7));
    /// assert!(!presence.contains("room:1", 8));
    /// # Ok(())
    /// # }
    /// ```
    pub fn contains(&self, topic: impl Into<Topic>, key: impl Into<Key>) -> bool {
        let (topic, key) = (topic.into(), key.into());
        let shard = self.core.tracker.lock(&topic);
        shard.topic(&topic).is_some_and(|set| set.group(&key).is_some())
    }

    /// Returns the number of presences in a topic, as this node knows them.
    ///
    /// Each node has every topic, so this is the number of the whole cluster, without asking another node. If nodes
    /// someday have only a part of the topics, that will be an option, and a topic that a node doesn't have will count
    /// as empty there; [`list`](Self::list), which can wait, will ask the others.
    pub fn count(&self, topic: impl Into<Topic>) -> usize {
        self.core.tracker.count(&topic.into())
    }

    /// Returns the number of keys in a topic, such as users if a key is a user, as this node knows them: see
    /// [`count`](Self::count).
    pub fn key_count(&self, topic: impl Into<Topic>) -> usize {
        self.core.tracker.key_count(&topic.into())
    }

    /// Fetches the info of a key again, after it has changed. Sends a diff in which the key's metas join once more,
    /// under the same refs, with the new info beside them.
    ///
    /// Every other node does the same. Nothing happens if the key isn't in the topic.
    pub fn refresh(&self, topic: impl Into<Topic>, key: impl Into<Key>) {
        let (topic, key) = (topic.into(), key.into());
        self.peer_topic.refresh(&topic, &key);
        self.core.refresh(&topic, &key);
    }
}

/// The `PubSub` of a presence, for [`SocketBuilder::into_router`](crate::SocketBuilder::into_router).
impl<H: PresenceHandler> From<&Presence<H>> for PubSub {
    fn from(presence: &Presence<H>) -> Self {
        presence.core.pubsub.clone()
    }
}

impl<H: PresenceHandler> Depart for Presence<H> {
    fn announce(&self) {
        self.core.metrics.end();
    }

    fn departing(&self) {
        self.core.metrics.end();
        self.set_owner_exit();
    }

    fn depart(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let inbox = self.inbox.clone();
        Box::pin(async move {
            // Ignore the error: the task has ended with its runtime.
            let _ = inbox.leave().await;
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let pubsub = self.core.pubsub.clone();
        Box::pin(async move { pubsub.close().await })
    }
}

impl<H: PresenceHandler> Clone for Presence<H> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            peer_topic: self.peer_topic.clone(),
            inbox: self.inbox.clone(),
            exchange: self.exchange.clone(),
            status: self.status.clone(),
            tasks: self.tasks.clone(),
        }
    }
}

impl<H: PresenceHandler> fmt::Debug for Presence<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("replica", self.core.tracker.replica()).finish_non_exhaustive()
    }
}

/// Ends the tasks with the last handle.
struct PresenceTasks<H: PresenceHandler> {
    _flusher: Task,
    _replication: Task,
    _answering: Option<Task>,
    // Dropped last, when the flusher has ended.
    _ending: FlusherEnd<H>,
}
