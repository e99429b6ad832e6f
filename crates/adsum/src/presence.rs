//! The face of the crate.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Once},
};

use adsum_channels::{Depart, Drain, Sockets};
use adsum_pubsub::{
    Pattern, PubSub, Topic,
    tasks::{self, Task},
};
use adsum_tracker::{ClusterOptions, Key, LeaveReason, NodeInfo, OverLimit, OwnerExit};
use tokio::sync::watch;

use crate::{
    Builder, Entry, Owner, Presences, Watch,
    core::Core,
    entry::Snapshot,
    flusher::{self, FlusherEnd},
    handler::{NoFetch, PresenceHandler},
    replication::{self, PeerTopic, ReplicationInbox, SyncStatus},
    watch::Followed,
};

/// Knows who is in a topic, and tells everyone in it as it changes. Clones share everything.
///
/// Presences are tracked for a channel ([`track`](Self::track)) or for any task ([`owner`](Self::owner)), and
/// leave with it.
pub struct Presence<H: PresenceHandler = NoFetch> {
    pub(crate) core: Arc<Core<H>>,
    peer_topic: PeerTopic,
    inbox: Arc<ReplicationInbox>,
    status: watch::Receiver<SyncStatus>,
    tasks: Arc<PresenceTasks<H>>,
}

impl Presence {
    /// A presence that tells the subscribers of `pubsub`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use adsum::{Presence, PubSub};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Meta {
    ///     status: String,
    /// }
    ///
    /// let presence = Presence::builder(PubSub::local()).meta::<Meta>().start();
    /// let mut owner = presence.owner();
    /// owner.track("room:1", "7", Meta { status: "here".into() })?;
    /// assert_eq!(presence.list("room:1").await["7"].metas[0].meta.status, "here");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(pubsub: PubSub) -> Builder<NoFetch> {
        Builder::new(pubsub)
    }
}

impl<H: PresenceHandler> Presence<H> {
    pub(crate) fn start(
        core: Core<H>,
        inbox: Arc<ReplicationInbox>,
        peer_topic: PeerTopic,
        options: ClusterOptions,
    ) -> Self {
        let core = Arc::new(core);
        let (stands, status) = watch::channel(SyncStatus::Starting);
        let ending = FlusherEnd(core.clone());
        let flusher = tasks::spawn("flusher", async move {
            let ending = ending;
            tasks::restarted("flusher", || flusher::run(&ending.0)).await;
        });
        let replication = replication::run(core.clone(), inbox.clone(), peer_topic.clone(), options, stands);
        let replication = tasks::spawn("replication", replication);
        let tasks = Arc::new(PresenceTasks {
            _flusher: flusher,
            _replication: replication,
            _ending: FlusherEnd(core.clone()),
        });
        Self { core, peer_topic, inbox, status, tasks }
    }

    /// Waits until this node knows what is on the others. Take sockets after it: clients that come to a node that
    /// knows half of the presences would see the others leave.
    ///
    /// Ready at once without a network; alone on one, after two heartbeats; in any case within the cluster's
    /// `sync_timeout`.
    ///
    /// # Errors
    /// There is no full view yet, the engine is not reached, or another node of this name is alive. This node can serve
    /// its own clients nonetheless, so most programs log the error and go on: it mends by itself.
    pub async fn ready(&self) -> Result<(), NotReady> {
        let mut status = self.status.clone();
        let stands = status.wait_for(|status| *status != SyncStatus::Starting).await;
        // An error: the task has ended with its runtime.
        stands.map_or(Err(NotReady::Failed), |status| status.health())
    }

    /// How this node stands in the cluster now, for a health check; [`ready`](Self::ready) waits for it at the start.
    ///
    /// An outage of the engine after that is no error: all nodes have it, and go on by themselves.
    ///
    /// # Errors
    /// As [`ready`](Self::ready), or it is starting yet.
    pub fn health(&self) -> Result<(), NotReady> {
        self.status.borrow().health()
    }

    /// The nodes of the cluster as this one knows them, itself included, by name: for a page or a metric of the
    /// operator's. [`NodeInfo`] says whether each is up, how far this node is behind it, and how long it has been silent.
    ///
    /// One of them without a network. None if the task that keeps this node in step with the others has failed: see
    /// [`health`](Self::health).
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

    /// Leaves the cluster well, before the program ends: closes all sockets, batch by batch, and has the presences
    /// of this node stay for the [`handoff`](Builder::handoff), so that clients that come back on other nodes
    /// were never gone. Waits until the other nodes hold what is to be handed over, at most a second.
    ///
    /// Returns how many sockets are left open when the time of the drain is over.
    ///
    /// [`serve`](crate::serve()) does it for the presences that it is given.
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

    /// Checks a key that a client chooses, so that `join` refuses one that can't be tracked. Where only the
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

    /// An owner for the calling task: what it tracks leaves when it is dropped.
    pub fn owner(&self) -> Owner<H> {
        Owner::new(self.clone())
    }

    /// Who is in a topic, with what `fetch` adds. Asks `fetch` for keys of which nothing fresh is held.
    ///
    /// Never fails: where `fetch` does, the last known infos are used, or none.
    pub async fn list(&self, topic: impl Into<Topic>) -> Presences<H> {
        let topic = topic.into();
        self.core.fetch_for_list(&topic).await;
        let snapshot = self.core.tracker.lock(&topic).topic_mut(&topic).map(|set| {
            // The program may hand it on as a state, so what is in it has to be told to leave.
            set.mark_shown();
            Snapshot::of::<H>(set)
        });
        snapshot.map_or_else(Presences::new, Snapshot::decode)
    }

    /// A part of who is in a topic: at most `limit` keys, in the order of their bytes, after the key `after` or
    /// from the first on. For topics whose list is too long to have at once.
    ///
    /// Pages that are read one after the other show everyone who is there all the time.
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

    /// One key's presences in a topic, as [`list`](Self::list) has them; none where it isn't there.
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

    /// Whether anything is tracked under a key of a topic. Asks `fetch` nothing, and waits for nothing.
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

    /// The number of presences in a topic, as this node knows them.
    ///
    /// Each node holds every topic, so this is the number of the whole cluster, without asking anybody. Should nodes
    /// someday hold a part of the topics, that will be an option, and a topic that a node doesn't hold will count as
    /// empty there; [`list`](Self::list), which can wait, will ask the others.
    pub fn count(&self, topic: impl Into<Topic>) -> usize {
        self.core.tracker.count(&topic.into())
    }

    /// The number of keys in a topic, such as users if a key is a user, as this node knows them: see
    /// [`count`](Self::count).
    pub fn key_count(&self, topic: impl Into<Topic>) -> usize {
        self.core.tracker.key_count(&topic.into())
    }

    /// What `fetch` says of a key has changed: asks it anew, and sends a diff in which the key's metas join
    /// once more, under the same refs, with the new info beside them.
    ///
    /// So does every other node. Nothing happens where the key isn't in the topic.
    pub fn refresh(&self, topic: impl Into<Topic>, key: impl Into<Key>) {
        let (topic, key) = (topic.into(), key.into());
        self.peer_topic.refresh(&topic, &key);
        self.core.refresh(&topic, &key);
    }

    /// Follows a topic from Rust: a state, then diffs without a gap.
    ///
    /// The topic is one name, whatever is in it: a client may have chosen it. [`watch_matching`](Self::watch_matching)
    /// takes a pattern.
    pub fn watch(&self, topic: impl Into<Topic>) -> Watch<H> {
        static TOLD: Once = Once::new();
        let topic = topic.into();
        if topic.ends_with('*') {
            TOLD.call_once(|| {
                tracing::warn!(%topic, "`watch` follows the one topic of this name; `watch_matching` takes a pattern");
            });
        }
        Watch::new(self, Followed::Topic(topic))
    }

    /// Follows the topics of a pattern that are tracked with diffs, such as `room:*`, as [`watch`](Self::watch) follows
    /// one.
    ///
    /// ```
    /// # use adsum::{Change, Presence, PubSub};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let presence = Presence::builder(PubSub::local()).start();
    /// let mut rooms = presence.watch_matching("room:*");
    /// # let mut owner = presence.owner();
    /// owner.track("room:1", "7", serde_json::Map::new())?;
    /// let Some(Change::State(topics)) = rooms.next().await else { panic!("a state is first") };
    /// assert!(topics.contains_key("room:1"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    pub fn watch_matching(&self, pattern: &str) -> Watch<H> {
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("watch_matching: {error}"));
        Watch::new(self, Followed::Matching(pattern))
    }

    /// Follows all topics that are tracked with diffs: a state, then diffs without a gap.
    pub fn watch_all(&self) -> Watch<H> {
        self.watch_matching("*")
    }
}

/// The topics whose subscribers a presence tells: for
/// [`SocketBuilder::into_router`](crate::SocketBuilder::into_router).
impl<H: PresenceHandler> From<&Presence<H>> for PubSub {
    fn from(presence: &Presence<H>) -> Self {
        presence.core.pubsub.clone()
    }
}

impl<H: PresenceHandler> Depart for Presence<H> {
    fn departing(&self) {
        self.set_owner_exit();
    }

    fn depart(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let inbox = self.inbox.clone();
        Box::pin(async move {
            // An error: the task has ended with its runtime, and there is nobody to wait for.
            let _ = inbox.leave().await;
        })
    }
}

impl<H: PresenceHandler> Clone for Presence<H> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            peer_topic: self.peer_topic.clone(),
            inbox: self.inbox.clone(),
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

/// Why a node isn't [ready](Presence::ready).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The node listens to the others yet; see [`Presence::ready`].
    #[error("starting: this node doesn't know yet what is on the others")]
    Starting,
    /// The presences of some node are missing yet. They come by themselves, and the node is ready then.
    #[error("not in sync with all nodes within the sync_timeout; their presences come as soon as they can")]
    NotSynced,
    /// The engine was not reached within the `sync_timeout`, so this node knows of no other. It goes on trying, and is
    /// ready once it is in sync.
    #[error("the engine is not reached: this node serves its own clients only, and goes on trying")]
    EngineAway,
    /// Another node has the same name. Until it is gone, this one serves its own clients only.
    #[error("another node of the name {0:?} is alive; give every node a name of its own")]
    DuplicateNode(String),
    /// The task that keeps this node in step with the others has panicked, or its runtime has ended. After a panic it
    /// is started again by itself, and all is as before once the node is in sync. The log says what the panic said.
    #[error(
        "the task that keeps this node in step with others has failed; after a panic it is started again"
    )]
    Failed,
}

/// Ends the tasks with the last handle.
struct PresenceTasks<H: PresenceHandler> {
    _flusher: Task,
    _replication: Task,
    // Dropped last: nobody looks any more.
    _ending: FlusherEnd<H>,
}
