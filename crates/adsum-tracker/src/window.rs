//! The changes of a topic since its last diff was taken.

use std::{collections::HashSet, sync::Arc};

use indexmap::{IndexMap, IndexSet};

use crate::{
    diff::{Diff, JoinedRow, LeftRow},
    group::{Group, Rows},
    groups::Groups,
    layer::KeyLayer,
    leave_reason::LeaveReason,
    meta::Key,
    reference::Ref,
    row::Row,
    untold::Untold,
};

/// How the changes of a topic are put together into diffs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// All changes in one diff. A row that came and went in between is left out, unless a state or list showed it.
    Net,
    /// One diff for each change, as in Phoenix.
    Each,
    /// No diffs. The leaves alone are noted, for [`TopicSet::take_left`](crate::TopicSet::take_left).
    Left,
    /// No diffs: changes aren't noted.
    Off,
}

/// Rows that have left, each with the reason.
pub(crate) type LeftRows = Vec<(Arc<Row>, LeaveReason)>;

/// The changes since the last diff was taken.
#[derive(Debug)]
pub(crate) enum DiffWindow<K> {
    /// Boxed, as most topics are quiet at any time.
    Net(Option<Box<Net>>),
    #[expect(clippy::box_collection, reason = "most topics are quiet at any time")]
    Each(Option<Box<Vec<Diff<K>>>>),
    Left(Option<Box<LeftRows>>),
    Off,
}

#[derive(Debug)]
pub(crate) struct Net {
    /// Nearly in the order of `Touched::order`: a row that has gone and come back keeps its place here.
    touched: IndexMap<Ref, Touched>,
    /// The order of the next row that is touched.
    next: u64,
    /// A state or list has shown all rows that were touched before this one.
    shown: u64,
    /// Keys whose rows all join, touched or not.
    again: IndexSet<Key>,
}

#[derive(Debug)]
struct Touched {
    row: Arc<Row>,
    /// The order of the first touch. For rows that came it is the order of tracking; a row that comes back gets a new
    /// one.
    order: u64,
    /// Whether a diff before this window joined the row.
    joined: bool,
    /// Whether a state or list has shown the row.
    shown: bool,
    /// Whether a state or list has shown all rows while this one was away.
    missed: bool,
    /// Set once the row has left.
    gone: Option<Gone>,
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    /// `None` if another version has taken its place.
    reason: Option<LeaveReason>,
    order: u64,
}

impl<K: KeyLayer> DiffWindow<K> {
    pub(crate) fn new(windows: Windows) -> Self {
        match windows {
            Windows::Net => Self::Net(None),
            Windows::Each => Self::Each(None),
            Windows::Left => Self::Left(None),
            Windows::Off => Self::Off,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Net(net) => net.as_ref().is_none_or(|net| net.touched.is_empty() && net.again.is_empty()),
            Self::Each(diffs) => diffs.is_none(),
            Self::Left(left) => left.is_none(),
            Self::Off => true,
        }
    }

    /// Whether there are no diffs.
    pub(crate) fn is_off(&self) -> bool {
        matches!(self, Self::Left(_) | Self::Off)
    }

    /// Takes the leaves, where they alone are noted.
    pub(crate) fn take_left(&mut self) -> LeftRows {
        match self {
            Self::Left(left) => left.take().map_or_else(Vec::new, |left| *left),
            _ => Vec::new(),
        }
    }

    /// Begins an operation. If each change is a diff, the operation's changes are one.
    pub(crate) fn begin(&mut self) {
        if let Self::Each(diffs) = self {
            diffs.get_or_insert_default().push(Diff::default());
        }
    }

    pub(crate) fn came(&mut self, row: &Arc<Row>) {
        match self {
            Self::Net(net) => net.get_or_insert_default().came(row),
            Self::Each(diffs) => begun(diffs).joins.push(row.clone().into()),
            Self::Left(_) | Self::Off => {}
        }
    }

    pub(crate) fn went(&mut self, row: Arc<Row>, reason: Option<LeaveReason>, layer: &K) {
        match self {
            Self::Net(net) => net.get_or_insert_default().went(row, reason),
            Self::Each(diffs) => {
                begun(diffs).leaves.push(LeftRow { row, reason, is_known: true, layer: layer.clone() });
            }
            Self::Left(left) => {
                if let Some(reason) = reason {
                    left.get_or_insert_default().push((row, reason));
                }
            }
            Self::Off => {}
        }
    }

    /// Notes that these rows, all of their key, join once more with the current layer of the key.
    pub(crate) fn again(&mut self, rows: Rows<'_>) {
        match self {
            Self::Net(net) => {
                let again = &mut net.get_or_insert_default().again;
                again.insert(rows.first().key.clone());
            }
            Self::Each(diffs) => {
                let joined = |row: &Arc<Row>| JoinedRow { is_known: true, ..row.clone().into() };
                let joins = rows.iter().map(joined).collect();
                diffs.get_or_insert_default().push(Diff { joins, leaves: Vec::new() });
            }
            Self::Left(_) | Self::Off => {}
        }
    }

    /// Notes that a state or list has shown all rows.
    pub(crate) fn mark_shown(&mut self) {
        if let Self::Net(Some(net)) = self {
            net.shown = net.next;
        }
    }

    /// Notes that a state has shown a row.
    pub(crate) fn mark_row_shown(&mut self, reference: Ref) {
        if let Self::Net(Some(net)) = self
            && let Some(touched) = net.touched.get_mut(&reference)
        {
            touched.shown = true;
        }
    }

    pub(crate) fn take(&mut self, groups: &Groups<K>, untold: Option<&Untold<K>>) -> Vec<Diff<K>> {
        match self {
            Self::Left(_) | Self::Off => Vec::new(),
            Self::Each(diffs) => {
                let mut diffs = diffs.take().map_or_else(Vec::new, |diffs| *diffs);
                // An operation of another node may have come to nothing here.
                diffs.retain(|diff| !diff.is_empty());
                diffs.iter_mut().for_each(name_previous);
                diffs
            }
            Self::Net(net) => {
                let diff = net.take().map(|net| net.into_diff(groups, untold));
                diff.filter(|diff| !diff.is_empty()).into_iter().collect()
            }
        }
    }
}

/// Sets `previous` of each row that joins, if that version leaves in the same diff.
fn name_previous<K>(diff: &mut Diff<K>) {
    // Usually there is one leave, of an update.
    let leaves = &diff.leaves;
    let left: Option<HashSet<Ref>> =
        (leaves.len() > 4).then(|| leaves.iter().map(|left| left.row.reference).collect());
    let leaves = |reference: Ref| match &left {
        Some(left) => left.contains(&reference),
        None => leaves.iter().any(|left| left.row.reference == reference),
    };
    for joined in &mut diff.joins {
        joined.previous = joined.row.previous().filter(|previous| leaves(*previous));
    }
}

/// Returns the diff of the operation that was begun.
#[expect(clippy::box_collection, reason = "the type that the window keeps")]
fn begun<K>(diffs: &mut Option<Box<Vec<Diff<K>>>>) -> &mut Diff<K> {
    diffs.as_mut().and_then(|diffs| diffs.last_mut()).expect("an operation was begun")
}

impl Default for Net {
    fn default() -> Self {
        Self { touched: IndexMap::new(), next: 0, shown: 0, again: IndexSet::new() }
    }
}

impl Net {
    fn came(&mut self, row: &Arc<Row>) {
        let order = self.take_order();
        // A row of another node may have gone and come back since the last diff.
        let touched = match self.touched.get(&row.reference) {
            Some(earlier) => {
                let missed = earlier.missed || earlier.gone.is_some_and(|gone| gone.order < self.shown);
                Touched { row: row.clone(), order, missed, gone: None, ..*earlier }
            }
            None => {
                Touched { row: row.clone(), order, joined: false, shown: false, missed: false, gone: None }
            }
        };
        self.touched.insert(row.reference, touched);
    }

    fn went(&mut self, row: Arc<Row>, reason: Option<LeaveReason>) {
        let shown = self.shown;
        let order = self.take_order();
        let gone = Some(Gone { reason, order });
        if let Some(touched) = self.touched.get_mut(&row.reference) {
            touched.gone = gone;
            touched.shown |= touched.order < shown;
            let previous = touched.row.previous();
            if reason.is_some() {
                self.give_reason(previous, reason);
            }
        } else {
            let touched = Touched { row, order, joined: true, shown: false, missed: false, gone };
            self.touched.insert(touched.row.reference, touched);
        }
    }

    fn take_order(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Gives the reason of a presence's end also to its versions that updates replaced within the window: no version is
    /// in their place any more, and the last one may not be in the diff at all.
    fn give_reason(&mut self, mut previous: Option<Ref>, reason: Option<LeaveReason>) {
        while let Some(touched) = previous.and_then(|reference| self.touched.get_mut(&reference)) {
            if let Some(gone) = &mut touched.gone {
                gone.reason = reason;
            }
            previous = touched.row.previous();
        }
    }

    /// Returns the oldest version before a row that a diff joined and that leaves in this one. A client pairs the two,
    /// however many versions it missed in between.
    fn previous(&self, row: &Row) -> Option<Ref> {
        let (mut oldest, mut previous) = (None, row.previous());
        while let Some(touched) = previous.and_then(|reference| self.touched.get(&reference)) {
            if touched.joined && touched.gone.is_some() {
                oldest = previous;
            }
            previous = touched.row.previous();
        }
        oldest
    }

    fn into_diff<K: KeyLayer>(self, groups: &Groups<K>, untold: Option<&Untold<K>>) -> Diff<K> {
        let mut touched: Vec<&Touched> = self.touched.values().collect();
        // Sorted already, unless a row has come back.
        touched.sort_by_key(|touched| touched.order);
        let join =
            |row: &Arc<Row>, is_known| JoinedRow { row: row.clone(), previous: self.previous(row), is_known };
        let mut diff = Diff::default();
        for Touched { row, joined, shown, missed, gone, .. } in touched {
            match gone {
                None if self.again.contains(&row.key) => {}
                // It has come back, and is at the end of its key now. If it is alone there, nothing has changed.
                None if *joined
                    && !missed
                    && groups.get(&row.key).is_none_or(|group| group.rows().len() == 1) => {}
                None => diff.joins.push(join(row, *joined)),
                Some(_) if !joined && !shown => {}
                Some(Gone { reason, .. }) => {
                    let layer = groups.get(&row.key).map(Group::layer);
                    let layer = layer.or_else(|| untold?.layer(&row.key)).cloned().unwrap_or_default();
                    diff.leaves.push(LeftRow { row: row.clone(), reason: *reason, is_known: *joined, layer });
                }
            }
        }
        // A client moves a meta that joins once more to the end of its key: so all join, in the order of the set.
        for key in &self.again {
            if let Some(group) = groups.get(key) {
                let is_known =
                    |row: &Row| self.touched.get(&row.reference).is_none_or(|touched| touched.joined);
                diff.joins.extend(group.rows().iter().map(|row| join(row, is_known(row))));
            }
        }
        diff
    }
}
