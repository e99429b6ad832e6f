//! The times of a Presence, and their bounds.

use std::time::Duration;

use adsum_pubsub::bounds::{MAX_TIME, OptionsError, within};
use adsum_tracker::MAX_GRACE;

use crate::builder::{
    DEFAULT_COUNT_INTERVAL, DEFAULT_DIFF_RATE, DEFAULT_FETCH_TIMEOUT, DEFAULT_FETCH_TTL, DEFAULT_HANDOFF,
    DEFAULT_MAX_DIFF_DELAY, DEFAULT_REFRESH_MEMORY,
};

/// The times of a Presence. See the builder for what each is.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// `None`: as the budget allows.
    pub(crate) diff_interval: Option<Duration>,
    pub(crate) diff_rate: u32,
    pub(crate) max_diff_delay: Duration,
    /// `None` if what was fetched never gets old.
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
    /// Checks every time: this is the one place that knows their bounds.
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

    /// Whether what was fetched is good for once only.
    pub(crate) fn asks_always(&self) -> bool {
        self.fetch_ttl == Some(Duration::ZERO)
    }
}
