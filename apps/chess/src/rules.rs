//! The rules of chess, over the moves that `cozy-chess` generates: reading and writing moves, and what ends a game.

mod material;

use cozy_chess::{
    Board, Color as Side, Move,
    util::{display_san_move, display_uci_move, parse_san_move, parse_uci_move},
};

use self::material::{can_win, is_dead};
use crate::protocol::{Color, Reason};

/// The longest text that is read as a move, in bytes: `Qa1xb2=Q#` with room to spare.
const MAX_MOVE_BYTES: usize = 16;

/// How many half-moves without a capture or a pawn's move end a game.
const FIFTY_MOVES: u8 = 100;

/// A game as it was played: its positions and its moves, from the first on.
#[derive(Debug, Clone)]
pub struct Played {
    /// The starting position, and the one after each move.
    boards: Vec<Board>,
    moves: Vec<HalfMove>,
}

/// A move that was played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfMove {
    /// From square to square, `e1g1` for castling.
    pub uci: String,
    /// As people write it.
    pub san: String,
    /// The position after it.
    pub fen: String,
}

/// No legal move is meant by a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that isn't a legal move here")]
pub struct IllegalMove;

/// How the position on the board ends a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The winner. `None` in a draw.
    pub winner: Option<Color>,
    /// Why.
    pub reason: Reason,
}

impl Default for Played {
    fn default() -> Self {
        Self::new()
    }
}

impl Played {
    /// No move yet.
    pub fn new() -> Self {
        Self::from(Board::startpos())
    }

    /// A game that begins from another position, in FEN.
    ///
    /// # Errors
    /// It isn't a position.
    pub fn from_fen(fen: &str) -> Result<Self, cozy_chess::FenParseError> {
        Board::from_fen(fen, false).map(Self::from)
    }

    /// The game that these moves make.
    ///
    /// # Errors
    /// One of them is illegal.
    pub fn replay<'m>(moves: impl IntoIterator<Item = &'m str>) -> Result<Self, IllegalMove> {
        let mut played = Self::new();
        for text in moves {
            played.play(text)?;
        }
        Ok(played)
    }

    /// Plays a move: `e2e4`, `e7e8q`, `e1g1`, or as people write it, `e4`, `Nf3`, `O-O`, `e8=Q`.
    ///
    /// # Errors
    /// There is no such legal move, and nothing changes.
    pub fn play(&mut self, text: &str) -> Result<&HalfMove, IllegalMove> {
        let before = self.board();
        let played = read(before, text).ok_or(IllegalMove)?;
        let (uci, san) = (display_uci_move(before, played), display_san_move(before, played));
        let (uci, san) = (uci.to_string(), san.to_string());
        let mut after = before.clone();
        after.try_play(played).map_err(|_| IllegalMove)?;
        self.moves.push(HalfMove { uci, san, fen: after.to_string() });
        self.boards.push(after);
        Ok(&self.moves[self.moves.len() - 1])
    }

    /// All moves.
    pub fn moves(&self) -> &[HalfMove] {
        &self.moves
    }

    /// How many half-moves were played.
    pub fn ply(&self) -> u32 {
        self.moves.len() as u32
    }

    /// The position now.
    pub(crate) fn board(&self) -> &Board {
        &self.boards[self.boards.len() - 1]
    }

    /// The position now, in FEN.
    pub fn fen(&self) -> String {
        self.board().to_string()
    }

    /// Whose turn it is.
    pub fn turn(&self) -> Color {
        color(self.board().side_to_move())
    }

    /// Whether they are in check.
    pub fn is_check(&self) -> bool {
        !self.board().checkers().is_empty()
    }

    /// Their legal moves, from square to square.
    pub fn legal(&self) -> Vec<String> {
        let board = self.board();
        legal_moves(board).into_iter().map(|legal| display_uci_move(board, legal).to_string()).collect()
    }

    /// Whether a side could still mate, if the other helped.
    pub fn can_win(&self, side: Color) -> bool {
        can_win(self.board(), side)
    }

    /// How the position ends the game, if it does. Threefold repetition and the fifty-move rule need no claim.
    pub fn ending(&self) -> Option<Ending> {
        let board = self.board();
        let draw = |reason| Some(Ending { winner: None, reason });
        if !board.generate_moves(|_| true) {
            if board.checkers().is_empty() {
                return draw(Reason::Stalemate);
            }
            // Mate in the hundredth half-move is mate.
            return Some(Ending { winner: Some(self.turn().other()), reason: Reason::Mate });
        }
        if is_dead(board) {
            return draw(Reason::InsufficientMaterial);
        }
        if board.halfmove_clock() >= FIFTY_MOVES {
            return draw(Reason::FiftyMoves);
        }
        if self.is_threefold() {
            return draw(Reason::Threefold);
        }
        None
    }

    /// Whether a position was there before.
    pub(crate) fn has_seen(&self, board: &Board) -> bool {
        let since_irreversible = usize::from(board.halfmove_clock());
        self.boards.iter().rev().take(since_irreversible).any(|past| past.same_position(board))
    }

    /// Whether the position is there for the third time. The hash doesn't tell: it differs by an en-passant square that
    /// no pawn can use.
    fn is_threefold(&self) -> bool {
        let board = self.board();
        let since_irreversible = usize::from(board.halfmove_clock()) + 1;
        let same = self.boards.iter().rev().take(since_irreversible).filter(|past| past.same_position(board));
        same.take(3).count() == 3
    }
}

impl From<Board> for Played {
    fn from(board: Board) -> Self {
        Self { boards: vec![board], moves: Vec::new() }
    }
}

/// All legal moves of the side to move.
pub(crate) fn legal_moves(board: &Board) -> Vec<Move> {
    let mut moves = Vec::with_capacity(48);
    board.generate_moves(|of_piece| {
        moves.extend(of_piece);
        false
    });
    moves
}

/// The legal move that a text means. The parser takes moves that aren't legal, so the board is asked.
fn read(board: &Board, text: &str) -> Option<Move> {
    let text = text.trim().trim_end_matches(['!', '?']);
    if text.is_empty() || text.len() > MAX_MOVE_BYTES || !text.is_ascii() {
        return None;
    }
    let from_to = |text: &str| parse_uci_move(board, text).ok().filter(|read| is_playable(board, *read));
    let notation = |text: &str| parse_san_move(board, text).ok().filter(|read| is_playable(board, *read));
    let (small, canonical) = (text.to_ascii_lowercase(), canonical(text));
    from_to(text)
        .or_else(|| notation(&canonical))
        // Telephones begin with a capital letter. `B` means the bishop, though.
        .or_else(|| from_to(&small).filter(|_| !text.starts_with('B')))
        .or_else(|| {
            notation(&canonical.replacen(capital_file, &small[..1], 1))
                .filter(|_| text.starts_with(capital_file))
        })
}

/// A capital letter that stands for a file and for no piece.
fn capital_file(c: char) -> bool {
    matches!(c, 'A' | 'C'..='H')
}

/// Whether a move can be played. Asked of the board itself: what was parsed may be any move at all.
fn is_playable(board: &Board, read: Move) -> bool {
    board.clone().try_play(read).is_ok()
}

/// Ways of writing that the notation doesn't have: zeros for castling, a small letter for the piece that a pawn becomes.
fn canonical(san: &str) -> String {
    let mut san = san.replace('0', "O");
    let becomes = san.trim_end_matches(['+', '#']).len().saturating_sub(1);
    let is_promotion = becomes > 1 && matches!(san.as_bytes()[becomes - 1], b'1' | b'8' | b'=');
    if is_promotion && san.is_char_boundary(becomes) {
        san[becomes..].make_ascii_uppercase();
    }
    san
}

/// The side as the protocol calls it.
pub(crate) fn color(side: Side) -> Color {
    match side {
        Side::White => Color::White,
        Side::Black => Color::Black,
    }
}

/// The side as the rules call it.
pub(crate) fn side(color: Color) -> Side {
    match color {
        Color::White => Side::White,
        Color::Black => Side::Black,
    }
}
