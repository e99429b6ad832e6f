//! Flushing a topic: taking its changes as diffs, fetching what they lack, and sending them.
//!
//! [`Core::take`] begins a flush, and [`Core::send`] ends it. In between, the flusher may fetch infos for it.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use adsum_pubsub::{Message, Topic, log::cut_name, tasks};
use adsum_tracker::{Diff, Key};
use tokio::time::Instant;
use tracing::debug_span;

use crate::{
    budget::FETCH_COST,
    core::Core,
    diffs::{DiffSource, Infos, PublishedDiff, TakenDiffs},
    encode,
    handler::PresenceHandler,
    key_cache::KeyCache,
    layer::PresenceSet,
    watch_queue::WatchQueue,
};

/// A flush that fetches infos. If it is dropped meanwhile, because its task was cancelled or panicked, the diffs are
/// sent with the last known infos.
pub(crate) struct FetchingFlush<H: PresenceHandler> {
    core: Arc<Core<H>>,
    taken: Option<TakenDiffs<H::Info>>,
}

impl<H: PresenceHandler> FetchingFlush<H> {
    pub(crate) fn new(core: Arc<Core<H>>, taken: TakenDiffs<H::Info>) -> Self {
        Self { core, taken: Some(taken) }
    }

    /// Fetches the missing infos, and then sends the diffs. The caller flushes the topic again afterwards.
    pub(crate) async fn run(mut self) {
        let fetched = match &self.taken {
            Some(taken) if !taken.missing.is_empty() => self.core.fetch(&taken.topic, &taken.missing).await,
            _ => HashMap::new(),
        };
        if let Some(taken) = self.taken.take() {
            self.core.send(taken, fetched);
        }
    }
}

impl<H: PresenceHandler> Drop for FetchingFlush<H> {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else { return };
        let topic = taken.topic.clone();
        self.core.send(taken, HashMap::new());
        if !self.core.backlog.look_at(&topic) {
            self.core.flush(&topic);
        }
    }
}

impl<H: PresenceHandler> Core<H> {
    /// Sends the changes of a topic, unless they have to wait. If `fetch` has to be asked first, the flusher does that
    /// and sends them.
    pub(crate) fn flush(&self, topic: &Topic) {
        if self.policy.is_counted(topic) {
            self.tell_count(topic);
        }
        while let Some(taken) = self.take(topic) {
            if taken.missing.is_empty() {
                self.send(taken, HashMap::new());
                continue;
            }
            match self.backlog.fetch(taken) {
                Ok(()) => return,
                // The flusher has ended.
                Err(taken) => self.send(taken, HashMap::new()),
            }
        }
    }

    /// Flushes a topic before its state is sent. If each change is a diff, as in Phoenix, waits for `fetch`, so that
    /// the diff comes before the state. Changes made meanwhile are left to the flusher: in a busy topic the caller
    /// would wait forever.
    pub(crate) async fn flush_for_state(self: &Arc<Self>, topic: &Topic) {
        if !self.timing.sends_each_change() {
            self.flush(topic);
            return;
        }
        if let Some(taken) = self.take(topic) {
            FetchingFlush::new(self.clone(), taken).run().await;
            self.flush(topic);
        }
    }

    /// Lets a key's info be fetched again, and its metas join once more.
    pub(crate) fn refresh(&self, topic: &Topic, key: &Key) {
        if let Some(set) = self.tracker.lock(topic).topic_mut(topic)
            && let Some(group) = set.group_mut(key)
        {
            group.layer_mut().0.expire();
            set.join_again(key);
            set.layer.refreshed.note(key, Instant::now(), self.timing.refresh_memory);
        }
        self.flush(topic);
    }

    /// Closes the window of a topic, or notes that its debt is paid.
    pub(crate) fn close_window(&self, topic: &Topic) {
        if let Some(set) = self.tracker.lock(topic).topic_mut(topic) {
            set.layer.window_open = false;
            set.layer.owing = false;
        }
        self.flush(topic);
        let mut shard = self.tracker.lock(topic);
        self.keep_if_owing(shard.topic_mut(topic));
        shard.tidy(topic);
    }

    /// Keeps a topic without presences while it owes. Otherwise its next visitors would begin with a credit.
    fn keep_if_owing(&self, set: Option<&mut PresenceSet<H>>) {
        let Some(set) = set.filter(|set| set.count() == 0 && !set.layer.owing) else { return };
        if set.layer.account.owes(self.backlog.now()) {
            let paid = self.backlog.instant(set.layer.account.paid_until());
            set.layer.owing = self.backlog.close_window_at(paid, set.topic());
        }
    }

    /// Begins a flush: takes the diffs that are to be sent now. `None` if there are none, if there is no listener, or
    /// if they have to wait for a flush, a window or the budget.
    fn take(&self, topic: &Topic) -> Option<TakenDiffs<H::Info>> {
        let mut shard = self.tracker.lock(topic);
        let set = shard.topic_mut(topic)?;
        let left = set.take_left();
        if !set.has_changes() {
            set.layer.since = None;
            shard.tidy(topic);
            drop(shard);
            self.leaves.note_without_diff(&left);
            return None;
        }
        let since = *set.layer.since.get_or_insert_with(|| self.backlog.now());
        if set.layer.window_open || set.layer.flushing {
            return None;
        }
        let now = Instant::now();
        let is_budgeted = self.timing.diff_interval.is_none();
        let listeners = self.pubsub.subscribers(topic);
        let heard = listeners > 0 || !set.layer.watchers.is_empty() || self.watchers.follow(topic);
        if !heard {
            // Without a listener the changes count as told.
            set.layer.since = None;
            let diffs = set.take_diffs();
            set.told();
            shard.tidy(topic);
            drop(shard);
            for diff in &diffs {
                self.note_diff(topic, diff);
            }
            return None;
        }
        if is_budgeted && !self.backlog.spend(topic, &mut set.layer.account, since, listeners as u64) {
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
        let waited = self.backlog.now().saturating_sub(since);
        Some(TakenDiffs { topic: topic.clone(), diffs, missing, waited })
    }

    /// Returns the keys that join without a fresh info.
    fn without_info(
        &self,
        set: &PresenceSet<H>,
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

    /// Ends a flush: sends the diffs to clients and watches. The caller flushes the topic again afterwards, for the
    /// changes made since they were taken.
    pub(crate) fn send(&self, taken: TakenDiffs<H::Info>, fetched: Infos<H::Info>) {
        let TakenDiffs { topic, diffs, waited, .. } = taken;
        // Subscribers, recorders of metrics and drops of infos are the program's code. Whatever they do, the topic goes on.
        let to = &topic;
        let publish = move || {
            self.metrics.flush_delay_seconds.record(waited.as_secs_f64());
            self.publish(to, diffs, fetched);
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(publish)) {
            tasks::note_panic("flush", &*panic);
        }
        let mut shard = self.tracker.lock(&topic);
        let Some(set) = shard.topic_mut(&topic) else { return };
        set.layer.flushing = false;
        self.keep_if_owing(Some(set));
        shard.tidy(&topic);
    }

    fn publish(&self, topic: &Topic, diffs: Vec<Diff<KeyCache<H::Info>>>, fetched: Infos<H::Info>) {
        let _span = debug_span!("flush", topic = %cut_name(topic), diffs = diffs.len()).entered();
        let watchers = self.watchers_of(topic);
        let published = self.count_as_told(topic, diffs, &fetched);
        let heard = self.pubsub.subscribers(topic) > 0;
        for published in published {
            let mark = self.mark(published.number());
            self.metrics.told(published.diff().joins.len().max(published.diff().leaves.len()));
            let published = Arc::new(published);
            if heard {
                let (payload, places) = encode::diff(published.diff(), |key| published.info(key).cloned());
                let message = Message::new(topic, "presence_diff", payload.into()).marked(mark);
                let message = if self.timing.sends_each_change() { message } else { message.deferrable() };
                let source = DiffSource { published: published.clone(), places };
                // To this node's subscribers only: each node tells its own.
                self.pubsub.deliver(message.with_source(Arc::new(source)));
            }
            self.note_diff(published.topic(), published.diff());
            for watcher in &watchers {
                watcher.push(&published);
            }
        }
    }

    /// Numbers the diffs, with the infos known now. A state that is read after this contains them.
    fn count_as_told(
        &self,
        topic: &Topic,
        diffs: Vec<Diff<KeyCache<H::Info>>>,
        fetched: &Infos<H::Info>,
    ) -> Vec<PublishedDiff<H::Info>> {
        let mut shard = self.tracker.lock(topic);
        let mut published = Vec::with_capacity(diffs.len());
        for diff in diffs {
            let number = self.next_number();
            let infos =
                if H::FETCHES { infos_of::<H>(&diff, fetched, shard.topic(topic)) } else { HashMap::new() };
            published.push(PublishedDiff::new(topic.clone(), number, diff, infos));
        }
        if let Some(set) = shard.topic_mut(topic) {
            set.told();
        }
        published
    }

    fn watchers_of(&self, topic: &Topic) -> Vec<Arc<WatchQueue<H::Info>>> {
        let mut watchers = self.watchers.of(topic);
        if let Some(set) = self.tracker.lock(topic).topic(topic) {
            watchers.extend_from_slice(&set.layer.watchers);
        }
        watchers
    }
}

/// Returns the known infos of the keys that join. A key that has left meanwhile gets the info that was fetched for it;
/// its leave follows.
fn infos_of<H: PresenceHandler>(
    diff: &Diff<KeyCache<H::Info>>,
    fetched: &Infos<H::Info>,
    set: Option<&PresenceSet<H>>,
) -> Infos<H::Info> {
    let known = |key: &Key| fetched.get(key).cloned().or_else(|| set?.group(key)?.layer().info().cloned());
    let infos = diff.joins.iter().filter_map(|joined| Some((joined.key.clone(), known(&joined.key)?)));
    infos.collect()
}
