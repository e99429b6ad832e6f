//! The topics of a shard, by their names.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::{layer::Layer, topic_set::TopicSet};

/// A table of the sets alone, as each has its name. They are boxed, since a large table has as many empty slots as
/// sets, and there may be a million.
pub(crate) struct Topics<X: Layer> {
    sets: HashTable<Box<TopicSet<X>>>,
    /// Has a random seed, as clients may choose names.
    hasher: RandomState,
}

impl<X: Layer> Topics<X> {
    pub(crate) fn new() -> Self {
        Self { sets: HashTable::new(), hasher: RandomState::new() }
    }

    pub(crate) fn get(&self, topic: &str) -> Option<&TopicSet<X>> {
        self.sets.find(self.hasher.hash_one(topic), |set| set.topic().as_str() == topic).map(|set| &**set)
    }

    pub(crate) fn get_mut(&mut self, topic: &str) -> Option<&mut TopicSet<X>> {
        let found = self.sets.find_mut(self.hasher.hash_one(topic), |set| set.topic().as_str() == topic);
        found.map(|set| &mut **set)
    }

    pub(crate) fn get_or_insert_with(
        &mut self,
        topic: &str,
        set: impl FnOnce() -> TopicSet<X>,
    ) -> &mut TopicSet<X> {
        let Self { sets, hasher } = self;
        let entry = sets.entry(
            hasher.hash_one(topic),
            |set| set.topic().as_str() == topic,
            |set| hasher.hash_one(set.topic().as_str()),
        );
        entry.or_insert_with(|| Box::new(set())).into_mut()
    }

    pub(crate) fn remove(&mut self, topic: &str) {
        let Self { sets, hasher } = self;
        if let Ok(found) = sets.find_entry(hasher.hash_one(topic), |set| set.topic().as_str() == topic) {
            found.remove();
        }
        // Shrinks a table that has become much smaller than its capacity.
        if sets.capacity() > 16 && sets.capacity() > 4 * sets.len() {
            sets.shrink_to(2 * sets.len(), |set| hasher.hash_one(set.topic().as_str()));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TopicSet<X>> {
        self.sets.iter().map(|set| &**set)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut TopicSet<X>> {
        self.sets.iter_mut().map(|set| &mut **set)
    }
}
