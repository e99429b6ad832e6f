//! The options of a Presence.

use std::{fmt, sync::Arc, time::Duration};

use adsum_pubsub::{Pattern, PubSub};
use adsum_tracker::{Limits, Replica, Tracker, Windows};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Presence,
    core::{Core, Timing},
    flusher::Backlog,
    handler::{NoFetch, PresenceHandler},
};

/// How long changes of a topic are gathered into one diff, unless told otherwise.
pub const DEFAULT_DIFF_INTERVAL: Duration = Duration::from_millis(50);
/// How long what `fetch` brought is good, unless told otherwise.
pub const DEFAULT_FETCH_TTL: Duration = Duration::from_secs(10);
/// How long `fetch` may take, unless told otherwise.
pub const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long clients that rejoin are told of refreshed keys, unless told otherwise.
pub const DEFAULT_REFRESH_MEMORY: Duration = Duration::from_mins(5);

/// Makes a [`Presence`]; from [`Presence::builder`].
pub struct Builder<H> {
    pubsub: PubSub,
    name: Arc<str>,
    handler: H,
    timing: Timing,
    limits: Limits,
    without_diffs: Vec<Pattern>,
}

impl Builder<NoFetch> {
    pub(crate) fn new(pubsub: PubSub) -> Self {
        let timing = Timing {
            diff_interval: DEFAULT_DIFF_INTERVAL,
            fetch_ttl: DEFAULT_FETCH_TTL,
            fetch_timeout: DEFAULT_FETCH_TIMEOUT,
            refresh_memory: DEFAULT_REFRESH_MEMORY,
        };
        Self {
            pubsub,
            name: "presence".into(),
            handler: NoFetch::default(),
            timing,
            limits: Limits::default(),
            without_diffs: Vec::new(),
        }
    }
}

impl<H: PresenceHandler> Builder<H> {
    /// The types of the presences, and what `fetch` adds to them. Default: maps, and nothing is added.
    pub fn handler<H2: PresenceHandler>(self, handler: H2) -> Builder<H2> {
        let Self { pubsub, name, timing, limits, without_diffs, .. } = self;
        Builder { pubsub, name, handler, timing, limits, without_diffs }
    }

    /// The type of the metas, where nothing is to be added to them.
    pub fn meta<M: Serialize + DeserializeOwned + Send + 'static>(self) -> Builder<NoFetch<M>> {
        self.handler(NoFetch::default())
    }

    /// The name of this presence in logs. Default `presence`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// How long changes of a topic are gathered into one diff. The first change goes out at once, those of the
    /// next interval together at its end. Default [`DEFAULT_DIFF_INTERVAL`] (50 ms); zero sends one diff for
    /// each change, as Phoenix does.
    pub fn diff_interval(mut self, interval: Duration) -> Self {
        self.timing.diff_interval = interval;
        self
    }

    /// How long what `fetch` brought for a key is good. Default [`DEFAULT_FETCH_TTL`] (10 s); zero asks for
    /// every diff and every list, as Phoenix does.
    pub fn fetch_ttl(mut self, ttl: Duration) -> Self {
        self.timing.fetch_ttl = ttl;
        self
    }

    /// How long `fetch` may take, and with it a topic's diffs may wait. Default [`DEFAULT_FETCH_TIMEOUT`] (2 s).
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.timing.fetch_timeout = timeout;
        self
    }

    /// For how long after a [`refresh`](Presence::refresh) clients that rejoin are told of it once more.
    /// Default [`DEFAULT_REFRESH_MEMORY`] (5 min).
    pub fn refresh_memory(mut self, memory: Duration) -> Self {
        self.timing.refresh_memory = memory;
        self
    }

    /// How large a presence may be. Default [`Limits::default`].
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

    /// Starts the presence: from now on presences can be tracked.
    ///
    /// # Panics
    /// Called outside of a tokio runtime, which runs the one task of a presence.
    pub fn start(self) -> Presence<H> {
        let Self { pubsub, name, handler, timing, limits, without_diffs } = self;
        let windows = if timing.diff_interval.is_zero() { Windows::Each } else { Windows::Net };
        let without_diffs: Arc<[Pattern]> = without_diffs.into();
        let quiet = without_diffs.clone();
        let windows_of = move |topic: &str| {
            if quiet.iter().any(|pattern| pattern.matches(topic)) { Windows::Off } else { windows }
        };
        let backlog = Arc::new(Backlog::new());
        let dropped = backlog.clone();
        let replica = Replica::start(pubsub.node());
        tracing::debug!(presence = &*name, %replica, "started");
        let tracker = Tracker::new(replica, limits, windows_of, move |topic| {
            dropped.look_at(topic);
        });
        Presence::start(Core::new(handler, pubsub, tracker, timing, backlog, without_diffs))
    }
}

impl<H> fmt::Debug for Builder<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("timing", &self.timing)
            .field("limits", &self.limits)
            .field("without_diffs", &self.without_diffs)
            .finish_non_exhaustive()
    }
}
