//! The times of a cluster.

use std::time::Duration;

use adsum_pubsub::bounds::{MAX_TIME, OptionsError, within};

/// The times of a cluster. Set the same on all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// The time between two heartbeats of a node. Default 1 s; 100 ms to 60 s.
    pub heartbeat: Duration,
    /// How long a node may be silent before it counts as down and its presences are hidden. Default 3 s; at least 2
    /// heartbeats, at most 1 h.
    pub down_after: Duration,
    /// How long the presences of a node that is down are kept. Default 20 min; at least a heartbeat more than
    /// `down_after`, at most a day.
    pub forget_after: Duration,
    /// The minimum time between two messages with changes. The first change is sent at once, those in between together.
    /// Default 5 ms; at most 1 s.
    pub batch_interval: Duration,
    /// How long all nodes stay up while the network between them is away. Default 30 s; at most an hour.
    pub engine_grace: Duration,
    /// How long a node that starts waits until it is in sync, since the last piece of another node's presences came, and
    /// so for as long as they come in, but for 10 min at most; or until another of its name has left. Default 5 s; at least
    /// 2 heartbeats, at most 5 min.
    pub sync_timeout: Duration,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            down_after: Duration::from_secs(3),
            forget_after: Duration::from_mins(20),
            batch_interval: Duration::from_millis(5),
            engine_grace: Duration::from_secs(30),
            sync_timeout: Duration::from_secs(5),
        }
    }
}

impl ClusterOptions {
    /// Sets [`heartbeat`](Self#structfield.heartbeat).
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// Sets [`down_after`](Self#structfield.down_after).
    #[must_use]
    pub fn down_after(mut self, down_after: Duration) -> Self {
        self.down_after = down_after;
        self
    }

    /// Sets [`forget_after`](Self#structfield.forget_after).
    #[must_use]
    pub fn forget_after(mut self, forget_after: Duration) -> Self {
        self.forget_after = forget_after;
        self
    }

    /// Sets [`batch_interval`](Self#structfield.batch_interval).
    #[must_use]
    pub fn batch_interval(mut self, batch_interval: Duration) -> Self {
        self.batch_interval = batch_interval;
        self
    }

    /// Sets [`engine_grace`](Self#structfield.engine_grace).
    #[must_use]
    pub fn engine_grace(mut self, engine_grace: Duration) -> Self {
        self.engine_grace = engine_grace;
        self
    }

    /// Sets [`sync_timeout`](Self#structfield.sync_timeout).
    #[must_use]
    pub fn sync_timeout(mut self, sync_timeout: Duration) -> Self {
        self.sync_timeout = sync_timeout;
        self
    }

    /// Checks every time against its bounds.
    ///
    /// # Errors
    /// A time is out of its bounds, or contradicts another.
    pub fn check(&self) -> Result<(), OptionsError> {
        let Self { heartbeat, down_after, forget_after, batch_interval, engine_grace, sync_timeout } = *self;
        within("heartbeat", heartbeat, Duration::from_millis(100), Duration::from_mins(1))?;
        let heartbeats = 2 * heartbeat;
        within("down_after", down_after, heartbeats, Duration::from_hours(1))?;
        within("forget_after", forget_after, down_after + heartbeat, MAX_TIME)?;
        within("batch_interval", batch_interval, Duration::ZERO, Duration::from_secs(1))?;
        within("engine_grace", engine_grace, Duration::ZERO, Duration::from_hours(1))?;
        within("sync_timeout", sync_timeout, heartbeats, Duration::from_mins(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_contradict_each_other_are_refused_by_name() {
        let default = ClusterOptions::default;
        assert_eq!(default().check(), Ok(()));
        let second = Duration::from_secs(1);
        for (options, named) in [
            (ClusterOptions { heartbeat: Duration::ZERO, ..default() }, "heartbeat"),
            (ClusterOptions { heartbeat: Duration::MAX, ..default() }, "heartbeat"),
            (ClusterOptions { down_after: second, ..default() }, "down_after"),
            (ClusterOptions { down_after: Duration::MAX, ..default() }, "down_after"),
            (ClusterOptions { forget_after: 3 * second, ..default() }, "forget_after"),
            (ClusterOptions { batch_interval: 2 * second, ..default() }, "batch_interval"),
            (ClusterOptions { engine_grace: Duration::MAX, ..default() }, "engine_grace"),
            (ClusterOptions { sync_timeout: second, ..default() }, "sync_timeout"),
        ] {
            let error = options.check().unwrap_err();
            assert_eq!(error.option(), named, "{error}");
        }
    }
}
