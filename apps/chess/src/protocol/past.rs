//! Games that are over, over HTTP.

use serde::Serialize;

use super::{Color, GameResult, TimeControl, User};

/// A page of one's games that are over.
#[derive(Debug, Clone, Serialize)]
pub struct PastGames {
    /// Those that ended last come first.
    pub games: Vec<PastGame>,
    /// To ask for the next page by, if there is one.
    pub next: Option<String>,
}

/// A game that is over, as one of its players sees it.
#[derive(Debug, Clone, Serialize)]
pub struct PastGame {
    /// Its id.
    pub id: String,
    /// One's own side.
    pub color: Color,
    /// Against whom.
    pub opponent: User,
    /// Whether the opponent is on the site now.
    pub is_here: bool,
    /// When the opponent was last seen there, in seconds since 1970.
    pub seen_at: Option<u64>,
    /// The time.
    #[serde(flatten)]
    pub time: TimeControl,
    /// The number of moves, a move being one of White and one of Black.
    pub moves: u32,
    /// How it ended.
    pub result: GameResult,
    /// When, in seconds since 1970.
    pub ended_at: u64,
}
