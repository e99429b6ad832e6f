//! Data of the layer above, which the set keeps beside its own, under the same lock.

use crate::meta::Key;

/// The types of the data that the layer above keeps beside the set, under the set's own lock.
///
/// Presence keeps fetched infos and encoded states there. [`Bare`] keeps nothing.
pub trait Layer: Send + 'static {
    /// Kept beside each key.
    type Key: KeyLayer;
    /// Kept beside each topic.
    type Topic: TopicLayer;
}

/// Data kept beside a key.
pub trait KeyLayer: Default + Clone + Send {}

/// Data kept beside a topic.
pub trait TopicLayer: Default + Send {
    /// Whether the topic may be dropped once it has no presences.
    fn is_idle(&self) -> bool {
        true
    }

    /// Called when what is [told](crate::TopicSet::told_groups) of a key has changed.
    fn told_changed(&mut self, key: &Key) {
        let _ = key;
    }
}

/// Keeps nothing.
#[derive(Clone, Debug, Default)]
pub struct Bare;

impl Layer for Bare {
    type Key = Bare;
    type Topic = Bare;
}

impl KeyLayer for Bare {}

impl TopicLayer for Bare {}
