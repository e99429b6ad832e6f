//! The rows of a topic that are about to leave.

use std::collections::{BTreeMap, HashMap};

use crate::{Key, Ref, Row};

/// The rows that are about to leave, by name, and in the order in which they began to.
#[derive(Default)]
pub(crate) struct Departing {
    rows: HashMap<Ref, (Key, u64)>,
    of_key: BTreeMap<(Key, u64), Ref>,
    /// The place of the next row.
    next: u64,
}

impl Departing {
    /// Notes a row, unless it is noted already.
    pub(crate) fn note(&mut self, row: &Row) {
        let place = (row.key.clone(), self.next);
        self.rows.entry(row.reference).or_insert_with(|| {
            self.of_key.insert(place.clone(), row.reference);
            self.next += 1;
            place
        });
    }

    pub(crate) fn remove(&mut self, reference: Ref) {
        if let Some(place) = self.rows.remove(&reference) {
            self.of_key.remove(&place);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn key_of(&self, reference: Ref) -> Option<&Key> {
        self.rows.get(&reference).map(|(key, _)| key)
    }

    /// The first row of a key.
    pub(crate) fn first(&self, key: &Key) -> Option<Ref> {
        let (_, reference) = self.of_key.range((key.clone(), 0)..=(key.clone(), u64::MAX)).next()?;
        Some(*reference)
    }
}
