//! The task that sends what can't be sent where a change was made.

use std::{
    collections::{BTreeSet, VecDeque},
    mem::take,
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{Topic, tasks::Tasks};
use indexmap::IndexSet;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::consume_budget,
    time::{Instant, sleep_until},
};

use crate::{
    budget::{Account, DeliveryBudget},
    core::{Core, Flush},
    handler::PresenceHandler,
};

/// What waits for the flusher.
///
/// No bound of its own: a topic stands here at most once for a change, once for the budget, once for a fetch and once
/// for a window.
pub(crate) struct Backlog<H: PresenceHandler> {
    waiting: Mutex<BacklogState<H>>,
    wake: Notify,
    /// Where the time of the budget begins.
    start: Instant,
}

struct BacklogState<H: PresenceHandler> {
    /// Nobody will look any more.
    closed: bool,
    changed: IndexSet<Topic>,
    /// Those that had changed when the flusher last looked, and aren't seen to yet.
    turn: VecDeque<Topic>,
    budget: DeliveryBudget<Topic>,
    to_fetch: Vec<Flush<H>>,
    windows: BTreeSet<(Instant, Topic)>,
}

impl<H: PresenceHandler> Backlog<H> {
    pub(crate) fn new(budget: DeliveryBudget<Topic>) -> Self {
        let waiting = BacklogState {
            closed: false,
            changed: IndexSet::new(),
            turn: VecDeque::new(),
            budget,
            to_fetch: Vec::new(),
            windows: BTreeSet::new(),
        };
        Self { waiting: Mutex::new(waiting), wake: Notify::new(), start: Instant::now() }
    }

    /// The time now, as the budget counts it.
    pub(crate) fn now(&self) -> Duration {
        DeliveryBudget::<Topic>::START + self.start.elapsed()
    }

    /// The same, as the runtime does.
    pub(crate) fn instant(&self, time: Duration) -> Instant {
        self.start + time.saturating_sub(DeliveryBudget::<Topic>::START)
    }

    /// Whether a flush that reaches so many may go now, which it does then. If not, the topic is looked at once it may.
    pub(crate) fn spend(&self, topic: &Topic, account: &mut Account, since: Duration, cost: u64) -> bool {
        let now = self.now();
        let mut waiting = self.waiting.lock();
        if waiting.closed || waiting.budget.may_go(now, *account, since, cost) {
            waiting.budget.pay(now, account, cost);
            return true;
        }
        if waiting.budget.wait(topic.clone(), *account, since, cost) {
            self.wake.notify_one();
        }
        false
    }

    /// What goes are so many changes, each of which would have reached so many.
    pub(crate) fn ask(&self, changes: usize, cost: u64) {
        self.waiting.lock().budget.ask(self.now(), changes, cost);
    }

    /// Something more was spent.
    pub(crate) fn pay(&self, account: &mut Account, cost: u64) {
        self.waiting.lock().budget.pay(self.now(), account, cost);
    }

    /// The flusher has ended: what waited for a fetch goes out as it is, and nothing waits from now on. Returns
    /// the topics that waited otherwise.
    fn close(&self) -> IndexSet<Topic> {
        let (mut topics, turn, windows, to_fetch) = {
            let mut waiting = self.waiting.lock();
            waiting.closed = true;
            let BacklogState { changed, turn, budget, windows, to_fetch, .. } = &mut *waiting;
            let mut topics: IndexSet<Topic> = budget.take_all().collect();
            topics.extend(take(changed));
            (topics, take(turn), take(windows), take(to_fetch))
        };
        drop(to_fetch);
        topics.extend(turn);
        topics.extend(windows.into_iter().map(|(_, topic)| topic));
        topics
    }

    /// A topic has changed where nothing could be sent: in a drop, say. False where the flusher has ended.
    pub(crate) fn look_at(&self, topic: &Topic) -> bool {
        let mut waiting = self.waiting.lock();
        if !waiting.closed {
            waiting.changed.insert(topic.clone());
            self.wake.notify_one();
        }
        !waiting.closed
    }

    pub(crate) fn fetch(&self, flush: Flush<H>) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            drop(flush);
        } else {
            waiting.to_fetch.push(flush);
            self.wake.notify_one();
        }
    }

    /// False where the flusher has ended: nobody would close the window.
    pub(crate) fn close_window_at(&self, end: Instant, topic: &Topic) -> bool {
        let mut waiting = self.waiting.lock();
        if !waiting.closed {
            let is_next = waiting.windows.first().is_none_or(|(next, _)| end < *next);
            waiting.windows.insert((end, topic.clone()));
            if is_next {
                self.wake.notify_one();
            }
        }
        !waiting.closed
    }

    /// It is the turn of what has changed up to now.
    fn begin_turn(&self) {
        let BacklogState { changed, turn, .. } = &mut *self.waiting.lock();
        turn.extend(take(changed));
    }

    fn next_in_turn(&self) -> Option<Topic> {
        self.waiting.lock().turn.pop_front()
    }

    /// The next time at which something is to be looked at.
    fn next_end(&self) -> Option<Instant> {
        let waiting = self.waiting.lock();
        let window = waiting.windows.first().map(|(end, _)| *end);
        let allowed = waiting.budget.earliest().map(|time| self.instant(time));
        window.into_iter().chain(allowed).min()
    }

    /// The topic that has waited longest for the budget, of those that may go.
    fn next_allowed(&self) -> Option<Topic> {
        self.waiting.lock().budget.next(self.now())
    }

    fn take_ended(&self, now: Instant) -> Option<Topic> {
        let mut waiting = self.waiting.lock();
        let ended = waiting.windows.first().is_some_and(|(end, _)| *end <= now);
        if ended { waiting.windows.pop_first().map(|(_, topic)| topic) } else { None }
    }
}

/// Held by all who know that the flusher has ended once they are dropped: the last handle of the presence, and
/// the flusher itself, whose runtime may end before the presence does. All that waits goes out then.
pub(crate) struct FlusherEnd<H: PresenceHandler>(pub(crate) Arc<Core<H>>);

impl<H: PresenceHandler> Drop for FlusherEnd<H> {
    fn drop(&mut self) {
        for topic in self.0.backlog.close() {
            self.0.close_window(&topic);
        }
    }
}

/// Runs until it is aborted. Where it panics it can be run again: what waits is in the backlog.
pub(crate) async fn run<H: PresenceHandler>(core: &Arc<Core<H>>) {
    let backlog = core.backlog.clone();
    // Bounded by the topics: each has one flush at a time, and that one fetches at most once.
    let mut fetches = Tasks::new("fetch");
    loop {
        let window_ends = async {
            match backlog.next_end() {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = window_ends => {}
            () = backlog.wake.notified() => {}
            Some(()) = fetches.ended() => {}
        }
        backlog.begin_turn();
        while let Some(topic) = backlog.next_in_turn() {
            core.flush(&topic);
            // A thousand rooms may change, or end their windows, together; what else runs here gets its turn.
            consume_budget().await;
        }
        let to_fetch = take(&mut backlog.waiting.lock().to_fetch);
        for flush in to_fetch {
            let core = core.clone();
            fetches.spawn(async move {
                let topic = flush.topic().clone();
                flush.fetch().await;
                core.flush(&topic);
            });
        }
        while let Some(topic) = backlog.next_allowed() {
            core.flush(&topic);
            consume_budget().await;
        }
        let now = Instant::now();
        while let Some(topic) = backlog.take_ended(now) {
            core.close_window(&topic);
            consume_budget().await;
        }
    }
}
