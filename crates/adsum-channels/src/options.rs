//! The limits and timeouts of a socket, their defaults, and their bounds.

use std::time::Duration;

use adsum_pubsub::bounds::{MAX_TIME, OptionsError, within};

use crate::address::TrustedProxies;

/// Default maximum number of joined channels per socket.
pub const DEFAULT_MAX_CHANNELS: usize = 100;
/// Default maximum length of a topic in bytes: binary frames of the protocol encode the length in one byte.
pub const DEFAULT_MAX_TOPIC_BYTES: usize = 255;
/// Default maximum size of a client's message, in bytes.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Default maximum size of a client's outbound queue, in bytes.
pub const DEFAULT_MAX_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Default maximum size of all outbound queues of a node, in bytes. Shared bytes are counted once.
pub const DEFAULT_MAX_TOTAL_QUEUE_BYTES: usize = 256 * 1024 * 1024;
/// Default time in which a client must read a state.
pub const DEFAULT_STATE_TIMEOUT: Duration = Duration::from_secs(30);
/// Default maximum number of messages in a channel's mailbox.
pub const DEFAULT_MAX_MAILBOX: usize = 1024;
/// Default time for which a client is not read while one of its channels has no room for the next event.
pub const DEFAULT_MAILBOX_TIMEOUT: Duration = Duration::from_secs(5);
/// Default number of messages per second beyond which a client is read more slowly.
pub const DEFAULT_MAX_MESSAGE_RATE: u32 = 20_000;
/// Default number of bytes per second beyond which a client is read more slowly.
pub const DEFAULT_MAX_BYTE_RATE: u32 = 32 * 1024 * 1024;
/// Default time in which a client must complete a message.
pub const DEFAULT_MESSAGE_TIMEOUT: Duration = Duration::from_mins(1);
/// Default maximum number of open sockets.
pub const DEFAULT_MAX_SOCKETS: usize = 100_000;
/// Default maximum number of open long poll sessions.
pub const DEFAULT_MAX_LONGPOLL_SESSIONS: usize = 10_000;
/// Default maximum number of sockets per client address.
pub const DEFAULT_MAX_SOCKETS_PER_ADDRESS: usize = 10_000;
/// Default maximum number of sockets per limit key.
pub const DEFAULT_MAX_SOCKETS_PER_KEY: usize = 100;
/// Default time for which a client may be silent.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);
/// Default time of silence after which a client is pinged.
pub const DEFAULT_PING_AFTER: Duration = Duration::from_secs(25);
/// Default time in which a client must send something after a ping.
pub const DEFAULT_PING_CLOSE: Duration = Duration::from_secs(10);
/// Default timeout of a join.
pub const DEFAULT_JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Default time for which a long poll is held open while there is no message.
pub const DEFAULT_LONGPOLL_WINDOW: Duration = Duration::from_secs(10);
/// Default time in which another node must confirm that it has a long poll session.
pub const DEFAULT_LONGPOLL_NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// Default time in which a channel must end.
pub const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// The options of a [`SocketBuilder`](crate::SocketBuilder), whose methods document them.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `None` for no compression.
    pub(crate) compress_over: Option<usize>,
    pub(crate) max_channels: usize,
    pub(crate) max_topic_bytes: usize,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_queue_bytes: usize,
    pub(crate) max_total_queue_bytes: usize,
    pub(crate) state_timeout: Duration,
    pub(crate) max_mailbox: usize,
    pub(crate) mailbox_timeout: Duration,
    /// `None` for no limit.
    pub(crate) max_message_rate: Option<u32>,
    /// `None` for no limit.
    pub(crate) max_byte_rate: Option<u32>,
    pub(crate) message_timeout: Duration,
    pub(crate) max_sockets: usize,
    pub(crate) max_longpoll_sessions: usize,
    pub(crate) max_sockets_per_address: Option<usize>,
    pub(crate) max_sockets_per_key: Option<usize>,
    pub(crate) trusted_proxies: TrustedProxies,
    /// `None` for no timeout.
    pub(crate) timeout: Option<Duration>,
    /// `None` for no pings.
    pub(crate) ping: Option<Ping>,
    pub(crate) shutdown_grace: Duration,
    pub(crate) join_timeout: Duration,
    pub(crate) longpoll_window: Duration,
    pub(crate) longpoll_node_timeout: Duration,
}

/// When a silent WebSocket is pinged, and how long after the ping it is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ping {
    pub(crate) after: Duration,
    pub(crate) close: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compress_over: None,
            max_channels: DEFAULT_MAX_CHANNELS,
            max_topic_bytes: DEFAULT_MAX_TOPIC_BYTES,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            max_queue_bytes: DEFAULT_MAX_QUEUE_BYTES,
            max_total_queue_bytes: DEFAULT_MAX_TOTAL_QUEUE_BYTES,
            state_timeout: DEFAULT_STATE_TIMEOUT,
            max_mailbox: DEFAULT_MAX_MAILBOX,
            mailbox_timeout: DEFAULT_MAILBOX_TIMEOUT,
            max_message_rate: Some(DEFAULT_MAX_MESSAGE_RATE),
            max_byte_rate: Some(DEFAULT_MAX_BYTE_RATE),
            message_timeout: DEFAULT_MESSAGE_TIMEOUT,
            max_sockets: DEFAULT_MAX_SOCKETS,
            max_longpoll_sessions: DEFAULT_MAX_LONGPOLL_SESSIONS,
            max_sockets_per_address: Some(DEFAULT_MAX_SOCKETS_PER_ADDRESS),
            max_sockets_per_key: Some(DEFAULT_MAX_SOCKETS_PER_KEY),
            trusted_proxies: TrustedProxies::default(),
            timeout: Some(DEFAULT_TIMEOUT),
            ping: Some(Ping { after: DEFAULT_PING_AFTER, close: DEFAULT_PING_CLOSE }),
            shutdown_grace: DEFAULT_SHUTDOWN_GRACE,
            join_timeout: DEFAULT_JOIN_TIMEOUT,
            longpoll_window: DEFAULT_LONGPOLL_WINDOW,
            longpoll_node_timeout: DEFAULT_LONGPOLL_NODE_TIMEOUT,
        }
    }
}

/// Minimum of a time option for which zero makes no sense.
const MIN_TIME: Duration = Duration::from_millis(1);
/// Upper bound of all counts.
const MAX_COUNT: usize = 1_000_000;
/// Upper bound of all sizes in bytes: 1 GiB.
const MAX_BYTES: usize = 1 << 30;
/// Upper bound of the total size of all queues: 1 TiB.
const MAX_TOTAL_BYTES: usize = 1 << 40;
/// Upper bound of a topic's length: the heads of messages between nodes have little more room.
const MAX_TOPIC_BYTES: usize = 4096;

impl Options {
    /// Checks all options of a socket. Their bounds are defined here.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        let any = usize::MAX;
        within("max_sockets", self.max_sockets, 1, any)?;
        within("max_longpoll_sessions", self.max_longpoll_sessions, 1, any)?;
        within("max_sockets_per_address", self.max_sockets_per_address.unwrap_or(any), 1, any)?;
        within("max_sockets_per_key", self.max_sockets_per_key.unwrap_or(any), 1, any)?;
        within("compress_over", self.compress_over.unwrap_or(0), 0, MAX_BYTES)?;
        within("max_channels", self.max_channels, 1, MAX_COUNT)?;
        within("max_topic_bytes", self.max_topic_bytes, 1, MAX_TOPIC_BYTES)?;
        within("max_message_bytes", self.max_message_bytes, 1, MAX_BYTES)?;
        within("max_queue_bytes", self.max_queue_bytes, 1, MAX_BYTES)?;
        within("max_total_queue_bytes", self.max_total_queue_bytes, self.max_queue_bytes, MAX_TOTAL_BYTES)?;
        within("state_timeout", self.state_timeout, MIN_TIME, MAX_TIME)?;
        within("max_mailbox", self.max_mailbox, 1, MAX_COUNT)?;
        within("mailbox_timeout", self.mailbox_timeout, Duration::ZERO, MAX_TIME)?;
        if let Some(rate) = self.max_message_rate {
            within("max_message_rate", rate, 1, u32::MAX)?;
        }
        if let Some(rate) = self.max_byte_rate {
            within("max_byte_rate", rate, 1, u32::MAX)?;
        }
        within("message_timeout", self.message_timeout, MIN_TIME, MAX_TIME)?;
        if let Some(timeout) = self.timeout {
            within("timeout", timeout, MIN_TIME, MAX_TIME)?;
        }
        if let Some(Ping { after, close }) = self.ping {
            within("ping after", after, MIN_TIME, MAX_TIME)?;
            within("ping close", close, MIN_TIME, MAX_TIME)?;
        }
        within("shutdown_grace", self.shutdown_grace, Duration::ZERO, MAX_TIME)?;
        within("join_timeout", self.join_timeout, MIN_TIME, MAX_TIME)?;
        within("longpoll_window", self.longpoll_window, MIN_TIME, MAX_TIME)?;
        within("longpoll_node_timeout", self.longpoll_node_timeout, MIN_TIME, MAX_TIME)
    }
}

/// Checks the shutdown grace of a channel type.
pub(crate) fn check_grace(channel: &'static str, grace: Option<Duration>) -> Result<(), OptionsError> {
    match grace {
        Some(grace) if grace > MAX_TIME => Err(OptionsError::new(
            "SHUTDOWN_GRACE",
            format_args!("{grace:?} in `{channel}`"),
            format_args!("at most {MAX_TIME:?}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Options)) -> String {
        let mut options = Options::default();
        change(&mut options);
        options.check().expect_err("out of bounds").to_string()
    }

    #[test]
    fn the_defaults_are_within_the_bounds() {
        assert_eq!(Options::default().check(), Ok(()));
        assert_eq!(Options { timeout: None, ..Options::default() }.check(), Ok(()));
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_by_its_name() {
        let day_and_more = MAX_TIME + MIN_TIME;
        for (name, change) in [
            ("max_channels", (|options| options.max_channels = 0) as fn(&mut Options)),
            ("max_topic_bytes", |options| options.max_topic_bytes = 5000),
            ("compress_over", |options| options.compress_over = Some(usize::MAX)),
            ("max_message_bytes", |options| options.max_message_bytes = 0),
            ("max_message_bytes", |options| options.max_message_bytes = usize::MAX),
            ("max_queue_bytes", |options| options.max_queue_bytes = usize::MAX),
            ("max_total_queue_bytes", |options| options.max_total_queue_bytes = options.max_queue_bytes - 1),
            ("max_total_queue_bytes", |options| options.max_total_queue_bytes = usize::MAX),
            ("state_timeout", |options| options.state_timeout = Duration::ZERO),
            ("state_timeout", |options| options.state_timeout = Duration::MAX),
            ("max_mailbox", |options| options.max_mailbox = 0),
            ("mailbox_timeout", |options| options.mailbox_timeout = Duration::MAX),
            ("max_message_rate", |options| options.max_message_rate = Some(0)),
            ("max_byte_rate", |options| options.max_byte_rate = Some(0)),
            ("message_timeout", |options| options.message_timeout = Duration::ZERO),
            ("timeout", |options| options.timeout = Some(Duration::MAX)),
            ("timeout", |options| options.timeout = Some(Duration::ZERO)),
            ("ping after", |options| {
                options.ping = Some(Ping { after: Duration::ZERO, close: DEFAULT_PING_CLOSE });
            }),
            ("ping close", |options| {
                options.ping = Some(Ping { after: DEFAULT_PING_AFTER, close: Duration::MAX });
            }),
            ("shutdown_grace", |options| options.shutdown_grace = Duration::MAX),
            ("join_timeout", |options| options.join_timeout = Duration::ZERO),
            ("longpoll_window", |options| options.longpoll_window = Duration::MAX),
            ("longpoll_node_timeout", |options| options.longpoll_node_timeout = Duration::MAX),
        ] {
            let error = refused(change);
            assert!(error.starts_with(&format!("`{name}` is ")), "{error}");
        }
        let error = refused(|options| options.join_timeout = MAX_TIME + MIN_TIME);
        assert_eq!(error, format!("`join_timeout` is {day_and_more:?}; it must be between 1ms and 86400s"));
    }
}
