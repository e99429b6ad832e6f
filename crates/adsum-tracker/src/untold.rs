//! The changes that no published diff contains yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use crate::{meta::Key, reference::Ref, row::Row};

/// The difference between a topic's presences and what its subscribers were told: the changes of the open window, and
/// those taken as a diff that isn't sent yet.
#[derive(Debug)]
pub(crate) struct Untold<K> {
    open: UntoldChanges<K>,
    taken: UntoldChanges<K>,
}

/// Trees, as most windows have one change: a tree of one is a single allocation, and nothing is hashed.
#[derive(Debug)]
struct UntoldChanges<K> {
    /// The rows that weren't there before.
    came: BTreeSet<Ref>,
    /// All keys with a changed row.
    keys: BTreeMap<Key, KeyChange<K>>,
}

#[derive(Debug)]
struct KeyChange<K> {
    /// The rows that were there before, and left.
    gone: BTreeMap<Ref, Arc<Row>>,
    /// The layer of the key when its last row left. A row that comes back gets it again.
    layer: Option<K>,
}

impl<K> Untold<K> {
    pub(crate) fn came(&mut self, row: &Row) {
        // A row of another node that comes back was told before.
        if self.open.key(&row.key).gone.remove(&row.reference).is_none() {
            self.open.came.insert(row.reference);
        }
    }

    pub(crate) fn went(&mut self, row: &Arc<Row>) {
        let is_new = self.open.came.remove(&row.reference);
        let key = self.open.key(&row.key);
        if !is_new {
            key.gone.insert(row.reference, row.clone());
        }
    }

    /// Keeps the layer of a key whose last row left.
    pub(crate) fn keep_layer(&mut self, key: &Key, layer: K) {
        self.open.key(key).layer = Some(layer);
    }

    /// Takes the layer of a key that comes back.
    pub(crate) fn take_layer(&mut self, key: &Key) -> Option<K> {
        self.open.keys.get_mut(key)?.layer.take()
    }

    /// Returns the layer of a key that has gone.
    pub(crate) fn layer(&self, key: &Key) -> Option<&K> {
        [&self.open, &self.taken].into_iter().find_map(|changes| changes.keys.get(key)?.layer.as_ref())
    }

    /// Notes that the changes of the open window were taken as diffs, which will be sent.
    pub(crate) fn take(&mut self) {
        self.taken = std::mem::take(&mut self.open);
    }

    /// Notes that the taken changes are sent. Returns the keys that they changed.
    pub(crate) fn told(&mut self) -> impl Iterator<Item = Key> + use<K> {
        std::mem::take(&mut self.taken).keys.into_keys()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.keys.is_empty() && self.taken.keys.is_empty()
    }

    /// Whether a row that is there was told.
    pub(crate) fn is_told(&self, reference: Ref) -> bool {
        !self.open.came.contains(&reference) && !self.taken.came.contains(&reference)
    }

    /// Returns the rows of a key that were told and have left since.
    pub(crate) fn gone<'u>(&'u self, key: &Key) -> impl Iterator<Item = &'u Arc<Row>> + use<'u, K> {
        let since = self.open.gone(key).filter(|row| !self.taken.came.contains(&row.reference));
        self.taken.gone(key).chain(since)
    }

    /// Returns the keys in a range that have a changed row, in no order, and some of them twice.
    pub(crate) fn keys<'u>(
        &'u self,
        range: (Bound<&'u str>, Bound<&'u str>),
    ) -> impl Iterator<Item = &'u Key> {
        [&self.taken, &self.open]
            .into_iter()
            .flat_map(move |changes| changes.keys.range::<str, _>(range))
            .map(|(key, _)| key)
    }
}

impl<K> UntoldChanges<K> {
    fn gone<'u>(&'u self, key: &Key) -> impl Iterator<Item = &'u Arc<Row>> + use<'u, K> {
        self.keys.get(key).into_iter().flat_map(|key| key.gone.values())
    }

    fn key(&mut self, key: &Key) -> &mut KeyChange<K> {
        self.keys.entry(key.clone()).or_insert_with(|| KeyChange { gone: BTreeMap::new(), layer: None })
    }
}

impl<K> Default for Untold<K> {
    fn default() -> Self {
        Self { open: UntoldChanges::default(), taken: UntoldChanges::default() }
    }
}

impl<K> Default for UntoldChanges<K> {
    fn default() -> Self {
        Self { came: BTreeSet::new(), keys: BTreeMap::new() }
    }
}
