//! The view that a channel's client has of a topic.

use std::sync::Arc;

use adsum_channels::{News, View, ViewState};
use adsum_pubsub::{Json, Message, Topic};
use adsum_tracker::{Diff, JoinedRow, Key, OwnerId, Ref};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    core::Core,
    diffs::{DiffSource, PartialDiff},
    encode,
    handler::PresenceHandler,
    layer::PresenceSet,
    told::Own,
};

/// The view that a channel's client has of a topic: what was told of it, and the rows that the channel itself tracks.
pub(crate) struct StateView<H: PresenceHandler> {
    core: Arc<Core<H>>,
    topic: Topic,
    /// The channel.
    owner: OwnerId,
    /// The keys that the channel tracks in the topic, for the first state. Later states look for them.
    own: Mutex<Option<Vec<Key>>>,
    /// The rows of the channel that its client was shown before a diff has joined them.
    beyond: Mutex<Vec<Beyond>>,
}

/// A row that a client was shown before a diff has joined it.
#[derive(Clone, Copy)]
struct Beyond {
    reference: Ref,
    /// The number of refreshes of its key that the client knows of.
    refreshes: u64,
}

impl<H: PresenceHandler> StateView<H> {
    /// Makes the view of a channel that tracks these keys in the topic.
    pub(crate) fn new(core: Arc<Core<H>>, topic: Topic, owner: OwnerId, own: Vec<Key>) -> Self {
        Self { core, topic, owner, own: Mutex::new(Some(own)), beyond: Mutex::default() }
    }

    /// Returns the part of the state that other clients are shown as well, for it to be compressed.
    pub(crate) fn shared_state(&self) -> Json {
        let mut shard = self.core.tracker.lock(&self.topic);
        let Some(set) = shard.topic_mut(&self.topic) else { return Json::empty_object() };
        let mut pieces = std::mem::take(&mut set.layer.pieces);
        let state = pieces.state(set, &Own::new());
        set.layer.pieces = pieces;
        state
    }

    /// Reads what the client is shown: the state, and a diff that joins once more the keys refreshed lately. Also
    /// returns the rows of the channel in it that no diff has joined yet.
    fn read(&self, own: Option<Vec<Key>>) -> (ViewState, Vec<Beyond>) {
        let core = &*self.core;
        let mut shard = core.tracker.lock(&self.topic);
        // Diffs get their numbers under this lock, so none of this topic comes in between.
        let seen = core.mark(core.sent());
        if core.policy.is_counted(&self.topic) {
            let (presences, keys) =
                shard.topic(&self.topic).map_or((0, 0), |set| (set.count(), set.key_count()));
            let messages = vec![("presence_count", encode::count(presences, keys).into())];
            return (ViewState { messages, seen }, Vec::new());
        }
        let Some(set) = shard.topic_mut(&self.topic) else {
            let messages = vec![("presence_state", Json::empty_object().into())];
            return (ViewState { messages, seen }, Vec::new());
        };
        let (own, beyond) = own_rows::<H>(set, self.owner, own);
        let mut pieces = std::mem::take(&mut set.layer.pieces);
        let state = pieces.state(set, &own);
        let state_bytes = state.len();
        let mut messages = vec![("presence_state", state.into())];
        set.layer.pieces = pieces;
        let refreshed = self.refreshed_keys(set);
        if !refreshed.is_empty() {
            let joins = refreshed.iter().flat_map(|key| set.told_rows(key)).map(JoinedRow::from).collect();
            let diff = Diff { joins, leaves: Vec::new() };
            let (diff, _) = encode::diff(&diff, |key| set.group(key)?.layer().info().cloned());
            messages.push(("presence_diff", diff.into()));
        }
        // A recorder is the program's code.
        drop(shard);
        core.metrics.state_bytes.record_count(state_bytes);
        (ViewState { messages, seen }, beyond)
    }

    /// Returns the keys that were told and were refreshed lately.
    fn refreshed_keys(&self, set: &mut PresenceSet<H>) -> Vec<Key> {
        let refreshed = set.layer.refreshed.keys(Instant::now(), self.core.timing.refresh_memory);
        let mut keys: Vec<Key> = refreshed.cloned().collect();
        // Sorted, so that all clients get the same order.
        keys.sort();
        keys.retain(|key| set.group(key).is_some() && !set.told_rows(key).is_empty());
        keys
    }
}

impl<H: PresenceHandler> View for StateView<H> {
    fn state(&self) -> ViewState {
        let own = self.own.lock().take();
        let (state, beyond) = self.read(own);
        *self.beyond.lock() = beyond;
        state
    }

    fn news(&self, change: &Message) -> News {
        let mut beyond = self.beyond.lock();
        if beyond.is_empty() {
            return News::All;
        }
        // If each change is a diff, a client hears of its own presences twice, as in Phoenix.
        let source = change.source::<DiffSource<H::Info>>();
        let Some(source) = source.filter(|_| !self.core.timing.sends_each_change()) else {
            return News::All;
        };
        let published = &source.published;
        let diff = published.diff();
        let mut known = Vec::new();
        beyond.retain(|row| {
            let Some(joined) = diff.joins.iter().find(|joined| joined.reference == row.reference) else {
                return !diff.leaves.iter().any(|left| left.row.reference == row.reference);
            };
            // A refresh since then joins the row again, with the new info.
            if published.info(&joined.key).is_none_or(|info| info.refreshes() <= row.refreshes) {
                known.push(row.reference);
            }
            false
        });
        beyond.shrink_to_fit();
        match &known[..] {
            [] => News::All,
            _ if known.len() == diff.joins.len() && diff.leaves.is_empty() => News::Nothing,
            _ => {
                let Some(rest) = source.without(&known, change.payload()) else { return News::All };
                let published = published.clone();
                let part = Message::new(change.topic().clone(), change.event(), rest.into())
                    .marked(self.core.mark(published.number()))
                    .with_source(Arc::new(PartialDiff { published, known }));
                News::Part(Arc::new(part))
            }
        }
    }
}

/// Returns the rows that the owner's client is shown of the owner's keys: the owner's own, which no diff has joined
/// yet, and those that were told and are still there. Also returns the former, and notes that they are shown. `own` are
/// the keys, if they are known.
fn own_rows<H: PresenceHandler>(
    set: &mut PresenceSet<H>,
    owner: OwnerId,
    own: Option<Vec<Key>>,
) -> (Own, Vec<Beyond>) {
    let keys = own.unwrap_or_else(|| set.untold_keys().cloned().collect());
    let (mut shown, mut beyond) = (Own::new(), Vec::new());
    for key in keys {
        let Some(group) = set.group(&key).filter(|_| !shown.contains_key(&key)) else { continue };
        let Some(row) = group.of_owner(owner).map(|row| row.reference).filter(|row| !set.is_told(*row))
        else {
            continue;
        };
        let rows =
            group.rows().iter().filter(|row| row.owner == owner || set.is_told(row.reference)).cloned();
        let rows = rows.collect();
        beyond.push(Beyond { reference: row, refreshes: group.layer().shown_refreshes() });
        shown.insert(key, rows);
    }
    for row in &beyond {
        set.mark_row_shown(row.reference);
    }
    (shown, beyond)
}
