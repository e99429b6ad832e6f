//! The set of one node: its shards behind their locks.

use std::{fmt, sync::Arc};

use adsum_pubsub::Topic;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    Key, Layer, Limits, Owner, Ref, Replica, Row, SHARDS, Shard, Windows, WindowsOf, reference::RefSource,
    shard_of,
};

/// Who is where on this node.
///
/// Every call takes one shard's lock, for a time in the size of its answer.
pub struct Tracker<X: Layer> {
    replica: Replica,
    limits: Limits,
    refs: RefSource,
    shards: Box<[Mutex<Shard<X>>]>,
    owner_dropped: Box<dyn Fn(&Topic) + Send + Sync>,
}

impl<X: Layer> Tracker<X> {
    /// An empty set.
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
        let windows_of: WindowsOf = Arc::new(windows_of);
        Arc::new(Self {
            refs: RefSource::new(replica.incarnation),
            replica,
            limits,
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(windows_of.clone()))).collect(),
            owner_dropped: Box::new(owner_dropped),
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
    pub fn owner(self: &Arc<Self>) -> Owner<X> {
        Owner::new(self.clone())
    }

    /// The shard of a topic, locked. While the guard lives, the same thread must neither call the tracker nor use
    /// or drop an owner: it would wait for itself.
    pub fn lock(&self, topic: &str) -> MutexGuard<'_, Shard<X>> {
        self.shards[shard_of(topic)].lock()
    }

    /// All shards, each to be locked in turn.
    pub fn shards(&self) -> impl Iterator<Item = &Mutex<Shard<X>>> {
        self.shards.iter()
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
    pub fn keys(&self, topic: &str) -> usize {
        self.lock(topic).topic(topic).map_or(0, crate::TopicSet::keys)
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
