//! The parts of a Presence that all its rooms share.
//!
//! A change marks its topic in the set. A [*flush*](crate::flush) takes the changes as diffs, asks `fetch` for the keys
//! that join, encodes, and broadcasts. Per topic there is one flush at a time, and it goes when the
//! [budget](crate::budget) allows it; changes gather until then. A caller that finds a flush under way, or none
//! allowed, leaves the change to it: every flush ends with another look, and the [flusher](crate::flusher) sees to the
//! rest.
//!
//! The sum of the diffs sent so far is what was *told*. Clients and watches are shown that, so that no ref is told
//! twice. A diff counts as sent in the critical section in which it gets its number. A client or watch that was shown a
//! state with that number, or a later one, skips the diff when it arrives.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use adsum_pubsub::{Mark, PubSub, SubscriberId, Topic};
use adsum_tracker::{Diff, Tracker};
use tokio::sync::watch;

#[cfg(feature = "testing")]
use crate::failed_fetches::FailedFetches;
use crate::{
    backlog::Backlog, handler::PresenceHandler, holders::Holders, key_cache::KeyCache, layer::PresenceLayer,
    leave_memory::LeaveMemory, observing::DiffObserver, policy::DiffPolicy,
    presence_metrics::PresenceMetrics, sync_status::SyncStatus, timing::Timing, watch_queue::Watchers,
};

pub(crate) struct Core<H: PresenceHandler> {
    pub(crate) handler: H,
    pub(crate) pubsub: PubSub,
    pub(crate) tracker: Arc<Tracker<PresenceLayer<H>>>,
    pub(crate) timing: Timing,
    pub(crate) backlog: Arc<Backlog<H::Info>>,
    pub(crate) watchers: Watchers<H::Info>,
    /// The owners of this node's presences.
    pub(crate) holders: Holders,
    pub(crate) leaves: LeaveMemory,
    pub(crate) policy: DiffPolicy,
    pub(crate) observer: DiffObserver,
    /// Names this presence as a sender of diffs.
    sender: SubscriberId,
    /// The number of the last diff. One count for all topics, as a dropped topic keeps none.
    sent: AtomicU64,
    pub(crate) metrics: Arc<PresenceMetrics>,
    pub(crate) status: watch::Receiver<SyncStatus>,
    /// An info that isn't an object was seen and logged.
    pub(crate) logged_bad_info: AtomicBool,
    #[cfg(feature = "testing")]
    pub(crate) failed_fetches: FailedFetches,
}

impl<H: PresenceHandler> Core<H> {
    #[expect(clippy::too_many_arguments, reason = "it is called in one place")]
    pub(crate) fn new(
        handler: H,
        pubsub: PubSub,
        tracker: Arc<Tracker<PresenceLayer<H>>>,
        timing: Timing,
        backlog: Arc<Backlog<H::Info>>,
        policy: DiffPolicy,
        observer: DiffObserver,
        leaves: LeaveMemory,
        metrics: Arc<PresenceMetrics>,
        status: watch::Receiver<SyncStatus>,
    ) -> Self {
        Self {
            handler,
            pubsub,
            tracker,
            timing,
            backlog,
            watchers: Watchers::default(),
            holders: Holders::new(leaves.bounds()),
            leaves,
            policy,
            observer,
            sender: SubscriberId::unique(),
            sent: AtomicU64::new(0),
            metrics,
            status,
            logged_bad_info: AtomicBool::new(false),
            #[cfg(feature = "testing")]
            failed_fetches: FailedFetches::default(),
        }
    }

    /// Returns the position of a diff among those of this presence.
    pub(crate) fn mark(&self, number: u64) -> Mark {
        Mark { sender: self.sender, number }
    }

    pub(crate) fn is_ours(&self, mark: Mark) -> bool {
        mark.sender == self.sender
    }

    /// Remembers the leaves of a diff, and tells the program's observer of it.
    pub(crate) fn note_diff(&self, topic: &Topic, diff: &Diff<KeyCache<H::Info>>) {
        self.leaves.note(&diff.leaves);
        self.observer.observe(topic, diff);
    }

    /// Returns the number of the last diff that was sent. Read under a shard's lock, it is at least that of the shard's
    /// last diff, and below that of its next one.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns the number of a diff that is sent now. Call this under the lock of the diff's shard.
    pub(crate) fn next_number(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed) + 1
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
