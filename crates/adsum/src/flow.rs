//! What is kept beside a topic: where its diffs stand, and its state as last encoded.

use std::sync::Arc;

use adsum_pubsub::Json;
use adsum_tracker::{Layer, TopicLayer, TopicSet};

use crate::{card::Card, handler::PresenceHandler, refreshed::Refreshed, watch::Queue};

/// Names what Presence keeps beside the presence set.
pub(crate) struct Cards<H>(std::marker::PhantomData<fn() -> H>);

impl<H: PresenceHandler> Layer for Cards<H> {
    type Key = Card<H::Info>;
    type Topic = Flow<H::Info>;
}

/// The presences of a topic, with what Presence keeps beside them.
pub(crate) type Topics<H> = TopicSet<Cards<H>>;

/// Kept beside each topic, under the set's lock.
pub(crate) struct Flow<I> {
    /// Since the last diff, less than `diff_interval` has passed. The flusher closes the window.
    pub(crate) window_open: bool,
    /// Diffs were taken and aren't out yet. One flush at a time, so that diffs go out in order.
    pub(crate) flushing: bool,
    /// The state as last encoded, and the changes that it contains.
    state: Option<(u64, Json)>,
    /// Held by whoever asks `fetch`, so that a hundred who list a topic ask once.
    turn: Option<Arc<tokio::sync::Mutex<()>>>,
    /// How often `fetch` has failed. Who waited for its turn meanwhile doesn't ask again.
    pub(crate) failures: u64,
    /// The keys refreshed of late. A client that rejoins hears of them in a diff, as phoenix.js keeps a key's
    /// old info when a state brings no new ref.
    pub(crate) refreshed: Refreshed,
    pub(crate) watchers: Vec<Arc<Queue<I>>>,
    /// The numbers of presences and of keys that clients were last told of, where they are told of no more.
    pub(crate) told: Option<(usize, usize)>,
}

impl<I> Default for Flow<I> {
    fn default() -> Self {
        Self {
            window_open: false,
            flushing: false,
            state: None,
            turn: None,
            failures: 0,
            refreshed: Refreshed::default(),
            watchers: Vec::new(),
            told: None,
        }
    }
}

impl<I: Send + Sync> TopicLayer for Flow<I> {
    fn is_idle(&self) -> bool {
        let told_of_some = self.told.is_some_and(|told| told != (0, 0));
        !self.window_open && !self.flushing && self.watchers.is_empty() && !told_of_some
    }
}

impl<I> Flow<I> {
    pub(crate) fn turn(&mut self) -> Arc<tokio::sync::Mutex<()>> {
        self.turn.get_or_insert_default().clone()
    }

    /// An info has changed, and with it the state.
    pub(crate) fn info_changed(&mut self) {
        self.state = None;
    }
}

/// The payload of `presence_state`, made anew only where something has changed since the last one.
pub(crate) fn state<H: PresenceHandler>(set: &mut Topics<H>) -> Json {
    set.mark_shown();
    let changes = set.changes();
    if let Some((at, state)) = &set.layer.state
        && *at == changes
    {
        return state.clone();
    }
    // As long as the last one, and some: most states differ from it by a few joins.
    let len = set.layer.state.as_ref().map_or(0, |(_, state)| state.as_bytes().len());
    let mut out = Vec::with_capacity(len + len / 8 + 64);
    crate::encode::object(&mut out, set.groups_mut(), |out, group| {
        let (card, rows) = group.layer_mut();
        out.extend_from_slice(card.fragment(rows));
    });
    let state = Json::from_encoded(out);
    set.layer.state = Some((changes, state.clone()));
    state
}
