//! What is kept beside a topic: where its diffs stand, and what was told of it as last encoded.

use std::{sync::Arc, time::Duration};

use adsum_tracker::{Key, Layer, TopicLayer, TopicSet};

use crate::{
    budget::Account, handler::PresenceHandler, key_cache::KeyCache, refreshed::Refreshed, told::Pieces,
    watch::WatchQueue,
};

/// Names what Presence keeps beside the presence set.
pub(crate) struct PresenceLayer<H>(std::marker::PhantomData<fn() -> H>);

impl<H: PresenceHandler> Layer for PresenceLayer<H> {
    type Key = KeyCache<H::Info>;
    type Topic = TopicState<H::Info>;
}

/// The presences of a topic, with what Presence keeps beside them.
pub(crate) type PresenceSet<H> = TopicSet<PresenceLayer<H>>;

/// Kept beside each topic, under the set's lock.
pub(crate) struct TopicState<I> {
    /// Since the last diff, less than `diff_interval` has passed. The flusher closes the window.
    pub(crate) window_open: bool,
    /// When the first of the changes that wait for the budget was made.
    pub(crate) since: Option<Duration>,
    pub(crate) account: Account,
    /// Nobody is in the topic, but its account owes. The flusher looks again.
    pub(crate) owing: bool,
    /// Diffs were taken and aren't out yet. One flush at a time, so that diffs go out in order.
    pub(crate) flushing: bool,
    /// What was told, as far as it is encoded.
    pub(crate) pieces: Pieces,
    /// Held by whoever asks `fetch`, so that a hundred who list a topic ask once.
    turn: Option<Arc<tokio::sync::Mutex<()>>>,
    /// How often `fetch` has failed. Who waited for its turn meanwhile doesn't ask again.
    pub(crate) failures: u64,
    /// The keys refreshed of late. A client that rejoins hears of them in a diff, as phoenix.js keeps a key's
    /// old info when a state brings no new ref.
    pub(crate) refreshed: Refreshed,
    pub(crate) watchers: Vec<Arc<WatchQueue<I>>>,
    /// The numbers of presences and of keys that clients were last told of, where they are told of no more.
    pub(crate) told: Option<(usize, usize)>,
}

impl<I> Default for TopicState<I> {
    fn default() -> Self {
        Self {
            window_open: false,
            since: None,
            account: Account::default(),
            owing: false,
            flushing: false,
            pieces: Pieces::default(),
            turn: None,
            failures: 0,
            refreshed: Refreshed::default(),
            watchers: Vec::new(),
            told: None,
        }
    }
}

impl<I: Send + Sync> TopicLayer for TopicState<I> {
    fn is_idle(&self) -> bool {
        let told_of_some = self.told.is_some_and(|told| told != (0, 0));
        let is_kept = self.window_open || self.owing || self.flushing;
        !is_kept && self.watchers.is_empty() && !told_of_some
    }

    fn told_changed(&mut self, key: &Key) {
        self.pieces.forget(key);
    }
}

impl<I> TopicState<I> {
    pub(crate) fn turn(&mut self) -> Arc<tokio::sync::Mutex<()>> {
        self.turn.get_or_insert_default().clone()
    }
}
