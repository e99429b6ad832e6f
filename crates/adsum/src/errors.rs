//! Errors of tracking.

use adsum_channels::PushError;
use adsum_pubsub::Topic;
use adsum_tracker::{Key, OverLimit};

use crate::encode::MetaError;

/// Why a presence wasn't tracked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// The same owner or channel tracks this topic and key already.
    #[error(
        "already tracked: topic {topic:?}, key {key:?}; update it, untrack it first, or `set` it, which does either"
    )]
    AlreadyTracked {
        /// The topic.
        topic: Topic,
        /// The key.
        key: Key,
    },
    /// It is over a limit.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The value isn't a valid meta.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The socket belongs to another `PubSub` than the presence.
    #[error(transparent)]
    OtherPubSub(#[from] OtherPubSub),
}

/// A socket and a [`Presence`](crate::Presence) belong to two different [`PubSub`](crate::PubSub)s, so that no diff
/// would ever reach the socket's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the presence and the socket belong to two different PubSubs, so no change would ever be sent to the client; \
     build the router with the presence's PubSub: `socket.into_router(&presence)`"
)]
#[non_exhaustive]
pub struct OtherPubSub;

/// Why a state wasn't pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushStateError {
    /// The push failed.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The socket belongs to another `PubSub` than the presence.
    #[error(transparent)]
    OtherPubSub(#[from] OtherPubSub),
}

/// Why a presence wasn't updated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The owner or channel doesn't track this topic and key.
    #[error("not tracked: topic {topic:?}, key {key:?}; track it first, or `set` it, which does either")]
    NotTracked {
        /// The topic.
        topic: Topic,
        /// The key.
        key: Key,
    },
    /// The new meta is over a limit.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The new value isn't a valid meta.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl From<adsum_tracker::RawTrackError> for TrackError {
    fn from(error: adsum_tracker::RawTrackError) -> Self {
        match error {
            adsum_tracker::RawTrackError::AlreadyTracked { topic, key, .. } => {
                Self::AlreadyTracked { topic, key }
            }
            adsum_tracker::RawTrackError::OverLimit(over) => Self::OverLimit(over),
        }
    }
}

impl From<adsum_tracker::RawUpdateError<MetaError>> for UpdateError {
    fn from(error: adsum_tracker::RawUpdateError<MetaError>) -> Self {
        match error {
            adsum_tracker::RawUpdateError::NotTracked { topic, key, .. } => Self::NotTracked { topic, key },
            adsum_tracker::RawUpdateError::OverLimit(over) => Self::OverLimit(over),
            adsum_tracker::RawUpdateError::Change(meta) => Self::Meta(meta),
        }
    }
}
