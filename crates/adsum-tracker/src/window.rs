//! What has changed in a topic since its last diff was taken.

use std::{collections::HashMap, sync::Arc};

use indexmap::{IndexMap, IndexSet};

use crate::{Diff, Group, Key, KeyLayer, Left, Reason, Ref, Row, Rows, groups::Groups};

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
    #[expect(clippy::box_collection, reason = "most topics are quiet at any time")]
    Each(Option<Box<Vec<Diff<K>>>>),
    Off,
}

#[derive(Debug)]
pub(crate) struct Net<K> {
    /// Nearly in the order of `Touched::order`: a row that has gone and come back keeps its place here.
    touched: IndexMap<Ref, Touched>,
    /// The order of the next row that is touched.
    next: u64,
    /// Rows touched before this one have been shown in a state since.
    shown: u64,
    /// What was kept beside keys whose last row went. A row that comes back within the window finds it again.
    vanished: HashMap<Key, K>,
    /// Keys of which every row is to join, whether touched or not.
    again: IndexSet<Key>,
}

#[derive(Debug)]
struct Touched {
    row: Arc<Row>,
    /// The order of first touch, which for rows that came is the order of tracking. A row that comes back is touched
    /// anew.
    order: u64,
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
            Windows::Each => Self::Each(None),
            Windows::Off => Self::Off,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Net(net) => net.as_ref().is_none_or(|net| net.touched.is_empty() && net.again.is_empty()),
            Self::Each(diffs) => diffs.is_none(),
            Self::Off => true,
        }
    }

    /// Begins an operation; what it notes is one diff where each change is one.
    pub(crate) fn begin(&mut self) {
        if let Self::Each(diffs) = self {
            diffs.get_or_insert_default().push(Diff::default());
        }
    }

    pub(crate) fn came(&mut self, row: &Arc<Row>) {
        match self {
            Self::Net(net) => net.get_or_insert_default().came(row),
            Self::Each(diffs) => begun(diffs).joins.push(row.clone()),
            Self::Off => {}
        }
    }

    pub(crate) fn went(&mut self, row: Arc<Row>, reason: Option<Reason>, layer: &K) {
        match self {
            Self::Net(net) => net.get_or_insert_default().went(row, reason),
            Self::Each(diffs) => begun(diffs).leaves.push(Left { row, reason, layer: layer.clone() }),
            Self::Off => {}
        }
    }

    /// The rows of a key, these, are to join once more, with what is now kept beside it.
    pub(crate) fn again(&mut self, rows: Rows<'_>) {
        match self {
            Self::Net(net) => {
                let again = &mut net.get_or_insert_default().again;
                again.insert(rows.first().key.clone());
            }
            Self::Each(diffs) => {
                diffs.get_or_insert_default().push(Diff { joins: rows.to_vec(), leaves: Vec::new() });
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
            net.shown = net.next;
        }
    }

    pub(crate) fn take(&mut self, groups: &Groups<K>) -> Vec<Diff<K>> {
        match self {
            Self::Off => Vec::new(),
            Self::Each(diffs) => {
                let mut diffs = diffs.take().map_or_else(Vec::new, |diffs| *diffs);
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

/// The diff of the operation that was begun.
#[expect(clippy::box_collection, reason = "as the window keeps them")]
fn begun<K>(diffs: &mut Option<Box<Vec<Diff<K>>>>) -> &mut Diff<K> {
    diffs.as_mut().and_then(|diffs| diffs.last_mut()).expect("an operation was begun")
}

impl<K> Default for Net<K> {
    fn default() -> Self {
        Self { touched: IndexMap::new(), next: 0, shown: 0, vanished: HashMap::new(), again: IndexSet::new() }
    }
}

impl<K: KeyLayer> Net<K> {
    fn came(&mut self, row: &Arc<Row>) {
        let order = self.take_order();
        // A row of another node may have gone and come back since the last diff: it joins once more, since it
        // stands at the end of its key now, and its next leave is told of if an earlier one would have been.
        let earlier = self.touched.get(&row.reference);
        let published = earlier.is_some_and(|touched| touched.gone.is_some_and(|gone| gone.shown));
        self.touched.insert(row.reference, Touched { row: row.clone(), order, published, gone: None });
    }

    fn went(&mut self, row: Arc<Row>, reason: Option<Reason>) {
        let shown = self.shown;
        if let Some(touched) = self.touched.get_mut(&row.reference) {
            touched.gone = Some(Gone { reason, shown: touched.published || touched.order < shown });
            let previous = touched.row.previous();
            if reason.is_some() {
                self.give_reason(previous, reason);
            }
        } else {
            let order = self.take_order();
            let gone = Some(Gone { reason, shown: true });
            self.touched.insert(row.reference, Touched { row, order, published: true, gone });
        }
    }

    fn take_order(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// A presence has ended: so have the versions of it that updates replaced within the window. Nothing is in
    /// their place any more, and the last version may not be told of at all.
    fn give_reason(&mut self, mut previous: Option<Ref>, reason: Option<Reason>) {
        while let Some(touched) = previous.and_then(|reference| self.touched.get_mut(&reference)) {
            if let Some(gone) = &mut touched.gone {
                gone.reason = reason;
            }
            previous = touched.row.previous();
        }
    }

    fn into_diff(self, groups: &Groups<K>) -> Diff<K> {
        let Self { touched, vanished, again, .. } = self;
        let mut touched: Vec<Touched> = touched.into_values().collect();
        // One run, unless a row has come back.
        touched.sort_by_key(|touched| touched.order);
        let mut diff = Diff::default();
        for Touched { row, gone, .. } in touched {
            match gone {
                None if again.contains(&row.key) => {}
                None => diff.joins.push(row),
                Some(Gone { shown: false, .. }) => {}
                Some(Gone { reason, .. }) => {
                    let layer = groups.get(&row.key).map(Group::layer).or_else(|| vanished.get(&row.key));
                    let layer = layer.cloned().unwrap_or_default();
                    diff.leaves.push(Left { row, reason, layer });
                }
            }
        }
        // A client moves a meta that joins once more to the end of its key: all move, in the order of the set.
        for key in &again {
            if let Some(group) = groups.get(key) {
                diff.joins.extend(group.rows().iter().cloned());
            }
        }
        diff
    }
}
