//! The options of a presence.

use std::{fmt, sync::Arc, time::Duration};

use adsum_pubsub::{
    OptionsError, Pattern, PubSub,
    bounds::{MAX_TIME, within},
};
use adsum_tracker::{ClusterOptions, Limits, Replica, Tracker, Windows};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::{
    backlog::Backlog,
    budget::DeliveryBudget,
    core::Core,
    exchange::Exchange,
    handler::{NoFetch, PresenceHandler, check_info},
    leave_memory::{DEFAULT_LEAVE_MEMORY, DEFAULT_LEAVE_MEMORY_AGE, LeaveMemory, MAX_LEAVE_MEMORY},
    observing::{DiffObserver, ObservedDiff},
    policy::DiffPolicy,
    presence::Presence,
    presence_metrics::PresenceMetrics,
    replication::{INBOX_BYTES, PeerTopic, ReplicationInbox},
    sync_status::SyncStatus,
    timing::Timing,
};

/// The longest name of a presence, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Builds a [`Presence`]; from [`Presence::builder`].
pub struct Builder<H> {
    pubsub: PubSub,
    name: Arc<str>,
    handler: H,
    timing: Timing,
    cluster: ClusterOptions,
    limits: Limits,
    without_diffs: Vec<Pattern>,
    counted: Vec<Pattern>,
    observer: DiffObserver,
    leave_memory: (usize, Duration),
}

impl Presence {
    /// Builds a presence that tells the subscribers of `pubsub`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use adsum::{Presence, PubSub};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Meta {
    ///     status: String,
    /// }
    ///
    /// let presence = Presence::builder(PubSub::local()).meta::<Meta>().start();
    /// let mut owner = presence.owner();
    /// owner.track("room:1", "7", Meta { status: "here".into() })?;
    /// assert_eq!(presence.list("room:1").await["7"].metas[0].meta.status, "here");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(pubsub: PubSub) -> Builder<NoFetch> {
        Builder::new(pubsub)
    }
}

impl Builder<NoFetch> {
    pub(crate) fn new(pubsub: PubSub) -> Self {
        Self {
            pubsub,
            name: "presence".into(),
            handler: NoFetch::default(),
            timing: Timing::default(),
            cluster: ClusterOptions::default(),
            limits: Limits::default(),
            without_diffs: Vec::new(),
            counted: Vec::new(),
            observer: DiffObserver::default(),
            leave_memory: (DEFAULT_LEAVE_MEMORY, DEFAULT_LEAVE_MEMORY_AGE),
        }
    }
}

impl<H: PresenceHandler> Builder<H> {
    /// Sets the types of the presences, and the `fetch` of their infos. Default: maps without infos.
    pub fn handler<H2: PresenceHandler>(self, handler: H2) -> Builder<H2> {
        let Self {
            pubsub,
            name,
            timing,
            cluster,
            limits,
            without_diffs,
            counted,
            observer,
            leave_memory,
            ..
        } = self;
        Builder {
            pubsub,
            name,
            handler,
            timing,
            cluster,
            limits,
            without_diffs,
            counted,
            observer,
            leave_memory,
        }
    }

    /// Sets the type of the metas, for presences without infos.
    pub fn meta<M: Serialize + DeserializeOwned + Send + 'static>(self) -> Builder<NoFetch<M>> {
        self.handler(NoFetch::default())
    }

    /// Sets the name of this presence, the same on all nodes: presences of different names don't see each other.
    /// Default `presence`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets how many deliveries of diffs each worker of the runtime may make a second: one for each subscriber that a
    /// diff reaches. Default [`DEFAULT_DIFF_RATE`](crate::DEFAULT_DIFF_RATE) (80,000), at least one.
    ///
    /// While a node makes fewer, every change is sent at once. When it would make more, the changes of topics that use
    /// more than an eighth of the rate are sent together, and under higher load those of all but small topics. If the
    /// changes sent one by one would exceed the rate, as when a thousand people join one room, they are collected for
    /// at least 50 ms.
    pub fn diff_rate(mut self, deliveries: u32) -> Self {
        self.timing.diff_rate = deliveries;
        self
    }

    /// Sets the maximum time that a change waits until it is sent, however busy the node is. Default
    /// [`DEFAULT_MAX_DIFF_DELAY`](crate::DEFAULT_MAX_DIFF_DELAY) (1 s); 1 ms to a day.
    pub fn max_diff_delay(mut self, delay: Duration) -> Self {
        self.timing.max_diff_delay = delay;
        self
    }

    /// Collects the changes of a topic for a fixed time, instead of by [`diff_rate`](Self::diff_rate): the first change
    /// is sent at once, those of the next interval together at its end. At most a day; zero sends one diff for each
    /// change, as Phoenix does.
    pub fn diff_interval(mut self, interval: Duration) -> Self {
        self.timing.diff_interval = Some(interval);
        self
    }

    /// Sets how long a fetched info is fresh. Default [`DEFAULT_FETCH_TTL`](crate::DEFAULT_FETCH_TTL) (10 s), at most a
    /// day; zero asks `fetch` for every diff and every list, as Phoenix does; with `None` an info stays fresh until the
    /// key has left or is [refreshed](Presence::refresh).
    pub fn fetch_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.timing.fetch_ttl = ttl.into();
        self
    }

    /// Sets how long `fetch` may take, and so how long a topic's diffs may wait for it. Default
    /// [`DEFAULT_FETCH_TIMEOUT`](crate::DEFAULT_FETCH_TIMEOUT) (2 s); 1 ms to a day.
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.timing.fetch_timeout = timeout;
        self
    }

    /// Sets how long after a [`refresh`](Presence::refresh) clients that rejoin are told of it once more. Default
    /// [`DEFAULT_REFRESH_MEMORY`](crate::DEFAULT_REFRESH_MEMORY) (5 min), at most a day.
    pub fn refresh_memory(mut self, memory: Duration) -> Self {
        self.timing.refresh_memory = memory;
        self
    }

    /// Sets how long presences of a channel stay after its connection is lost or closed, so that others don't see a
    /// client leave that comes back meanwhile, for example by a reload. Default zero: they leave at once. At most
    /// [`MAX_GRACE`](crate::MAX_GRACE) (an hour).
    ///
    /// Every close lingers: a reload and phoenix.js's `disconnect()` send the same close (1005; a reload 1000 with
    /// phoenix.js 1.4 and 1.5), so the server can't know whether the client comes back. A client that pushes
    /// `phx_leave` (`channel.leave()`) leaves at once, and so does an untracked presence.
    ///
    /// The next presence of the key takes the place of one that lingers, on whichever node it is tracked. If it is tracked
    /// before its node knows that the old connection has ended, both count until that one has lingered: a client whose new
    /// join overtakes its close, or reaches another node within milliseconds of it, is there twice for this time.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.timing.linger = linger;
        self
    }

    /// Sets how long the presences of this node stay once it is [drained](Presence::drain), so that others don't see
    /// clients leave that come back on other nodes. Default [`DEFAULT_HANDOFF`](crate::DEFAULT_HANDOFF) (10 s), at most
    /// [`MAX_GRACE`](crate::MAX_GRACE) (an hour); zero: they leave at once.
    pub fn handoff(mut self, grace: Duration) -> Self {
        self.timing.handoff = grace;
        self
    }

    /// Sets the times of the cluster, the same on all nodes. Default [`ClusterOptions::default`].
    pub fn cluster(mut self, options: ClusterOptions) -> Self {
        self.cluster = options;
        self
    }

    /// Sets how large a presence may be, and how many there may be. Default [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds topics whose presences are tracked and listed, but whose changes aren't sent; such as `users:*`, if only a
    /// count is wanted. May be called several times.
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    pub fn without_diffs(mut self, pattern: &str) -> Self {
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("without_diffs: {error}"));
        self.without_diffs.push(pattern);
        self
    }

    /// Adds topics with too many presences for a list, such as `hall:*`. Their clients get neither `presence_state` nor
    /// `presence_diff`, but `presence_count` with `{"presences": n, "keys": n}`: by
    /// [`push_state`](Presence::push_state), and then after changes, at most once per
    /// [`count_interval`](Self::count_interval). A program lists them in [pages](Presence::page). May be called several
    /// times.
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    pub fn counted(mut self, pattern: &str) -> Self {
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("counted: {error}"));
        self.counted.push(pattern);
        self
    }

    /// Sets the minimum time between two counts of a topic. Default
    /// [`DEFAULT_COUNT_INTERVAL`](crate::DEFAULT_COUNT_INTERVAL) (1 s), at most a day.
    pub fn count_interval(mut self, interval: Duration) -> Self {
        self.timing.count_interval = interval;
        self
    }

    /// Sets how many leaves this node remembers, and for how long, for [`Presence::explain`]: those of its own presences and
    /// those of other nodes. Default [`DEFAULT_LEAVE_MEMORY`] (4,096) and [`DEFAULT_LEAVE_MEMORY_AGE`] (15 min); at most a
    /// million, and a day. Zero remembers nothing.
    ///
    /// A leave takes about 80 bytes, and the sockets of as many channels that have ended about 150 bytes each. Leaves in
    /// topics [without diffs](Self::without_diffs) and in [counted](Self::counted) ones have a memory of their own, as large
    /// again. A presence that came and went between two diffs isn't remembered.
    pub fn leave_memory(mut self, count: usize, age: Duration) -> Self {
        self.leave_memory = (count, age);
        self
    }

    /// Calls a function with each diff of a topic, for example for metrics, even if the topic has no subscribers.
    /// [Watches](Presence::watch_all) get the presences themselves.
    ///
    /// It is called on the thread that sends the diff, so it must be quick and must not block.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::sync::atomic::{AtomicUsize, Ordering};
    /// # use adsum::{Presence, PubSub};
    /// static CAME: AtomicUsize = AtomicUsize::new(0);
    /// let presence = Presence::builder(PubSub::local())
    ///     .observe(|diff| drop(CAME.fetch_add(diff.joins, Ordering::Relaxed)))
    ///     .start();
    /// presence.owner().track("room:1", 7, serde_json::Map::new())?;
    /// assert_eq!(CAME.load(Ordering::Relaxed), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe(mut self, observer: impl Fn(&ObservedDiff<'_>) + Send + Sync + 'static) -> Self {
        self.observer = DiffObserver::new(observer);
        self
    }

    /// Checks all options, for a program that reads them from outside: [`start`](Self::start) panics if one is out of
    /// its bounds.
    ///
    /// # Errors
    /// An option is out of its bounds. The error has its name and the bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        within("name (bytes)", self.name.len(), 1, MAX_NAME_BYTES)?;
        check_info::<H::Info>()?;
        self.timing.check()?;
        within("leave_memory", self.leave_memory.0, 0, MAX_LEAVE_MEMORY)?;
        within("leave_memory (age)", self.leave_memory.1, Duration::ZERO, MAX_TIME)?;
        self.cluster.check()?;
        self.limits.check(self.pubsub.is_networked())
    }

    /// Starts the presence.
    ///
    /// # Panics
    /// It is called outside a tokio runtime, which runs the tasks of a presence, or an option is out of its bounds: see
    /// [`check`](Self::check).
    pub fn start(self) -> Presence<H> {
        self.check().unwrap_or_else(|error| panic!("{error}"));
        let Self {
            pubsub,
            name,
            handler,
            timing,
            cluster,
            limits,
            without_diffs,
            counted,
            observer,
            leave_memory,
        } = self;
        let windows = if timing.sends_each_change() { Windows::Each } else { Windows::Net };
        let policy = DiffPolicy { without_diffs: without_diffs.into(), counted: counted.into() };
        let of_windows = policy.clone();
        // Leaves are noted for the memory of them alone.
        let without = if leave_memory.0 > 0 { Windows::Left } else { Windows::Off };
        let windows_of = move |topic: &str| if of_windows.has_diffs(topic) { windows } else { without };
        let workers = tokio::runtime::Handle::current().metrics().num_workers();
        let budget = DeliveryBudget::new(timing.diff_rate, workers, timing.max_diff_delay);
        let backlog = Arc::new(Backlog::new(budget));
        let dropped = backlog.clone();
        let replica = Replica::start(pubsub.node());
        tracing::debug!(presence = &*name, %replica, "presence started");
        let metrics = PresenceMetrics::new(pubsub.metrics(), name.clone(), INBOX_BYTES);
        let inbox = Arc::new(ReplicationInbox::new(metrics.clone()));
        let changed = inbox.clone();
        let tracker = Tracker::with_cluster(
            replica,
            limits,
            pubsub.is_networked(),
            windows_of,
            move |topic| {
                dropped.look_at(topic);
            },
            move || changed.wake(),
        );
        let peer_topic = PeerTopic::new(pubsub.clone(), &name, metrics.clone());
        let exchange = Exchange::new(pubsub.clone(), &name);
        let leaves = LeaveMemory::new(leave_memory.0, leave_memory.1);
        let (new_status, status) = watch::channel(SyncStatus::Starting);
        let core =
            Core::new(handler, pubsub, tracker, timing, backlog, policy, observer, leaves, metrics, status);
        Presence::start(core, inbox, peer_topic, exchange, cluster, new_status)
    }
}

impl<H> fmt::Debug for Builder<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("timing", &self.timing)
            .field("cluster", &self.cluster)
            .field("limits", &self.limits)
            .field("without_diffs", &self.without_diffs)
            .field("counted", &self.counted)
            .field("leave_memory", &self.leave_memory)
            .finish_non_exhaustive()
    }
}
