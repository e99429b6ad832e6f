//! A map in the order of its keys that is small when there is little in it.

use std::{collections::BTreeMap, ops::Bound};

use crate::Key;

/// So many entries stand in a vector at most. A tree's first node alone has room for eleven, and most topics have
/// one or two.
const FEW: usize = 16;

/// Entries by key: a sorted vector while they are few, then a tree, which grows and shrinks without a pause however
/// many there are.
#[derive(Debug)]
pub(crate) enum Ordered<V> {
    Few(Vec<(Key, V)>),
    Many(BTreeMap<Key, V>),
}

impl<V> Ordered<V> {
    pub(crate) const fn new() -> Self {
        Self::Few(Vec::new())
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

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.get_key_value(key).map(|(_, value)| value)
    }

    pub(crate) fn get_key_value(&self, key: &str) -> Option<(&Key, &V)> {
        match self {
            Self::Few(few) => find(few, key).ok().map(|index| (&few[index].0, &few[index].1)),
            Self::Many(many) => many.get_key_value(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        match self {
            Self::Few(few) => find(few, key).ok().map(|index| &mut few[index].1),
            Self::Many(many) => many.get_mut(key),
        }
    }

    pub(crate) fn get_or_insert_with(&mut self, key: &Key, value: impl FnOnce() -> V) -> &mut V {
        if let Self::Few(few) = self
            && few.len() == FEW
            && find(few, key).is_err()
        {
            *self = Self::Many(std::mem::take(few).into_iter().collect());
        }
        match self {
            Self::Few(few) => {
                let index = find(few, key).unwrap_or_else(|index| {
                    if few.len() == few.capacity() {
                        // A vector would take room for four at once.
                        few.reserve_exact(few.len().max(1));
                    }
                    few.insert(index, (key.clone(), value()));
                    index
                });
                &mut few[index].1
            }
            Self::Many(many) => many.entry(key.clone()).or_insert_with(value),
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        match self {
            Self::Few(few) => {
                let (_, value) = few.remove(find(few, key).ok()?);
                if few.capacity() > 4 && few.capacity() > 4 * few.len() {
                    few.shrink_to(2 * few.len());
                }
                Some(value)
            }
            Self::Many(many) => {
                let value = many.remove(key);
                // Half as many as made it a tree, so that one who comes and goes doesn't move them all.
                if many.len() <= FEW / 2 {
                    *self = Self::Few(std::mem::take(many).into_iter().collect());
                }
                value
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.after(None)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut V)> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(key, value)| (&*key, value));
        few.chain(many.into_iter().flatten())
    }

    /// The entries after a key, or from the first on.
    pub(crate) fn after(&self, key: Option<&str>) -> impl Iterator<Item = (&Key, &V)> {
        let (few, many) = match self {
            Self::Few(few) => {
                let after = |key| find(few, key).map_or_else(|index| index, |index| index + 1);
                (&few[key.map_or(0, after)..], None)
            }
            Self::Many(many) => {
                let start = key.map_or(Bound::Unbounded, Bound::Excluded);
                (&[][..], Some(many.range::<str, _>((start, Bound::Unbounded))))
            }
        };
        few.iter().map(|(key, value)| (key, value)).chain(many.into_iter().flatten())
    }
}

fn find<V>(few: &[(Key, V)], key: &str) -> Result<usize, usize> {
    few.binary_search_by(|(other, _)| other.as_str().cmp(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_in_the_order_of_its_keys(steps in prop::collection::vec((any::<bool>(), 0..40_u8), 0..300)) {
            let (mut ordered, mut model) = (Ordered::new(), BTreeMap::new());
            for (step, (adds, key)) in steps.into_iter().enumerate() {
                let key = Key::from(format!("{key:02}"));
                if adds {
                    *ordered.get_or_insert_with(&key, || 0) = step;
                    model.insert(key.clone(), step);
                } else {
                    prop_assert_eq!(ordered.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(ordered.get(&key), model.get(&key));
                prop_assert_eq!(ordered.len(), model.len());
                prop_assert!(ordered.iter().eq(&model));
                let after = (Bound::Excluded(&*key), Bound::Unbounded);
                prop_assert!(ordered.after(Some(&key)).eq(model.range::<str, _>(after)));
                prop_assert!(ordered.iter_mut().map(|(key, value)| (key, &*value)).eq(&model));
            }
        }
    }
}
