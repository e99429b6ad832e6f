//! The presences of one topic.

use std::{fmt, ops::Bound, sync::Arc, time::Duration};

use adsum_pubsub::Topic;

use crate::{
    Diff, Group, Key, OwnerId, LeaveReason, Ref, Row, Windows, departing::Departing, groups::Groups,
    untold::Untold, window::DiffWindow,
};

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
pub trait KeyLayer: Default + Clone + Send {}

/// What is kept beside a topic.
pub trait TopicLayer: Default + Send {
    /// Whether the topic may be dropped once nobody is in it.
    fn is_idle(&self) -> bool {
        true
    }

    /// What is [told](TopicSet::told_groups) of a key has changed.
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

/// Who is in one topic.
pub struct TopicSet<X: Layer> {
    topic: Topic,
    groups: Groups<X::Key>,
    rows: usize,
    window: DiffWindow<X::Key>,
    /// What diffs haven't said yet. Boxed, as most topics are quiet at any time.
    untold: Option<Box<Untold<X::Key>>>,
    /// Rows that are about to leave; seldom any.
    departing: Option<Box<Departing>>,
    /// What the layer above keeps beside the topic.
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

    /// Its name.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The number of presences.
    pub fn count(&self) -> usize {
        self.rows
    }

    /// The number of keys.
    pub fn key_count(&self) -> usize {
        self.groups.len()
    }

    /// All keys in their order, with their rows.
    pub fn groups(&self) -> impl Iterator<Item = (&Key, &Group<X::Key>)> {
        self.groups.iter()
    }

    /// All keys' rows in the order of the keys, and what is kept beside them.
    pub fn groups_mut(&mut self) -> impl Iterator<Item = &mut Group<X::Key>> {
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

    /// Whether something waits to be taken as a diff. It may still come to nothing.
    pub fn has_changes(&self) -> bool {
        !self.window.is_empty()
    }

    /// Takes what has changed since the last call. Each diff is to be published, in this order; [`told`](Self::told)
    /// says that they are.
    pub fn take_diffs(&mut self) -> Vec<Diff<X::Key>> {
        self.told();
        let diffs = self.window.take(&self.groups, self.untold.as_deref());
        if let Some(untold) = &mut self.untold {
            untold.take();
        }
        diffs
    }

    /// The diffs that were taken last count as published from now on.
    pub fn told(&mut self) {
        let Some(untold) = &mut self.untold else { return };
        for key in untold.told() {
            self.layer.told_changed(&key);
        }
        if untold.is_empty() {
            self.untold = None;
        }
    }

    /// Whether a row that is in the set has joined with a published diff. Where there are no diffs, all have.
    pub fn is_told(&self, reference: Ref) -> bool {
        self.untold.as_ref().is_none_or(|untold| untold.is_told(reference))
    }

    /// What the diffs published so far add up to, for the keys from one on and before another in their order: their
    /// rows, those that have gone since first, and what is kept beside them. Where there are no diffs, what is in the
    /// set.
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
        // The keys that have gone, which are few, come in between the others.
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

    /// What [`told_groups`](Self::told_groups) tells of one key: its rows, if it has any, and what is kept beside them.
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

    /// The rows of one key that [`told_groups`](Self::told_groups) tells of.
    pub fn told_rows(&self, key: &Key) -> Vec<Arc<Row>> {
        self.told_key(key).1.cloned().collect()
    }

    /// The keys of which a row has changed that no published diff has said, in no order; some of them twice.
    pub fn untold_keys(&self) -> impl Iterator<Item = &Key> {
        self.untold.iter().flat_map(|untold| untold.keys((Bound::Unbounded, Bound::Unbounded)))
    }

    /// Says that a row is handed out in a state, under the same lock, though no diff has joined it: its leave will
    /// be told of.
    pub fn mark_row_shown(&mut self, reference: Ref) {
        self.window.mark_row_shown(reference);
    }

    /// Says that all rows are handed out in a state, under the same lock: their leaves will be told of from now
    /// on.
    pub fn mark_shown(&mut self) {
        self.window.mark_shown();
    }

    /// Has the rows of a key join once more with the next diff, under the same refs.
    pub fn join_again(&mut self, key: &str) {
        if let Some(group) = self.groups.get(key) {
            self.window.again(group.rows());
        }
    }

    pub(crate) fn find(&self, owner: OwnerId, key: &str) -> Option<&Arc<Row>> {
        self.groups.get(key)?.of_owner(owner)
    }

    /// Begins an operation: what follows is one diff where each operation is one.
    pub(crate) fn begin(&mut self) {
        self.window.begin();
    }

    /// Adds a row. A name is given once: a row of another node that has the name of one that is there is left out,
    /// and gives way to one of this node.
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

    /// Notes a change that no diff has said yet.
    fn note(&mut self, key: &Key, note: impl FnOnce(&mut Untold<X::Key>)) {
        if self.window.is_off() {
            self.layer.told_changed(key);
        } else {
            note(self.untold.get_or_insert_default());
        }
    }

    /// Puts a new version, made of the old one, in the place of what an owner tracked. Returns both.
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
            // Somebody has guessed its name.
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

    /// Removes what an owner tracked under a key.
    pub(crate) fn remove(&mut self, owner: OwnerId, key: &str, reason: LeaveReason) -> Option<Arc<Row>> {
        let row = self.find(owner, key)?.clone();
        self.remove_row(&row, Some(reason));
        Some(row)
    }

    /// Removes a version by its name. No reason if another has taken its place.
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

    /// Whether this very row is in the set: another of its name may be.
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

    /// The key of a row. A look at every row of the topic, unless it is about to leave: for what is rare.
    pub(crate) fn key_of(&self, reference: Ref) -> Option<Key> {
        if let Some(key) = self.departing.as_ref().and_then(|departing| departing.key_of(reference)) {
            return Some(key.clone());
        }
        let has_it = |(_, group): &(&Key, &Group<X::Key>)| group.find(reference).is_some();
        self.groups.iter().find(has_it).map(|(key, _)| key.clone())
    }

    /// Notes that a row is about to leave, so that the next of its key takes its place.
    pub(crate) fn depart(&mut self, row: &Row, own: Option<(LeaveReason, Duration)>) {
        self.departing.get_or_insert_default().note(row, own);
    }

    /// The rows of this node that are about to leave, with why and after which grace.
    pub(crate) fn own_departing(&self) -> impl Iterator<Item = (&Arc<Row>, LeaveReason, Duration)> {
        let own = self.departing.iter().flat_map(|departing| departing.own());
        own.filter_map(|(reference, key, reason, grace)| {
            Some((self.groups.get(key)?.find(reference)?, reason, grace))
        })
    }

    /// The row of a key that has been about to leave for the longest time.
    pub(crate) fn departing(&self, key: &Key) -> Option<&Arc<Row>> {
        let reference = self.departing.as_ref()?.first(key)?;
        self.groups.get(key)?.find(reference)
    }

    /// Whether there is nothing left to keep.
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
