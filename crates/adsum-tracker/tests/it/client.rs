//! A client that folds states and diffs as the `Presence` of phoenix.js does.

use std::collections::BTreeMap;

use adsum_tracker::{Bare, Diff, Key, Ref};

/// The refs of each key's metas, in the client's order.
pub(crate) type View = BTreeMap<Key, Vec<Ref>>;

#[derive(Debug, Default)]
pub(crate) struct Client {
    view: View,
    /// Diffs that came before the first state of this join. `None` once it has come.
    pending: Option<Vec<Change>>,
    joins: usize,
    joined: bool,
}

/// A diff as it is on the wire: refs by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) joins: View,
    pub(crate) leaves: View,
}

impl From<&Diff<Bare>> for Change {
    fn from(diff: &Diff<Bare>) -> Self {
        let mut change = Self::default();
        for joined in &diff.joins {
            change.joins.entry(joined.key.clone()).or_default().push(joined.reference);
        }
        for left in &diff.leaves {
            change.leaves.entry(left.row.key.clone()).or_default().push(left.row.reference);
        }
        change
    }
}

impl Client {
    /// Joins the channel, anew if it is joined. The client keeps what it saw before, as in the browser.
    pub(crate) fn join(&mut self) {
        self.pending = Some(Vec::new());
        self.joins += 1;
        self.joined = true;
    }

    pub(crate) fn leave(&mut self) {
        self.joined = false;
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.joined
    }

    /// Whether a state has come since the last join.
    pub(crate) fn is_synced(&self) -> bool {
        self.joined && self.pending.is_none()
    }

    /// Whether the client saw nothing of an earlier join.
    pub(crate) fn is_fresh(&self) -> bool {
        self.joins == 1
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Returns which of these the client knows.
    pub(crate) fn knows<'c>(&'c self, joins: &'c View) -> impl Iterator<Item = Ref> + 'c {
        let known = |key, reference: &Ref| self.view.get(key).is_some_and(|refs| refs.contains(reference));
        joins.iter().flat_map(move |(key, refs)| refs.iter().copied().filter(move |r| known(key, r)))
    }

    pub(crate) fn on_state(&mut self, state: &View) {
        sync_state(&mut self.view, state);
        for diff in self.pending.take().unwrap_or_default() {
            sync_diff(&mut self.view, &diff);
        }
    }

    pub(crate) fn on_diff(&mut self, diff: &Change) {
        match &mut self.pending {
            Some(pending) => pending.push(diff.clone()),
            None => sync_diff(&mut self.view, diff),
        }
    }
}

fn sync_state(view: &mut View, state: &View) {
    let without = |from: &View, other: &View| -> View {
        let new = |key: &Key, reference: &Ref| !other.get(key).is_some_and(|refs| refs.contains(reference));
        from.iter()
            .map(|(key, refs)| (key.clone(), refs.iter().copied().filter(|r| new(key, r)).collect()))
            .filter(|(_, refs): &(Key, Vec<Ref>)| !refs.is_empty())
            .collect()
    };
    let change = Change { joins: without(state, view), leaves: without(view, state) };
    sync_diff(view, &change);
}

pub(crate) fn sync_diff(view: &mut View, diff: &Change) {
    for (key, joined) in &diff.joins {
        let refs = view.entry(key.clone()).or_default();
        refs.retain(|reference| !joined.contains(reference));
        refs.extend(joined);
    }
    for (key, left) in &diff.leaves {
        if let Some(refs) = view.get_mut(key) {
            refs.retain(|reference| !left.contains(reference));
            if refs.is_empty() {
                view.remove(key);
            }
        }
    }
}
