//! Topics and their subscribers, on one node or in a cluster.
//!
//! A [`PubSub`] delivers a [`Message`] (an event and a payload) to every subscriber of its [`Topic`]: directly on this
//! node, and through an [`Adapter`] on other nodes.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use adsum_pubsub::{Json, PubSub};
//!
//! let pubsub = PubSub::local();
//! let mut inbox = pubsub.subscribe("game:42");
//! pubsub.broadcast("game:42", "move", Json::encode(&"e2e4")?)?;
//!
//! let message = inbox.recv().await?;
//! assert_eq!(message.event(), "move");
//! # Ok(())
//! # }
//! ```
//!
//! There are two kinds of subscribers. An [`Inbox`] is a bounded queue that a task reads. A [`Subscriber`] is called
//! directly by the broadcast, without a queue or a task in between: transports use it to write one shared, already
//! encoded frame to many sockets (see [`Message::encoded`]).
//!
//! # Features
//! All are off by default.
//! - `nats` and `redis`: `PubSub::nats` and `PubSub::redis`, for nodes that reach each other through one of these
//!   engines.
//! - `axum`: `Json` is a response of axum's handlers.
//! - `suite`: the module `suite`, with the tests that every [`Adapter`] must pass. Authors of adapters use it as a
//!   development dependency.

mod adapter;
#[doc(hidden)]
pub mod bounds;
#[cfg(all(feature = "suite", feature = "nats"))]
#[doc(hidden)]
pub mod bus;
#[cfg(any(feature = "nats", feature = "redis"))]
mod driver;
#[cfg(any(feature = "nats", feature = "redis"))]
mod engine_link;
#[cfg(any(feature = "nats", feature = "redis"))]
mod envelope;
#[doc(hidden)]
pub mod event;
#[cfg(all(fuzzing, feature = "redis"))]
#[doc(hidden)]
pub mod fuzzing;
mod ids;
mod inbox;
#[cfg(any(feature = "nats", feature = "redis"))]
mod interest;
mod large_topic;
mod local;
#[doc(hidden)]
pub mod log;
mod message;
pub mod metrics;
#[cfg(feature = "nats")]
mod nats;
#[cfg(any(feature = "nats", feature = "redis"))]
mod node;
mod payload;
mod pubsub;
#[cfg(feature = "redis")]
mod redis;
mod registry;
#[cfg(any(feature = "nats", feature = "redis", feature = "suite"))]
#[cfg_attr(
    not(any(feature = "nats", feature = "redis")),
    allow(dead_code, reason = "only a simulation uses it, and not all of it")
)]
mod replay;
#[cfg(any(feature = "nats", feature = "redis"))]
mod settings;
mod subscribers;
#[cfg(feature = "suite")]
pub mod suite;
#[doc(hidden)]
pub mod tasks;
mod topic;

#[cfg(feature = "suite")]
#[doc(hidden)]
pub use self::replay::simulated::{Reply, Sealed, SimulatedEnd};
#[doc(hidden)]
pub use self::topic::{NODE_DOWN, NODES_TOPIC};
#[doc(inline)]
pub use self::{
    adapter::{Adapter, BroadcastError, Inbound, MAX_MESSAGE_BYTES, MAX_REGION_BYTES, QueueLimits, Queued},
    bounds::OptionsError,
    event::ReservedEvent,
    ids::{EncodingId, SubscriberId},
    inbox::{DEFAULT_INBOX_CAPACITY, Inbox, Lagged},
    local::LocalNetwork,
    message::{Mark, Message},
    payload::{Compressed, IntoPayload, Json, JsonPart, MalformedPayload, Payload},
    pubsub::PubSub,
    registry::Attachment,
    subscribers::Subscriber,
    topic::{Pattern, PatternError, Topic},
};
#[cfg(any(feature = "nats", feature = "redis"))]
#[doc(inline)]
pub use self::{
    node::{
        DEFAULT_LINGER, DEFAULT_NAMESPACE, DEFAULT_QUEUE_BYTES, DEFAULT_QUEUE_MESSAGES,
        DEFAULT_RETRY_INTERVAL, NodeBuilder,
    },
    settings::{ConfigError, DEFAULT_CONNECT_TIMEOUT, DEFAULT_PING_INTERVAL, StartError},
};
