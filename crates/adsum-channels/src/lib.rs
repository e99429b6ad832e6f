//! Channels for axum, compatible with the `phoenix` npm package and every other client of Phoenix Channels.
//!
//! A [`Channel`] is the program's code for one topic of one socket. A [`SocketBuilder`] maps topics to channels,
//! decides which clients may connect, and builds a router:
//!
//! ```
//! use adsum_channels::{
//!     Assigns, Channel, Connect, JoinResult, Joined, NoParams, Payload, PubSub, Refused, Reply, Socket,
//!     SocketBuilder, Stop, Topic,
//! };
//!
//! struct Chat;
//!
//! impl Channel for Chat {
//!     type App = ();
//!     type Params = NoParams;
//!     type Info = ();
//!
//!     async fn join(_: &(), _: &Topic, _: NoParams, _: &mut Socket) -> JoinResult<Self> {
//!         Ok(Joined::new(Self))
//!     }
//!
//!     async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
//!         match event {
//!             "say" => socket.broadcast("said", payload)?,
//!             _ => return Err(Stop::unhandled(event)),
//!         }
//!         Ok(Reply::none())
//!     }
//! }
//!
//! #[derive(Clone, serde::Deserialize)]
//! struct User {
//!     user_id: String,
//! }
//!
//! async fn connect(_: (), request: Connect) -> Result<Assigns, Refused> {
//!     Ok(Assigns::new().with(request.params::<User>()?))
//! }
//!
//! let socket = SocketBuilder::new(()).connect(connect).channel::<Chat>("chat:*");
//! let app: axum::Router = axum::Router::new().nest("/socket", socket.into_router(PubSub::local()));
//! ```
//!
//! Clients then connect to `/socket`. Versions 1 and 2 of the protocol are supported, with binary payloads, over
//! WebSocket, and over long poll if [`SocketBuilder::longpoll`] enables it.
//!
//! # Metrics
//!
//! Sockets, channels and messages are counted in [`PubSub::metrics`]; [`adsum_pubsub::metrics::table`] has all names.

mod about;
mod acceptor;
mod address;
mod admission;
mod assigns;
mod builder;
mod channel;
mod channel_link;
mod connect;
mod connection;
mod context;
mod disconnect;
mod end_reason;
mod endpoint;
mod extension;
mod frame;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod log;
mod logged_error;
mod longpoll;
mod mailbox;
mod metrics;
mod observe;
mod options;
mod origin;
mod outbound;
mod pace;
mod param_filter;
mod probe;
mod protocol_session;
mod push_error;
mod query;
mod quota;
mod refusal;
mod reply;
mod rfc6455;
mod runtime;
mod sender;
mod serializer;
mod serve;
mod socket;
mod socket_end;
mod sockets;
mod token;
mod trace;
mod transport_name;
mod view;
mod websocket;

#[doc(no_inline)]
pub use adsum_pubsub::{
    BroadcastError, IntoPayload, Json, MalformedPayload, Mark, Message, OptionsError, Payload, PubSub,
    ReservedEvent, SubscriberId, Topic,
};

#[doc(no_inline)]
pub use tracing::Level;

#[doc(inline)]
pub use self::{
    about::SocketDetails,
    acceptor::{Acceptor, Client},
    address::{InvalidProxy, TrustedProxies},
    assigns::{Assigns, MissingAssign},
    builder::SocketBuilder,
    channel::{Channel, JoinError, JoinResult, Joined, NoParams},
    connect::Connect,
    end_reason::EndReason,
    extension::SocketExtension,
    frame::{Frame, Outgoing},
    observe::{
        ClientLimit, EventOutcome, JoinOutcome, ObservedConnect, ObservedDisconnect, ObservedDrain,
        ObservedEvent, ObservedJoin, ObservedLeave, ObservedLimit, ObservedRoundTrip, Observer,
    },
    options::{
        DEFAULT_JOIN_TIMEOUT, DEFAULT_LONGPOLL_NODE_TIMEOUT, DEFAULT_LONGPOLL_WINDOW,
        DEFAULT_MAILBOX_TIMEOUT, DEFAULT_MAX_BYTE_RATE, DEFAULT_MAX_CHANNELS, DEFAULT_MAX_LONGPOLL_SESSIONS,
        DEFAULT_MAX_MAILBOX, DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_MAX_MESSAGE_RATE, DEFAULT_MAX_QUEUE_BYTES,
        DEFAULT_MAX_SOCKETS, DEFAULT_MAX_SOCKETS_PER_ADDRESS, DEFAULT_MAX_SOCKETS_PER_KEY,
        DEFAULT_MAX_TOPIC_BYTES, DEFAULT_MAX_TOTAL_QUEUE_BYTES, DEFAULT_MESSAGE_TIMEOUT, DEFAULT_PING_AFTER,
        DEFAULT_PING_CLOSE, DEFAULT_SHUTDOWN_GRACE, DEFAULT_STATE_TIMEOUT, DEFAULT_TIMEOUT,
    },
    param_filter::ParamFilter,
    probe::SocketProbe,
    push_error::PushError,
    query::ParamsError,
    refusal::{Refusal, Refused, Rejected, SocketLimit},
    reply::{Reply, ReplyRef, Stop},
    sender::{SendError, Sender},
    serializer::{
        Address, BadMessage, ClientMessage, Serializer, Unsendable, V1, V2, Wire, read_string, write_string,
    },
    serve::{
        DEFAULT_BODY_TIMEOUT, DEFAULT_HEAD_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_MAX_CONNECTIONS,
        DEFAULT_MAX_HEAD_BYTES, DEFAULT_REQUEST_GRACE, Depart, MIN_BODY_RATE, Serve, serve, termination,
    },
    socket::Socket,
    socket_end::SocketEnd,
    sockets::{DEFAULT_DRAIN_BATCH, DEFAULT_DRAIN_INTERVAL, DEFAULT_DRAIN_TIMEOUT, Drain, Sockets},
    token::{
        DEFAULT_TOKEN_MAX_AGE, MAX_TOKEN_BYTES, MIN_SECRET_BYTES, MaxAge, SecretTooShort, SignError,
        TokenError, Tokens,
    },
    trace::{SocketTrace, TracedMessage},
    view::{News, View, ViewState},
};
