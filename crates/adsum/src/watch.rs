//! Following presences from Rust: a snapshot, then diffs, without a gap.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker, ready},
};

use adsum_pubsub::{Pattern, Topic};
use adsum_tracker::{Diff, Key, SHARDS, shard_of};
use futures_util::Stream;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::{
    Presence, Presences,
    core::Core,
    entry::Snapshot,
    handler::PresenceHandler,
    key_cache::{FetchedInfo, KeyCache},
    topic_diff::TopicDiff,
};

/// How many diffs wait for a watch before they are replaced by a new snapshot.
pub const WATCH_CAPACITY: usize = 1024;

/// Follows a topic, those of a pattern, or all of this node's; from [`Presence::watch`], [`Presence::watch_matching`] and
/// [`Presence::watch_all`]. A [`Stream`] of [`Change`]s, which ends with the last handle of its presence and doesn't
/// keep that alive.
///
/// The first change is a state. What Phoenix calls `init` and `handle_metas` is then:
///
/// ```
/// # use adsum::{Change, Presence, PubSub};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let presence = Presence::builder(PubSub::local()).start();
/// # let mut owner = presence.owner();
/// # owner.track("room:1", "7", serde_json::Map::new())?;
/// let mut watch = presence.watch("room:1");
/// # let mut presence = Some((presence, owner));
/// while let Some(change) = watch.next().await {
///     match change {
///         Change::State(topics) => println!("{topics:?}"), // everything there is, to start from
///         Change::Diff(diff) => println!("{:?}", diff.changes()),
///     }
/// #   presence = None;
/// }
/// # Ok(())
/// # }
/// ```
///
/// A watch is told what clients are told: changes that go out together are put together, so it doesn't see a presence
/// that came and went between two diffs. While a node keeps up each change goes out at once, so that is one shorter than
/// a moment, and under load one shorter than [`max_diff_delay`](crate::Builder::max_diff_delay). A program that has to
/// see each sets [`diff_interval`](crate::Builder::diff_interval) to zero.
///
/// A watch that is read too slowly isn't sent what it missed: once [`WATCH_CAPACITY`] diffs wait, they are
/// dropped, and the next change is a state again.
pub struct Watch<H: PresenceHandler> {
    core: Weak<Core<H>>,
    followed: Followed,
    queue: Arc<WatchQueue<H::Info>>,
    /// The number of the last diff that the state contains: of the topic, or of each shard.
    seen: Box<[u64]>,
}

/// What a watch follows.
#[derive(Clone, Debug)]
pub(crate) enum Followed {
    Topic(Topic),
    Matching(Pattern),
}

/// What a [`Watch`] has to tell.
pub enum Change<H: PresenceHandler> {
    /// All presences, by topic, with the infos that are held: forget what you knew. Where an info is still
    /// missing, [`Presence::list`] asks for it.
    State(HashMap<Topic, Presences<H>>),
    /// What came and what went in one topic.
    Diff(TopicDiff<H>),
}

impl<H: PresenceHandler> Watch<H> {
    pub(crate) fn new(presence: &Presence<H>, followed: Followed) -> Self {
        let queue = Arc::new(WatchQueue::default());
        let core = &presence.core;
        let shards = match &followed {
            Followed::Topic(topic) => {
                core.tracker.lock(topic).entry(topic).layer.watchers.push(queue.clone());
                1
            }
            Followed::Matching(pattern) => {
                core.watchers.add(pattern.clone(), queue.clone());
                SHARDS
            }
        };
        Self { core: Arc::downgrade(core), followed, queue, seen: vec![0; shards].into() }
    }

    /// The next change, once there is one. `None` once the presence has ended.
    ///
    /// Cancel safe: a change is taken only by a call that returns it.
    pub async fn next(&mut self) -> Option<Change<H>> {
        poll_fn(|cx| self.poll_change(cx)).await
    }

    fn poll_change(&mut self, cx: &Context<'_>) -> Poll<Option<Change<H>>> {
        loop {
            match ready!(self.queue.poll_take(cx)) {
                Taken::Resync => return Poll::Ready(self.snapshot().map(Change::State)),
                // The state contains it.
                Taken::Diff(diff) if diff.number <= self.seen[shard_of(&diff.topic) % self.seen.len()] => {}
                Taken::Diff(diff) => return Poll::Ready(Some(Change::Diff(TopicDiff::of(&diff)))),
                Taken::End => return Poll::Ready(None),
            }
        }
    }

    /// What was told. Diffs gather already; those that it contains are passed over.
    fn snapshot(&mut self) -> Option<HashMap<Topic, Presences<H>>> {
        let core = self.core.upgrade()?;
        let mut snapshots = Vec::new();
        match &self.followed {
            Followed::Topic(topic) => {
                let shard = core.tracker.lock(topic);
                self.seen[0] = core.sent();
                if let Some(set) = shard.topic(topic) {
                    snapshots.push((topic.clone(), Snapshot::told::<H>(set)));
                }
            }
            Followed::Matching(pattern) => {
                for (shard, seen) in core.tracker.shards().zip(&mut self.seen) {
                    *seen = core.sent();
                    let is_told = |topic: &Topic| pattern.matches(topic) && core.has_diffs(topic);
                    let told = shard.topics().filter(|set| is_told(set.topic()));
                    snapshots.extend(told.map(|set| (set.topic().clone(), Snapshot::told::<H>(set))));
                }
            }
        }
        let decoded = snapshots.into_iter().map(|(topic, snapshot)| (topic, snapshot.decode()));
        let is_one = matches!(self.followed, Followed::Topic(_));
        Some(decoded.filter(|(_, presences)| is_one || !presences.is_empty()).collect())
    }
}

impl<H: PresenceHandler> Stream for Watch<H> {
    type Item = Change<H>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change<H>>> {
        self.poll_change(cx)
    }
}

impl<H: PresenceHandler> Drop for Watch<H> {
    fn drop(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        match &self.followed {
            Followed::Topic(topic) => {
                let mut shard = core.tracker.lock(topic);
                if let Some(set) = shard.topic_mut(topic) {
                    set.layer.watchers.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
                }
                shard.tidy(topic);
            }
            Followed::Matching(_) => core.watchers.remove(&self.queue),
        }
    }
}

impl<H: PresenceHandler> fmt::Debug for Watch<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("followed", &self.followed).finish_non_exhaustive()
    }
}

impl<H: PresenceHandler<Meta: fmt::Debug, Info: fmt::Debug>> fmt::Debug for Change<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => f.debug_tuple("State").field(state).finish(),
            Self::Diff(diff) => f.debug_tuple("Diff").field(diff).finish(),
        }
    }
}

/// A diff as it was sent, shared by all watches and decoded by each in its own task.
pub(crate) struct PublishedDiff<I> {
    topic: Topic,
    number: u64,
    diff: Diff<KeyCache<I>>,
    infos: HashMap<Key, Arc<FetchedInfo<I>>>,
}

impl<I> PublishedDiff<I> {
    pub(crate) fn new(
        topic: Topic,
        number: u64,
        diff: Diff<KeyCache<I>>,
        infos: HashMap<Key, Arc<FetchedInfo<I>>>,
    ) -> Self {
        Self { topic, number, diff, infos }
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn diff(&self) -> &Diff<KeyCache<I>> {
        &self.diff
    }

    /// What was known of a key that joins.
    pub(crate) fn info(&self, key: &Key) -> Option<&Arc<FetchedInfo<I>>> {
        self.infos.get(key)
    }
}

/// The watches of more than one topic.
pub(crate) struct Watchers<I>(RwLock<Vec<Watcher<I>>>);

struct Watcher<I> {
    pattern: Pattern,
    queue: Arc<WatchQueue<I>>,
}

impl<I> Watchers<I> {
    fn add(&self, pattern: Pattern, queue: Arc<WatchQueue<I>>) {
        self.0.write().push(Watcher { pattern, queue });
    }

    fn remove(&self, queue: &Arc<WatchQueue<I>>) {
        self.0.write().retain(|watcher| !Arc::ptr_eq(&watcher.queue, queue));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().len()
    }

    /// Whether one of them follows a topic.
    pub(crate) fn follow(&self, topic: &str) -> bool {
        self.0.read().iter().any(|watcher| watcher.pattern.matches(topic))
    }

    /// Those that follow a topic.
    pub(crate) fn of(&self, topic: &str) -> Vec<Arc<WatchQueue<I>>> {
        let watchers = self.0.read();
        let followers = watchers.iter().filter(|watcher| watcher.pattern.matches(topic));
        followers.map(|watcher| watcher.queue.clone()).collect()
    }

    /// The presence has ended.
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

/// Where diffs wait for a watch.
pub(crate) struct WatchQueue<I>(Mutex<WatchState<I>>);

struct WatchState<I> {
    diffs: VecDeque<Arc<PublishedDiff<I>>>,
    /// The next change is a state, which contains all that waits.
    resync: bool,
    /// Nothing will come after what waits.
    ended: bool,
    /// The task that waits for the next change.
    waker: Option<Waker>,
}

enum Taken<I> {
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
        // Infos are the program's: they are dropped outside of the lock.
        drop(missed);
    }

    /// The presence has ended.
    pub(crate) fn end(&self) {
        let mut waiting = self.0.lock();
        waiting.ended = true;
        wake(waiting);
    }

    /// From a resync on diffs gather again, before the state is read.
    fn poll_take(&self, cx: &Context<'_>) -> Poll<Taken<I>> {
        let mut waiting = self.0.lock();
        if std::mem::take(&mut waiting.resync) {
            return Poll::Ready(Taken::Resync);
        }
        if let Some(diff) = waiting.diffs.pop_front() {
            return Poll::Ready(Taken::Diff(diff));
        }
        if waiting.ended {
            return Poll::Ready(Taken::End);
        }
        // The one before is a task's of the program: it is dropped outside of the lock.
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
