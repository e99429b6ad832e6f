//! The presences of one topic.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
    sync::Arc,
};

use smallvec::SmallVec;

use crate::{Diff, Key, OwnerId, Reason, Ref, Row, Windows, ordered::Ordered, window::Window};

/// What the layer above keeps beside the set, under the set's own lock.
///
/// Presence keeps what `fetch` brought and what is encoded already. [`Bare`] keeps nothing.
pub trait Layer: Send + 'static {
    /// Kept beside each key.
    type Key: KeyLayer;
    /// Kept beside each topic.
    type Topic: TopicLayer;
}

/// What is kept beside a key.
pub trait KeyLayer: Default + Clone + Send {
    /// The key's rows have changed.
    fn rows_changed(&mut self) {}
}

/// What is kept beside a topic.
pub trait TopicLayer: Default + Send {
    /// Whether the topic may be dropped once nobody is in it.
    fn is_idle(&self) -> bool {
        true
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

/// The rows of one key, in the order in which they were tracked. An update moves its row to the end.
pub struct Group<K> {
    rows: SmallVec<[Arc<Row>; 1]>,
    layer: K,
}

impl<K> Group<K> {
    /// The rows; never none.
    pub fn rows(&self) -> &[Arc<Row>] {
        &self.rows
    }

    /// What is kept beside the key.
    pub fn layer(&self) -> &K {
        &self.layer
    }

    /// What is kept beside the key, and the rows.
    pub fn layer_mut(&mut self) -> (&mut K, &[Arc<Row>]) {
        (&mut self.layer, &self.rows)
    }

    fn position(&self, owner: OwnerId) -> Option<usize> {
        self.rows.iter().position(|row| row.owner == owner)
    }
}

/// Who is in one topic.
pub struct TopicSet<X: Layer> {
    groups: Ordered<Group<X::Key>>,
    rows: usize,
    changes: u64,
    window: Window<X::Key>,
    /// Rows that are about to leave; seldom any.
    #[expect(clippy::box_collection, reason = "most topics have none, and there may be a million")]
    departing: Option<Box<HashSet<Ref>>>,
    /// What the layer above keeps beside the topic.
    pub layer: X::Topic,
}

impl<X: Layer> TopicSet<X> {
    pub(crate) fn new(windows: Windows) -> Self {
        Self {
            groups: Ordered::new(),
            rows: 0,
            changes: 0,
            window: Window::new(windows),
            departing: None,
            layer: X::Topic::default(),
        }
    }

    /// The number of presences.
    pub fn count(&self) -> usize {
        self.rows
    }

    /// The number of keys.
    pub fn keys(&self) -> usize {
        self.groups.len()
    }

    /// All keys in their order, with their rows.
    pub fn groups(&self) -> impl Iterator<Item = (&Key, &Group<X::Key>)> {
        self.groups.iter()
    }

    /// All keys, with their rows and what is kept beside them.
    pub fn groups_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Group<X::Key>)> {
        self.groups.iter_mut()
    }

    /// The keys after one, in their order, or from the first on.
    pub fn groups_after(&self, after: Option<&str>) -> impl Iterator<Item = (&Key, &Group<X::Key>)> {
        self.groups.after(after)
    }

    /// One key's rows.
    pub fn group(&self, key: &str) -> Option<&Group<X::Key>> {
        self.groups.get(key)
    }

    /// One key's rows, and what is kept beside them.
    pub fn group_mut(&mut self, key: &str) -> Option<&mut Group<X::Key>> {
        self.groups.get_mut(key)
    }

    /// Grows with every change of a row.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether something waits to be taken as a diff. It may still come to nothing.
    pub fn has_changes(&self) -> bool {
        !self.window.is_empty()
    }

    /// Takes what has changed since the last call. Each diff is to be published, in this order.
    pub fn take_diffs(&mut self) -> Vec<Diff<X::Key>> {
        self.window.take(&self.groups)
    }

    /// Says that all rows are handed out in a state, under the same lock: their leaves will be told of from now
    /// on.
    pub fn mark_shown(&mut self) {
        self.window.mark_shown();
    }

    /// Has the rows of a key join once more with the next diff, under the same refs.
    pub fn join_again(&mut self, key: &str) {
        if let Some((key, group)) = self.groups.get_key_value(key) {
            self.window.again(key, &group.rows);
        }
    }

    pub(crate) fn find(&self, owner: OwnerId, key: &str) -> Option<&Arc<Row>> {
        let group = self.groups.get(key)?;
        group.position(owner).map(|position| &group.rows[position])
    }

    /// Begins an operation: what follows is one diff where each operation is one.
    pub(crate) fn begin(&mut self) {
        self.window.begin();
    }

    pub(crate) fn insert(&mut self, key: &Key, row: Arc<Row>) {
        self.window.came(key, &row);
        let group = self
            .groups
            .get_or_insert_with(key, || Group { rows: SmallVec::new(), layer: self.window.kept_layer(key) });
        group.rows.push(row);
        group.layer.rows_changed();
        self.rows += 1;
        self.changes += 1;
    }

    /// Puts a new version, made of the old one, in the place of what an owner tracked. Returns both.
    pub(crate) fn replace(
        &mut self,
        owner: OwnerId,
        key: &Key,
        new: impl FnOnce(&Row) -> Row,
    ) -> Option<(Arc<Row>, Arc<Row>)> {
        let group = self.groups.get_mut(key)?;
        let position = group.position(owner)?;
        let old = group.rows.remove(position);
        let row = Arc::new(new(&old));
        self.window.went(key, old.clone(), None, &group.layer);
        self.window.came(key, &row);
        group.rows.push(row.clone());
        group.layer.rows_changed();
        self.changes += 1;
        Some((old, row))
    }

    /// Removes what an owner tracked under a key.
    pub(crate) fn remove(&mut self, owner: OwnerId, key: &Key, reason: Reason) -> Option<Arc<Row>> {
        let position = self.groups.get(key)?.position(owner)?;
        Some(self.remove_at(key, position, Some(reason)))
    }

    /// Removes a version by its name. No reason where another has taken its place.
    pub(crate) fn remove_ref(
        &mut self,
        key: &Key,
        reference: Ref,
        reason: Option<Reason>,
    ) -> Option<Arc<Row>> {
        let position = self.groups.get(key)?.rows.iter().position(|row| row.reference == reference)?;
        Some(self.remove_at(key, position, reason))
    }

    fn remove_at(&mut self, key: &Key, position: usize, reason: Option<Reason>) -> Arc<Row> {
        let group = self.groups.get_mut(key).expect("the position was found in this group");
        let row = group.rows.remove(position);
        self.window.went(key, row.clone(), reason, &group.layer);
        group.layer.rows_changed();
        self.rows -= 1;
        self.changes += 1;
        if group.rows.is_empty() {
            if let Some(group) = self.groups.remove(key) {
                self.window.keep_layer(key, group.layer);
            }
        } else if group.rows.spilled() && group.rows.capacity() > 4 * group.rows.len().max(4) {
            group.rows.shrink_to_fit();
        }
        if let Some(departing) = &mut self.departing {
            departing.remove(&row.reference);
            if departing.is_empty() {
                self.departing = None;
            }
        }
        row
    }

    /// The key of a row. A look at every row of the topic: for what is rare.
    pub(crate) fn key_of(&self, reference: Ref) -> Option<Key> {
        let has_it =
            |(_, group): &(&Key, &Group<X::Key>)| group.rows.iter().any(|row| row.reference == reference);
        self.groups.iter().find(has_it).map(|(key, _)| key.clone())
    }

    /// Notes that a row is about to leave, so that the next of its key takes its place.
    pub(crate) fn depart(&mut self, reference: Ref) {
        self.departing.get_or_insert_default().insert(reference);
    }

    /// The first row of a key that is about to leave.
    pub(crate) fn departing(&self, key: &str) -> Option<&Arc<Row>> {
        let departing = self.departing.as_ref()?;
        self.groups.get(key)?.rows.iter().find(|row| departing.contains(&row.reference))
    }

    /// Whether there is nothing left to keep.
    pub(crate) fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.window.is_empty() && self.layer.is_idle()
    }
}

/// A table that has seen a crowd gives its memory back when the crowd has gone.
pub(crate) fn give_back<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > 16 && table.capacity() > 4 * table.len() {
        table.shrink_to(2 * table.len());
    }
}

impl<X: Layer> fmt::Debug for TopicSet<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicSet")
            .field("keys", &self.keys())
            .field("count", &self.rows)
            .finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for Group<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rows).finish()
    }
}
