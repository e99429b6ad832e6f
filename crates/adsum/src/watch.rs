//! Following presences from Rust: a snapshot, then diffs, without a gap.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use adsum_pubsub::Topic;
use adsum_tracker::{Diff, Key, Reason, Ref, Row, SHARDS, shard_of};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    Presence, Presences,
    card::{Card, Held},
    entry::{Entry, Snapshot},
    handler::PresenceHandler,
};

/// How many diffs wait for a watch before they are replaced by a new snapshot.
pub const WATCH_CAPACITY: usize = 1024;

/// Follows one topic, or all of this node's; from [`Presence::watch`] and [`Presence::watch_all`].
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
/// # let mut rounds = 0;
/// let mut watch = presence.watch("room:1");
/// loop {
///     match watch.next().await {
///         Change::State(topics) => println!("{topics:?}"), // everything there is, to start from
///         Change::Diff(diff) => println!("{} came, {} went", diff.joins.len(), diff.leaves.len()),
///     }
/// #   if rounds == 1 { break }
/// #   rounds += 1;
/// #   owner.track("room:1", "8", serde_json::Map::new())?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// A watch that is read too slowly isn't sent what it missed: once [`WATCH_CAPACITY`] diffs wait, they are
/// dropped, and the next change is a state again.
pub struct Watch<H: PresenceHandler> {
    presence: Presence<H>,
    /// None: all topics.
    topic: Option<Topic>,
    queue: Arc<Queue<H::Info>>,
    /// The number of the last diff that the state contains: of the topic, or of each shard.
    seen: Box<[u64]>,
}

/// What a [`Watch`] has to tell.
pub enum Change<H: PresenceHandler> {
    /// All presences, by topic, with the infos that are held: forget what you knew. Where an info is still
    /// missing, [`Presence::list`] asks for it.
    State(HashMap<Topic, Presences<H>>),
    /// What came and what went in one topic.
    Diff(TopicDiff<H>),
}

/// What came and what went in one topic. No ref is in both halves.
///
/// To be folded by ref: a join whose ref is known already changes nothing but its info, and comes from a
/// [`refresh`](Presence::refresh) only; the leave of an unknown ref changes nothing. An update is the join of the new
/// version and the leave of the old one, which the new one names as its [`previous`](crate::Tracked::previous).
pub struct TopicDiff<H: PresenceHandler> {
    /// Where.
    pub topic: Topic,
    /// The metas that came.
    pub joins: Presences<H>,
    /// The metas that went, each with its reason.
    pub leaves: Presences<H>,
}

impl<H: PresenceHandler> Watch<H> {
    pub(crate) fn new(presence: Presence<H>, topic: Option<Topic>) -> Self {
        let queue = Arc::new(Queue::default());
        let core = &presence.core;
        match &topic {
            Some(topic) => core.tracker.lock(topic).entry(topic).layer.watchers.push(queue.clone()),
            None => core.watchers.write().push(queue.clone()),
        }
        let seen = vec![0; if topic.is_some() { 1 } else { SHARDS }].into();
        Self { presence, topic, queue, seen }
    }

    /// The next change, once there is one.
    ///
    /// Cancel safe: a change is taken only by a call that returns it.
    pub async fn next(&mut self) -> Change<H> {
        loop {
            match self.queue.take() {
                Taken::Resync => return Change::State(self.snapshot()),
                // The state contains it.
                Taken::Diff(diff) if diff.number <= self.seen[shard_of(&diff.topic) % self.seen.len()] => {}
                Taken::Diff(diff) => return Change::Diff(diff.decode()),
                Taken::Nothing => self.queue.arrived.notified().await,
            }
        }
    }

    /// What was told. Diffs gather already; those that it contains are passed over.
    fn snapshot(&mut self) -> HashMap<Topic, Presences<H>> {
        let core = &self.presence.core;
        let mut snapshots = Vec::new();
        match &self.topic {
            Some(topic) => {
                let shard = core.tracker.lock(topic);
                self.seen[0] = core.sent();
                if let Some(set) = shard.topic(topic) {
                    snapshots.push((topic.clone(), Snapshot::told::<H>(set)));
                }
            }
            None => {
                for (shard, seen) in core.tracker.shards().zip(&mut self.seen) {
                    *seen = core.sent();
                    let told = shard.topics().filter(|set| core.has_diffs(set.topic()));
                    snapshots.extend(told.map(|set| (set.topic().clone(), Snapshot::told::<H>(set))));
                }
            }
        }
        let decoded = snapshots.into_iter().map(|(topic, snapshot)| (topic, snapshot.decode()));
        decoded.filter(|(_, presences)| self.topic.is_some() || !presences.is_empty()).collect()
    }
}

impl<H: PresenceHandler> Drop for Watch<H> {
    fn drop(&mut self) {
        let core = &self.presence.core;
        match &self.topic {
            Some(topic) => {
                let mut shard = core.tracker.lock(topic);
                if let Some(set) = shard.topic_mut(topic) {
                    set.layer.watchers.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
                }
                shard.tidy(topic);
            }
            None => core.watchers.write().retain(|queue| !Arc::ptr_eq(queue, &self.queue)),
        }
    }
}

impl<H: PresenceHandler> fmt::Debug for Watch<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("topic", &self.topic).finish_non_exhaustive()
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

impl<H: PresenceHandler<Meta: fmt::Debug, Info: fmt::Debug>> fmt::Debug for TopicDiff<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicDiff")
            .field("topic", &self.topic)
            .field("joins", &self.joins)
            .field("leaves", &self.leaves)
            .finish()
    }
}

/// A diff as it was sent, shared by all watches and decoded by each in its own task.
pub(crate) struct Published<I> {
    topic: Topic,
    number: u64,
    diff: Diff<Card<I>>,
    infos: HashMap<Key, Arc<Held<I>>>,
}

impl<I> Published<I> {
    pub(crate) fn new(
        topic: Topic,
        number: u64,
        diff: Diff<Card<I>>,
        infos: HashMap<Key, Arc<Held<I>>>,
    ) -> Self {
        Self { topic, number, diff, infos }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn diff(&self) -> &Diff<Card<I>> {
        &self.diff
    }

    /// What was known of a key that joins.
    pub(crate) fn info(&self, key: &Key) -> Option<&Arc<Held<I>>> {
        self.infos.get(key)
    }

    fn decode<H: PresenceHandler<Info = I>>(&self) -> TopicDiff<H> {
        let mut joins = Presences::new();
        for joined in &self.diff.joins {
            let info = || self.info(&joined.key)?.value().cloned();
            add(&mut joins, &joined.row, joined.previous, None, info);
        }
        let mut leaves = Presences::new();
        for left in &self.diff.leaves {
            add(&mut leaves, &left.row, left.row.previous(), left.reason, || left.layer.value());
        }
        TopicDiff { topic: self.topic.clone(), joins, leaves }
    }
}

fn add<H: PresenceHandler>(
    presences: &mut Presences<H>,
    row: &Row,
    previous: Option<Ref>,
    reason: Option<Reason>,
    info: impl FnOnce() -> Option<Arc<H::Info>>,
) {
    let entry = presences.entry(row.key.clone()).or_insert_with(|| Entry::new(info()));
    entry.push(row, previous, reason);
}

/// Where diffs wait for a watch.
pub(crate) struct Queue<I> {
    waiting: Mutex<Waiting<I>>,
    arrived: Notify,
}

struct Waiting<I> {
    diffs: VecDeque<Arc<Published<I>>>,
    /// The next change is a state, which contains all that waits.
    resync: bool,
}

enum Taken<I> {
    Resync,
    Diff(Arc<Published<I>>),
    Nothing,
}

impl<I> Default for Queue<I> {
    fn default() -> Self {
        let waiting = Waiting { diffs: VecDeque::new(), resync: true };
        Self { waiting: Mutex::new(waiting), arrived: Notify::new() }
    }
}

impl<I> Queue<I> {
    pub(crate) fn push(&self, diff: &Arc<Published<I>>) {
        let mut waiting = self.waiting.lock();
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
        drop(waiting);
        // Infos are the program's: they are dropped outside of the lock.
        drop(missed);
        self.arrived.notify_one();
    }

    /// From a resync on diffs gather again, before the state is read.
    fn take(&self) -> Taken<I> {
        let mut waiting = self.waiting.lock();
        if std::mem::take(&mut waiting.resync) {
            return Taken::Resync;
        }
        waiting.diffs.pop_front().map_or(Taken::Nothing, Taken::Diff)
    }
}
