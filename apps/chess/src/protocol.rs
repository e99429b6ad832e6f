//! The payloads of the protocol, as PROTOCOL.md describes them. All that goes over the wire is here, by the topic that it
//! goes by; what several have is in this file.

mod game;
mod lobby;
mod past;
mod user;

use serde::{Deserialize, Serialize};

pub use self::{
    game::{
        Absence, Absent, Change, Claim, Clocks, Crowd, Done, Game, GameJoined, GameResult, Move, Moved,
        NewClaim, NewMove, Position, Reason, Rematch,
    },
    lobby::{Running, RunningGames, Seek, Seeks},
    past::{PastGame, PastGames},
    user::{GameId, GameStarted, Invite, InviteOver, Mine, NewInvite, OfferId, OfferMade, Outcome},
};
use crate::{Problem, UserId};

/// A person, or a program that plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Never given out twice.
    pub id: UserId,
    /// As its owner wrote it: text, never markup.
    pub name: String,
    /// Whether it is a program.
    pub bot: bool,
}

/// The side of a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Moves first.
    White,
    /// Moves second.
    Black,
}

impl Color {
    /// The other side.
    pub fn other(self) -> Self {
        match self {
            Self::White => Self::Black,
            Self::Black => Self::White,
        }
    }

    /// Whose turn it is after so many half-moves.
    pub fn to_move(ply: u32) -> Self {
        if ply.is_multiple_of(2) { Self::White } else { Self::Black }
    }

    /// As on the wire, and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::White => "white",
            Self::Black => "black",
        }
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::White => "White",
            Self::Black => "Black",
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "white" => Some(Self::White),
            "black" => Some(Self::Black),
            _ => None,
        }
    }
}

/// The side that somebody wants to play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The first move.
    White,
    /// The second.
    Black,
    /// Decided by lot as the game begins.
    Random,
}

impl Choice {
    /// As on the wire, and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::White => "white",
            Self::Black => "black",
            Self::Random => "random",
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::White, Self::Black, Self::Random].into_iter().find(|choice| choice.as_str() == text)
    }
}

/// The meta of one tab, as everyone in the lobby and the players of a game see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// When it came in, in seconds since 1970.
    pub online_at: u64,
    /// The kind of device.
    pub device: Device,
    /// The activity of its user.
    pub status: Status,
    /// The game that the tab shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub game: Option<String>,
    /// The number of running games of a bot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub games: Option<u32>,
    /// The player's side, in a game's topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<Color>,
    /// The page said that it is being closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bye: bool,
}

impl Meta {
    /// The meta of a tab that has just come in, without a game.
    pub fn new(online_at: u64, device: Device, status: Status) -> Self {
        Self { online_at, device, status, game: None, games: None, color: None, bye: false }
    }
}

/// The activity of a tab's user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Looks at it.
    Here,
    /// Looks at something else.
    Away,
    /// Watches a game.
    Watching,
}

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// Something small.
    Phone,
    /// Something large.
    Desktop,
    /// A program.
    Bot,
}

/// The info that presence shows beside a user's metas.
#[derive(Debug, Clone, Serialize)]
pub struct PlayerInfo {
    /// The user.
    pub user: User,
    /// Their running game.
    pub playing: Option<String>,
}

/// The state of a client's tab, sent with a join and with the event `status`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Seen {
    /// Whether somebody looks at it.
    pub status: Visibility,
}

/// Whether somebody looks at a tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// It is visible.
    Here,
    /// It is hidden.
    Away,
}

impl From<Visibility> for Status {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Here => Self::Here,
            Visibility::Away => Self::Away,
        }
    }
}

/// The time of a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeControl {
    /// The time on each clock at the start.
    pub initial_ms: u64,
    /// The time that each move adds.
    pub increment_ms: u64,
}

/// The shortest and the longest time on a clock.
const INITIAL_MS: std::ops::RangeInclusive<u64> = 1_000..=10_800_000;
/// The longest increment.
const MAX_INCREMENT_MS: u64 = 60_000;

impl TimeControl {
    /// Whether games of this time can be played.
    pub fn check(self) -> Result<(), Problem> {
        if INITIAL_MS.contains(&self.initial_ms) && self.increment_ms <= MAX_INCREMENT_MS {
            return Ok(());
        }
        Err(Problem::invalid("A game has between 1 second and 3 hours, and at most 60 seconds more a move."))
    }
}

/// The terms of a seek or an invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The colour that the one who offers wants to play.
    pub color: Choice,
    /// The time.
    #[serde(flatten)]
    pub time: TimeControl,
}
