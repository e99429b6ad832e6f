//! A part of the set: the unit of locking, versioning and replication.

use std::{collections::HashMap, fmt, sync::Arc};

use adsum_pubsub::Topic;

use crate::{Key, Layer, Meta, OwnerId, Reason, Ref, TopicSet, Windows, topic_set::give_back};

/// The number of shards, a constant of the protocol: all nodes must agree on a topic's shard.
pub const SHARDS: usize = 64;

/// The shard of a topic.
///
/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>) in 64 bits, folded, since all nodes must agree on it
/// and a standard hasher promises nothing across builds. A topic chosen to hit one shard costs its own shard
/// only: the maps inside are seeded by chance.
pub fn shard_of(topic: &str) -> usize {
    let hash = topic.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % SHARDS as u64) as usize
}

/// The presences of the topics of one shard.
pub struct Shard<X: Layer> {
    topics: HashMap<Topic, TopicSet<X>>,
    windows_of: WindowsOf,
}

/// Says for each topic how its changes are put together. Called under the shard's lock, when a topic is added.
pub type WindowsOf = Arc<dyn Fn(&str) -> Windows + Send + Sync>;

impl<X: Layer> Shard<X> {
    /// An empty shard.
    pub fn new(windows_of: WindowsOf) -> Self {
        Self { topics: HashMap::new(), windows_of }
    }

    /// A topic that somebody is in, or that somebody listens to.
    pub fn topic(&self, topic: &str) -> Option<&TopicSet<X>> {
        self.topics.get(topic)
    }

    /// As [`topic`](Self::topic), to be changed.
    pub fn topic_mut(&mut self, topic: &str) -> Option<&mut TopicSet<X>> {
        self.topics.get_mut(topic)
    }

    /// A topic, added where it is new. One that stays idle is dropped by the next [`tidy`](Self::tidy).
    pub fn entry(&mut self, topic: &Topic) -> &mut TopicSet<X> {
        // Looked up first: most calls find the topic, and need no second handle to its name.
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), TopicSet::new((self.windows_of)(topic)));
        }
        self.topics.get_mut(topic).expect("the topic was just added")
    }

    /// All topics.
    pub fn topics(&self) -> impl Iterator<Item = (&Topic, &TopicSet<X>)> {
        self.topics.iter()
    }

    /// All topics, to be changed.
    pub fn topics_mut(&mut self) -> impl Iterator<Item = (&Topic, &mut TopicSet<X>)> {
        self.topics.iter_mut()
    }

    /// Drops a topic that nobody is in, with nothing to tell and nothing kept beside it.
    pub fn tidy(&mut self, topic: &str) {
        if self.topics.get(topic).is_some_and(TopicSet::is_idle) {
            self.topics.remove(topic);
            give_back(&mut self.topics);
        }
    }

    /// Adds a presence. False, and nothing is changed, where the owner has one of this topic and key already.
    pub fn track(&mut self, owner: OwnerId, topic: &Topic, key: &Key, meta: Meta, reference: Ref) -> bool {
        let set = self.entry(topic);
        let free = set.find(owner, key).is_none();
        if free {
            set.insert(owner, key, meta, reference);
        }
        free
    }

    /// The meta that an owner tracks.
    pub fn find(&self, owner: OwnerId, topic: &str, key: &str) -> Option<&Meta> {
        Some(&self.topic(topic)?.find(owner, key)?.meta)
    }

    /// Puts a new version in the place of a presence. False where there is none.
    pub fn update(&mut self, owner: OwnerId, topic: &str, key: &Key, meta: Meta, reference: Ref) -> bool {
        self.topic_mut(topic).is_some_and(|set| set.replace(owner, key, meta, reference))
    }

    /// Removes presences of one owner in one topic, as one change. How many there were.
    pub fn untrack<'k>(
        &mut self,
        owner: OwnerId,
        topic: &str,
        keys: impl IntoIterator<Item = &'k Key>,
        reason: Reason,
    ) -> usize {
        let removed = self.topic_mut(topic).map_or(0, |set| set.remove(owner, keys, reason));
        // Where changes are noted, whoever takes them tidies up after; where they are not, nobody would.
        self.tidy(topic);
        removed
    }
}

impl<X: Layer> fmt::Debug for Shard<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.topics).finish()
    }
}
