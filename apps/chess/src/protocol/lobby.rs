//! The topic `lobby`.

use serde::Serialize;

use super::{Clocks, Terms, TimeControl, User};

/// An open seek.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seek {
    /// Its id.
    pub id: String,
    /// Whose.
    pub user: User,
    /// On what terms.
    #[serde(flatten)]
    pub terms: Terms,
}

/// All open seeks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seeks {
    /// The newest of them.
    pub seeks: Vec<Seek>,
    /// How many there are.
    pub total: usize,
}

/// The running games.
#[derive(Debug, Clone, Serialize)]
pub struct RunningGames {
    /// The most watched of them.
    pub games: Vec<Running>,
    /// How many there are.
    pub total: usize,
}

/// A running game, as the lobby shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// One player.
    pub white: User,
    /// The other.
    pub black: User,
    /// The time.
    #[serde(flatten)]
    pub time: TimeControl,
    /// The number of half-moves played.
    pub ply: u32,
    /// The position.
    pub fen: String,
    /// The last move.
    pub last: Option<String>,
    /// The clocks as this was sent.
    pub clocks: Clocks,
    /// How many watch.
    pub spectators: usize,
}
