//! The parts of a Presence, and the way of a change through them.
//!
//! A change marks its topic in the set. A *flush* takes what has changed as diffs, asks `fetch` for the keys
//! that join, encodes, and broadcasts. Per topic there is one flush at a time, and after it a window in which
//! further changes gather. Who finds a flush on its way or a window open leaves the change to them: every
//! flush ends with another look, and the flusher closes every window.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use adsum_channels::ViewState;
use adsum_pubsub::{Json, Mark, Message, Pattern, PubSub, SubscriberId, Topic, tasks};
use adsum_tracker::{Diff, Key, TopicSet, Tracker};
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::{
    card::{Card, Held},
    encode,
    fetching::Fetched,
    flow::{self, Cards},
    flusher::Backlog,
    handler::PresenceHandler,
    timing::Timing,
    watch::{Published, Queue},
};

pub(crate) struct Core<H: PresenceHandler> {
    pub(crate) handler: H,
    pub(crate) pubsub: PubSub,
    pub(crate) tracker: Arc<Tracker<Cards<H>>>,
    pub(crate) timing: Timing,
    pub(crate) backlog: Arc<Backlog<H>>,
    pub(crate) watchers: RwLock<Vec<Arc<Queue<H::Info>>>>,
    /// Names this presence as a sender of diffs.
    sender: SubscriberId,
    /// The number of the last diff. One count for all topics, as a topic that is dropped keeps none.
    sent: AtomicU64,
    large: Large,
}

/// The topics whose changes nobody is told of one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Large {
    pub(crate) without_diffs: Arc<[Pattern]>,
    /// Their clients are told how many are there.
    pub(crate) counted: Arc<[Pattern]>,
}

/// What a flush has taken. However it ends, what it took goes out: a flush that is dropped while `fetch` runs
/// sends the last known infos.
pub(crate) struct Flush<H: PresenceHandler> {
    core: Arc<Core<H>>,
    topic: Topic,
    diffs: Vec<Diff<Card<H::Info>>>,
    /// The keys that join and have no fresh info.
    missing: Vec<Key>,
    fetched: Fetched<H>,
}

/// What is known of keys.
type Infos<H> = HashMap<Key, Arc<Held<<H as PresenceHandler>::Info>>>;

impl Large {
    pub(crate) fn has_diffs(&self, topic: &str) -> bool {
        !self.without_diffs.iter().chain(&*self.counted).any(|pattern| pattern.matches(topic))
    }
}

impl<H: PresenceHandler> Core<H> {
    pub(crate) fn new(
        handler: H,
        pubsub: PubSub,
        tracker: Arc<Tracker<Cards<H>>>,
        timing: Timing,
        backlog: Arc<Backlog<H>>,
        large: Large,
    ) -> Self {
        Self {
            handler,
            pubsub,
            tracker,
            timing,
            backlog,
            watchers: RwLock::default(),
            sender: SubscriberId::unique(),
            sent: AtomicU64::new(0),
            large,
        }
    }

    /// Whether anybody is told of a topic's changes.
    pub(crate) fn has_diffs(&self, topic: &str) -> bool {
        self.large.has_diffs(topic)
    }

    /// Whether clients are told how many are in a topic, and no more.
    pub(crate) fn is_counted(&self, topic: &str) -> bool {
        self.large.counted.iter().any(|pattern| pattern.matches(topic))
    }

    /// Sends what has changed in a topic, if no window holds it back. Where `fetch` is to be asked first, the
    /// flusher does it.
    pub(crate) fn flush(self: &Arc<Self>, topic: &Topic) {
        if self.is_counted(topic) {
            self.tell_count(topic);
        }
        while let Some(flush) = self.take(topic) {
            if !flush.missing.is_empty() {
                self.backlog.fetch(flush);
                return;
            }
        }
    }

    /// As [`flush`](Self::flush), and waits for `fetch`. What changes meanwhile is left to the flusher: in a
    /// busy topic the caller would wait for ever.
    pub(crate) async fn flush_and_wait(self: &Arc<Self>, topic: &Topic) {
        if let Some(flush) = self.take(topic) {
            flush.fetch().await;
            self.flush(topic);
        }
    }

    /// Tells clients how many are in a topic, if that is news and no window holds it back.
    fn tell_count(&self, topic: &Topic) {
        let (presences, keys) = {
            let mut shard = self.tracker.lock(topic);
            let Some(set) = shard.topic_mut(topic) else { return };
            let now = (set.count(), set.keys());
            if set.layer.window_open || set.layer.told == Some(now) {
                return;
            }
            if self.pubsub.subscribers(topic) == 0 {
                set.layer.told = None;
                shard.tidy(topic);
                return;
            }
            set.layer.told = Some(now);
            let end = Instant::now() + self.timing.count_interval;
            set.layer.window_open = self.backlog.close_window_at(end, topic);
            now
        };
        let payload = encode::count(presences, keys);
        self.pubsub.deliver(Message::new(topic, "presence_count", payload.into()));
    }

    /// Has a key's info fetched anew, and its metas join once more.
    pub(crate) fn refresh(self: &Arc<Self>, topic: &Topic, key: &Key) {
        if let Some(set) = self.tracker.lock(topic).topic_mut(topic)
            && let Some(group) = set.group_mut(key)
        {
            group.layer_mut().0.expire();
            set.join_again(key);
            set.layer.refreshed.note(key, Instant::now(), self.timing.refresh_memory);
        }
        self.flush(topic);
    }

    /// A window has ended.
    pub(crate) fn close_window(self: &Arc<Self>, topic: &Topic) {
        if let Some(set) = self.tracker.lock(topic).topic_mut(topic) {
            set.layer.window_open = false;
        }
        self.flush(topic);
        self.tracker.lock(topic).tidy(topic);
    }

    /// What a client is shown of a topic: its state, and a diff that joins once more the keys refreshed of late.
    pub(crate) fn shown(&self, topic: &str) -> ViewState {
        let mut shard = self.tracker.lock(topic);
        // Diffs get their numbers under this lock, so none of this topic comes in between.
        let seen = Mark { sender: self.sender, number: self.sent.load(Ordering::Relaxed) };
        if self.is_counted(topic) {
            let (presences, keys) = shard.topic(topic).map_or((0, 0), |set| (set.count(), set.keys()));
            return ViewState {
                messages: vec![("presence_count", encode::count(presences, keys).into())],
                seen,
            };
        }
        let Some(set) = shard.topic_mut(topic) else {
            return ViewState { messages: vec![("presence_state", Json::empty_object().into())], seen };
        };
        let mut messages = vec![("presence_state", flow::state::<H>(set).into())];
        let refreshed = self.keys_refreshed(set);
        if !refreshed.is_empty() {
            let groups = refreshed.iter().filter_map(|key| set.group(key));
            let joins = groups.flat_map(|group| group.rows().iter()).cloned().collect();
            let diff = Diff { joins, leaves: Vec::new() };
            let diff = encode::diff(&diff, |key| set.group(key)?.layer().info().cloned());
            messages.push(("presence_diff", diff.into()));
        }
        ViewState { messages, seen }
    }

    /// The keys that are there and were refreshed of late.
    fn keys_refreshed(&self, set: &mut TopicSet<Cards<H>>) -> Vec<Key> {
        let refreshed = set.layer.refreshed.keys(Instant::now(), self.timing.refresh_memory);
        let mut keys: Vec<Key> = refreshed.cloned().collect();
        // One order for all who are shown the topic.
        keys.sort();
        keys.retain(|key| set.group(key).is_some());
        keys
    }

    /// Takes what is to be sent of a topic now; none where there is nothing, or nobody to hear it, or where a
    /// flush or a window will take it later.
    fn take(self: &Arc<Self>, topic: &Topic) -> Option<Flush<H>> {
        let now = Instant::now();
        let mut shard = self.tracker.lock(topic);
        let set = shard.topic_mut(topic)?;
        if set.layer.flushing || set.layer.window_open {
            return None;
        }
        let diffs = set.take_diffs();
        let heard = self.pubsub.subscribers(topic) > 0
            || !set.layer.watchers.is_empty()
            || !self.watchers.read().is_empty();
        if diffs.is_empty() || !heard {
            shard.tidy(topic);
            return None;
        }
        set.layer.flushing = true;
        if !self.timing.diff_interval.is_zero() {
            set.layer.window_open = self.backlog.close_window_at(now + self.timing.diff_interval, topic);
        }
        let missing = if H::FETCHES { self.without_info(set, &diffs, now) } else { Vec::new() };
        Some(Flush { core: self.clone(), topic: topic.clone(), diffs, missing, fetched: HashMap::new() })
    }

    fn without_info(
        &self,
        set: &TopicSet<Cards<H>>,
        diffs: &[Diff<Card<H::Info>>],
        now: Instant,
    ) -> Vec<Key> {
        let joins = diffs.iter().flat_map(|diff| &diff.joins);
        let mut keys: Vec<Key> = joins
            .filter(|joined| {
                let group = set.group(&joined.key);
                !group.is_some_and(|group| group.layer().is_fresh(now, self.timing.fetch_ttl))
            })
            .map(|joined| joined.key.clone())
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

impl<H: PresenceHandler> Flush<H> {
    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Asks `fetch` for what is missing. Dropping the flush, here at the end or earlier, sends it.
    pub(crate) async fn fetch(mut self) {
        if !self.missing.is_empty() {
            self.fetched = self.core.fetch(&self.topic, &self.missing).await;
        }
    }

    fn send(&mut self) {
        let core = self.core.clone();
        for diff in std::mem::take(&mut self.diffs) {
            let (infos, mark) = self.infos(&diff);
            if core.pubsub.subscribers(&self.topic) > 0 {
                let payload = encode::diff(&diff, |key| infos.get(key).cloned());
                // To this node's subscribers only: each node tells its own.
                core.pubsub.deliver(Message::new(&self.topic, "presence_diff", payload.into()).marked(mark));
            }
            self.tell_watchers(diff, &infos);
        }
    }

    /// What is known of the keys that join, and the diff's mark: a state that is read from here on, and is
    /// marked with it, contains the diff and its infos.
    fn infos(&self, diff: &Diff<Card<H::Info>>) -> (Infos<H>, Mark) {
        let shard = self.core.tracker.lock(&self.topic);
        let number = self.core.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let mark = Mark { sender: self.core.sender, number };
        if !H::FETCHES {
            return (HashMap::new(), mark);
        }
        let set = shard.topic(&self.topic);
        let held = |key: &Key| {
            // A key that has gone meanwhile is told with what was fetched for it; its leave follows.
            self.fetched.get(key).cloned().or_else(|| set?.group(key)?.layer().info().cloned())
        };
        let infos = diff.joins.iter().filter_map(|joined| Some((joined.key.clone(), held(&joined.key)?)));
        (infos.collect(), mark)
    }

    fn tell_watchers(&self, diff: Diff<Card<H::Info>>, infos: &Infos<H>) {
        let mut watchers = self.core.watchers.read().clone();
        if let Some(set) = self.core.tracker.lock(&self.topic).topic(&self.topic) {
            watchers.extend_from_slice(&set.layer.watchers);
        }
        if watchers.is_empty() {
            return;
        }
        let published = Arc::new(Published::new(self.topic.clone(), diff, infos));
        for watcher in watchers {
            watcher.push(&published);
        }
    }
}

impl<H: PresenceHandler> Drop for Flush<H> {
    fn drop(&mut self) {
        // The program's code is in it: subscribers, and drops of infos. The topic goes on in any case.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.send())) {
            tasks::note_panic("flush", &*panic);
        }
        let more = {
            let mut shard = self.core.tracker.lock(&self.topic);
            let Some(set) = shard.topic_mut(&self.topic) else { return };
            set.layer.flushing = false;
            let more = set.has_changes() && !set.layer.window_open;
            shard.tidy(&self.topic);
            more
        };
        // The caller looks again, as a rule; if it was cancelled, the flusher does.
        if more && !self.core.backlog.look_at(&self.topic) {
            self.core.flush(&self.topic);
        }
    }
}
