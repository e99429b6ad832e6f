//! The limits of a server, and their defaults.

use std::time::Duration;

use adsum_pubsub::{
    OptionsError,
    bounds::{MAX_TIME, within},
};

/// Default timeout for the head of a request.
pub const DEFAULT_HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Default time for which a handler waits for the body of a request.
pub const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of body bytes that extend the timeout by a second: a body that arrives faster isn't cut off.
pub const MIN_BODY_RATE: usize = 1024;
/// Default time for which a connection may be idle between two requests.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Default time for requests in flight once the server shuts down.
pub const DEFAULT_REQUEST_GRACE: Duration = Duration::from_secs(10);
/// Default maximum size of a request's head, in bytes.
pub const DEFAULT_MAX_HEAD_BYTES: usize = 16 * 1024;
/// Default maximum number of open connections.
pub const DEFAULT_MAX_CONNECTIONS: usize = 100_000;

/// Minimum of these times, short enough for tests.
const MIN_TIME: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
pub(super) struct ServeOptions {
    pub(super) head_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) request_grace: Duration,
    pub(super) max_head_bytes: usize,
    pub(super) max_connections: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            head_timeout: DEFAULT_HEAD_TIMEOUT,
            body_timeout: DEFAULT_BODY_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            request_grace: DEFAULT_REQUEST_GRACE,
            max_head_bytes: DEFAULT_MAX_HEAD_BYTES,
            max_connections: DEFAULT_MAX_CONNECTIONS,
        }
    }
}

impl ServeOptions {
    pub(super) fn check(&self) -> Result<(), OptionsError> {
        within("head_timeout", self.head_timeout, MIN_TIME, MAX_TIME)?;
        within("body_timeout", self.body_timeout, MIN_TIME, MAX_TIME)?;
        within("idle_timeout", self.idle_timeout, MIN_TIME, MAX_TIME)?;
        within("request_grace", self.request_grace, Duration::ZERO, MAX_TIME)?;
        // hyper reads at least 8 KiB at once.
        within("max_head_bytes", self.max_head_bytes, 8 * 1024, 1024 * 1024)?;
        within("max_connections", self.max_connections, 1, 100_000_000)
    }
}
