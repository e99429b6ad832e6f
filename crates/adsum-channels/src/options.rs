//! The limits and timeouts of a socket, and their defaults.

use std::time::Duration;

/// How many channels a socket may have joined.
pub const DEFAULT_MAX_CHANNELS: usize = 100;
/// The longest topic in bytes: a topic's length is one byte in the protocol's binary frames.
pub const DEFAULT_MAX_TOPIC_BYTES: usize = 255;
/// The longest message of a client, in bytes.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// How many bytes may wait to be sent to one client.
pub const DEFAULT_MAX_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// How many letters may wait for one channel.
pub const DEFAULT_MAX_MAILBOX: usize = 1024;
/// How long a client may be silent.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a join may take.
pub const DEFAULT_JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a long poll is held open while nothing is to be said.
pub const DEFAULT_LONGPOLL_WINDOW: Duration = Duration::from_secs(10);
/// How long another node has to say that it has a long poll session.
pub const DEFAULT_LONGPOLL_NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a channel has to end.
pub const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// What a [`SocketBuilder`](crate::SocketBuilder) was told; its methods say what each is for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) max_channels: usize,
    pub(crate) max_topic_bytes: usize,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_queue_bytes: usize,
    pub(crate) max_mailbox: usize,
    pub(crate) timeout: Duration,
    pub(crate) shutdown_grace: Duration,
    pub(crate) join_timeout: Duration,
    pub(crate) longpoll_window: Duration,
    pub(crate) longpoll_node_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_channels: DEFAULT_MAX_CHANNELS,
            max_topic_bytes: DEFAULT_MAX_TOPIC_BYTES,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            max_queue_bytes: DEFAULT_MAX_QUEUE_BYTES,
            max_mailbox: DEFAULT_MAX_MAILBOX,
            timeout: DEFAULT_TIMEOUT,
            shutdown_grace: DEFAULT_SHUTDOWN_GRACE,
            join_timeout: DEFAULT_JOIN_TIMEOUT,
            longpoll_window: DEFAULT_LONGPOLL_WINDOW,
            longpoll_node_timeout: DEFAULT_LONGPOLL_NODE_TIMEOUT,
        }
    }
}
