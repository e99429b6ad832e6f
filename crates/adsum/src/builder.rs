//! The options of a Presence.

use std::{fmt, sync::Arc, time::Duration};

use adsum_pubsub::{OptionsError, Pattern, PubSub, Topic, bounds::within};
use adsum_tracker::{ClusterOptions, Limits, Replica, Tracker, Windows};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Presence,
    budget::DeliveryBudget,
    core::{Core, DiffPolicy},
    flusher::Backlog,
    handler::{NoFetch, PresenceHandler, check_info},
    replication::{PeerTopic, ReplicationInbox},
    timing::Timing,
};

/// The deliveries of diffs that a worker of the runtime may make a second, unless told otherwise.
pub const DEFAULT_DIFF_RATE: u32 = 80_000;
/// How long a change waits at most until it is sent, unless told otherwise.
pub const DEFAULT_MAX_DIFF_DELAY: Duration = Duration::from_secs(1);
/// How long what `fetch` brought is good, unless told otherwise.
pub const DEFAULT_FETCH_TTL: Duration = Duration::from_secs(10);
/// How long `fetch` may take, unless told otherwise.
pub const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long clients that rejoin are told of refreshed keys, unless told otherwise.
pub const DEFAULT_REFRESH_MEMORY: Duration = Duration::from_mins(5);

/// The least time between two counts of a topic, unless told otherwise.
pub const DEFAULT_COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How long presences of a node that is drained stay for others to take their places, unless told otherwise.
pub const DEFAULT_HANDOFF: Duration = Duration::from_secs(10);

/// The longest name of a presence, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Makes a [`Presence`]; from [`Presence::builder`].
pub struct Builder<H> {
    pubsub: PubSub,
    name: Arc<str>,
    handler: H,
    timing: Timing,
    cluster: ClusterOptions,
    limits: Limits,
    without_diffs: Vec<Pattern>,
    counted: Vec<Pattern>,
    observer: Option<DiffObserver>,
}

/// Told of each diff.
pub(crate) type DiffObserver = Arc<dyn Fn(&ObservedDiff<'_>) + Send + Sync>;

/// A diff of a topic, as [`Builder::observe`] tells it. The number of presences has changed by `joins` less `leaves`.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedDiff<'o> {
    /// The topic.
    pub topic: &'o Topic,
    /// How many metas came. An update is one that comes and one that goes.
    pub joins: usize,
    /// How many went.
    pub leaves: usize,
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
            observer: None,
        }
    }
}

impl<H: PresenceHandler> Builder<H> {
    /// The types of the presences, and what `fetch` adds to them. Default: maps, and nothing is added.
    pub fn handler<H2: PresenceHandler>(self, handler: H2) -> Builder<H2> {
        let Self { pubsub, name, timing, cluster, limits, without_diffs, counted, observer, .. } = self;
        Builder { pubsub, name, handler, timing, cluster, limits, without_diffs, counted, observer }
    }

    /// The type of the metas, where nothing is to be added to them.
    pub fn meta<M: Serialize + DeserializeOwned + Send + 'static>(self) -> Builder<NoFetch<M>> {
        self.handler(NoFetch::default())
    }

    /// The name of this presence, the same on all nodes: presences of different names don't see each other.
    /// Default `presence`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// How many deliveries of diffs each worker of the runtime may make a second: one for each subscriber that a diff
    /// reaches. Default [`DEFAULT_DIFF_RATE`] (80,000), at least one.
    ///
    /// While a node makes fewer, every change goes out at once. When it would make more, the changes of topics that use
    /// more than an eighth of the rate gather and go out together, later those of all but small topics. If the changes
    /// sent one by one would be more than the rate, as when a thousand people join one room, they gather for 50 ms at
    /// least.
    pub fn diff_rate(mut self, deliveries: u32) -> Self {
        self.timing.diff_rate = deliveries;
        self
    }

    /// How long a change waits at most until it is sent, however busy the node is. Default
    /// [`DEFAULT_MAX_DIFF_DELAY`] (1 s); 1 ms to a day.
    pub fn max_diff_delay(mut self, delay: Duration) -> Self {
        self.timing.max_diff_delay = delay;
        self
    }

    /// Gathers the changes of a topic for a fixed time, in the place of [`diff_rate`](Self::diff_rate): the first change
    /// goes out at once, those of the next interval together at its end. At most a day; zero sends one diff for each
    /// change, as Phoenix does.
    pub fn diff_interval(mut self, interval: Duration) -> Self {
        self.timing.diff_interval = Some(interval);
        self
    }

    /// How long what `fetch` brought for a key is good. Default [`DEFAULT_FETCH_TTL`] (10 s), at most a day; zero
    /// asks for every diff and every list, as Phoenix does; `None` is for ever, until the key has left or is
    /// [refreshed](Presence::refresh).
    pub fn fetch_ttl(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.timing.fetch_ttl = ttl.into();
        self
    }

    /// How long `fetch` may take, and with it a topic's diffs may wait. Default [`DEFAULT_FETCH_TIMEOUT`] (2 s); 1 ms
    /// to a day.
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.timing.fetch_timeout = timeout;
        self
    }

    /// For how long after a [`refresh`](Presence::refresh) clients that rejoin are told of it once more.
    /// Default [`DEFAULT_REFRESH_MEMORY`] (5 min), at most a day.
    pub fn refresh_memory(mut self, memory: Duration) -> Self {
        self.timing.refresh_memory = memory;
        self
    }

    /// How long presences of a channel stay after its connection is lost or closed, so that a client that comes
    /// back meanwhile, by a reload say, was never gone for anybody. Default zero: they leave at once. At most
    /// [`MAX_GRACE`](crate::MAX_GRACE) (an hour).
    ///
    /// Every close lingers alike: a reload and phoenix.js's `disconnect()` send the same close (1005; a reload 1000 with
    /// phoenix.js 1.4 and 1.5), so it doesn't tell who comes back. A client that means to go pushes `phx_leave`
    /// (`channel.leave()`), and leaves at once, as what is untracked does.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.timing.linger = linger;
        self
    }

    /// How long the presences of this node stay once it is [drained](Presence::drain), so that clients that come
    /// back on other nodes were never gone for anybody. Default [`DEFAULT_HANDOFF`] (10 s), at most
    /// [`MAX_GRACE`](crate::MAX_GRACE) (an hour); zero: they leave at once.
    pub fn handoff(mut self, grace: Duration) -> Self {
        self.timing.handoff = grace;
        self
    }

    /// The times of the cluster, the same on all nodes. Default [`ClusterOptions::default`].
    pub fn cluster(mut self, options: ClusterOptions) -> Self {
        self.cluster = options;
        self
    }

    /// How large a presence may be, and how many there may be. Default [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Topics that are tracked and listed, but whose changes nobody is told of; such as `users:*`, where only
    /// a count is wanted. May be called several times.
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    pub fn without_diffs(mut self, pattern: &str) -> Self {
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("without_diffs: {error}"));
        self.without_diffs.push(pattern);
        self
    }

    /// Topics with so many in them that nobody wants a list, such as `hall:*`. Their clients are sent neither
    /// `presence_state` nor `presence_diff`, but `presence_count` with `{"presences": n, "keys": n}`: by
    /// [`push_state`](Presence::push_state), and then when that has changed, once a
    /// [`count_interval`](Self::count_interval) at most. A program lists them in [pages](Presence::page). May be
    /// called several times.
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    pub fn counted(mut self, pattern: &str) -> Self {
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("counted: {error}"));
        self.counted.push(pattern);
        self
    }

    /// The least time between two counts of a topic. Default [`DEFAULT_COUNT_INTERVAL`] (1 s), at most a day.
    pub fn count_interval(mut self, interval: Duration) -> Self {
        self.timing.count_interval = interval;
        self
    }

    /// Has a function called with each diff of a topic, for metrics say: also where nobody listens to the topic.
    /// [Watches](Presence::watch_all) get the presences themselves.
    ///
    /// It is called where the diff is sent: it must be quick, and not block.
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
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Checks all options, for a program whose options come from outside: [`start`](Self::start) panics if one is
    /// out of its bounds.
    ///
    /// # Errors
    /// An option is out of its bounds. The error names it, and says what is allowed.
    pub fn check(&self) -> Result<(), OptionsError> {
        within("name (bytes)", self.name.len(), 1, MAX_NAME_BYTES)?;
        check_info::<H::Info>()?;
        self.timing.check()?;
        self.cluster.check()?;
        self.limits.check(self.pubsub.is_networked())
    }

    /// Starts the presence: from now on presences can be tracked.
    ///
    /// # Panics
    /// Called outside of a tokio runtime, which runs the tasks of a presence, or with an option out of its bounds:
    /// see [`check`](Self::check).
    pub fn start(self) -> Presence<H> {
        self.check().unwrap_or_else(|error| panic!("{error}"));
        let Self { pubsub, name, handler, timing, cluster, limits, without_diffs, counted, observer } = self;
        let windows = if timing.diff_interval.is_some_and(|interval| interval.is_zero()) {
            Windows::Each
        } else {
            Windows::Net
        };
        let large = DiffPolicy { without_diffs: without_diffs.into(), counted: counted.into() };
        let quiet = large.clone();
        let windows_of = move |topic: &str| if quiet.has_diffs(topic) { windows } else { Windows::Off };
        let workers = tokio::runtime::Handle::current().metrics().num_workers();
        let budget = DeliveryBudget::new(timing.diff_rate, workers, timing.max_diff_delay);
        let backlog = Arc::new(Backlog::new(budget));
        let dropped = backlog.clone();
        let replica = Replica::start(pubsub.node());
        tracing::debug!(presence = &*name, %replica, "started");
        let inbox = Arc::new(ReplicationInbox::new());
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
        let peer_topic = PeerTopic::new(pubsub.clone(), &name);
        let core = Core::new(handler, pubsub, tracker, timing, backlog, large, observer);
        Presence::start(core, inbox, peer_topic, cluster)
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
            .finish_non_exhaustive()
    }
}
