//! Diffs: the changes of a topic.

use std::{ops::Deref, sync::Arc};

use crate::{leave_reason::LeaveReason, reference::Ref, row::Row};

/// Joins and leaves of one topic. No ref is in both.
///
/// A client starts from what was [told](crate::TopicSet::told_groups), and folds all later diffs by ref, joins first.
/// It arrives at the topic's list, and no ref joins that it already has. If it starts from a list instead, a ref may
/// join that is there already (it moves to the end of its key), and one may leave that isn't there.
#[derive(Debug)]
pub struct Diff<K> {
    /// The rows that joined. Those of one key are in the order of the set.
    pub joins: Vec<JoinedRow>,
    /// The rows that left.
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

/// A row that joined.
#[derive(Clone, Debug)]
pub struct JoinedRow {
    /// The row.
    pub row: Arc<Row>,
    /// After an update, the version that a client pairs with this one: the oldest one before it that a diff joined and
    /// that leaves in this diff. `None` if there is none. The row itself may name a version that no diff joined.
    pub previous: Option<Ref>,
    /// Whether clients have the row already: it joins once more with new info, or to move to the end of its key.
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

/// A row that left.
#[derive(Clone, Debug)]
pub struct LeftRow<K> {
    /// The row.
    pub row: Arc<Row>,
    /// Why it left. `None` if another version took its place.
    pub reason: Option<LeaveReason>,
    /// Whether a diff joined the row. If not, it came and went since the last diff, and a list showed it meanwhile.
    pub is_known: bool,
    /// The layer of the key when the row left.
    pub layer: K,
}
