//! What changed in a topic.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Ref, Row};

/// Joins and leaves of one topic. No ref is in both.
///
/// A client that starts from what was [told](crate::TopicSet::told_groups) and folds by ref, joins first, all diffs
/// taken from then on arrives at the topic's list, and no ref joins that it knows. If it starts from a list instead,
/// a ref may join that is there already (it moves to the end of its key), and one may leave that isn't there.
#[derive(Debug)]
pub struct Diff<K> {
    /// The metas that came. Those of one key are in the order of the set.
    pub joins: Vec<Joined>,
    /// The metas that went.
    pub leaves: Vec<Left<K>>,
}

impl<K> Diff<K> {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }
}

impl<K> Default for Diff<K> {
    fn default() -> Self {
        Self { joins: Vec::new(), leaves: Vec::new() }
    }
}

/// A meta that came.
#[derive(Clone, Debug)]
pub struct Joined {
    /// What was tracked.
    pub row: Arc<Row>,
    /// After an update, the oldest version before it that a diff joined and that leaves with this one. `None` if there
    /// is no such version in the diff: a client pairs both, and the row itself may name a version that no diff joined.
    pub previous: Option<Ref>,
}

impl From<Arc<Row>> for Joined {
    fn from(row: Arc<Row>) -> Self {
        Self { row, previous: None }
    }
}

impl Deref for Joined {
    type Target = Row;

    fn deref(&self) -> &Row {
        &self.row
    }
}

/// A meta that went.
#[derive(Clone, Debug)]
pub struct Left<K> {
    /// What was tracked.
    pub row: Arc<Row>,
    /// Why it went; none where an update put another in its place.
    pub reason: Option<Reason>,
    /// What the layer above last kept beside the key.
    pub layer: K,
}

/// Why a presence left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// It was untracked, or its client left the topic.
    Left,
    /// Its owner ended: a closed connection, a crash, an aborted task.
    Gone,
    /// Its node isn't heard any more. It comes back if the node does.
    Unreachable,
    /// Its node was stopped, and nobody took its place.
    Draining,
}

impl Reason {
    /// The reason as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Gone => "gone",
            Self::Unreachable => "unreachable",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
