//! The queues of watches.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use adsum_pubsub::Pattern;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::diffs::PublishedDiff;

/// How many diffs wait for a watch before a new snapshot replaces them.
pub const WATCH_CAPACITY: usize = 1024;

/// The watches of more than one topic.
pub(crate) struct Watchers<I>(RwLock<Vec<Watcher<I>>>);

struct Watcher<I> {
    pattern: Pattern,
    queue: Arc<WatchQueue<I>>,
}

impl<I> Watchers<I> {
    pub(crate) fn add(&self, pattern: Pattern, queue: Arc<WatchQueue<I>>) {
        self.0.write().push(Watcher { pattern, queue });
    }

    pub(crate) fn remove(&self, queue: &Arc<WatchQueue<I>>) {
        self.0.write().retain(|watcher| !Arc::ptr_eq(&watcher.queue, queue));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().len()
    }

    /// Whether one of them follows a topic.
    pub(crate) fn follow(&self, topic: &str) -> bool {
        self.0.read().iter().any(|watcher| watcher.pattern.matches(topic))
    }

    /// Returns the queues of those that follow a topic.
    pub(crate) fn of(&self, topic: &str) -> Vec<Arc<WatchQueue<I>>> {
        let watchers = self.0.read();
        let followers = watchers.iter().filter(|watcher| watcher.pattern.matches(topic));
        followers.map(|watcher| watcher.queue.clone()).collect()
    }

    /// Ends all queues, as the presence has ended.
    pub(crate) fn end(&self) {
        let queues: Vec<_> = self.0.read().iter().map(|watcher| watcher.queue.clone()).collect();
        for queue in queues {
            queue.end();
        }
    }
}

impl<I> Default for Watchers<I> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

/// The diffs that wait for a watch.
pub(crate) struct WatchQueue<I>(Mutex<WatchState<I>>);

struct WatchState<I> {
    diffs: VecDeque<Arc<PublishedDiff<I>>>,
    /// The next change is a state, which contains all waiting diffs.
    resync: bool,
    /// No diff follows the waiting ones.
    ended: bool,
    /// The task that waits for the next change.
    waker: Option<Waker>,
}

/// The next change for a watch.
pub(crate) enum NextChange<I> {
    Resync,
    Diff(Arc<PublishedDiff<I>>),
    End,
}

impl<I> Default for WatchQueue<I> {
    fn default() -> Self {
        Self(Mutex::new(WatchState { diffs: VecDeque::new(), resync: true, ended: false, waker: None }))
    }
}

impl<I> WatchQueue<I> {
    /// Queues a diff, or replaces the queue by a resync if it is full.
    pub(crate) fn push(&self, diff: &Arc<PublishedDiff<I>>) {
        let mut waiting = self.0.lock();
        if waiting.resync {
            return;
        }
        let mut missed = VecDeque::new();
        if waiting.diffs.len() == WATCH_CAPACITY {
            std::mem::swap(&mut missed, &mut waiting.diffs);
            waiting.resync = true;
        } else {
            waiting.diffs.push_back(diff.clone());
        }
        wake(waiting);
        // Infos are the program's, so they are dropped outside the lock.
        drop(missed);
    }

    /// Ends the queue, as the presence has ended.
    pub(crate) fn end(&self) {
        let mut waiting = self.0.lock();
        waiting.ended = true;
        wake(waiting);
    }

    /// Takes the next change. Once a resync is taken, diffs are queued again, before the state is read.
    pub(crate) fn poll_take(&self, cx: &Context<'_>) -> Poll<NextChange<I>> {
        let mut waiting = self.0.lock();
        if std::mem::take(&mut waiting.resync) {
            return Poll::Ready(NextChange::Resync);
        }
        if let Some(diff) = waiting.diffs.pop_front() {
            return Poll::Ready(NextChange::Diff(diff));
        }
        if waiting.ended {
            return Poll::Ready(NextChange::End);
        }
        // The last waker is the program's, so it is dropped outside the lock.
        let before = waiting.waker.replace(cx.waker().clone());
        drop(waiting);
        drop(before);
        Poll::Pending
    }
}

fn wake<I>(mut waiting: MutexGuard<'_, WatchState<I>>) {
    let waker = waiting.waker.take();
    drop(waiting);
    if let Some(waker) = waker {
        waker.wake();
    }
}
