//! Presence for Rust: who is in a topic right now, sent to everyone in it as it changes.
//!
//! A [`Presence`] tracks channels ([`Presence::track`]) and any other task ([`Presence::owner`]) under a topic and a
//! key, with a small meta. Clients that have joined the topic get `presence_state` once ([`Presence::push_state`]) and
//! `presence_diff` from then on. Rust code lists, counts and [watches](Presence::watch).
//!
//! [`PresenceHandler`] gives presences their types, and adds infos from a database, with one query for a whole list.
//! [`Channel`] and [`SocketBuilder`] serve the clients: the `phoenix` npm package and everything else that speaks
//! Phoenix Channels. [`PubSub`] carries messages between them.
//!
//! # In your program
//!
//! With Rust 1.95 or newer, and beside a checkout of adsum's repository, `Cargo.toml` has
//!
//! ```toml
//! [dependencies]
//! adsum = { path = "../adsum/crates/adsum" }
//! axum = "0.8"
//! serde = { version = "1", features = ["derive"] }
//! serde_json = "1"
//! tokio = { version = "1", features = ["macros", "net", "rt-multi-thread"] }
//! ```
//!
//! # Features
//!
//! All are off by default.
//!
//! - `nats` and `redis`: `PubSub::nats` and `PubSub::redis`, for nodes that reach each other through one of these
//!   engines.
//! - `prometheus`: the module `operations`, which serves metrics and health on a listener of their own.
//! - `uuid`: a [`Key`] from a UUID.
//! - `dashboard`: the module `dashboard`, a page for operators.
//! - `testing`: the module `testing`, for tests of channels and presences without a network.
//! - `typescript`: the module `typescript`, for the types of clients.
//!
//! # Metrics
//!
//! [`PubSub::record_metrics`] hands some sixty metrics to the recorder of the `metrics` crate, and
//! [`PubSub::read_metrics`] returns them. `docs/metrics.md` lists them all.

// The README's program is a doctest, like the docs' other examples.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

// The guides' programs are doctests, too.
#[cfg(all(doctest, feature = "nats"))]
#[doc = include_str!("../../../docs/cluster.md")]
mod cluster_guide {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/mounting.md")]
mod mounting {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/from-phoenix.md")]
mod from_phoenix {}

#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../../docs/testing.md")]
mod testing_guide {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/seeing-inside.md")]
mod seeing_inside {}

#[cfg(all(doctest, feature = "prometheus"))]
#[doc = include_str!("../../../docs/metrics.md")]
mod metrics_guide {}

#[cfg(doctest)]
#[doc = include_str!("../../../docs/side-by-side.md")]
mod side_by_side {}

mod backlog;
mod budget;
mod builder;
mod core;
mod counting;
#[cfg(feature = "dashboard")]
pub mod dashboard;
mod diffs;
mod encode;
mod entry;
mod errors;
mod exchange;
mod explain;
mod explanation;
#[cfg(feature = "testing")]
mod failed_fetches;
mod fetching;
mod flush;
mod flusher;
mod handler;
mod health;
mod holders;
mod key_cache;
mod layer;
mod leave_memory;
#[cfg(any(feature = "dashboard", feature = "prometheus"))]
mod loopback;
mod observing;
#[cfg(feature = "prometheus")]
pub mod operations;
mod owner;
#[cfg(feature = "testing")]
mod paused;
mod policy;
mod presence;
mod presence_metrics;
mod readings;
mod refreshed;
mod replication;
mod seconds;
mod socket;
mod sync_status;
#[cfg(feature = "testing")]
pub mod testing;
mod timing;
mod told;
mod topic_diff;
mod totals;
mod typed_owner;
#[cfg(feature = "typescript")]
pub mod typescript;
mod view;
mod watch;
mod watch_queue;
#[cfg(feature = "dashboard")]
mod watching;

#[doc(inline)]
pub use adsum_channels::{
    Acceptor, Address, Assigns, BadMessage, Channel, Client, ClientLimit, ClientMessage, Connect,
    DEFAULT_BODY_TIMEOUT, DEFAULT_DRAIN_BATCH, DEFAULT_DRAIN_INTERVAL, DEFAULT_DRAIN_TIMEOUT,
    DEFAULT_HEAD_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_JOIN_TIMEOUT, DEFAULT_LONGPOLL_NODE_TIMEOUT,
    DEFAULT_LONGPOLL_WINDOW, DEFAULT_MAILBOX_TIMEOUT, DEFAULT_MAX_BYTE_RATE, DEFAULT_MAX_CHANNELS,
    DEFAULT_MAX_CONNECTIONS, DEFAULT_MAX_HEAD_BYTES, DEFAULT_MAX_LONGPOLL_SESSIONS, DEFAULT_MAX_MAILBOX,
    DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_MAX_MESSAGE_RATE, DEFAULT_MAX_QUEUE_BYTES, DEFAULT_MAX_SOCKETS,
    DEFAULT_MAX_SOCKETS_PER_ADDRESS, DEFAULT_MAX_SOCKETS_PER_KEY, DEFAULT_MAX_TOPIC_BYTES,
    DEFAULT_MAX_TOTAL_QUEUE_BYTES, DEFAULT_MESSAGE_TIMEOUT, DEFAULT_PING_AFTER, DEFAULT_PING_CLOSE,
    DEFAULT_REQUEST_GRACE, DEFAULT_SHUTDOWN_GRACE, DEFAULT_STATE_TIMEOUT, DEFAULT_TIMEOUT,
    DEFAULT_TOKEN_MAX_AGE, Depart, Drain, EndReason, EventOutcome, Frame, InvalidProxy, JoinError,
    JoinOutcome, JoinResult, Joined, Level, MAX_TOKEN_BYTES, MIN_BODY_RATE, MIN_SECRET_BYTES, MaxAge,
    MissingAssign, News, NoParams, ObservedConnect, ObservedDisconnect, ObservedDrain, ObservedEvent,
    ObservedJoin, ObservedLeave, ObservedLimit, ObservedRoundTrip, Observer, Outgoing, ParamFilter,
    ParamsError, PushError, Refusal, Refused, Rejected, Reply, ReplyRef, SecretTooShort, SendError, Sender,
    Serializer, Serve, SignError, Socket, SocketBuilder, SocketDetails, SocketEnd, SocketExtension,
    SocketLimit, SocketProbe, SocketTrace, Sockets, Stop, TokenError, Tokens, TracedMessage, TrustedProxies,
    Unsendable, V1, V2, View, ViewState, Wire, read_string, serve, termination, write_string,
};
#[doc(inline)]
pub use adsum_pubsub::metrics;
#[doc(inline)]
pub use adsum_pubsub::{
    Adapter, Attachment, BroadcastError, Compressed, DEFAULT_INBOX_CAPACITY, EncodingId, Inbound, Inbox,
    IntoPayload, Json, JsonPart, Lagged, LocalNetwork, MAX_MESSAGE_BYTES, MAX_REGION_BYTES, MalformedPayload,
    Mark, Message, OptionsError, Pattern, PatternError, Payload, PubSub, QueueLimits, Queued, ReservedEvent,
    Subscriber, SubscriberId, Topic,
};
#[cfg(any(feature = "nats", feature = "redis"))]
#[doc(inline)]
pub use adsum_pubsub::{
    ConfigError, DEFAULT_CONNECT_TIMEOUT, DEFAULT_LINGER, DEFAULT_NAMESPACE, DEFAULT_PING_INTERVAL,
    DEFAULT_QUEUE_BYTES, DEFAULT_QUEUE_MESSAGES, DEFAULT_RETRY_INTERVAL, NodeBuilder, StartError,
};
#[doc(inline)]
pub use adsum_tracker::{
    ClusterOptions, Incarnation, Key, LeaveReason, Limits, MAX_GRACE, MAX_KEY_BYTES, MAX_META_BYTES,
    MAX_TOPIC_BYTES, NodeInfo, NodeState, OverLimit, Ref,
};

#[cfg(feature = "dashboard")]
#[doc(inline)]
pub use self::dashboard::{Dashboard, dashboard};
#[doc(inline)]
pub use self::{
    builder::Builder,
    encode::MetaError,
    entry::{Entry, Presences, Tracked},
    errors::{OtherPubSub, PushStateError, TrackError, UpdateError},
    explanation::{
        EXPLAIN_TIMEOUT, ExplainedDeparture, ExplainedLeave, ExplainedNode, ExplainedPresence,
        ExplainedSocket, Explanation, Holder, HoldingNode, Remembers,
    },
    handler::{Entries, FetchError, FetchResult, NoFetch, PresenceHandler},
    health::Health,
    leave_memory::{DEFAULT_LEAVE_MEMORY, DEFAULT_LEAVE_MEMORY_AGE},
    observing::ObservedDiff,
    owner::Owner,
    presence::Presence,
    sync_status::NotReady,
    timing::{
        DEFAULT_COUNT_INTERVAL, DEFAULT_DIFF_RATE, DEFAULT_FETCH_TIMEOUT, DEFAULT_FETCH_TTL, DEFAULT_HANDOFF,
        DEFAULT_MAX_DIFF_DELAY, DEFAULT_REFRESH_MEMORY,
    },
    topic_diff::{PresenceChange, TopicDiff},
    totals::Totals,
    watch::{Change, Watch},
    watch_queue::WATCH_CAPACITY,
};
