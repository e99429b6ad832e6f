//! The set of a node: its shards behind their locks.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adsum_pubsub::Topic;
use parking_lot::{Mutex, RwLock};

use crate::{
    counts::{Counts, LimitCounts},
    layer::Layer,
    leave_reason::LeaveReason,
    limits::Limits,
    locked::Locked,
    meta::Key,
    reference::{Ref, RefSource},
    replica::Replica,
    row::Row,
    shard::{Shard, WindowsOf},
    sharding::{SHARDS, shard_of},
    topic_set::TopicSet,
    window::Windows,
};

/// The presences of all topics.
///
/// Every call takes one shard's lock, for a time proportional to the size of its answer.
pub struct Tracker<X: Layer> {
    replica: Replica,
    limits: Limits,
    limit_counts: LimitCounts,
    refs: RefSource,
    shards: Box<[Mutex<Shard<X>>]>,
    owner_dropped: Box<dyn Fn(&Topic) + Send + Sync>,
    owner_exit: RwLock<OwnerExit>,
    /// A bit for each shard that has something for the cluster to take.
    unpublished: AtomicU64,
    published: bool,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// How presences end with their owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerExit {
    /// At once.
    Leave(LeaveReason),
    /// After a grace, unless others of their keys take their places first.
    Depart(LeaveReason, Duration),
}

impl OwnerExit {
    /// Returns the same exit with the owner's own reason, unless the node is drained: that reason stays.
    #[must_use]
    pub fn because(self, reason: LeaveReason) -> Self {
        match self {
            Self::Leave(LeaveReason::Gone) => Self::Leave(reason),
            Self::Depart(LeaveReason::Gone, grace) => Self::Depart(reason, grace),
            drained => drained,
        }
    }
}

impl<X: Layer> Tracker<X> {
    /// Makes an empty set of one node.
    ///
    /// `windows_of` returns how a topic's changes are put together into diffs; [`Windows::Off`] if nothing takes them.
    /// It is called with the topic's shard locked, so it must not call the tracker.
    ///
    /// `owner_dropped` is called once for each topic that an owner's end has changed, with no lock held. The end may be
    /// a panic, an abort or a runtime's shutdown, so the function must not panic, block or need a runtime.
    pub fn new(
        replica: Replica,
        limits: Limits,
        windows_of: impl Fn(&str) -> Windows + Send + Sync + 'static,
        owner_dropped: impl Fn(&Topic) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::with_cluster(replica, limits, false, windows_of, owner_dropped, || {})
    }

    /// Makes an empty set whose changes a [`Cluster`](crate::Cluster) takes: those for other nodes if `published`, and
    /// departing presences in any case.
    ///
    /// `wake` is called when there is something to take, on the thread that made the change. Like `owner_dropped`, it
    /// must not panic, block or need a runtime.
    pub fn with_cluster(
        replica: Replica,
        limits: Limits,
        published: bool,
        windows_of: impl Fn(&str) -> Windows + Send + Sync + 'static,
        owner_dropped: impl Fn(&Topic) + Send + Sync + 'static,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        let windows_of: WindowsOf = Arc::new(windows_of);
        let shard = |index| Mutex::new(Shard::new(index, published, windows_of.clone()));
        Arc::new(Self {
            refs: RefSource::new(replica.incarnation),
            replica,
            limit_counts: LimitCounts::new(&limits),
            limits,
            shards: (0..SHARDS).map(shard).collect(),
            owner_dropped: Box::new(owner_dropped),
            owner_exit: RwLock::new(OwnerExit::Leave(LeaveReason::Gone)),
            unpublished: AtomicU64::new(0),
            published,
            wake: Box::new(wake),
        })
    }

    /// Returns this node's replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Returns how large a presence may be.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns how near what is tracked has come to the limits, and how often it was refused.
    pub fn limit_counts(&self) -> &LimitCounts {
        &self.limit_counts
    }

    /// Returns what is in the set, and what has happened in it. Takes a lock for each shard, each for a moment.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for shard in self.shards() {
            counts += shard.counts();
        }
        counts
    }

    /// Locks the shard of a topic. While the guard lives, the same thread must not call the tracker, and must not use
    /// or drop an owner: it would deadlock.
    pub fn lock(&self, topic: &str) -> Locked<'_, X> {
        self.shard(shard_of(topic))
    }

    /// Returns all shards, and locks each as the iterator reaches it.
    pub fn shards(&self) -> impl Iterator<Item = Locked<'_, X>> {
        (0..SHARDS).map(|index| self.shard(index))
    }

    /// Returns all presences of a topic, grouped by key. The rows of a key are in the order of tracking.
    pub fn list(&self, topic: &str) -> Vec<(Key, Vec<Arc<Row>>)> {
        self.lock(topic).topic(topic).map_or_else(Vec::new, |set| {
            set.groups().map(|(key, group)| (key.clone(), group.rows().to_vec())).collect()
        })
    }

    /// Returns the presences under one key; empty if it isn't there.
    pub fn get_by_key(&self, topic: &str, key: &str) -> Vec<Arc<Row>> {
        let shard = self.lock(topic);
        shard.topic(topic).and_then(|set| set.group(key)).map_or_else(Vec::new, |group| group.rows().to_vec())
    }

    /// Returns the number of presences in a topic.
    pub fn count(&self, topic: &str) -> usize {
        self.lock(topic).topic(topic).map_or(0, TopicSet::count)
    }

    /// Returns the number of keys in a topic.
    pub fn key_count(&self, topic: &str) -> usize {
        self.lock(topic).topic(topic).map_or(0, TopicSet::key_count)
    }

    /// Sets how presences end from now on when their owners are dropped or their transports are closed.
    pub fn set_owner_exit(&self, owner_exit: OwnerExit) {
        *self.owner_exit.write() = owner_exit;
    }

    /// Returns how presences end with their owners.
    pub fn owner_exit(&self) -> OwnerExit {
        *self.owner_exit.read()
    }

    pub(crate) fn is_published(&self) -> bool {
        self.published
    }

    pub(crate) fn shard(&self, index: usize) -> Locked<'_, X> {
        Locked::new(self.shards[index].lock())
    }

    /// Notes that a topic's shard has changes to publish.
    pub(crate) fn to_publish(&self, topic: &str) {
        if self.published {
            self.wake_for(shard_of(topic));
        }
    }

    /// Notes that a shard has something for the cluster to take, and wakes it.
    pub(crate) fn wake_for(&self, shard: usize) {
        if self.unpublished.fetch_or(1 << shard, Ordering::AcqRel) == 0 {
            (self.wake)();
        }
    }

    /// Wakes the cluster if a shard has something for it: other nodes have to hear that a superseded row of this node
    /// left.
    pub(crate) fn wake_if_logged(&self, shard: &Shard<X>) {
        if !shard.log.is_empty() {
            self.wake_for(shard.index());
        }
    }

    /// Returns a bit for each shard that got something for the cluster since the last call.
    pub(crate) fn take_unpublished(&self) -> u64 {
        self.unpublished.swap(0, Ordering::AcqRel)
    }

    pub(crate) fn next_ref(&self) -> Ref {
        self.refs.next()
    }

    pub(crate) fn owner_dropped(&self, topic: &Topic) {
        (self.owner_dropped)(topic);
    }
}

impl<X: Layer> fmt::Debug for Tracker<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker").field("replica", &self.replica).finish_non_exhaustive()
    }
}
