//! The times of a presence, their defaults and their bounds.

use std::time::Duration;

use adsum_pubsub::bounds::{MAX_TIME, OptionsError, within};
use adsum_tracker::MAX_GRACE;

/// The default number of deliveries of diffs that a worker of the runtime may make a second.
pub const DEFAULT_DIFF_RATE: u32 = 80_000;
/// The default of the maximum time that a change waits until it is sent.
pub const DEFAULT_MAX_DIFF_DELAY: Duration = Duration::from_secs(1);
/// How long a fetched info is fresh by default.
pub const DEFAULT_FETCH_TTL: Duration = Duration::from_secs(10);
/// How long `fetch` may take by default.
pub const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long clients that rejoin are told of refreshed keys by default.
pub const DEFAULT_REFRESH_MEMORY: Duration = Duration::from_mins(5);
/// The default of the minimum time between two counts of a topic.
pub const DEFAULT_COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How long presences of a drained node stay by default, so that others can take their places.
pub const DEFAULT_HANDOFF: Duration = Duration::from_secs(10);

/// The times of a presence. The builder documents each.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// `None`: the budget decides.
    pub(crate) diff_interval: Option<Duration>,
    pub(crate) diff_rate: u32,
    pub(crate) max_diff_delay: Duration,
    /// `None`: infos stay fresh.
    pub(crate) fetch_ttl: Option<Duration>,
    pub(crate) fetch_timeout: Duration,
    pub(crate) refresh_memory: Duration,
    pub(crate) linger: Duration,
    pub(crate) count_interval: Duration,
    pub(crate) handoff: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            diff_interval: None,
            diff_rate: DEFAULT_DIFF_RATE,
            max_diff_delay: DEFAULT_MAX_DIFF_DELAY,
            fetch_ttl: Some(DEFAULT_FETCH_TTL),
            fetch_timeout: DEFAULT_FETCH_TIMEOUT,
            refresh_memory: DEFAULT_REFRESH_MEMORY,
            linger: Duration::ZERO,
            count_interval: DEFAULT_COUNT_INTERVAL,
            handoff: DEFAULT_HANDOFF,
        }
    }
}

impl Timing {
    /// Checks every time against its bounds.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        let zero = Duration::ZERO;
        within("diff_interval", self.diff_interval.unwrap_or(zero), zero, MAX_TIME)?;
        within("diff_rate", self.diff_rate, 1, u32::MAX)?;
        within("max_diff_delay", self.max_diff_delay, Duration::from_millis(1), MAX_TIME)?;
        within("fetch_ttl", self.fetch_ttl.unwrap_or(zero), zero, MAX_TIME)?;
        within("fetch_timeout", self.fetch_timeout, Duration::from_millis(1), MAX_TIME)?;
        within("refresh_memory", self.refresh_memory, zero, MAX_TIME)?;
        within("linger", self.linger, zero, MAX_GRACE)?;
        within("count_interval", self.count_interval, zero, MAX_TIME)?;
        within("handoff", self.handoff, zero, MAX_GRACE)
    }

    /// Whether each change is a diff of its own.
    pub(crate) fn sends_each_change(&self) -> bool {
        self.diff_interval.is_some_and(|interval| interval.is_zero())
    }

    /// Whether a fetched info is used only once.
    pub(crate) fn asks_always(&self) -> bool {
        self.fetch_ttl == Some(Duration::ZERO)
    }
}
