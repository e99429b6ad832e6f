//! The limits of a server, and their defaults.

use std::time::Duration;

use adsum_pubsub::{
    OptionsError,
    bounds::{MAX_TIME, within},
};

/// How long the head of a request may take.
pub const DEFAULT_HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a handler waits for the body of a request.
pub const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many bytes of a body gain it a further second: a body that comes faster isn't cut off.
pub const MIN_BODY_RATE: usize = 1024;
/// How long a connection may rest between two requests.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long requests in flight may take once the server ends.
pub const DEFAULT_REQUEST_GRACE: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
pub const DEFAULT_MAX_HEAD_BYTES: usize = 16 * 1024;
/// How many connections may be open.
pub const DEFAULT_MAX_CONNECTIONS: usize = 100_000;

/// The shortest of these times: a test may want it, a client may not get further.
const MIN_TIME: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) head_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) request_grace: Duration,
    pub(super) max_head_bytes: usize,
    pub(super) max_connections: usize,
}

impl Default for Options {
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

impl Options {
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
