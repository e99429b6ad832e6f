//! The data that Presence keeps beside the presence set.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use adsum_tracker::{Key, Layer, TopicLayer, TopicSet};
use tokio::sync::Mutex;

use crate::{
    budget::Account, handler::PresenceHandler, key_cache::KeyCache, refreshed::Refreshed, told::Pieces,
    watch_queue::WatchQueue,
};

/// Names the types that Presence keeps beside the presence set.
pub(crate) struct PresenceLayer<H>(PhantomData<fn() -> H>);

impl<H: PresenceHandler> Layer for PresenceLayer<H> {
    type Key = KeyCache<H::Info>;
    type Topic = TopicState<H::Info>;
}

/// The presences of a topic, with the data that Presence keeps beside them.
pub(crate) type PresenceSet<H> = TopicSet<PresenceLayer<H>>;

/// Kept beside each topic, under the set's lock: the state of its diffs, and the encoded state for clients.
pub(crate) struct TopicState<I> {
    /// Less than `diff_interval` has passed since the last diff, or less than `count_interval` since the last count.
    /// The flusher closes the window.
    pub(crate) window_open: bool,
    /// The time of the first change that waits for a flush, a window or the budget.
    pub(crate) since: Option<Duration>,
    pub(crate) account: Account,
    /// The topic has no presences, but its account owes. The flusher looks again.
    pub(crate) owing: bool,
    /// Diffs were taken and aren't sent yet. One flush at a time, so that diffs are sent in order.
    pub(crate) flushing: bool,
    /// The state that was told, as far as it is encoded.
    pub(crate) pieces: Pieces,
    /// Locked while `fetch` runs, so that a hundred callers who list a topic ask once.
    fetch_turn: Option<Arc<Mutex<()>>>,
    /// How often `fetch` has failed. A caller that waited during a failure doesn't ask again.
    pub(crate) failures: u64,
    /// The keys refreshed lately. A client that rejoins gets them in a diff, since phoenix.js keeps a key's old info if
    /// a state brings no new ref.
    pub(crate) refreshed: Refreshed,
    pub(crate) watchers: Vec<Arc<WatchQueue<I>>>,
    /// In a counted topic, the numbers of presences and of keys that clients were last told.
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
            fetch_turn: None,
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
    /// Returns the lock under which the topic's infos are fetched.
    pub(crate) fn fetch_turn(&mut self) -> Arc<Mutex<()>> {
        self.fetch_turn.get_or_insert_default().clone()
    }
}
