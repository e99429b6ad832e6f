//! The set as a node holds it: its shards behind their locks.

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
    Key, Layer, Limits, Locked, RawOwner, LeaveReason, Ref, Replica, Row, SHARDS, Shard, Windows, WindowsOf,
    reference::RefSource, shard_of,
};

/// Who is where.
///
/// Every call takes one shard's lock, for a time in the size of its answer.
pub struct Tracker<X: Layer> {
    replica: Replica,
    limits: Limits,
    refs: RefSource,
    shards: Box<[Mutex<Shard<X>>]>,
    owner_dropped: Box<dyn Fn(&Topic) + Send + Sync>,
    owner_exit: RwLock<OwnerExit>,
    /// The shards, by bit, of which something waits for the cluster.
    unpublished: AtomicU64,
    published: bool,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// How presences end with their owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerExit {
    /// At once.
    Leave(LeaveReason),
    /// After a grace, unless others of their keys take their places.
    Depart(LeaveReason, Duration),
}

impl OwnerExit {
    /// The same for an owner that has a reason of its own to end, unless the node is drained: that comes first.
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
    /// An empty set of one node.
    ///
    /// `windows_of` says how a topic's changes are put together into diffs; [`Windows::Off`] where nobody will
    /// take them. It is called with the topic's shard locked, so it must not call the tracker.
    ///
    /// `owner_dropped` is called once for each topic that an owner's end has changed, with no lock held. The end
    /// may be a panic, an abort or a runtime's shutdown, so it must neither panic nor block nor need a runtime.
    pub fn new(
        replica: Replica,
        limits: Limits,
        windows_of: impl Fn(&str) -> Windows + Send + Sync + 'static,
        owner_dropped: impl Fn(&Topic) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::with_cluster(replica, limits, false, windows_of, owner_dropped, || {})
    }

    /// An empty set whose changes a [`Cluster`](crate::Cluster) takes: those for other nodes, where they are
    /// `published`, and the ends of departing presences in any case.
    ///
    /// `wake` is called when there is something to take, in the place of the change: as with `owner_dropped`, it
    /// must neither panic nor block nor need a runtime.
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
            limits,
            shards: (0..SHARDS).map(shard).collect(),
            owner_dropped: Box::new(owner_dropped),
            owner_exit: RwLock::new(OwnerExit::Leave(LeaveReason::Gone)),
            unpublished: AtomicU64::new(0),
            published,
            wake: Box::new(wake),
        })
    }

    /// This node's replica.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// How large a presence may be.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A new owner, without presences.
    pub fn owner(self: &Arc<Self>) -> RawOwner<X> {
        RawOwner::new(self.clone())
    }

    /// The shard of a topic, locked. While the guard lives, the same thread must neither call the tracker nor use
    /// or drop an owner: it would wait for itself.
    pub fn lock(&self, topic: &str) -> Locked<'_, X> {
        self.shard(shard_of(topic))
    }

    /// All shards, each locked when it is its turn.
    pub fn shards(&self) -> impl Iterator<Item = Locked<'_, X>> {
        (0..SHARDS).map(|index| self.shard(index))
    }

    /// All presences of a topic, grouped by key. The keys are in no order, the rows of each in that of tracking.
    pub fn list(&self, topic: &str) -> Vec<(Key, Vec<Arc<Row>>)> {
        self.lock(topic).topic(topic).map_or_else(Vec::new, |set| {
            set.groups().map(|(key, group)| (key.clone(), group.rows().to_vec())).collect()
        })
    }

    /// The presences under one key; none where it isn't there.
    pub fn get_by_key(&self, topic: &str, key: &str) -> Vec<Arc<Row>> {
        let shard = self.lock(topic);
        shard.topic(topic).and_then(|set| set.group(key)).map_or_else(Vec::new, |group| group.rows().to_vec())
    }

    /// The number of presences in a topic.
    pub fn count(&self, topic: &str) -> usize {
        self.lock(topic).topic(topic).map_or(0, crate::TopicSet::count)
    }

    /// The number of keys in a topic.
    pub fn key_count(&self, topic: &str) -> usize {
        self.lock(topic).topic(topic).map_or(0, crate::TopicSet::key_count)
    }

    /// How the presences of owners that are dropped, or whose transport is closed, end from now on.
    pub fn set_owner_exit(&self, owner_exit: OwnerExit) {
        *self.owner_exit.write() = owner_exit;
    }

    /// How presences end with their owners.
    pub fn owner_exit(&self) -> OwnerExit {
        *self.owner_exit.read()
    }

    pub(crate) fn is_published(&self) -> bool {
        self.published
    }

    pub(crate) fn shard(&self, index: usize) -> Locked<'_, X> {
        Locked::new(self.shards[index].lock())
    }

    /// Something waits for the cluster in a topic's shard.
    pub(crate) fn to_publish(&self, topic: &str) {
        if self.published {
            self.wake_for(shard_of(topic));
        }
    }

    pub(crate) fn wake_for(&self, shard: usize) {
        if self.unpublished.fetch_or(1 << shard, Ordering::AcqRel) == 0 {
            (self.wake)();
        }
    }

    /// The shards, by bit, of which something has waited for the cluster since the last call.
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
