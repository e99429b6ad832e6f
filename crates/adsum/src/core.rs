//! The parts of a Presence, and the way of a change through them.
//!
//! A change marks its topic in the set. A *flush* takes what has changed as diffs, asks `fetch` for the keys
//! that join, encodes, and broadcasts. Per topic there is one flush at a time, and it goes when the
//! [budget](crate::budget) allows it; changes gather until then. A caller that finds a flush on its way, or none
//! allowed, leaves the change to them: every flush ends with another look, and the flusher sees to what waits.
//!
//! What the diffs sent so far add up to is *told*: that is what clients and watches are shown, so that no ref is told
//! twice. A diff counts as sent in the critical section in which it gets its number; where it is delivered later, to
//! somebody who was shown a state with that number meanwhile, it is passed over.

use std::{
    collections::HashMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use adsum_channels::ViewState;
use adsum_pubsub::{Json, Mark, Message, Pattern, PubSub, SubscriberId, Topic, tasks};
use adsum_tracker::{Diff, JoinedRow, Key, OwnerId, Ref, TopicSet, Tracker};
use tokio::time::Instant;

use crate::{
    budget::FETCH_COST,
    builder::{DiffObserver, ObservedDiff},
    encode,
    fetching::Fetched,
    flusher::Backlog,
    handler::PresenceHandler,
    key_cache::{FetchedInfo, KeyCache},
    layer::PresenceLayer,
    timing::Timing,
    told::Own,
    watch::{PublishedDiff, WatchQueue, Watchers},
};

pub(crate) struct Core<H: PresenceHandler> {
    pub(crate) handler: H,
    pub(crate) pubsub: PubSub,
    pub(crate) tracker: Arc<Tracker<PresenceLayer<H>>>,
    pub(crate) timing: Timing,
    pub(crate) backlog: Arc<Backlog<H>>,
    pub(crate) watchers: Watchers<H::Info>,
    /// Names this presence as a sender of diffs.
    sender: SubscriberId,
    /// The number of the last diff. One count for all topics, as a topic that is dropped keeps none.
    sent: AtomicU64,
    large: DiffPolicy,
    observer: Option<DiffObserver>,
    /// An info that is no object was seen and logged.
    pub(crate) told_of_info: AtomicBool,
    #[cfg(feature = "testing")]
    pub(crate) failed_fetches: crate::testing::FailedFetches,
}

/// The topics whose changes nobody is told of one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiffPolicy {
    pub(crate) without_diffs: Arc<[Pattern]>,
    /// Their clients are told how many are there.
    pub(crate) counted: Arc<[Pattern]>,
}

/// What a flush has taken. However it ends, what it took goes out: a flush that is dropped while `fetch` runs
/// sends the last known infos.
pub(crate) struct Flush<H: PresenceHandler> {
    core: Arc<Core<H>>,
    topic: Topic,
    diffs: Vec<Diff<KeyCache<H::Info>>>,
    /// The keys that join and have no fresh info.
    missing: Vec<Key>,
    fetched: Fetched<H>,
}

/// What a diff was made of, and where in its payload each key that joins stands.
pub(crate) struct DiffSource<I> {
    pub(crate) published: Arc<PublishedDiff<I>>,
    pub(crate) places: Vec<(Key, Range<usize>)>,
}

/// What is known of keys.
type Infos<H> = HashMap<Key, Arc<FetchedInfo<<H as PresenceHandler>::Info>>>;

impl DiffPolicy {
    pub(crate) fn has_diffs(&self, topic: &str) -> bool {
        !self.without_diffs.iter().chain(&*self.counted).any(|pattern| pattern.matches(topic))
    }
}

impl<H: PresenceHandler> Core<H> {
    pub(crate) fn new(
        handler: H,
        pubsub: PubSub,
        tracker: Arc<Tracker<PresenceLayer<H>>>,
        timing: Timing,
        backlog: Arc<Backlog<H>>,
        large: DiffPolicy,
        observer: Option<DiffObserver>,
    ) -> Self {
        Self {
            handler,
            pubsub,
            tracker,
            timing,
            backlog,
            watchers: Watchers::default(),
            sender: SubscriberId::unique(),
            sent: AtomicU64::new(0),
            large,
            observer,
            told_of_info: AtomicBool::new(false),
            #[cfg(feature = "testing")]
            failed_fetches: crate::testing::FailedFetches::default(),
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

    /// The place of a diff among those of this presence.
    pub(crate) fn mark(&self, number: u64) -> Mark {
        Mark { sender: self.sender, number }
    }

    pub(crate) fn is_ours(&self, mark: Mark) -> bool {
        mark.sender == self.sender
    }

    /// Tells the program's observer of a diff. A panic of it is nobody else's matter.
    fn observe(&self, topic: &Topic, diff: &Diff<KeyCache<H::Info>>) {
        let Some(observer) = &self.observer else { return };
        let joins = diff.joins.iter().filter(|joined| !joined.is_known).count();
        let leaves = diff.leaves.iter().filter(|left| left.is_known).count();
        let diff = ObservedDiff { topic, joins, leaves };
        // The panic is in the log.
        let _ = tasks::guarded("an observer of diffs", || observer(&diff));
    }

    /// Sends what has changed in a topic, if nothing holds it back. Where `fetch` is to be asked first, the
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

    /// As [`flush`](Self::flush) before a state is sent. If each change is a diff, as in Phoenix, waits for `fetch`:
    /// the diff comes before the state. What changes meanwhile is left to the flusher: in a busy topic the caller would
    /// wait for ever.
    pub(crate) async fn flush_for_state(self: &Arc<Self>, topic: &Topic) {
        if !self.tells_each() {
            self.flush(topic);
            return;
        }
        if let Some(flush) = self.take(topic) {
            flush.fetch().await;
            self.flush(topic);
        }
    }

    /// Whether each change is a diff of its own.
    pub(crate) fn tells_each(&self) -> bool {
        self.timing.diff_interval.is_some_and(|interval| interval.is_zero())
    }

    /// The number of the last diff that was sent. Read under a shard's lock, it is at least that of the last diff of
    /// the shard, and below that of the next.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Tells clients how many are in a topic, if that is news and no window holds it back.
    fn tell_count(&self, topic: &Topic) {
        let (presences, keys) = {
            let mut shard = self.tracker.lock(topic);
            let Some(set) = shard.topic_mut(topic) else { return };
            let now = (set.count(), set.key_count());
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

    /// A window has ended, or what a topic owed is paid.
    pub(crate) fn close_window(self: &Arc<Self>, topic: &Topic) {
        if let Some(set) = self.tracker.lock(topic).topic_mut(topic) {
            set.layer.window_open = false;
            set.layer.owing = false;
        }
        self.flush(topic);
        let mut shard = self.tracker.lock(topic);
        self.keep_if_owing(shard.topic_mut(topic));
        shard.tidy(topic);
    }

    /// Keeps a topic that nobody is in while it owes, or its next visitors would begin with a credit.
    fn keep_if_owing(&self, set: Option<&mut TopicSet<PresenceLayer<H>>>) {
        let Some(set) = set.filter(|set| set.count() == 0 && !set.layer.owing) else { return };
        if set.layer.account.owes(self.backlog.now()) {
            let paid = self.backlog.instant(set.layer.account.paid_until());
            set.layer.owing = self.backlog.close_window_at(paid, set.topic());
        }
    }

    /// What a client is shown of a topic: its state, and a diff that joins once more the keys refreshed of late. Also
    /// the rows of `owner`, under the keys `own` if they are known: returns those that no diff has joined yet.
    pub(crate) fn shown(&self, topic: &str, owner: OwnerId, own: Option<Vec<Key>>) -> (ViewState, Vec<Ref>) {
        let mut shard = self.tracker.lock(topic);
        // Diffs get their numbers under this lock, so none of this topic comes in between.
        let seen = self.mark(self.sent());
        if self.is_counted(topic) {
            let (presences, keys) = shard.topic(topic).map_or((0, 0), |set| (set.count(), set.key_count()));
            let messages = vec![("presence_count", encode::count(presences, keys).into())];
            return (ViewState { messages, seen }, Vec::new());
        }
        let Some(set) = shard.topic_mut(topic) else {
            let messages = vec![("presence_state", Json::empty_object().into())];
            return (ViewState { messages, seen }, Vec::new());
        };
        let (own, beyond) = shown_beyond(set, owner, own);
        let mut pieces = std::mem::take(&mut set.layer.pieces);
        let mut messages = vec![("presence_state", pieces.state::<H>(set, &own).into())];
        set.layer.pieces = pieces;
        let refreshed = self.keys_refreshed(set);
        if !refreshed.is_empty() {
            let joins = refreshed.iter().flat_map(|key| set.told_rows(key)).map(JoinedRow::from).collect();
            let diff = Diff { joins, leaves: Vec::new() };
            let (diff, _) = encode::diff(&diff, |key| set.group(key)?.layer().info().cloned());
            messages.push(("presence_diff", diff.into()));
        }
        (ViewState { messages, seen }, beyond)
    }

    /// The keys that were told and were refreshed of late.
    fn keys_refreshed(&self, set: &mut TopicSet<PresenceLayer<H>>) -> Vec<Key> {
        let refreshed = set.layer.refreshed.keys(Instant::now(), self.timing.refresh_memory);
        let mut keys: Vec<Key> = refreshed.cloned().collect();
        // One order for all who are shown the topic.
        keys.sort();
        keys.retain(|key| set.group(key).is_some() && !set.told_rows(key).is_empty());
        keys
    }

    /// Takes what is to be sent of a topic now; `None` if there is nothing, or nobody to hear it, or if it is to wait
    /// for a flush, a window or the budget.
    fn take(self: &Arc<Self>, topic: &Topic) -> Option<Flush<H>> {
        let mut shard = self.tracker.lock(topic);
        let set = shard.topic_mut(topic)?;
        if !set.has_changes() {
            shard.tidy(topic);
            return None;
        }
        if set.layer.window_open {
            return None;
        }
        let now = Instant::now();
        let is_budgeted = self.timing.diff_interval.is_none();
        let since = is_budgeted.then(|| *set.layer.since.get_or_insert_with(|| self.backlog.now()));
        if set.layer.flushing {
            return None;
        }
        let listeners = self.pubsub.subscribers(topic);
        let heard = listeners > 0 || !set.layer.watchers.is_empty() || self.watchers.follow(topic);
        if !heard {
            // What nobody hears counts as told.
            set.layer.since = None;
            let diffs = set.take_diffs();
            set.told();
            shard.tidy(topic);
            drop(shard);
            for diff in &diffs {
                self.observe(topic, diff);
            }
            return None;
        }
        if let Some(since) = since
            && !self.backlog.spend(topic, &mut set.layer.account, since, listeners as u64)
        {
            return None;
        }
        set.layer.since = None;
        let diffs = set.take_diffs();
        if diffs.is_empty() {
            set.told();
            shard.tidy(topic);
            return None;
        }
        if is_budgeted {
            let changes = diffs.iter().map(|diff| diff.joins.len().max(diff.leaves.len())).sum();
            self.backlog.ask(changes, listeners as u64);
        }
        set.layer.flushing = true;
        if let Some(interval) = self.timing.diff_interval.filter(|interval| !interval.is_zero()) {
            set.layer.window_open = self.backlog.close_window_at(now + interval, topic);
        }
        let missing = if H::FETCHES { self.without_info(set, &diffs, now) } else { Vec::new() };
        if is_budgeted && !missing.is_empty() {
            self.backlog.pay(&mut set.layer.account, FETCH_COST);
        }
        Some(Flush { core: self.clone(), topic: topic.clone(), diffs, missing, fetched: HashMap::new() })
    }

    fn without_info(
        &self,
        set: &TopicSet<PresenceLayer<H>>,
        diffs: &[Diff<KeyCache<H::Info>>],
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

impl<H: PresenceHandler> Drop for Core<H> {
    fn drop(&mut self) {
        self.watchers.end();
        for shard in self.tracker.shards() {
            let queues: Vec<_> = shard.topics().flat_map(|set| set.layer.watchers.clone()).collect();
            drop(shard);
            for queue in queues {
                queue.end();
            }
        }
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
        let watchers = self.watchers();
        let diffs = self.told();
        let heard = core.pubsub.subscribers(&self.topic) > 0;
        for published in diffs {
            let mark = core.mark(published.number());
            let published = Arc::new(published);
            if heard {
                let (payload, places) = encode::diff(published.diff(), |key| published.info(key).cloned());
                let message = Message::new(&self.topic, "presence_diff", payload.into()).marked(mark);
                let message = if core.tells_each() { message } else { message.deferrable() };
                let source = DiffSource { published: published.clone(), places };
                // To this node's subscribers only: each node tells its own.
                core.pubsub.deliver(message.with_source(Arc::new(source)));
            }
            core.observe(published.topic(), published.diff());
            for watcher in &watchers {
                watcher.push(&published);
            }
        }
    }

    /// From here on what was taken counts as sent: a state that is read from here on contains it, and the infos that
    /// are known now.
    fn told(&mut self) -> Vec<PublishedDiff<H::Info>> {
        let mut shard = self.core.tracker.lock(&self.topic);
        let mut diffs = Vec::with_capacity(self.diffs.len());
        for diff in std::mem::take(&mut self.diffs) {
            let number = self.core.sent.fetch_add(1, Ordering::Relaxed) + 1;
            let infos = if H::FETCHES { self.infos(&diff, shard.topic(&self.topic)) } else { HashMap::new() };
            diffs.push(PublishedDiff::new(self.topic.clone(), number, diff, infos));
        }
        if let Some(set) = shard.topic_mut(&self.topic) {
            set.told();
        }
        diffs
    }

    /// What is known of the keys that join.
    fn infos(&self, diff: &Diff<KeyCache<H::Info>>, set: Option<&TopicSet<PresenceLayer<H>>>) -> Infos<H> {
        let held = |key: &Key| {
            // A key that has gone meanwhile is told with what was fetched for it; its leave follows.
            self.fetched.get(key).cloned().or_else(|| set?.group(key)?.layer().info().cloned())
        };
        let infos = diff.joins.iter().filter_map(|joined| Some((joined.key.clone(), held(&joined.key)?)));
        infos.collect()
    }

    fn watchers(&self) -> Vec<Arc<WatchQueue<H::Info>>> {
        let mut watchers = self.core.watchers.of(&self.topic);
        if let Some(set) = self.core.tracker.lock(&self.topic).topic(&self.topic) {
            watchers.extend_from_slice(&set.layer.watchers);
        }
        watchers
    }
}

/// The rows of an owner that no diff has joined yet, and what a client is shown of their keys: these rows, and what was
/// told and is still there.
fn shown_beyond<H: PresenceHandler>(
    set: &mut TopicSet<PresenceLayer<H>>,
    owner: OwnerId,
    own: Option<Vec<Key>>,
) -> (Own, Vec<Ref>) {
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
        beyond.push(row);
        shown.insert(key, rows);
    }
    for row in &beyond {
        set.mark_row_shown(*row);
    }
    (shown, beyond)
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
            self.core.keep_if_owing(Some(set));
            shard.tidy(&self.topic);
            more
        };
        // The caller looks again, as a rule; if it was cancelled, the flusher does.
        if more && !self.core.backlog.look_at(&self.topic) {
            self.core.flush(&self.topic);
        }
    }
}
