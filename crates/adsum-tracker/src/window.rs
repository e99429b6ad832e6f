//! What has changed in a topic since its last diff was taken.

use std::{collections::HashMap, sync::Arc};

use indexmap::{IndexMap, IndexSet};

use crate::{Diff, Group, Joined, Key, KeyLayer, Left, Reason, Ref, Row, ordered::Ordered};

/// How changes that wait for a diff are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// All changes in one diff: what came and went in between is left out, unless it was shown to somebody.
    Net,
    /// One diff for each change, as Phoenix does.
    Each,
    /// None: nothing is noted.
    Off,
}

/// The changes since the last diff was taken.
#[derive(Debug)]
pub(crate) enum Window<K> {
    /// Boxed, as most topics are quiet at any time.
    Net(Option<Box<Net<K>>>),
    Each(Vec<Diff<K>>),
    Off,
}

#[derive(Debug)]
pub(crate) struct Net<K> {
    /// In the order of first touch, which for rows that came is the order of tracking.
    touched: IndexMap<Ref, Touched>,
    /// Rows touched before this index have been shown in a state since.
    shown: usize,
    /// What was kept beside keys whose last row went. A row that comes back within the window finds it again.
    vanished: HashMap<Key, K>,
    /// Keys of which every row is to join, whether touched or not.
    again: IndexSet<Key>,
}

#[derive(Debug)]
struct Touched {
    key: Key,
    row: Arc<Row>,
    /// Whether somebody may have heard of the row before this window.
    published: bool,
    /// Set when the row has gone.
    gone: Option<Gone>,
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    reason: Option<Reason>,
    shown: bool,
}

impl<K: KeyLayer> Window<K> {
    pub(crate) fn new(windows: Windows) -> Self {
        match windows {
            Windows::Net => Self::Net(None),
            Windows::Each => Self::Each(Vec::new()),
            Windows::Off => Self::Off,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Net(net) => net.as_ref().is_none_or(|net| net.touched.is_empty() && net.again.is_empty()),
            Self::Each(diffs) => diffs.is_empty(),
            Self::Off => true,
        }
    }

    /// Begins an operation; what it notes is one diff where each change is one.
    pub(crate) fn begin(&mut self) {
        if let Self::Each(diffs) = self {
            diffs.push(Diff::default());
        }
    }

    pub(crate) fn came(&mut self, key: &Key, row: &Arc<Row>) {
        match self {
            Self::Net(net) => net.get_or_insert_default().came(key, row),
            Self::Each(diffs) => {
                let joined = Joined { key: key.clone(), row: row.clone() };
                diffs.last_mut().expect("an operation was begun").joins.push(joined);
            }
            Self::Off => {}
        }
    }

    pub(crate) fn went(&mut self, key: &Key, row: Arc<Row>, reason: Option<Reason>, layer: &K) {
        match self {
            Self::Net(net) => net.get_or_insert_default().went(key, row, reason),
            Self::Each(diffs) => {
                let left = Left { key: key.clone(), row, reason, layer: layer.clone() };
                diffs.last_mut().expect("an operation was begun").leaves.push(left);
            }
            Self::Off => {}
        }
    }

    /// The rows of a key, these, are to join once more, with what is now kept beside it.
    pub(crate) fn again(&mut self, key: &Key, rows: &[Arc<Row>]) {
        match self {
            Self::Net(net) => {
                net.get_or_insert_default().again.insert(key.clone());
            }
            Self::Each(diffs) => {
                let mut diff = Diff::default();
                diff.join_all(key, rows);
                diffs.push(diff);
            }
            Self::Off => {}
        }
    }

    /// The last row of a key has gone.
    pub(crate) fn keep_layer(&mut self, key: &Key, layer: K) {
        if let Self::Net(net) = self {
            net.get_or_insert_default().vanished.insert(key.clone(), layer);
        }
    }

    /// What was kept beside a key that had gone and comes back.
    pub(crate) fn kept_layer(&mut self, key: &Key) -> K {
        match self {
            Self::Net(Some(net)) => net.vanished.remove(key).unwrap_or_default(),
            Self::Net(None) | Self::Each(_) | Self::Off => K::default(),
        }
    }

    /// All rows were shown to somebody.
    pub(crate) fn mark_shown(&mut self) {
        if let Self::Net(Some(net)) = self {
            net.shown = net.touched.len();
        }
    }

    pub(crate) fn take(&mut self, groups: &Ordered<Group<K>>) -> Vec<Diff<K>> {
        match self {
            Self::Off => Vec::new(),
            Self::Each(diffs) => {
                let mut diffs = std::mem::take(diffs);
                // An operation of another node may have come to nothing here.
                diffs.retain(|diff| !diff.is_empty());
                diffs
            }
            Self::Net(net) => {
                let diff = net.take().map(|net| net.into_diff(groups));
                diff.filter(|diff| !diff.is_empty()).into_iter().collect()
            }
        }
    }
}

impl<K> Default for Net<K> {
    fn default() -> Self {
        Self { touched: IndexMap::new(), shown: 0, vanished: HashMap::new(), again: IndexSet::new() }
    }
}

impl<K: KeyLayer> Net<K> {
    fn came(&mut self, key: &Key, row: &Arc<Row>) {
        // A row of another node may have gone and come back since the last diff: it joins once more, since it
        // stands at the end of its key now, and its next leave is told of if an earlier one would have been.
        let known = self.touched.shift_remove_full(&row.reference).is_some_and(|(index, _, touched)| {
            if index < self.shown {
                self.shown -= 1;
            }
            touched.gone.is_some_and(|gone| gone.shown)
        });
        let touched = Touched { key: key.clone(), row: row.clone(), published: known, gone: None };
        self.touched.insert(row.reference, touched);
    }

    fn went(&mut self, key: &Key, row: Arc<Row>, reason: Option<Reason>) {
        if let Some((index, _, touched)) = self.touched.get_full_mut(&row.reference) {
            touched.gone = Some(Gone { reason, shown: touched.published || index < self.shown });
            let previous = touched.row.previous;
            if reason.is_some() {
                self.give_reason(previous, reason);
            }
        } else {
            let gone = Some(Gone { reason, shown: true });
            self.touched.insert(row.reference, Touched { key: key.clone(), row, published: true, gone });
        }
    }

    /// A presence has ended: so have the versions of it that updates replaced within the window. Nothing is in
    /// their place any more, and the last version may not be told of at all.
    fn give_reason(&mut self, mut previous: Option<Ref>, reason: Option<Reason>) {
        while let Some(touched) = previous.and_then(|reference| self.touched.get_mut(&reference)) {
            if let Some(gone) = &mut touched.gone {
                gone.reason = reason;
            }
            previous = touched.row.previous;
        }
    }

    fn into_diff(self, groups: &Ordered<Group<K>>) -> Diff<K> {
        let Self { touched, vanished, again, .. } = self;
        let mut diff = Diff::default();
        for (_, Touched { key, row, gone, .. }) in touched {
            match gone {
                None if again.contains(&key) => {}
                None => diff.joins.push(Joined { key, row }),
                Some(Gone { shown: false, .. }) => {}
                Some(Gone { reason, .. }) => {
                    let layer = groups.get(&key).map(Group::layer).or_else(|| vanished.get(&key));
                    let layer = layer.cloned().unwrap_or_default();
                    diff.leaves.push(Left { key, row, reason, layer });
                }
            }
        }
        // A client moves a meta that joins once more to the end of its key: all move, in the order of the set.
        for key in &again {
            if let Some(group) = groups.get(key) {
                diff.join_all(key, group.rows());
            }
        }
        diff
    }
}
