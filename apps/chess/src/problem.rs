//! Errors as clients get them.

use adsum::{JoinError, Reply};
use serde::Serialize;

use crate::protocol::Game;

/// An answer other than the one hoped for: a word for programs, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// See PROTOCOL.md for all of them.
    pub reason: &'static str,
    /// To be shown.
    pub message: String,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// How the game stands, for a client that knows another position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub game: Option<Box<Game>>,
}

impl Problem {
    /// For this reason.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_after_ms: None, game: None }
    }

    /// The payload makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid", message)
    }

    /// It isn't there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new("not_found", message)
    }

    /// It makes no sense at this point.
    pub fn not_now(message: impl Into<String>) -> Self {
        Self::new("not_now", message)
    }

    /// There is an event of another name, perhaps.
    pub fn unknown_event() -> Self {
        Self::new("unknown_event", "The server doesn't know what to do with that. Please reload the page.")
    }

    /// No session.
    pub fn not_signed_in() -> Self {
        Self::new("not_signed_in", "Please sign in.")
    }

    /// The database failed.
    pub fn unavailable() -> Self {
        Self::new("unavailable", "Something went wrong here. Please try again.")
    }

    /// Too many in too short a time.
    pub fn too_fast(retry_after_ms: u64) -> Self {
        let seconds = retry_after_ms.div_ceil(1000).max(1);
        let s = if seconds == 1 { "" } else { "s" };
        let message = format!("That was too fast. Please try again in {seconds} second{s}.");
        Self { retry_after_ms: Some(retry_after_ms), ..Self::new("too_fast", message) }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "the database failed");
        Self::unavailable()
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        Self::error(problem)
    }
}

/// Refuses a join.
pub(crate) fn refused(problem: Problem) -> JoinError {
    JoinError::new(problem)
}
