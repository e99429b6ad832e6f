//! The options, observer and pubsub that all sockets and channels of a router share.

use adsum_pubsub::PubSub;
use tokio::time::Instant;

use crate::{observe::Watch, options::Options};

/// Shared by all sockets and channels of a router.
pub(crate) struct SocketContext {
    pub(crate) options: Options,
    pub(crate) watch: Watch,
    pub(crate) pubsub: PubSub,
    /// When the router was made.
    pub(crate) started: Instant,
}
