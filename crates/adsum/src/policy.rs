//! How the clients of a topic are told of its changes.

use std::sync::Arc;

use adsum_pubsub::Pattern;

/// The topics whose changes aren't sent as diffs.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiffPolicy {
    pub(crate) without_diffs: Arc<[Pattern]>,
    /// The clients of these get the number of presences instead.
    pub(crate) counted: Arc<[Pattern]>,
}

impl DiffPolicy {
    /// Whether a topic's changes are sent as diffs.
    pub(crate) fn has_diffs(&self, topic: &str) -> bool {
        !self.without_diffs.iter().chain(&*self.counted).any(|pattern| pattern.matches(topic))
    }

    /// Whether the clients of a topic get only the number of its presences.
    pub(crate) fn is_counted(&self, topic: &str) -> bool {
        self.counted.iter().any(|pattern| pattern.matches(topic))
    }
}
