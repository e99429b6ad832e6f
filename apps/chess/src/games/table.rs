//! One game as it stands, and how it is shown.

use crate::{
    UserId,
    clock::Clock,
    protocol::{
        Absence, Absent, Color, Game, GameResult, Move, Position, Reason, Rematch, TimeControl, User,
    },
    rules::{Ending, Played},
};

/// A game as the database had it at `now`.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) id: String,
    pub(crate) white: User,
    pub(crate) black: User,
    pub(crate) time: TimeControl,
    pub(crate) version: i64,
    pub(crate) played: Played,
    /// The mover's clock after each move.
    pub(crate) left_ms: Vec<i64>,
    pub(crate) clock: Clock,
    /// How long in all nobody's clock ran, as no node was up.
    pub(crate) paused_ms: i64,
    pub(crate) draw_offer: Option<Color>,
    pub(crate) white_gone: Option<Gone>,
    pub(crate) black_gone: Option<Gone>,
    pub(crate) ending: Option<Ending>,
    pub(crate) rematch: Rematch,
    pub(crate) now: i64,
}

/// A player without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Since when.
    pub(crate) at: i64,
    /// The page said goodbye.
    pub(crate) bye: bool,
}

/// How long a player has to be gone until the other may claim, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimTimes {
    pub(crate) lost_ms: i64,
    pub(crate) bye_ms: i64,
}

impl ClaimTimes {
    /// From when on the other may claim.
    pub(crate) fn claim_at(&self, gone: Gone) -> i64 {
        gone.at + if gone.bye { self.bye_ms } else { self.lost_ms }
    }
}

impl Table {
    /// Whose clock runs.
    pub(crate) fn running(&self) -> Option<Color> {
        self.ending.is_none().then(|| self.played.turn())
    }

    /// The side that somebody plays.
    pub(crate) fn side_of(&self, user: UserId) -> Option<Color> {
        if self.white.id == user {
            Some(Color::White)
        } else if self.black.id == user {
            Some(Color::Black)
        } else {
            None
        }
    }

    pub(crate) fn player(&self, color: Color) -> &User {
        match color {
            Color::White => &self.white,
            Color::Black => &self.black,
        }
    }

    pub(crate) fn gone(&self, color: Color) -> Option<Gone> {
        match color {
            Color::White => self.white_gone,
            Color::Black => self.black_gone,
        }
    }

    /// Since when White and Black have been without a connection.
    pub(crate) fn gone_since(&self) -> [Option<i64>; 2] {
        [self.white_gone, self.black_gone].map(|gone| gone.map(|gone| gone.at))
    }

    /// All of it, as it is at `now`.
    pub(crate) fn game(&self, now: i64) -> Game {
        let moves = (0..self.left_ms.len()).map(|index| self.shown_move(index));
        Game {
            id: self.id.clone(),
            white: self.white.clone(),
            black: self.black.clone(),
            time: self.time,
            moves: moves.collect(),
            position: self.position(now),
        }
    }

    /// The part of a game that changes, at `now`.
    pub(crate) fn position(&self, now: i64) -> Position {
        let played = &self.played;
        Position {
            version: self.version.cast_unsigned(),
            ply: played.ply(),
            fen: played.fen(),
            turn: played.turn(),
            check: played.is_check(),
            legal: if self.ending.is_some() { Vec::new() } else { played.legal() },
            clocks: self.clock.shown(self.running(), now),
            paused_ms: self.paused_ms.max(0).cast_unsigned(),
            draw_offer: self.draw_offer,
            result: self.ending.map(|ending| result(ending, played.turn())),
            rematch: self.rematch.clone(),
        }
    }

    /// The last move.
    pub(crate) fn last_move(&self) -> Option<Move> {
        self.left_ms.len().checked_sub(1).map(|last| self.shown_move(last))
    }

    fn shown_move(&self, index: usize) -> Move {
        let played = &self.played.moves()[index];
        Move {
            uci: played.uci.clone(),
            san: played.san.clone(),
            fen: played.fen.clone(),
            left_ms: self.left_ms[index].max(0).cast_unsigned(),
        }
    }

    /// The players without a connection, at `now`.
    pub(crate) fn absent(&self, times: ClaimTimes, now: i64) -> Absent {
        let absence = |gone: Option<Gone>| {
            let gone = gone.filter(|_| self.ending.is_none())?;
            let claim_in_ms = (times.claim_at(gone) - now).max(0).cast_unsigned();
            Some(Absence { bye: gone.bye, claim_in_ms })
        };
        Absent { white: absence(self.white_gone), black: absence(self.black_gone) }
    }
}

/// An ending in a sentence. `turn` is the side that was to move.
pub(crate) fn result(Ending { winner, reason }: Ending, turn: Color) -> GameResult {
    let (won, lost) = winner.map_or(("", ""), |winner| (winner.name(), winner.other().name()));
    let message = match (reason, winner) {
        (Reason::Mate, _) => format!("Checkmate: {won} wins."),
        (Reason::Resignation, _) => format!("{lost} resigned: {won} wins."),
        (Reason::Time, _) => format!("{lost} ran out of time: {won} wins."),
        (Reason::Abandoned, Some(_)) => format!("{lost} left the game: {won} wins."),
        (Reason::Abandoned, None) => format!("{} left the game: a draw.", turn.name()),
        (Reason::Stalemate, _) => "Stalemate: a draw.".to_owned(),
        (Reason::Threefold, _) => "The same position three times: a draw.".to_owned(),
        (Reason::FiftyMoves, _) => "Fifty moves without a capture or a pawn move: a draw.".to_owned(),
        (Reason::InsufficientMaterial, _) => "Neither side has enough pieces to mate: a draw.".to_owned(),
        (Reason::Agreement, _) => "A draw by agreement.".to_owned(),
        (Reason::TimeInsufficient, _) => {
            let (flagged, other) = (turn.name(), turn.other().name());
            format!("{flagged} ran out of time, but {other} has too few pieces to mate: a draw.")
        }
    };
    GameResult { winner, reason, message }
}
