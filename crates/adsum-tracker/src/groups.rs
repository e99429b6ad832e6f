//! The presences of a topic by their keys: small while they are few, as in most topics.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use smallvec::SmallVec;

use crate::{group::Group, meta::Key, row::Row};

/// Maximum number of keys kept in a vector. A tree's first node alone has room for eleven, and most topics have one
/// or two.
const FEW: usize = 16;

/// Groups in the order of their keys: a sorted vector while they are few, then a tree, which grows and shrinks
/// without a pause however many there are.
pub(crate) enum Groups<K> {
    /// The rows have the keys.
    Few(SmallVec<[Group<K>; 1]>),
    /// The tree's nodes hold the keys, so that a search doesn't touch the rows.
    Many(BTreeMap<Key, Group<K>>),
}

impl<K> Groups<K> {
    pub(crate) fn new() -> Self {
        Self::Few(SmallVec::new())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Group<K>> {
        match self {
            Self::Few(few) => find(few, key).ok().map(|index| &few[index]),
            Self::Many(many) => many.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Group<K>> {
        match self {
            Self::Few(few) => find(few, key).ok().map(|index| &mut few[index]),
            Self::Many(many) => many.get_mut(key),
        }
    }

    /// Adds a row to its key's group, or as a new group with this layer.
    pub(crate) fn push(&mut self, row: Arc<Row>, layer: impl FnOnce() -> K) -> &mut Group<K> {
        if let Self::Few(few) = self
            && few.len() == FEW
            && find(few, &row.key).is_err()
        {
            let many = std::mem::take(few).into_iter().map(|group| (key_of(&group).clone(), group));
            *self = Self::Many(many.collect());
        }
        match self {
            Self::Few(few) => match find(few, &row.key) {
                Ok(index) => {
                    few[index].push(row);
                    &mut few[index]
                }
                Err(index) => {
                    if few.len() == few.capacity() {
                        // A vector would allocate room for four at once.
                        few.reserve_exact(few.len().max(1));
                    }
                    few.insert(index, Group::new(row, layer()));
                    &mut few[index]
                }
            },
            Self::Many(many) => many
                .entry(row.key.clone())
                .and_modify(|group| group.push(row.clone()))
                .or_insert_with(|| Group::new(row, layer())),
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Group<K>> {
        match self {
            Self::Few(few) => {
                let group = few.remove(find(few, key).ok()?);
                if few.spilled() && few.capacity() > 4 * few.len() {
                    few.shrink_to_fit();
                }
                Some(group)
            }
            Self::Many(many) => {
                let group = many.remove(key);
                // At half the size that made it a tree, so that a single key that comes and goes doesn't move all
                // others.
                if many.len() <= FEW / 2 {
                    *self = Self::Few(std::mem::take(many).into_values().collect());
                }
                group
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Group<K>)> {
        self.after(None)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group<K>> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(many)),
        };
        few.into_iter().flatten().chain(many.into_iter().flat_map(|many| many.values_mut()))
    }

    /// Returns the groups after a key, or all.
    pub(crate) fn after(&self, key: Option<&str>) -> impl Iterator<Item = (&Key, &Group<K>)> {
        self.range((key.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// Returns the groups whose keys are in a range.
    pub(crate) fn range(&self, range: (Bound<&str>, Bound<&str>)) -> impl Iterator<Item = (&Key, &Group<K>)> {
        let (few, many) = match self {
            Self::Few(few) => {
                let place = |bound: Bound<&str>, unbounded, after_included: bool| match bound {
                    Bound::Unbounded => unbounded,
                    Bound::Included(key) => {
                        find(few, key).map_or_else(|index| index, |index| index + usize::from(after_included))
                    }
                    Bound::Excluded(key) => find(few, key)
                        .map_or_else(|index| index, |index| index + usize::from(!after_included)),
                };
                (&few[place(range.0, 0, false)..place(range.1, few.len(), true)], None)
            }
            Self::Many(many) => (&[][..], Some(many.range::<str, _>(range))),
        };
        few.iter().map(|group| (key_of(group), group)).chain(many.into_iter().flatten())
    }
}

fn key_of<K>(group: &Group<K>) -> &Key {
    &group.rows().first().key
}

fn find<K>(few: &[Group<K>], key: &str) -> Result<usize, usize> {
    few.binary_search_by(|group| key_of(group).as_str().cmp(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        meta::Meta,
        reference::{Ref, RefSource},
        replica::Incarnation,
        row::OwnerId,
    };

    proptest! {
        #[test]
        fn it_is_a_map_in_the_order_of_its_keys(steps in prop::collection::vec((any::<bool>(), 0..40_u8), 0..300)) {
            let refs = RefSource::new(Incarnation { started: 1, random: 1 });
            let (mut groups, mut model) = (Groups::new(), BTreeMap::<Key, Vec<Ref>>::new());
            for (adds, key) in steps {
                let key = Key::from(format!("{key:02}"));
                if adds {
                    let row = Row::new(refs.next(), OwnerId::REMOTE, "t".into(), key.clone(), Meta::from_encoded("{}"));
                    model.entry(key.clone()).or_default().push(row.reference);
                    groups.push(Arc::new(row), || ());
                } else if model.get(&key).is_some_and(|refs| refs.len() > 1) {
                    let first = model.get_mut(&key).expect("it was just looked at").remove(0);
                    prop_assert!(groups.get_mut(&key).expect("the model has it").remove(first));
                } else {
                    prop_assert_eq!(groups.remove(&key).is_some(), model.remove(&key).is_some());
                }
                let refs = |group: &Group<()>| group.rows().iter().map(|row| row.reference).collect::<Vec<_>>();
                prop_assert_eq!(groups.get(&key).map(refs), model.get(&key).cloned());
                prop_assert_eq!(groups.len(), model.len());
                let all: Vec<_> = groups.iter().map(|(key, group)| (key.clone(), refs(group))).collect();
                prop_assert!(all.into_iter().eq(model.clone()));
                let after = (Bound::Excluded(&*key), Bound::Unbounded);
                let after = model.range::<str, _>(after).map(|(key, _)| key);
                prop_assert!(groups.after(Some(&key)).map(|(key, _)| key).eq(after));
                if &*key <= "35" {
                    let bounds = (Bound::Included(&*key), Bound::Excluded("35"));
                    let (range, model) = (groups.range(bounds), model.range::<str, _>(bounds));
                    prop_assert!(range.map(|(key, _)| key).eq(model.map(|(key, _)| key)));
                }
                prop_assert!(groups.iter_mut().map(|group| refs(group)).eq(model.values().cloned()));
            }
        }
    }
}
