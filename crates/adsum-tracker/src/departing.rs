//! The rows of a topic that are about to leave.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{leave_reason::LeaveReason, meta::Key, reference::Ref, row::Row};

/// The rows that are about to leave: by name, and by key in the order in which they were noted.
#[derive(Default)]
pub(crate) struct Departing {
    rows: HashMap<Ref, Noted>,
    of_key: BTreeMap<(Key, u64), Ref>,
    /// The order of the next row.
    next: u64,
}

struct Noted {
    place: (Key, u64),
    /// For a row of this node: why and after which grace it leaves.
    own: Option<(LeaveReason, Duration)>,
}

impl Departing {
    /// Notes a row, unless it is noted already. For a row of this node, `own` says why and when it leaves.
    pub(crate) fn note(&mut self, row: &Row, own: Option<(LeaveReason, Duration)>) {
        let place = (row.key.clone(), self.next);
        self.rows.entry(row.reference).or_insert_with(|| {
            self.of_key.insert(place.clone(), row.reference);
            self.next += 1;
            Noted { place, own }
        });
    }

    pub(crate) fn remove(&mut self, reference: Ref) {
        if let Some(noted) = self.rows.remove(&reference) {
            self.of_key.remove(&noted.place);
        }
    }

    /// Returns the rows of this node.
    pub(crate) fn own(&self) -> impl Iterator<Item = (Ref, &Key, LeaveReason, Duration)> {
        let own = |(reference, noted): (&Ref, &'_ Noted)| {
            noted.own.map(|(reason, grace)| (*reference, reason, grace))
        };
        self.rows.iter().filter_map(move |entry| {
            let (reference, reason, grace) = own(entry)?;
            Some((reference, &entry.1.place.0, reason, grace))
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn key_of(&self, reference: Ref) -> Option<&Key> {
        self.rows.get(&reference).map(|noted| &noted.place.0)
    }

    /// Returns the first row of a key.
    pub(crate) fn first(&self, key: &Key) -> Option<Ref> {
        let (_, reference) = self.of_key.range((key.clone(), 0)..=(key.clone(), u64::MAX)).next()?;
        Some(*reference)
    }
}
