//! How a bot finds a move: alpha-beta over material and places, to a depth, within a number of positions. Nothing in it
//! depends on time, so the same seed finds the same move.

use cozy_chess::{Board, Color as Side, Move, Piece, Square, util::display_uci_move};

use crate::{
    protocol::Color,
    rules::{Played, legal_moves, side},
};

/// How well a bot plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strength {
    /// Half-moves that it looks ahead at most; captures are followed to their end.
    pub(crate) depth: u32,
    /// Positions that it looks at, at most.
    pub(crate) nodes: u32,
    /// By how many hundredths of a pawn a move may be worse than the best one and still be played.
    pub(crate) careless: i32,
}

/// More than any position is worth.
const INFINITE: i32 = 1_000_000;
/// The worth of a mate, less one for each half-move until it.
const MATE: i32 = 100_000;
/// A side this far behind accepts a draw.
const LOST: i32 = -150;

/// The move to play. `None` if there is none.
pub(crate) fn choose(played: &Played, strength: Strength, seed: u64) -> Option<String> {
    let board = played.board();
    let mut moves = legal_moves(board);
    order(board, &mut moves);
    let mut best = vec![(0, *moves.first()?)];
    let mut search = Search { left: strength.nodes };
    for depth in 1..=strength.depth {
        // Too little was left for this depth: the last one counts.
        let Some(scores) = search.root(played, &moves, depth, strength.careless) else { break };
        let highest = scores.iter().map(|(score, _)| *score).max()?;
        best = scores.iter().copied().filter(|(score, _)| highest - score <= strength.careless).collect();
        // One half-move deeper, the best move so far is searched first.
        moves = in_order(scores);
        if highest >= MATE / 2 {
            break;
        }
    }
    let (_, chosen) = best[usize::try_from(mixed(seed) % best.len() as u64).unwrap_or_default()];
    Some(display_uci_move(board, chosen).to_string())
}

/// Whether a side is so far behind that it takes a draw.
pub(crate) fn is_lost(played: &Played, color: Color) -> bool {
    let board = played.board();
    let score = Search { left: 1_000 }.captures(board, -INFINITE, INFINITE).unwrap_or_else(|| worth(board));
    (if board.side_to_move() == side(color) { score } else { -score }) <= LOST
}

struct Search {
    /// How many positions may still be looked at.
    left: u32,
}

impl Search {
    /// Returns the worth of each move. A move that is surely worse than the best by more than `careless` counts as that much worse.
    fn root(
        &mut self,
        played: &Played,
        moves: &[Move],
        depth: u32,
        careless: i32,
    ) -> Option<Vec<(i32, Move)>> {
        let board = played.board();
        let mut scores = Vec::with_capacity(moves.len());
        let mut highest = -INFINITE;
        for candidate in moves {
            let mut after = board.clone();
            after.play_unchecked(*candidate);
            let floor = highest.saturating_sub(careless + 1).max(-INFINITE);
            // A position that was there before leads to a draw: good for whoever is behind.
            let score = if played.has_seen(&after) {
                0
            } else {
                -self.look(&after, depth - 1, -INFINITE, -floor, 1)?
            };
            highest = highest.max(score);
            scores.push((score, *candidate));
        }
        Some(scores)
    }

    /// Returns the worth of a position to the side to move. `None` if the limit was reached first.
    fn look(&mut self, board: &Board, depth: u32, mut alpha: i32, beta: i32, ply: i32) -> Option<i32> {
        self.left = self.left.checked_sub(1)?;
        let mut moves = legal_moves(board);
        if moves.is_empty() {
            return Some(if board.checkers().is_empty() { 0 } else { ply - MATE });
        }
        if board.halfmove_clock() >= 100 {
            return Some(0);
        }
        if depth == 0 {
            return self.captures(board, alpha, beta);
        }
        order(board, &mut moves);
        let mut best = -INFINITE;
        for candidate in moves {
            let mut after = board.clone();
            after.play_unchecked(candidate);
            let score = -self.look(&after, depth - 1, -beta, -alpha, ply + 1)?;
            best = best.max(score);
            alpha = alpha.max(score);
            if alpha >= beta {
                break;
            }
        }
        Some(best)
    }

    /// Returns the worth of a position once the captures have ended. The side to move may also capture nothing.
    fn captures(&mut self, board: &Board, mut alpha: i32, beta: i32) -> Option<i32> {
        self.left = self.left.checked_sub(1)?;
        let mut best = worth(board);
        if best >= beta {
            return Some(best);
        }
        alpha = alpha.max(best);
        let mut moves = legal_moves(board);
        moves.retain(|candidate| gain(board, *candidate) > 0);
        order(board, &mut moves);
        for candidate in moves {
            let mut after = board.clone();
            after.play_unchecked(candidate);
            let score = -self.captures(&after, -beta, -alpha)?;
            best = best.max(score);
            alpha = alpha.max(score);
            if alpha >= beta {
                break;
            }
        }
        Some(best)
    }
}

/// The most promising first: the largest captures, by the smallest pieces.
fn order(board: &Board, moves: &mut [Move]) {
    moves.sort_by_cached_key(|candidate| {
        let piece = board.piece_on(candidate.from).map_or(0, value);
        std::cmp::Reverse(match gain(board, *candidate) {
            0 => 0,
            gain => 100 * gain - piece,
        })
    });
}

fn in_order(mut scores: Vec<(i32, Move)>) -> Vec<Move> {
    scores.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scores.into_iter().map(|(_, candidate)| candidate).collect()
}

/// The worth of the captured piece, and of a promotion.
fn gain(board: &Board, candidate: Move) -> i32 {
    // Castling is the capture of one's own rook here.
    let is_capture = board.color_on(candidate.to) == Some(!board.side_to_move());
    let captured = if is_capture { board.piece_on(candidate.to).map_or(0, value) } else { 0 };
    captured + candidate.promotion.map_or(0, |piece| value(piece) - value(Piece::Pawn))
}

/// In hundredths of a pawn.
fn value(piece: Piece) -> i32 {
    match piece {
        Piece::Pawn => 100,
        Piece::Knight => 320,
        Piece::Bishop => 330,
        Piece::Rook => 500,
        Piece::Queen => 900,
        Piece::King => 0,
    }
}

/// The worth of a position to the side to move, by its pieces and their squares.
fn worth(board: &Board) -> i32 {
    let queens = !board.pieces(Piece::Queen).is_empty();
    let mut sum = 0;
    for piece in Piece::ALL {
        for square in board.colored_pieces(Side::White, piece) {
            sum += value(piece) + place(piece, square, queens);
        }
        for square in board.colored_pieces(Side::Black, piece) {
            sum -= value(piece) + place(piece, square.flip_rank(), queens);
        }
    }
    if board.side_to_move() == Side::White { sum } else { -sum }
}

/// The worth of a white piece's square.
fn place(piece: Piece, square: Square, queens: bool) -> i32 {
    let (file, rank) = (square.file() as i32, square.rank() as i32);
    // 0 at the edge, 3 in the middle.
    let (middle_file, middle_rank) = (file.min(7 - file), rank.min(7 - rank));
    let middle = middle_file + middle_rank;
    match piece {
        Piece::Pawn => rank * rank + if (2..=5).contains(&file) { 4 * rank } else { 0 },
        Piece::Knight => 8 * middle - 20,
        Piece::Bishop => 4 * middle - 4 * i32::from(rank == 0),
        Piece::Rook => 15 * i32::from(rank == 6) + 2 * middle_file,
        Piece::Queen => middle,
        // Behind its pawns while there are queens, in the middle afterwards.
        Piece::King if queens => -10 * rank - 6 * middle_file,
        Piece::King => 6 * middle,
    }
}

/// A seed's bits, spread.
fn mixed(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRONG: Strength = Strength { depth: 4, nodes: 20_000, careless: 0 };
    const WEAK: Strength = Strength { depth: 1, nodes: 2_000, careless: 80 };

    fn from(fen: &str) -> Played {
        Played::from_fen(fen).unwrap()
    }

    #[test]
    fn finds_mate_in_two_and_takes_what_hangs() {
        let ladder = from("7k/8/8/8/8/8/R7/1R4K1 w - - 0 1");
        let first = choose(&ladder, STRONG, 1).unwrap();
        let mut played = ladder;
        played.play(&first).unwrap();
        let reply = played.legal()[0].clone();
        played.play(&reply).unwrap();
        let mate = choose(&played, STRONG, 1).unwrap();
        played.play(&mate).unwrap();
        assert_eq!(played.ending().map(|ending| ending.winner), Some(Some(Color::White)));
        let hanging = from("4k3/8/8/3q4/4P3/8/8/4K3 w - - 0 1");
        for strength in [STRONG, WEAK] {
            assert_eq!(choose(&hanging, strength, 7).as_deref(), Some("e4d5"));
        }
    }

    #[test]
    fn the_same_seed_finds_the_same_move_and_the_weak_one_varies() {
        let start = Played::new();
        let chosen = |seed| choose(&start, WEAK, seed).unwrap();
        assert_eq!(chosen(3), chosen(3));
        let varied: std::collections::HashSet<_> = (0..40).map(chosen).collect();
        assert!(varied.len() > 3, "{varied:?}");
    }

    #[test]
    fn looks_at_no_more_positions_than_it_may() {
        // Middle games with many captures: the captures count, too.
        let wild = from("r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq - 0 1");
        for nodes in [1, 100, 5_000] {
            let mut search = Search { left: nodes };
            let looked = search.look(wild.board(), 6, -INFINITE, INFINITE, 0);
            assert_eq!((looked, search.left), (None, 0));
            assert!(choose(&wild, Strength { depth: 6, nodes, careless: 0 }, 1).is_some());
        }
    }

    #[test]
    fn takes_a_draw_when_lost_and_only_then() {
        let down = from("4k3/8/8/8/8/8/QQ6/4K3 b - - 0 1");
        assert!(is_lost(&down, Color::Black));
        assert!(!is_lost(&down, Color::White));
        assert!(!is_lost(&Played::new(), Color::White));
    }

    #[test]
    fn the_strong_one_beats_chance() {
        for seed in 0..2 {
            let mut played = Played::new();
            let mut chance = mixed(seed + 99);
            let ending = loop {
                if let Some(ending) = played.ending() {
                    break ending;
                }
                let text = if played.turn() == Color::White {
                    choose(&played, Strength { depth: 2, ..STRONG }, seed).unwrap()
                } else {
                    chance = mixed(chance + 1);
                    let legal = played.legal();
                    legal[usize::try_from(chance % legal.len() as u64).unwrap()].clone()
                };
                played.play(&text).unwrap();
            };
            assert_eq!(ending.winner, Some(Color::White), "{:?}", played.moves());
        }
    }
}
