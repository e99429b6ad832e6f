//! A topic `game:<id>`.

use serde::{Deserialize, Serialize};

use super::{Color, TimeControl, User};

/// The clocks of a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// White's.
    pub white_ms: u64,
    /// Black's.
    pub black_ms: u64,
    /// Whose runs.
    pub running: Option<Color>,
}

/// A half-move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// From square to square.
    pub uci: String,
    /// As people write it.
    pub san: String,
    /// The position after it.
    pub fen: String,
    /// The mover's clock after it.
    pub left_ms: u64,
}

/// Why a game is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they are what they are called")]
pub enum Reason {
    Mate,
    Resignation,
    Time,
    Abandoned,
    Stalemate,
    Threefold,
    FiftyMoves,
    InsufficientMaterial,
    Agreement,
    TimeInsufficient,
}

impl Reason {
    /// As on the wire, and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mate => "mate",
            Self::Resignation => "resignation",
            Self::Time => "time",
            Self::Abandoned => "abandoned",
            Self::Stalemate => "stalemate",
            Self::Threefold => "threefold",
            Self::FiftyMoves => "fifty_moves",
            Self::InsufficientMaterial => "insufficient_material",
            Self::Agreement => "agreement",
            Self::TimeInsufficient => "time_insufficient",
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Mate,
            Self::Resignation,
            Self::Time,
            Self::Abandoned,
            Self::Stalemate,
            Self::Threefold,
            Self::FiftyMoves,
            Self::InsufficientMaterial,
            Self::Agreement,
            Self::TimeInsufficient,
        ];
        all.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// How a game has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameResult {
    /// The winner. `None` in a draw.
    pub winner: Option<Color>,
    /// Why.
    pub reason: Reason,
    /// That in a sentence.
    pub message: String,
}

/// Whether the players go on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rematch {
    /// The side that has offered one.
    pub offer: Option<Color>,
    /// The new game.
    pub game: Option<String>,
}

/// The part of a game that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Grows by one with each change.
    pub version: u64,
    /// The number of half-moves played.
    pub ply: u32,
    /// The position.
    pub fen: String,
    /// Whose turn it is in it.
    pub turn: Color,
    /// Whether they are in check.
    pub check: bool,
    /// Their moves, if the game isn't over.
    pub legal: Vec<String>,
    /// The clocks as this was sent.
    pub clocks: Clocks,
    /// How long in all nobody's clock ran, as the site was down.
    pub paused_ms: u64,
    /// The side that has offered a draw.
    pub draw_offer: Option<Color>,
    /// How it ended.
    pub result: Option<GameResult>,
    /// Whether the players go on.
    pub rematch: Rematch,
}

/// All of a game.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Game {
    /// Its id.
    pub id: String,
    /// One player.
    pub white: User,
    /// The other.
    pub black: User,
    /// The time.
    #[serde(flatten)]
    pub time: TimeControl,
    /// All moves.
    pub moves: Vec<Move>,
    /// How it stands.
    #[serde(flatten)]
    pub position: Position,
}

/// One has joined a game.
#[derive(Debug, Clone, Serialize)]
pub struct GameJoined {
    /// The side that one plays.
    pub you: Option<Color>,
    /// All of it.
    pub game: Game,
}

/// A game has changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    /// The move, if it was one.
    #[serde(rename = "move", default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Move>,
    /// How the game stands.
    #[serde(flatten)]
    pub position: Position,
}

/// A move that a client wants to make.
#[derive(Debug, Clone, Deserialize)]
pub struct NewMove {
    /// The half-moves played before it.
    pub ply: u32,
    /// As `e2e4`, or as people write it.
    #[serde(rename = "move")]
    pub text: String,
}

/// A move that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Moved {
    /// The version after it.
    pub version: u64,
    /// The half-moves played before it.
    pub ply: u32,
    /// Which.
    pub uci: String,
}

/// A game was changed.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    /// The version after it.
    pub version: u64,
    /// The game that is the rematch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub game: Option<String>,
}

/// The claim of a player whose opponent has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    /// The game.
    Win,
    /// Half of it.
    Draw,
}

/// The payload of `claim`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct NewClaim {
    /// What.
    #[serde(rename = "as")]
    pub claim: Claim,
}

/// Which players have no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Absent {
    /// White, if they have gone.
    pub white: Option<Absence>,
    /// Black, if they have gone.
    pub black: Option<Absence>,
}

/// A player has no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// The page was closed.
    pub bye: bool,
    /// In how much time the other may claim.
    pub claim_in_ms: u64,
}

/// The spectators of a game.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Crowd {
    /// How many.
    pub total: usize,
    /// Some of them.
    pub users: Vec<User>,
}
