//! An operation of another node on one topic.

use std::ops::{Deref, DerefMut};

use adsum_pubsub::Topic;

use crate::{layer::Layer, shard::Shard};

/// A shard, while an operation of another node changes one of its topics. When it is dropped, so is the topic if
/// nothing is left in it.
pub(crate) struct TopicChange<'s, X: Layer> {
    shard: &'s mut Shard<X>,
    topic: &'s Topic,
}

impl<X: Layer> Shard<X> {
    /// Begins an operation of another node on a topic. If its rows are `shown`, the topic is added if it is new, and
    /// the operation is a diff of its own where each operation is one.
    pub(crate) fn change<'s>(&'s mut self, topic: &'s Topic, shown: bool) -> TopicChange<'s, X> {
        if shown {
            self.entry(topic).begin();
        }
        TopicChange { shard: self, topic }
    }
}

impl<X: Layer> Deref for TopicChange<'_, X> {
    type Target = Shard<X>;

    fn deref(&self) -> &Shard<X> {
        self.shard
    }
}

impl<X: Layer> DerefMut for TopicChange<'_, X> {
    fn deref_mut(&mut self) -> &mut Shard<X> {
        self.shard
    }
}

impl<X: Layer> Drop for TopicChange<'_, X> {
    fn drop(&mut self) {
        self.shard.tidy(self.topic);
    }
}
