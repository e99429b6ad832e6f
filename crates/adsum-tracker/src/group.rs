//! The presences of one key: in a vector while they are few, then indexed, so that a key such as `guest` costs each of
//! its many presences no more than a key with few.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, slice,
    sync::Arc,
};

use crate::{
    reference::Ref,
    row::{OwnerId, Row},
};

/// Maximum number of rows kept in a vector, which is searched row by row.
const FEW: usize = 64;

/// The rows of one key, in the order in which they were tracked. An update moves its row to the end.
pub struct Group<K> {
    rows: Stored,
    pub(crate) layer: K,
}

/// Never empty. Most keys have one row, which needs no allocation of its own.
enum Stored {
    One(Arc<Row>),
    #[expect(clippy::box_collection, reason = "a vector is three times as large as what most keys need")]
    Few(Box<Vec<Arc<Row>>>),
    Crowd(Box<Crowd>),
}

/// Many rows, indexed by owner and by name.
#[derive(Default)]
struct Crowd {
    rows: BTreeMap<u64, Arc<Row>>,
    by_reference: HashMap<Ref, u64>,
    /// Only rows of this node: those of other nodes share one owner.
    by_owner: HashMap<OwnerId, u64>,
    /// The position of the next row.
    next: u64,
}

impl<K> Group<K> {
    pub(crate) fn new(row: Arc<Row>, layer: K) -> Self {
        Self { rows: Stored::One(row), layer }
    }

    /// Returns the rows.
    pub fn rows(&self) -> Rows<'_> {
        self.rows.all()
    }

    /// Returns what is kept beside the key.
    pub fn layer(&self) -> &K {
        &self.layer
    }

    /// Returns what is kept beside the key, and the rows.
    pub fn layer_mut(&mut self) -> (&mut K, Rows<'_>) {
        (&mut self.layer, self.rows.all())
    }

    /// Returns the row that an owner of this node tracks.
    pub fn of_owner(&self, owner: OwnerId) -> Option<&Arc<Row>> {
        match &self.rows {
            Stored::Crowd(crowd) => crowd.rows.get(crowd.by_owner.get(&owner)?),
            few => few.all().iter().find(|row| row.owner == owner),
        }
    }

    /// Returns the row of this name.
    pub(crate) fn find(&self, reference: Ref) -> Option<&Arc<Row>> {
        match &self.rows {
            Stored::Crowd(crowd) => crowd.rows.get(crowd.by_reference.get(&reference)?),
            few => few.all().iter().find(|row| row.reference == reference),
        }
    }

    /// Adds a row at the end.
    pub(crate) fn push(&mut self, row: Arc<Row>) {
        match &mut self.rows {
            Stored::One(first) => self.rows = Stored::Few(Box::new(vec![first.clone(), row])),
            Stored::Few(rows) if rows.len() < FEW => rows.push(row),
            Stored::Few(rows) => {
                let mut crowd = Box::new(Crowd::default());
                for row in rows.drain(..).chain([row]) {
                    crowd.push(row);
                }
                self.rows = Stored::Crowd(crowd);
            }
            Stored::Crowd(crowd) => crowd.push(row),
        }
    }

    /// Removes a row, and adds another at the end.
    pub(crate) fn replace(&mut self, reference: Ref, row: Arc<Row>) {
        if let Stored::One(only) = &mut self.rows {
            *only = row;
        } else {
            self.remove(reference);
            self.push(row);
        }
    }

    /// Removes a row, unless it is the only one: then the caller removes the group. Returns whether it was removed.
    pub(crate) fn remove(&mut self, reference: Ref) -> bool {
        match &mut self.rows {
            Stored::One(_) => false,
            Stored::Few(rows) => {
                let Some(position) = rows.iter().position(|row| row.reference == reference) else {
                    return false;
                };
                rows.remove(position);
                if let [only] = &rows[..] {
                    self.rows = Stored::One(only.clone());
                } else if rows.capacity() > 4 * rows.len().max(4) {
                    rows.shrink_to_fit();
                }
                true
            }
            Stored::Crowd(crowd) => {
                let was_there = crowd.remove(reference);
                // At half the size that made it a crowd, so that a single row that comes and goes doesn't move all
                // others.
                if crowd.rows.len() <= FEW / 2 {
                    let rows = std::mem::take(&mut crowd.rows);
                    self.rows = Stored::Few(Box::new(rows.into_values().collect()));
                }
                was_there
            }
        }
    }
}

impl Crowd {
    fn push(&mut self, row: Arc<Row>) {
        self.by_reference.insert(row.reference, self.next);
        if row.owner != OwnerId::REMOTE {
            self.by_owner.insert(row.owner, self.next);
        }
        self.rows.insert(self.next, row);
        self.next += 1;
    }

    fn remove(&mut self, reference: Ref) -> bool {
        let removed = self.by_reference.remove(&reference).and_then(|place| self.rows.remove(&place));
        if let Some(row) = &removed {
            self.by_owner.remove(&row.owner);
        }
        give_back(&mut self.by_reference);
        give_back(&mut self.by_owner);
        removed.is_some()
    }
}

/// Shrinks a table that has become much smaller than its capacity.
fn give_back<T: std::hash::Hash + Eq, U>(table: &mut HashMap<T, U>) {
    if table.capacity() > 4 * FEW && table.capacity() > 4 * table.len() {
        table.shrink_to(2 * table.len());
    }
}

impl Stored {
    fn all(&self) -> Rows<'_> {
        Rows(match self {
            Self::One(row) => Kind::Few(slice::from_ref(row)),
            Self::Few(rows) => Kind::Few(rows),
            Self::Crowd(crowd) => Kind::Crowd(&crowd.rows),
        })
    }
}

impl<K> fmt::Debug for Group<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().fmt(f)
    }
}

/// The rows of one key in their order; never empty.
#[derive(Clone, Copy)]
pub struct Rows<'g>(Kind<'g>);

#[derive(Clone, Copy)]
enum Kind<'g> {
    Few(&'g [Arc<Row>]),
    Crowd(&'g BTreeMap<u64, Arc<Row>>),
}

impl<'g> Rows<'g> {
    /// Returns the number of rows.
    #[expect(clippy::len_without_is_empty, reason = "they are never empty")]
    pub fn len(self) -> usize {
        match self.0 {
            Kind::Few(few) => few.len(),
            Kind::Crowd(crowd) => crowd.len(),
        }
    }

    /// Returns the row that was tracked first.
    ///
    /// # Panics
    /// Never: there is one.
    pub fn first(self) -> &'g Arc<Row> {
        self.iter().next().expect("a group has a row")
    }

    /// Returns the rows in their order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = &'g Arc<Row>> + Clone {
        let (few, crowd) = match self.0 {
            Kind::Few(few) => (few, None),
            Kind::Crowd(crowd) => (&[][..], Some(crowd)),
        };
        few.iter().chain(crowd.into_iter().flat_map(BTreeMap::values))
    }

    /// Returns the rows, shared.
    pub fn to_vec(self) -> Vec<Arc<Row>> {
        match self.0 {
            Kind::Few(few) => few.to_vec(),
            Kind::Crowd(crowd) => crowd.values().cloned().collect(),
        }
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{meta::Meta, reference::RefSource, replica::Incarnation};

    proptest! {
        #[test]
        fn it_is_a_list_whatever_its_size(steps in prop::collection::vec((0..5_u8, any::<prop::sample::Index>()), 0..400)) {
            let refs = RefSource::new(Incarnation { started: 1, random: 1 });
            let row = |owner: OwnerId| {
                Arc::new(Row::new(refs.next(), owner, "t".into(), "k".into(), Meta::from_encoded("{}")))
            };
            let first = row(OwnerId::unique());
            let (mut group, mut model) = (Group::new(first.clone(), ()), vec![first]);
            for (step, at) in steps {
                let at = at.index(model.len());
                match step {
                    0..=2 => {
                        let new = row(if step == 0 { OwnerId::REMOTE } else { OwnerId::unique() });
                        group.push(new.clone());
                        model.push(new);
                    }
                    3 => {
                        let old = model.remove(at);
                        let new = row(old.owner);
                        group.replace(old.reference, new.clone());
                        model.push(new);
                    }
                    _ if model.len() == 1 => prop_assert!(!group.remove(model[0].reference)),
                    _ => prop_assert!(group.remove(model.remove(at).reference)),
                }
                prop_assert!(group.rows().iter().map(|row| row.reference).eq(model.iter().map(|row| row.reference)));
                prop_assert_eq!(group.rows().len(), model.len());
                let known = &model[at.min(model.len() - 1)];
                prop_assert!(group.find(known.reference).is_some_and(|row| Arc::ptr_eq(row, known)));
                if known.owner != OwnerId::REMOTE {
                    prop_assert!(group.of_owner(known.owner).is_some_and(|row| Arc::ptr_eq(row, known)));
                }
                prop_assert!(group.find(refs.next()).is_none() && group.of_owner(OwnerId::unique()).is_none());
            }
        }
    }
}
