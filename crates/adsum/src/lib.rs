//! Presence for Rust: who is in a topic right now, told to everyone in it as it changes.

// The README's program is compiled, and run where it says so, with the docs' other examples.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

mod builder;
mod card;
mod core;
mod encode;
mod entry;
mod fetching;
mod flow;
mod flusher;
mod handler;
mod owner;
mod presence;
mod socket;
mod watch;

#[doc(inline)]
pub use adsum_channels::{
    Assigns, Channel, Connect, JoinError, Joined, NoParams, PushError, Reason as EndReason, Refused, Reply,
    SendError, Sender, Socket, SocketBuilder, SocketExtension, Stop,
};
#[doc(inline)]
pub use adsum_pubsub::{
    Adapter, BroadcastError, Inbox, IntoPayload, Json, Lagged, LocalNetwork, Message, Pattern, Payload,
    PubSub, Topic,
};
#[doc(inline)]
pub use adsum_tracker::{Key, Limits, OverLimit, Reason as LeaveReason, Ref};

#[doc(inline)]
pub use self::{
    builder::{
        Builder, DEFAULT_DIFF_INTERVAL, DEFAULT_FETCH_TIMEOUT, DEFAULT_FETCH_TTL, DEFAULT_REFRESH_MEMORY,
    },
    encode::MetaError,
    entry::{Entry, Presences, Tracked},
    handler::{Entries, FetchError, NoFetch, PresenceHandler},
    owner::{Owner, TrackError, UpdateError},
    presence::Presence,
    watch::{Change, TopicDiff, WATCH_CAPACITY, Watch},
};
