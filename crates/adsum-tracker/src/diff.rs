//! What changed in a topic.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Ref, Row};

/// Joins and leaves of one topic. No ref is in both.
///
/// A client that starts from what was [told](crate::TopicSet::told_groups) and folds by ref, joins first, all diffs
/// taken from then on arrives at the topic's list, and no ref joins that it knows. If it starts from a list instead,
/// a ref may join that is there already (it moves to the end of its key), and one may leave that isn't there.
#[derive(Debug)]
pub struct Diff<K> {
    /// The metas that came. Those of one key are in the order of the set.
    pub joins: Vec<JoinedRow>,
    /// The metas that went.
    pub leaves: Vec<LeftRow<K>>,
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
pub struct JoinedRow {
    /// What was tracked.
    pub row: Arc<Row>,
    /// After an update, the oldest version before it that a diff joined and that leaves with this one. `None` if there
    /// is no such version in the diff: a client pairs both, and the row itself may name a version that no diff joined.
    pub previous: Option<Ref>,
    /// Whether an earlier diff joined the row, and no later one had it leave: it joins once more with other info, or to
    /// stand at the end of its key.
    pub is_known: bool,
}

impl From<Arc<Row>> for JoinedRow {
    fn from(row: Arc<Row>) -> Self {
        Self { row, previous: None, is_known: false }
    }
}

impl Deref for JoinedRow {
    type Target = Row;

    fn deref(&self) -> &Row {
        &self.row
    }
}

/// A meta that went.
#[derive(Clone, Debug)]
pub struct LeftRow<K> {
    /// What was tracked.
    pub row: Arc<Row>,
    /// Why it went; none where an update put another in its place.
    pub reason: Option<LeaveReason>,
    /// Whether a diff joined the row. If not, it came and went since the last diff, and was shown to somebody in a list.
    pub is_known: bool,
    /// What the layer above last kept beside the key.
    pub layer: K,
}

/// Why a presence left.
///
/// This list grows. A node that hears of a reason that it doesn't know yet takes it for [`Gone`](Self::Gone).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaveReason {
    /// It was untracked, or its client left the topic.
    Left,
    /// The connection behind it is gone.
    Gone,
    /// Its node isn't heard any more. It comes back if the node does.
    Unreachable,
    /// Its node was stopped, and nobody took its place.
    Draining,
    /// Its owner has done its work and said so, or its channel has stopped in good order.
    Finished,
    /// Its owner panicked, or its channel failed.
    Crashed,
    /// Its owner was dropped before it had finished: the task was aborted, returned early, or ended with its runtime.
    Cancelled,
}

impl LeaveReason {
    /// All reasons. The place of each is its number between nodes, so new ones come last.
    const ALL: [Self; 7] = [
        Self::Left,
        Self::Gone,
        Self::Unreachable,
        Self::Draining,
        Self::Finished,
        Self::Crashed,
        Self::Cancelled,
    ];

    /// The reason as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Gone => "gone",
            Self::Unreachable => "unreachable",
            Self::Draining => "draining",
            Self::Finished => "finished",
            Self::Crashed => "crashed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In text a reason is its name, between nodes its number.
impl Serialize for LeaveReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(self.as_str())
        } else {
            serializer.serialize_u8(*self as u8)
        }
    }
}

impl<'de> Deserialize<'de> for LeaveReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let known = if deserializer.is_human_readable() {
            let name = String::deserialize(deserializer)?;
            Self::ALL.into_iter().find(|reason| reason.as_str() == name)
        } else {
            Self::ALL.get(usize::from(u8::deserialize(deserializer)?)).copied()
        };
        Ok(known.unwrap_or(Self::Gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_as_it_was_written_and_an_unknown_one_as_gone() {
        for (number, reason) in LeaveReason::ALL.into_iter().enumerate() {
            let written = postcard::to_allocvec(&reason).unwrap();
            assert_eq!(written, [number as u8]);
            assert_eq!(postcard::from_bytes(&written), Ok(reason));
            let text = serde_json::to_string(&reason).unwrap();
            assert_eq!(text, format!("\"{reason}\""));
            assert_eq!(serde_json::from_str::<LeaveReason>(&text).unwrap(), reason);
        }
        assert_eq!(postcard::from_bytes(&[LeaveReason::ALL.len() as u8]), Ok(LeaveReason::Gone));
        assert_eq!(serde_json::from_str::<LeaveReason>("\"evaporated\"").unwrap(), LeaveReason::Gone);
    }
}
