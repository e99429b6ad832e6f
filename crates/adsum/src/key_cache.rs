//! The cached info of a key.

use std::{sync::Arc, time::Duration};

use adsum_tracker::{KeyLayer, drop_unlocked};
use tokio::time::Instant;

/// The cached info of a key, kept beside it under the set's lock.
#[derive(Debug)]
pub(crate) struct KeyCache<I> {
    info: Option<Arc<FetchedInfo<I>>>,
    /// How often the program has refreshed the key. An answer to a question from before the last refresh is outdated.
    refreshes: u64,
}

/// A fetched info of one key.
#[derive(Debug)]
pub(crate) struct FetchedInfo<I> {
    /// `None` if `fetch` had no info for the key.
    value: Option<Arc<I>>,
    /// [`drop_unlocked`], since the value is the program's. A pointer saves the other types a bound.
    drop: fn(Arc<I>),
    /// Its members as JSON, without the braces around them.
    pub(crate) members: Box<str>,
    /// `None` once the program has refreshed the key.
    fetched: Option<Instant>,
    /// The number of refreshes of the key when `fetch` was asked.
    refreshes: u64,
}

impl<I> FetchedInfo<I> {
    /// Makes an answer that came at `fetched`, to a question asked after this number of `refreshes`.
    pub(crate) fn new(value: Option<Arc<I>>, members: Box<str>, fetched: Instant, refreshes: u64) -> Self
    where
        I: Send + Sync + 'static,
    {
        Self { value, drop: drop_unlocked, members, fetched: Some(fetched), refreshes }
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.refreshes
    }

    pub(crate) fn value(&self) -> Option<&Arc<I>> {
        self.value.as_ref()
    }
}

impl<I> Drop for FetchedInfo<I> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            (self.drop)(value);
        }
    }
}

impl<I> KeyCache<I> {
    pub(crate) fn info(&self) -> Option<&Arc<FetchedInfo<I>>> {
        self.info.as_ref()
    }

    pub(crate) fn value(&self) -> Option<Arc<I>> {
        self.info.as_ref()?.value.clone()
    }

    /// Whether the info was fetched within `ttl`.
    pub(crate) fn is_fresh(&self, now: Instant, ttl: Option<Duration>) -> bool {
        let fetched = self.info.as_ref().and_then(|info| info.fetched);
        fetched.is_some_and(|fetched| ttl.is_none_or(|ttl| now.duration_since(fetched) < ttl))
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.refreshes
    }

    /// Returns the number of refreshes that the known info takes into account.
    pub(crate) fn shown_refreshes(&self) -> u64 {
        self.info.as_ref().map_or(self.refreshes, |info| info.refreshes)
    }

    /// Takes an answer. An outdated one is better than none, but never fresh.
    pub(crate) fn set_info(&mut self, info: Arc<FetchedInfo<I>>) {
        let overtaken = info.refreshes != self.refreshes;
        if overtaken && self.info.is_some() {
            return;
        }
        self.info = Some(info);
        if overtaken {
            self.mark_outdated();
        }
    }

    /// Marks the info as outdated, so that the next use fetches it again. Until then it stays the last known.
    pub(crate) fn expire(&mut self) {
        self.refreshes += 1;
        self.mark_outdated();
    }

    fn mark_outdated(&mut self) {
        if let Some(info) = &mut self.info {
            let FetchedInfo { value, drop, members, refreshes, .. } = &**info;
            let (value, members) = (value.clone(), members.clone());
            *info =
                Arc::new(FetchedInfo { value, drop: *drop, members, fetched: None, refreshes: *refreshes });
        }
    }
}

impl<I> Default for KeyCache<I> {
    fn default() -> Self {
        Self { info: None, refreshes: 0 }
    }
}

impl<I> Clone for KeyCache<I> {
    fn clone(&self) -> Self {
        Self { info: self.info.clone(), refreshes: self.refreshes }
    }
}

impl<I: Send + Sync> KeyLayer for KeyCache<I> {}
