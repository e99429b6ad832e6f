//! The rules, against a referee that shares no code with them, and where `cozy-chess` is known to differ.

use chess::{
    Played,
    protocol::{Color, Reason},
};
use owlchess::{
    DrawReason, MoveChain, Outcome,
    movegen::legal,
    moves::make::{San, Uci},
};

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % n as u64).unwrap()
    }
}

/// How the referee sees the end, in our words. It knows endings that we don't have, which don't come up in `ending`.
fn judged(chain: &MoveChain) -> Option<(Option<Color>, Reason)> {
    match chain.calc_outcome()? {
        Outcome::Win { side, .. } => {
            let winner = if side == owlchess::Color::White { Color::White } else { Color::Black };
            Some((Some(winner), Reason::Mate))
        }
        Outcome::Draw(reason) => Some((
            None,
            match reason {
                DrawReason::Stalemate => Reason::Stalemate,
                DrawReason::InsufficientMaterial => Reason::InsufficientMaterial,
                DrawReason::Moves50 | DrawReason::Moves75 => Reason::FiftyMoves,
                DrawReason::Repeat3 | DrawReason::Repeat5 => Reason::Threefold,
                _ => return None,
            },
        )),
    }
}

#[test]
fn a_thousand_random_games_are_judged_alike() {
    let mut chance = Chance(20_261_126);
    let mut ends = std::collections::HashMap::new();
    for _ in 0..1_000 {
        let (mut played, mut chain) = (Played::new(), MoveChain::new_initial());
        loop {
            let board = chain.last();
            let theirs = legal::gen_all(board);
            let mut moves: Vec<String> = theirs.iter().map(|legal| legal.uci().to_string()).collect();
            moves.sort();
            let mut ours = played.legal();
            ours.sort();
            assert_eq!(ours, moves, "{}", played.fen());
            let ending = played.ending().map(|ending| (ending.winner, ending.reason));
            assert_eq!(ending, judged(&chain), "{}", played.fen());
            if let Some((_, reason)) = ending {
                *ends.entry(reason.as_str()).or_insert(0) += 1;
                break;
            }
            let chosen = moves.swap_remove(chance.below(moves.len()));
            let theirs = owlchess::Move::from_uci_legal(&chosen, board).unwrap();
            let san = theirs.san(board).unwrap().to_string();
            // Each reads what the other writes, in one notation or the other.
            let by_notation = chance.below(2) == 0;
            let half_move = played.play(if by_notation { &san } else { &chosen }).unwrap();
            assert_eq!((&half_move.san, &half_move.uci), (&san, &chosen));
            if by_notation {
                chain.push(San(&half_move.san)).unwrap();
            } else {
                chain.push(Uci(&half_move.uci)).unwrap();
            }
            assert_eq!(half_move.fen.split(' ').next(), chain.last().as_fen().split(' ').next());
        }
    }
    for reason in ["mate", "stalemate", "threefold", "fifty_moves", "insufficient_material"] {
        assert!(ends.contains_key(reason), "none ended so: {ends:?}");
    }
}

fn play(moves: &str) -> Played {
    Played::replay(moves.split_whitespace()).unwrap()
}

fn from(fen: &str) -> Played {
    Played::from_fen(fen).unwrap()
}

fn reason(played: &Played) -> Option<Reason> {
    played.ending().map(|ending| ending.reason)
}

/// A hash of the position counts a file for en passant although no pawn can capture there, and would see it twice only.
#[test]
fn en_passant_that_nobody_can_use_is_no_difference() {
    let mut played = play("e4 Nf6 Nf3 Ng8 Ng1 Nf6 Nf3 Ng8");
    assert_eq!(reason(&played), None);
    played.play("Ng1").unwrap();
    assert_eq!(reason(&played), Some(Reason::Threefold));
    // Here the pawn on e5 could have captured the first time.
    let mut played = play("e4 Nc6 e5 d5 Nf3 Nb8 Ng1 Nc6 Nf3 Nb8 Ng1");
    assert_eq!(reason(&played), None, "the position with the capture is another one");
    for text in ["Nc6", "Nf3", "Nb8"] {
        played.play(text).unwrap();
    }
    assert_eq!(reason(&played), Some(Reason::Threefold), "after Nf3 Nb8, three times");
}

#[test]
fn castling_is_the_kings_move_however_it_is_written() {
    let before = "e4 e5 Nf3 Nf6 Be2 Be7";
    for text in ["e1g1", "e1h1", "O-O", "0-0", "E1G1"] {
        let mut played = play(before);
        let castled = played.play(text).unwrap();
        assert_eq!((&*castled.uci, &*castled.san), ("e1g1", "O-O"), "{text}");
    }
    assert_eq!(play(before).legal().iter().filter(|uci| uci.starts_with("e1")).count(), 2, "Kf1 and O-O");
    let long = from("r3k2r/8/8/8/8/8/8/R3K2R b KQkq - 0 1");
    for text in ["e8c8", "e8a8", "O-O-O", "0-0-0"] {
        assert_eq!(long.clone().play(text).unwrap().uci, "e8c8", "{text}");
    }
}

#[test]
fn a_text_that_only_looks_like_a_move_is_refused_and_changes_nothing() {
    let mut played = play("e4 e5");
    let before = played.fen();
    for text in [
        "",
        " ",
        "e2e4",
        "e2e4q",
        "e7e8k",
        "e8",
        "Ke2e4",
        "O-O",
        "0-0-0",
        "e5",
        "a1a1",
        "h9h8",
        "Nf3 Nf6",
        "♞f3",
        "Qh5#1",
        "\u{0}",
        "e1e9",
        "xxxx",
        "Bb5c6d7",
        "résigne",
        &"e".repeat(10_000),
    ] {
        assert!(played.play(text).is_err(), "{text:?}");
    }
    assert_eq!((played.fen(), played.ply()), (before, 2));
}

#[test]
fn people_write_moves_in_many_ways() {
    for (text, uci) in
        [("Nf3", "g1f3"), (" Nf3! ", "g1f3"), ("g1f3", "g1f3"), ("E4", "e2e4"), ("e4?!", "e2e4")]
    {
        assert_eq!(Played::new().play(text).unwrap().uci, uci, "{text}");
    }
    let promotes = from("3r4/4P1k1/8/8/8/8/8/4K3 w - - 0 1");
    for (text, uci) in [
        ("e8=Q", "e7e8q"),
        ("e8Q", "e7e8q"),
        ("e8=n+", "e7e8n"),
        ("e7e8r", "e7e8r"),
        ("E7E8B", "e7e8b"),
        ("exd8=Q", "e7d8q"),
    ] {
        assert_eq!(promotes.clone().play(text).unwrap().uci, uci, "{text}");
    }
    assert!(promotes.clone().play("e8").is_err() && promotes.clone().play("e7e8").is_err(), "into what?");
    // Each could be meant by small letters: a bishop is a bishop.
    let both = from("4k3/8/8/2p5/1P6/8/5B2/4K3 w - - 0 1");
    assert_eq!(both.clone().play("bxc5").unwrap().uci, "b4c5");
    assert_eq!(both.clone().play("Bxc5").unwrap().uci, "f2c5");
    let pawn_only = from("4k3/8/8/2p5/1P6/8/8/3BK3 w - - 0 1");
    assert!(pawn_only.clone().play("Bxc5").is_err(), "the bishop can't, and the pawn isn't meant");
}

#[test]
fn mate_in_the_hundredth_half_move_is_mate() {
    let mut played = from("7k/8/6K1/8/8/8/8/R7 w - - 99 80");
    played.play("Ra8").unwrap();
    assert_eq!(reason(&played), Some(Reason::Mate));
    let mut played = from("7k/8/5K2/8/8/8/8/R7 w - - 99 80");
    played.play("Ra7").unwrap();
    assert_eq!(reason(&played), Some(Reason::FiftyMoves));
    let mut played = from("7k/8/5K2/8/8/8/8/R7 w - - 98 80");
    played.play("Ra7").unwrap();
    assert_eq!(reason(&played), None);
}

#[test]
fn dead_positions_end_and_each_side_is_judged_for_itself() {
    for (fen, white_can, black_can) in [
        ("4k3/8/8/8/8/8/8/4K3", false, false),
        ("4k3/8/8/8/8/8/8/4KN2", false, false),
        ("4k3/8/8/8/8/8/8/4KB2", false, false),
        // Bishops of one colour of squares, and of both.
        ("4kb2/8/8/8/8/8/8/2B1K3", false, false),
        ("2b1k3/8/8/8/8/8/8/2B1K3", true, true),
        ("4k3/8/8/8/8/8/8/2B1KB2", true, false),
        // Two knights can't force it, and can mate.
        ("4k3/8/8/8/8/8/8/1N2KN2", true, false),
        ("4k3/8/8/8/8/8/8/4KNB1", true, false),
        // A knight mates a king that its own pieces hem in; a queen never does.
        ("4kn2/8/8/8/8/8/8/4KN2", true, true),
        ("4kq2/8/8/8/8/8/8/4KN2", false, true),
        ("4kr2/8/8/8/8/8/8/4KN2", true, true),
        ("4k3/p7/8/8/8/8/8/4KN2", true, true),
        // A bishop needs a pawn, a knight, or the other colour.
        ("4kr2/8/8/8/8/8/8/4KB2", false, true),
        ("4k3/p7/8/8/8/8/8/4KB2", true, true),
        ("4kn2/8/8/8/8/8/8/4KB2", true, true),
        ("4k3/8/8/8/8/8/P7/4K3", true, false),
        ("4k3/8/8/8/8/8/8/4KR2", true, false),
    ] {
        let played = from(&format!("{fen} w - - 0 1"));
        let can = (played.can_win(Color::White), played.can_win(Color::Black));
        assert_eq!(can, (white_can, black_can), "{fen}");
        let is_dead = reason(&played) == Some(Reason::InsufficientMaterial);
        assert_eq!(is_dead, !white_can && !black_can, "{fen}");
    }
}

#[test]
fn stalemate_and_mate_are_told_apart() {
    assert_eq!(reason(&from("7k/5Q2/6K1/8/8/8/8/8 b - - 0 1")), Some(Reason::Stalemate));
    let fools = play("f3 e5 g4 Qh4#");
    assert_eq!(fools.ending().map(|ending| ending.winner), Some(Some(Color::Black)));
    assert!(fools.is_check() && fools.legal().is_empty());
}
