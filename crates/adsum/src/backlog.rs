//! The topics and diffs that wait for the flusher.

use std::{
    collections::{BTreeSet, VecDeque},
    mem::take,
    time::Duration,
};

use adsum_pubsub::Topic;
use indexmap::IndexSet;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    budget::{Account, DeliveryBudget},
    diffs::TakenDiffs,
};

/// The topics and diffs that wait for the flusher.
///
/// It needs no bound of its own: a topic is in it at most once for a change, once for the budget, once for a fetch and
/// once for a window.
pub(crate) struct Backlog<I> {
    state: Mutex<BacklogState<I>>,
    wake: Notify,
    /// When the time of the budget begins.
    start: Instant,
}

struct BacklogState<I> {
    /// The flusher has ended.
    closed: bool,
    changed: IndexSet<Topic>,
    /// The topics that had changed when the flusher last looked, and still wait for their turn.
    turn: VecDeque<Topic>,
    budget: DeliveryBudget<Topic>,
    to_fetch: Vec<TakenDiffs<I>>,
    windows: BTreeSet<(Instant, Topic)>,
}

/// Everything that was in a backlog when it was closed.
pub(crate) struct Remaining<I> {
    pub(crate) to_fetch: Vec<TakenDiffs<I>>,
    pub(crate) topics: IndexSet<Topic>,
}

impl<I> Backlog<I> {
    pub(crate) fn new(budget: DeliveryBudget<Topic>) -> Self {
        let state = BacklogState {
            closed: false,
            changed: IndexSet::new(),
            turn: VecDeque::new(),
            budget,
            to_fetch: Vec::new(),
            windows: BTreeSet::new(),
        };
        Self { state: Mutex::new(state), wake: Notify::new(), start: Instant::now() }
    }

    /// Returns the current time, as the budget counts it.
    pub(crate) fn now(&self) -> Duration {
        DeliveryBudget::<Topic>::START + self.start.elapsed()
    }

    /// Converts a time of the budget to one of the runtime.
    pub(crate) fn instant(&self, time: Duration) -> Instant {
        self.start + time.saturating_sub(DeliveryBudget::<Topic>::START)
    }

    /// Pays for a flush of this cost, if it may go now. Returns false if it may not: the flusher looks at the topic
    /// once it may.
    pub(crate) fn spend(&self, topic: &Topic, account: &mut Account, since: Duration, cost: u64) -> bool {
        let now = self.now();
        let mut state = self.state.lock();
        if state.closed || state.budget.may_go(now, *account, since, cost) {
            state.budget.pay(now, account, cost);
            return true;
        }
        if state.budget.wait(topic.clone(), *account, since, cost) {
            self.wake.notify_one();
        }
        false
    }

    /// Notes how many changes a flush has, and what each would have cost if sent alone.
    pub(crate) fn ask(&self, changes: usize, cost: u64) {
        self.state.lock().budget.ask(self.now(), changes, cost);
    }

    /// Pays for an additional cost of a flush.
    pub(crate) fn pay(&self, account: &mut Account, cost: u64) {
        self.state.lock().budget.pay(self.now(), account, cost);
    }

    /// Closes the backlog, as the flusher has ended: nothing waits in it from now on. Returns what was in it.
    pub(crate) fn close(&self) -> Remaining<I> {
        let (mut topics, turn, windows, to_fetch) = {
            let mut state = self.state.lock();
            state.closed = true;
            let BacklogState { changed, turn, budget, windows, to_fetch, .. } = &mut *state;
            let mut topics: IndexSet<Topic> = budget.take_all().collect();
            topics.extend(take(changed));
            (topics, take(turn), take(windows), take(to_fetch))
        };
        topics.extend(turn);
        topics.extend(windows.into_iter().map(|(_, topic)| topic));
        Remaining { to_fetch, topics }
    }

    /// Lets the flusher flush a topic that has changed where nothing could be sent, such as in a `Drop`. Returns false
    /// if the flusher has ended.
    pub(crate) fn look_at(&self, topic: &Topic) -> bool {
        let mut state = self.state.lock();
        if !state.closed {
            state.changed.insert(topic.clone());
            self.wake.notify_one();
        }
        !state.closed
    }

    /// Lets the flusher fetch missing infos and then send the diffs. Returns them if the flusher has ended.
    pub(crate) fn fetch(&self, taken: TakenDiffs<I>) -> Result<(), TakenDiffs<I>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(taken);
        }
        state.to_fetch.push(taken);
        self.wake.notify_one();
        Ok(())
    }

    /// Lets the flusher close a topic's window at a time. Returns false if the flusher has ended.
    pub(crate) fn close_window_at(&self, end: Instant, topic: &Topic) -> bool {
        let mut state = self.state.lock();
        if !state.closed {
            let is_next = state.windows.first().is_none_or(|(next, _)| end < *next);
            state.windows.insert((end, topic.clone()));
            if is_next {
                self.wake.notify_one();
            }
        }
        !state.closed
    }

    /// Waits until something is added that the flusher has to see to now.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Begins the turn of the topics that have changed so far.
    pub(crate) fn begin_turn(&self) {
        let BacklogState { changed, turn, .. } = &mut *self.state.lock();
        turn.extend(take(changed));
    }

    pub(crate) fn next_in_turn(&self) -> Option<Topic> {
        self.state.lock().turn.pop_front()
    }

    pub(crate) fn take_to_fetch(&self) -> Vec<TakenDiffs<I>> {
        take(&mut self.state.lock().to_fetch)
    }

    /// Returns the time at which the next window ends or the next topic may go.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        let state = self.state.lock();
        let window = state.windows.first().map(|(end, _)| *end);
        let allowed = state.budget.earliest().map(|time| self.instant(time));
        window.into_iter().chain(allowed).min()
    }

    /// Takes the topic that has waited longest for the budget, of those that may go.
    pub(crate) fn next_allowed(&self) -> Option<Topic> {
        self.state.lock().budget.next(self.now())
    }

    /// Takes a topic whose window has ended.
    pub(crate) fn take_ended(&self, now: Instant) -> Option<Topic> {
        let mut state = self.state.lock();
        let ended = state.windows.first().is_some_and(|(end, _)| *end <= now);
        if ended { state.windows.pop_first().map(|(_, topic)| topic) } else { None }
    }
}
