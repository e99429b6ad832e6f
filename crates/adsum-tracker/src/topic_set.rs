//! The presences of one topic.

use std::{fmt, ops::Bound, sync::Arc, time::Duration};

use adsum_pubsub::Topic;

use crate::{
    departing::Departing,
    diff::Diff,
    group::Group,
    groups::Groups,
    layer::{Layer, TopicLayer},
    leave_reason::LeaveReason,
    meta::Key,
    reference::Ref,
    row::{OwnerId, Row},
    untold::Untold,
    window::{DiffWindow, Windows},
};

/// The presences of one topic.
pub struct TopicSet<X: Layer> {
    topic: Topic,
    groups: Groups<X::Key>,
    rows: usize,
    window: DiffWindow<X::Key>,
    /// The changes that no published diff contains. Boxed, as most topics are quiet at any time.
    untold: Option<Box<Untold<X::Key>>>,
    /// The rows that are about to leave; rarely any.
    departing: Option<Box<Departing>>,
    /// The data that the layer above keeps beside the topic.
    pub layer: X::Topic,
}

impl<X: Layer> TopicSet<X> {
    pub(crate) fn new(topic: Topic, windows: Windows) -> Self {
        Self {
            topic,
            groups: Groups::new(),
            rows: 0,
            window: DiffWindow::new(windows),
            untold: None,
            departing: None,
            layer: X::Topic::default(),
        }
    }

    /// Returns the topic's name.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Returns the number of presences.
    pub fn count(&self) -> usize {
        self.rows
    }

    /// Returns the number of keys.
    pub fn key_count(&self) -> usize {
        self.groups.len()
    }

    /// Returns all keys in their order, with their rows.
    pub fn groups(&self) -> impl Iterator<Item = (&Key, &Group<X::Key>)> {
        self.groups.iter()
    }

    /// Returns all groups in the order of their keys.
    pub fn groups_mut(&mut self) -> impl Iterator<Item = &mut Group<X::Key>> {
        self.groups.iter_mut()
    }

    /// Returns the keys after one in their order, or all keys.
    pub fn groups_after(&self, after: Option<&str>) -> impl Iterator<Item = (&Key, &Group<X::Key>)> {
        self.groups.after(after)
    }

    /// Returns the rows of one key.
    pub fn group(&self, key: &str) -> Option<&Group<X::Key>> {
        self.groups.get(key)
    }

    /// Returns the rows of one key, and what is kept beside it.
    pub fn group_mut(&mut self, key: &str) -> Option<&mut Group<X::Key>> {
        self.groups.get_mut(key)
    }

    /// Whether there are changes to take, as diffs or as leaves. They may still net to nothing.
    pub fn has_changes(&self) -> bool {
        !self.window.is_empty()
    }

    /// Takes the changes since the last call. Publish the diffs in this order, and then call [`told`](Self::told).
    pub fn take_diffs(&mut self) -> Vec<Diff<X::Key>> {
        self.told();
        let diffs = self.window.take(&self.groups, self.untold.as_deref());
        if let Some(untold) = &mut self.untold {
            untold.take();
        }
        diffs
    }

    /// Takes the rows that have left since the last call, but for those of updates. Only a topic with
    /// [`Windows::Left`] has any.
    pub fn take_left(&mut self) -> Vec<(Arc<Row>, LeaveReason)> {
        self.window.take_left()
    }

    /// Notes that the diffs that were taken last are published.
    pub fn told(&mut self) {
        let Some(untold) = &mut self.untold else { return };
        for key in untold.told() {
            self.layer.told_changed(&key);
        }
        if untold.is_empty() {
            self.untold = None;
        }
    }

    /// Whether a published diff has joined a row of the set. Always true in a topic without diffs.
    pub fn is_told(&self, reference: Ref) -> bool {
        self.untold.as_ref().is_none_or(|untold| untold.is_told(reference))
    }

    /// Calls `each` for what the diffs published so far add up to, in the order of the keys, for the keys in a range:
    /// the key, what is kept beside it, and its rows, those that have left since first. In a topic without diffs, it is
    /// what the set has.
    pub fn told_groups(
        &self,
        from: Option<&str>,
        before: Option<&str>,
        mut each: impl FnMut(&Key, &X::Key, &[&Arc<Row>]),
    ) {
        let range = (
            from.map_or(Bound::Unbounded, Bound::Included),
            before.map_or(Bound::Unbounded, Bound::Excluded),
        );
        let Some(untold) = &self.untold else {
            let mut rows = Vec::new();
            for (key, group) in self.groups.range(range) {
                rows.clear();
                rows.extend(group.rows().iter());
                each(key, &group.layer, &rows);
            }
            return;
        };
        // The keys that have gone are few. They are merged in between the others.
        let mut gone: Vec<&Key> = untold.keys(range).filter(|key| self.groups.get(key).is_none()).collect();
        gone.sort_unstable();
        gone.dedup();
        let mut gone = gone.into_iter().peekable();
        let default = X::Key::default();
        let mut tell = |key: &Key, group: Option<&'_ Group<X::Key>>| {
            let (layer, told) = self.told_of(key, group);
            let told: Vec<&Arc<Row>> = told.collect();
            if !told.is_empty() {
                each(key, layer.unwrap_or(&default), &told);
            }
        };
        for (key, group) in self.groups.range(range) {
            while let Some(earlier) = gone.next_if(|gone| *gone < key) {
                tell(earlier, None);
            }
            tell(key, Some(group));
        }
        gone.for_each(|key| tell(key, None));
    }

    /// Returns what [`told_groups`](Self::told_groups) has of one key: what is kept beside it, and its rows.
    pub fn told_key<'s>(
        &'s self,
        key: &Key,
    ) -> (Option<&'s X::Key>, impl Iterator<Item = &'s Arc<Row>> + use<'s, X>) {
        self.told_of(key, self.groups.get(key))
    }

    fn told_of<'s>(
        &'s self,
        key: &Key,
        group: Option<&'s Group<X::Key>>,
    ) -> (Option<&'s X::Key>, impl Iterator<Item = &'s Arc<Row>> + use<'s, X>) {
        let untold = self.untold.as_deref();
        let layer = group.map(Group::layer).or_else(|| untold?.layer(key));
        let gone = untold.map(|untold| untold.gone(key));
        let there = group.into_iter().flat_map(|group| group.rows().iter());
        let there = there.filter(move |row| untold.is_none_or(|untold| untold.is_told(row.reference)));
        (layer, gone.into_iter().flatten().chain(there))
    }

    /// Returns the rows that [`told_groups`](Self::told_groups) has of one key.
    pub fn told_rows(&self, key: &Key) -> Vec<Arc<Row>> {
        self.told_key(key).1.cloned().collect()
    }

    /// Returns the keys with a change that no published diff contains, in no order, and some of them twice.
    pub fn untold_keys(&self) -> impl Iterator<Item = &Key> {
        self.untold.iter().flat_map(|untold| untold.keys((Bound::Unbounded, Bound::Unbounded)))
    }

    /// Notes that a state, made under the same lock, shows a row that no diff has joined: a diff will tell of its
    /// leave.
    pub fn mark_row_shown(&mut self, reference: Ref) {
        self.window.mark_row_shown(reference);
    }

    /// Notes that a state or list, made under the same lock, shows all rows: diffs will tell of their leaves.
    pub fn mark_shown(&mut self) {
        self.window.mark_shown();
    }

    /// Lets the rows of a key join once more with the next diff, under the same refs.
    pub fn join_again(&mut self, key: &str) {
        if let Some(group) = self.groups.get(key) {
            self.window.again(group.rows());
        }
    }

    pub(crate) fn find(&self, owner: OwnerId, key: &str) -> Option<&Arc<Row>> {
        self.groups.get(key)?.of_owner(owner)
    }

    /// Begins an operation. If each operation is a diff, the changes that follow are one.
    pub(crate) fn begin(&mut self) {
        self.window.begin();
    }

    /// Adds a row. Names are unique: a row of another node whose name is taken is left out, and one of this node
    /// replaces the row that has its name.
    pub(crate) fn insert(&mut self, row: Arc<Row>) {
        if self.groups.get(&row.key).is_some_and(|group| group.find(row.reference).is_some()) {
            if row.owner == OwnerId::REMOTE {
                return;
            }
            self.remove_ref(&row.key, row.reference, None);
        }
        self.window.came(&row);
        let key = row.key.clone();
        self.note(&key, |untold| untold.came(&row));
        let untold = &mut self.untold;
        self.groups
            .push(row, || untold.as_mut().and_then(|untold| untold.take_layer(&key)).unwrap_or_default());
        self.rows += 1;
    }

    /// Notes a change that no diff contains yet.
    fn note(&mut self, key: &Key, note: impl FnOnce(&mut Untold<X::Key>)) {
        if self.window.is_off() {
            self.layer.told_changed(key);
        } else {
            note(self.untold.get_or_insert_default());
        }
    }

    /// Replaces the version that an owner tracks by one made from it. Returns both, the old one first.
    pub(crate) fn replace(
        &mut self,
        owner: OwnerId,
        key: &str,
        new: impl FnOnce(&Row) -> Row,
    ) -> Option<(Arc<Row>, Arc<Row>)> {
        let group = self.groups.get_mut(key)?;
        let old = group.of_owner(owner)?.clone();
        let row = Arc::new(new(&old));
        if group.find(row.reference).is_some() {
            // Another node has guessed its name.
            self.remove_ref(key, row.reference, None);
        }
        let group = self.groups.get_mut(key)?;
        self.window.went(old.clone(), None, &group.layer);
        self.window.came(&row);
        group.replace(old.reference, row.clone());
        self.note(&row.key, |untold| {
            untold.went(&old);
            untold.came(&row);
        });
        Some((old, row))
    }

    /// Removes the presence that an owner tracks under a key.
    pub(crate) fn remove(&mut self, owner: OwnerId, key: &str, reason: LeaveReason) -> Option<Arc<Row>> {
        let row = self.find(owner, key)?.clone();
        self.remove_row(&row, Some(reason));
        Some(row)
    }

    /// Removes a version by its name. The reason is `None` if another version has taken its place.
    pub(crate) fn remove_ref(
        &mut self,
        key: &str,
        reference: Ref,
        reason: Option<LeaveReason>,
    ) -> Option<Arc<Row>> {
        let row = self.groups.get(key)?.find(reference)?.clone();
        self.remove_row(&row, reason);
        Some(row)
    }

    /// Whether the set has this very row, and not another one of its name.
    pub(crate) fn has(&self, row: &Arc<Row>) -> bool {
        let found = self.groups.get(&row.key).and_then(|group| group.find(row.reference));
        found.is_some_and(|found| Arc::ptr_eq(found, row))
    }

    /// Removes a row that is in the set.
    fn remove_row(&mut self, row: &Arc<Row>, reason: Option<LeaveReason>) {
        let group = self.groups.get_mut(&row.key).expect("the row was found in this group");
        self.window.went(row.clone(), reason, &group.layer);
        self.rows -= 1;
        let last = if group.remove(row.reference) { None } else { self.groups.remove(&row.key) };
        self.note(&row.key, |untold| {
            untold.went(row);
            if let Some(group) = last {
                untold.keep_layer(&row.key, group.layer);
            }
        });
        if let Some(departing) = &mut self.departing {
            departing.remove(row.reference);
            if departing.is_empty() {
                self.departing = None;
            }
        }
    }

    /// Returns the key of a row. Unless the row is about to leave, this looks at every row of the topic: rare uses
    /// only.
    pub(crate) fn key_of(&self, reference: Ref) -> Option<Key> {
        if let Some(key) = self.departing.as_ref().and_then(|departing| departing.key_of(reference)) {
            return Some(key.clone());
        }
        let has_it = |(_, group): &(&Key, &Group<X::Key>)| group.find(reference).is_some();
        self.groups.iter().find(has_it).map(|(key, _)| key.clone())
    }

    /// Notes that a row is about to leave, so that the next row of its key takes its place.
    pub(crate) fn depart(&mut self, row: &Row, own: Option<(LeaveReason, Duration)>) {
        self.departing.get_or_insert_default().note(row, own);
    }

    /// Returns the rows of this node that are about to leave, with their reasons and graces.
    pub(crate) fn own_departing(&self) -> impl Iterator<Item = (&Arc<Row>, LeaveReason, Duration)> {
        let own = self.departing.iter().flat_map(|departing| departing.own());
        own.filter_map(|(reference, key, reason, grace)| {
            Some((self.groups.get(key)?.find(reference)?, reason, grace))
        })
    }

    /// Returns the row of a key that has been about to leave for the longest time.
    pub(crate) fn departing(&self, key: &Key) -> Option<&Arc<Row>> {
        let reference = self.departing.as_ref()?.first(key)?;
        self.groups.get(key)?.find(reference)
    }

    /// Whether nothing is left to keep.
    pub(crate) fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.window.is_empty() && self.layer.is_idle()
    }
}

impl<X: Layer> fmt::Debug for TopicSet<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicSet")
            .field("topic", &self.topic)
            .field("keys", &self.key_count())
            .field("count", &self.rows)
            .finish_non_exhaustive()
    }
}
