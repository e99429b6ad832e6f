//! A topic `user:<id>`.

use serde::{Deserialize, Serialize};

use super::{Color, Seek, Terms, User};
use crate::UserId;

/// Asks a user for a game.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct NewInvite {
    /// Whom.
    pub to: UserId,
    /// On what terms.
    #[serde(flatten)]
    pub terms: Terms,
}

/// Names a seek or an invite.
#[derive(Debug, Clone, Deserialize)]
pub struct OfferId {
    /// Which.
    pub id: String,
}

/// A seek or an invite has been made.
#[derive(Debug, Clone, Serialize)]
pub struct OfferMade {
    /// Its id.
    pub id: String,
    /// The game, if it was accepted at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub game: Option<String>,
}

/// A game has begun.
#[derive(Debug, Clone, Serialize)]
pub struct GameId {
    /// Which.
    pub game: String,
}

/// An open invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invite {
    /// Its id.
    pub id: String,
    /// The user who invites.
    pub from: User,
    /// The user who is invited.
    pub to: User,
    /// On what terms.
    #[serde(flatten)]
    pub terms: Terms,
    /// How long it stays.
    pub expires_in_ms: u64,
}

/// The state that concerns one user alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mine {
    /// Their running game.
    pub playing: Option<String>,
    /// Their open seek.
    pub seek: Option<Seek>,
    /// The open invites from and to them.
    pub invites: Vec<Invite>,
}

/// How a seek or an invite ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A game began.
    Accepted,
    /// The one who was asked doesn't want to.
    Declined,
    /// The one who asked has thought better of it.
    Withdrawn,
    /// Nobody said anything for too long.
    Expired,
    /// One of the two has left the site.
    Left,
}

impl Outcome {
    /// As on the wire, and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Declined => "declined",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Left => "left",
        }
    }
}

/// An invite isn't open any more.
#[derive(Debug, Clone, Serialize)]
pub struct InviteOver {
    /// Its id.
    pub id: String,
    /// The user who invited.
    pub from: User,
    /// The user who was invited.
    pub to: User,
    /// How it ended.
    pub outcome: Outcome,
}

/// A game of mine has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameStarted {
    /// Which.
    pub game: String,
    /// My side.
    pub color: Color,
    /// Against whom.
    pub opponent: User,
}
