//! Whether a side can still mate.

use cozy_chess::{BitBoard, Board, Piece};

use super::side;
use crate::protocol::Color;

/// Whether neither side can mate, however the other plays: bare kings, one knight, or bishops of one colour of squares.
/// Positions that are dead for another reason, such as walls of pawns, aren't found out; fifty moves end them.
pub(super) fn is_dead(board: &Board) -> bool {
    !can_win(board, Color::White) && !can_win(board, Color::Black)
}

/// Whether a side could mate if the other helped. Only the pieces count, not their squares.
pub(super) fn can_win(board: &Board, color: Color) -> bool {
    let own = side(color);
    let count = |piece| board.colored_pieces(own, piece).len();
    if count(Piece::Pawn) + count(Piece::Rook) + count(Piece::Queen) > 0 {
        return true;
    }
    match (count(Piece::Knight), count(Piece::Bishop)) {
        (0, 0) => false,
        // The other king has to be hemmed in by its own pieces, and queens would always take the knight or give way.
        (1, 0) => {
            let others = board.colors(!own) & !board.pieces(Piece::King) & !board.pieces(Piece::Queen);
            !others.is_empty()
        }
        // Bishops of one colour of squares never attack the others, on which only a pawn, a knight or a bishop of
        // those squares can shut a king in.
        (0, _) => {
            let bishops = board.pieces(Piece::Bishop);
            let on_both = !(bishops & BitBoard::DARK_SQUARES).is_empty()
                && !(bishops & BitBoard::LIGHT_SQUARES).is_empty();
            on_both || !(board.pieces(Piece::Pawn) | board.pieces(Piece::Knight)).is_empty()
        }
        _ => true,
    }
}
