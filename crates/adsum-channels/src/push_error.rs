//! Why a push was not sent.

use adsum_pubsub::ReservedEvent;

use crate::serializer::Unsendable;

/// Why a push was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The payload can't be encoded as JSON.
    #[error("the payload can't be encoded as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// The event's name belongs to the protocol.
    #[error(transparent)]
    Reserved(#[from] ReservedEvent),
    /// The client's version of the protocol can't encode it.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
    /// The client has not joined yet.
    #[error("the client hasn't joined yet; push from `joined`")]
    NotJoined,
}
