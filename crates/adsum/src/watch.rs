//! Following presences from Rust: a snapshot, then diffs, without a gap.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
};

use adsum_pubsub::{
    Pattern, Topic,
    log::{cut_name, limited},
};
use adsum_tracker::{SHARDS, shard_of};
use futures_util::Stream;

use crate::{
    core::Core,
    entry::{Presences, Snapshot},
    handler::PresenceHandler,
    presence::Presence,
    topic_diff::TopicDiff,
    watch_queue::{NextChange, WatchQueue},
};

/// Follows one topic, those of a pattern, or all of this node; from [`Presence::watch`], [`Presence::watch_matching`]
/// and [`Presence::watch_all`]. A [`Stream`] of [`Change`]s, which ends with the last handle of its presence and
/// doesn't keep that alive.
///
/// The first change is a state. Phoenix's `init` and `handle_metas` are then:
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
/// A watch gets the same diffs as clients, so it doesn't see a presence that came and went between two diffs. While a
/// node keeps up, each change is sent at once, so it misses only the briefest presences; under load, those shorter than
/// [`max_diff_delay`](crate::Builder::max_diff_delay). A program that has to see each presence sets
/// [`diff_interval`](crate::Builder::diff_interval) to zero.
///
/// A watch that is read too slowly doesn't get the diffs that it missed: once [`WATCH_CAPACITY`](crate::WATCH_CAPACITY)
/// diffs wait, they are dropped, and the next change is a state again.
pub struct Watch<H: PresenceHandler> {
    core: Weak<Core<H>>,
    followed: Followed,
    queue: Arc<WatchQueue<H::Info>>,
    /// The number of the last diff that the state contains: of the topic, or of each shard.
    seen: Box<[u64]>,
}

/// The topics that a watch follows.
#[derive(Clone, Debug)]
pub(crate) enum Followed {
    Topic(Topic),
    Matching(Pattern),
}

/// A change, from a [`Watch`].
pub enum Change<H: PresenceHandler> {
    /// All presences, by topic, with the infos that are known. It replaces all earlier changes. [`Presence::list`]
    /// fetches infos that are missing.
    State(HashMap<Topic, Presences<H>>),
    /// The joins and leaves of one topic.
    Diff(TopicDiff<H>),
}

impl<H: PresenceHandler> Presence<H> {
    /// Follows a topic from Rust: a state, then diffs without a gap.
    ///
    /// The topic is a plain name. [`watch_matching`](Self::watch_matching) takes a pattern. A name that ends with a `*` is
    /// refused: a warning is logged, and the watch ends at once. It is no panic, as a client may have chosen the name.
    pub fn watch(&self, topic: impl Into<Topic>) -> Watch<H> {
        let topic = topic.into();
        if topic.ends_with('*') {
            limited!(
                WARN,
                topic = %cut_name(&topic),
                "`watch` takes a name and no pattern, so this watch ends at once; use `watch_matching`"
            );
            return Watch::ended(topic);
        }
        Watch::new(self, Followed::Topic(topic))
    }

    /// Follows the topics of a pattern that are tracked with diffs, such as `room:*`, as [`watch`](Self::watch) follows
    /// one.
    ///
    /// ```
    /// # use adsum::{Change, Presence, PubSub};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let presence = Presence::builder(PubSub::local()).start();
    /// let mut rooms = presence.watch_matching("room:*");
    /// # let mut owner = presence.owner();
    /// owner.track("room:1", "7", serde_json::Map::new())?;
    /// let Some(Change::State(topics)) = rooms.next().await else { panic!("a state is first") };
    /// assert!(topics.contains_key("room:1"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    pub fn watch_matching(&self, pattern: &str) -> Watch<H> {
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("watch_matching: {error}"));
        Watch::new(self, Followed::Matching(pattern))
    }

    /// Follows all topics that are tracked with diffs: a state, then diffs without a gap.
    pub fn watch_all(&self) -> Watch<H> {
        self.watch_matching("*")
    }
}

impl<H: PresenceHandler> Watch<H> {
    fn new(presence: &Presence<H>, followed: Followed) -> Self {
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

    /// A watch of nothing.
    fn ended(topic: Topic) -> Self {
        let queue = Arc::new(WatchQueue::default());
        queue.end();
        Self { core: Weak::new(), followed: Followed::Topic(topic), queue, seen: [0].into() }
    }

    /// Waits for the next change, and returns it. `None` once the presence has ended, or if the watch was refused.
    ///
    /// Cancel safe: a change is taken only by a call that returns it.
    pub async fn next(&mut self) -> Option<Change<H>> {
        poll_fn(|cx| self.poll_change(cx)).await
    }

    fn poll_change(&mut self, cx: &Context<'_>) -> Poll<Option<Change<H>>> {
        loop {
            match ready!(self.queue.poll_take(cx)) {
                NextChange::Resync => return Poll::Ready(self.snapshot().map(Change::State)),
                // The state contains this diff.
                NextChange::Diff(diff)
                    if diff.number() <= self.seen[shard_of(diff.topic()) % self.seen.len()] => {}
                NextChange::Diff(diff) => return Poll::Ready(Some(Change::Diff(TopicDiff::of(&diff)))),
                NextChange::End => return Poll::Ready(None),
            }
        }
    }

    /// Reads what was told. Diffs are queued already; those that the snapshot contains are skipped later.
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
                    let is_told = |topic: &Topic| pattern.matches(topic) && core.policy.has_diffs(topic);
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
