//! Asking the program's `fetch`.

use std::{
    any::type_name,
    collections::HashMap,
    marker::PhantomData,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use adsum_pubsub::{
    Topic,
    log::{cut, cut_name, limited},
};
use adsum_tracker::{Group, Key};
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use crate::{
    core::Core,
    diffs::Infos,
    encode,
    handler::{Entries, FetchError, PresenceHandler},
    key_cache::{FetchedInfo, KeyCache},
    presence_metrics::FetchOutcome,
};

/// The keys that `fetch` is asked for, with the number of refreshes of each.
type AskedKeys = Vec<(Key, u64)>;

/// Which keys a caller asks for once it is its turn and some of its own still have no fresh info.
#[derive(Clone, Copy)]
enum Ask {
    /// Those keys.
    ForKeys,
    /// All keys of the topic without a fresh info. The callers that came during the wait, each with a key of its own,
    /// find theirs answered.
    ForTopic,
}

impl<H: PresenceHandler> Core<H> {
    /// Fetches the infos of a topic that aren't fresh, for a list.
    pub(crate) async fn fetch_for_list(&self, topic: &Topic) {
        if !H::FETCHES {
            return;
        }
        let missing: Vec<Key> = {
            let now = Instant::now();
            let shard = self.tracker.lock(topic);
            let Some(set) = shard.topic(topic) else { return };
            let stale = set.groups().filter(|(_, group)| !group.layer().is_fresh(now, self.timing.fetch_ttl));
            stale.map(|(key, _)| key.clone()).collect()
        };
        if !missing.is_empty() {
            self.fetch_in_turn(topic, &missing, Ask::ForTopic).await;
        }
    }

    /// Fetches the infos of some keys that aren't fresh.
    pub(crate) async fn fetch_for_keys(&self, topic: &Topic, keys: &[Key]) {
        if !H::FETCHES {
            return;
        }
        let missing: Vec<Key> = {
            let now = Instant::now();
            let shard = self.tracker.lock(topic);
            let Some(set) = shard.topic(topic) else { return };
            let is_stale = |key: &&Key| {
                set.group(key).is_some_and(|group| !group.layer().is_fresh(now, self.timing.fetch_ttl))
            };
            keys.iter().filter(is_stale).cloned().collect()
        };
        if !missing.is_empty() {
            self.fetch(topic, &missing).await;
        }
    }

    /// Fetches the info of one key if it isn't fresh.
    pub(crate) async fn fetch_for_key(&self, topic: &Topic, key: &str) {
        if !H::FETCHES {
            return;
        }
        let missing = {
            let now = Instant::now();
            let shard = self.tracker.lock(topic);
            let group = shard.topic(topic).and_then(|set| set.group(key));
            group.is_some_and(|group| !group.layer().is_fresh(now, self.timing.fetch_ttl))
        };
        if missing {
            self.fetch(topic, &[Key::from(key)]).await;
        }
    }

    /// Waits for this caller's turn, asks `fetch` for those of `keys` that still have no fresh info, keeps the answer
    /// and returns it. Takes at most `fetch_timeout`, including the wait for the turn. Never fails: infos that can't be
    /// fetched are missing in the result.
    pub(crate) async fn fetch(&self, topic: &Topic, keys: &[Key]) -> Infos<H::Info> {
        self.fetch_in_turn(topic, keys, Ask::ForKeys).await
    }

    async fn fetch_in_turn(&self, topic: &Topic, keys: &[Key], ask: Ask) -> Infos<H::Info> {
        let Some((turn, failures)) = self.tracker.lock(topic).topic_mut(topic).map(|set| {
            let turn = set.layer.fetch_turn();
            (turn, set.layer.failures)
        }) else {
            return HashMap::new();
        };
        let answer = timeout(self.timing.fetch_timeout, async {
            // Without a time to live there is nothing to share: every caller asks, as in Phoenix.
            let _turn = if self.timing.asks_always() { None } else { Some(turn.lock().await) };
            let (asked, entries) = self.still_missing(topic, keys, ask, failures);
            if entries.is_empty() {
                return Ok(HashMap::new());
            }
            self.ask(topic, asked, &entries).await
        });
        match answer.await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err((outcome, error))) => self.fetch_failed(topic, keys, outcome, &*error),
            Err(_) => {
                let error = format!("no answer within fetch_timeout ({:?})", self.timing.fetch_timeout);
                self.metrics.fetch_seconds.record(self.timing.fetch_timeout.as_secs_f64());
                self.fetch_failed(topic, keys, FetchOutcome::Timeout, &*FetchError::from(error))
            }
        }
    }

    /// Returns what to ask for. Keys that another caller has fetched meanwhile aren't in it, and it is empty if that
    /// caller has failed.
    fn still_missing(
        &self,
        topic: &Topic,
        keys: &[Key],
        ask: Ask,
        failures: u64,
    ) -> (AskedKeys, Entries<H::Meta>) {
        let now = Instant::now();
        let (mut asked, mut groups) = (AskedKeys::new(), HashMap::new());
        let asks_always = self.timing.asks_always();
        if let Some(set) = self.tracker.lock(topic).topic(topic)
            && (asks_always || set.layer.failures == failures)
        {
            let is_stale = |(_, group): &(&Key, &Group<KeyCache<H::Info>>)| {
                !group.layer().is_fresh(now, self.timing.fetch_ttl)
            };
            let given = keys.iter().filter_map(|key| Some((key, set.group(key)?)));
            let mut stale: Vec<_> = given.filter(is_stale).collect();
            if let Ask::ForTopic = ask
                && !stale.is_empty()
            {
                stale = set.groups().filter(is_stale).collect();
            }
            for (key, group) in stale {
                asked.push((key.clone(), group.layer().refreshes()));
                groups.insert(key.clone(), group.rows().to_vec());
            }
        }
        (asked, Entries { groups, meta: PhantomData })
    }

    async fn ask(
        &self,
        topic: &Topic,
        asked: AskedKeys,
        entries: &Entries<H::Meta>,
    ) -> Result<Infos<H::Info>, (FetchOutcome, FetchError)> {
        let began = Instant::now();
        self.metrics.fetch_keys.record_count(asked.len());
        // All of the program's code is in here: the call, its future, and the serialization of infos.
        let fetch = AssertUnwindSafe(async {
            let infos =
                self.handler.fetch(topic, entries).await.map_err(|error| (FetchOutcome::Failed, error))?;
            Ok(self.keep(topic, asked, infos))
        });
        let fetched = fetch.catch_unwind().await.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<&str>().map(ToString::to_string);
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err((FetchOutcome::Panic, format!("fetch panicked: {said}").into()))
        });
        self.metrics.fetch_seconds.record(began.elapsed().as_secs_f64());
        if fetched.is_ok() {
            self.metrics.fetched(FetchOutcome::Ok);
        }
        fetched
    }

    fn keep(&self, topic: &Topic, asked: AskedKeys, mut infos: HashMap<Key, H::Info>) -> Infos<H::Info> {
        let now = Instant::now();
        // Encoded before the lock is taken.
        let fetched: Infos<H::Info> = asked
            .iter()
            .map(|(key, refreshes)| {
                let value = infos.remove(key);
                let members = value.as_ref().map_or(Ok("".into()), encode::encode_info).unwrap_or_else(|error| {
                    if !self.logged_bad_info.swap(true, Ordering::Relaxed) {
                        let info = type_name::<H::Info>();
                        tracing::error!(topic = %cut_name(topic), key = %cut_name(key), info, error = %cut(error), "an info isn't a JSON object and is left out; further ones aren't logged");
                    }
                    "".into()
                });
                (key.clone(), Arc::new(FetchedInfo::new(value.map(Arc::new), members, now, *refreshes)))
            })
            .collect();
        if let Some(set) = self.tracker.lock(topic).topic_mut(topic) {
            for (key, _) in &asked {
                if let (Some(group), Some(info)) = (set.group_mut(key), fetched.get(key)) {
                    group.layer_mut().0.set_info(info.clone());
                }
                set.layer.pieces.forget(key);
            }
        }
        fetched
    }

    fn fetch_failed(
        &self,
        topic: &Topic,
        keys: &[Key],
        outcome: FetchOutcome,
        error: &(dyn std::error::Error + Send + Sync),
    ) -> Infos<H::Info> {
        self.metrics.fetched(outcome);
        #[cfg(feature = "testing")]
        self.failed_fetches.note(topic, keys, error.to_string());
        limited!(WARN, topic = %cut_name(topic), keys = keys.len(), error = %cut(error), "fetch failed; presences are sent with their last known infos");
        if let Some(set) = self.tracker.lock(topic).topic_mut(topic) {
            set.layer.failures += 1;
        }
        HashMap::new()
    }
}
