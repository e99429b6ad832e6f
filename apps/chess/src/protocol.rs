//! The payloads of the protocol, as PROTOCOL.md describes them. All that goes over the wire is here.

use serde::{Deserialize, Serialize};

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
pub struct Card {
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
