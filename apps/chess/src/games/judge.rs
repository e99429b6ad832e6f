//! Judges commands: a game as it stands and a wish in, the game after it or a refusal out. No I/O.

use super::table::{ClaimTimes, Table};
use crate::{
    Problem,
    ids::random_id,
    protocol::{Claim, Color, Done, Moved, NewMove, Reason},
    rules::{Ending, Played},
};

/// A player's wish in a game.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Move(NewMove),
    Resign,
    /// Offers a draw, or takes one.
    Draw,
    DeclineDraw,
    Claim(Claim),
    /// Offers a rematch, or takes one.
    Rematch,
    DeclineRematch,
}

/// Facts that the judge can't see in the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// How long ago the command came in, in milliseconds: its clock stops then.
    pub(crate) waited_ms: i64,
    /// Whether the opponent has a connection.
    pub(crate) opponent_here: bool,
    pub(crate) times: ClaimTimes,
}

/// The reply to a command that succeeds.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Moved(Moved),
    Done(Done),
}

/// The judge's decision on a command.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The game after it, if it changes.
    pub(crate) next: Option<Next>,
    /// The reply, once the change is stored.
    pub(crate) answer: Result<Answer, Problem>,
}

/// A game after a change.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) table: Table,
    /// Whether the last move is new.
    pub(crate) moved: bool,
    /// Whether it is over with this change.
    pub(crate) has_ended: bool,
    /// The rematch begins: the id of the new game.
    pub(crate) begins: Option<String>,
}

impl Next {
    fn of(table: &Table) -> Self {
        let table = Table { version: table.version + 1, ..table.clone() };
        Self { table, moved: false, has_ended: false, begins: None }
    }

    /// The game is over at `at`.
    fn ends(mut self, ending: Ending, at: i64) -> Self {
        if let Some(running) = self.table.running() {
            self.table.clock = self.table.clock.stopped(running, at);
        }
        self.table.ending = Some(ending);
        self.table.draw_offer = None;
        self.has_ended = true;
        self
    }
}

/// Judges what a player, or nobody, wants to do.
pub(crate) fn judge(table: &Table, by: Option<Color>, command: &Command, facts: Facts) -> Verdict {
    let refuse = |problem| Verdict { next: None, answer: Err(problem) };
    let Some(by) = by else {
        return refuse(Problem::new("not_a_player", "You are watching this game."));
    };
    // The same move again, from a client that has heard no answer.
    if let Command::Move(wanted) = command
        && let Some(uci) = played_already(table, by, wanted)
    {
        let moved = Moved { version: table.version.cast_unsigned(), ply: wanted.ply, uci };
        return Verdict { next: None, answer: Ok(Answer::Moved(moved)) };
    }
    let at = table.now - facts.waited_ms.max(0);
    if let Some(flagged) = flag(table, at) {
        let over = Problem::new("game_over", "The time had run out before.");
        return Verdict { next: Some(flagged), answer: Err(over) };
    }
    let judged = match command {
        Command::Move(wanted) => make_move(table, by, wanted, at),
        Command::Resign => resign(table, by, at),
        Command::Draw => draw(table, by, at),
        Command::DeclineDraw => decline_draw(table, by),
        Command::Claim(claim) => make_claim(table, by, *claim, facts, at),
        Command::Rematch => rematch(table, by, facts.opponent_here),
        Command::DeclineRematch => Ok(decline_rematch(table)),
    };
    match judged {
        Ok(Some(next)) => {
            let answer = answer(&next);
            Verdict { next: Some(next), answer: Ok(answer) }
        }
        // It is so already.
        Ok(None) => {
            let (version, game) = (table.version.cast_unsigned(), table.rematch.game.clone());
            Verdict { next: None, answer: Ok(Answer::Done(Done { version, game })) }
        }
        Err(problem) => refuse(problem),
    }
}

/// The game with the flag fallen, if it has at `at`.
pub(crate) fn flag(table: &Table, at: i64) -> Option<Next> {
    let to_move = table.running()?;
    if table.clock.left(to_move, Some(to_move), at) > 0 {
        return None;
    }
    let ending = if table.played.can_win(to_move.other()) {
        Ending { winner: Some(to_move.other()), reason: Reason::Time }
    } else {
        Ending { winner: None, reason: Reason::TimeInsufficient }
    };
    Some(Next::of(table).ends(ending, table.clock.deadline(to_move)))
}

fn answer(next: &Next) -> Answer {
    let version = next.table.version.cast_unsigned();
    match (next.moved, next.table.played.moves().last()) {
        (true, Some(last)) => {
            Answer::Moved(Moved { version, ply: next.table.played.ply() - 1, uci: last.uci.clone() })
        }
        _ => Answer::Done(Done { version, game: next.begins.clone() }),
    }
}

/// The move that stands where `wanted` would, if it is the same one.
fn played_already(table: &Table, by: Color, wanted: &NewMove) -> Option<String> {
    let there = table.played.moves().get(wanted.ply as usize)?;
    if Color::to_move(wanted.ply) != by {
        return None;
    }
    if there.uci == wanted.text || there.san == wanted.text {
        return Some(there.uci.clone());
    }
    // Written another way.
    let before = table.played.moves()[..wanted.ply as usize].iter().map(|earlier| &*earlier.uci);
    let mut then = Played::replay(before).ok()?;
    let meant = then.play(&wanted.text).ok()?;
    (meant.uci == there.uci).then(|| there.uci.clone())
}

fn make_move(table: &Table, by: Color, wanted: &NewMove, at: i64) -> Result<Option<Next>, Problem> {
    let to_move = check_running(table)?;
    if Color::to_move(wanted.ply) != by || (wanted.ply == table.played.ply() && to_move != by) {
        return Err(Problem::new("not_your_turn", "It isn't your turn."));
    }
    if wanted.ply != table.played.ply() {
        let problem = Problem::new("stale", "The position has changed.");
        return Err(Problem { game: Some(Box::new(table.game(table.now))), ..problem });
    }
    let mut next = Next::of(table);
    if next.table.played.play(&wanted.text).is_err() {
        return Err(Problem::new("illegal_move", "That isn't a legal move here."));
    }
    next.moved = true;
    let clock = table.clock.moved(by, table.time.increment_ms, at);
    next.table.clock = clock;
    next.table.left_ms.push(clock.left(by, None, at));
    if table.draw_offer == Some(by.other()) {
        next.table.draw_offer = None;
    }
    if let Some(ending) = next.table.played.ending() {
        next.table.ending = Some(ending);
        next.table.draw_offer = None;
        next.has_ended = true;
    }
    Ok(Some(next))
}

fn resign(table: &Table, by: Color, at: i64) -> Result<Option<Next>, Problem> {
    check_running(table)?;
    let ending = Ending { winner: Some(by.other()), reason: Reason::Resignation };
    Ok(Some(Next::of(table).ends(ending, at)))
}

fn draw(table: &Table, by: Color, at: i64) -> Result<Option<Next>, Problem> {
    check_running(table)?;
    match table.draw_offer {
        Some(offered) if offered == by => Ok(None),
        Some(_) => {
            let ending = Ending { winner: None, reason: Reason::Agreement };
            Ok(Some(Next::of(table).ends(ending, at)))
        }
        None => {
            let mut next = Next::of(table);
            next.table.draw_offer = Some(by);
            Ok(Some(next))
        }
    }
}

fn decline_draw(table: &Table, by: Color) -> Result<Option<Next>, Problem> {
    check_running(table)?;
    if table.draw_offer != Some(by.other()) {
        return Err(Problem::not_now("No draw is offered to you."));
    }
    let mut next = Next::of(table);
    next.table.draw_offer = None;
    Ok(Some(next))
}

fn make_claim(
    table: &Table,
    by: Color,
    claim: Claim,
    facts: Facts,
    at: i64,
) -> Result<Option<Next>, Problem> {
    let to_move = check_running(table)?;
    let opponent = by.other();
    let name = &table.player(opponent).name;
    if table.played.ply() < 2 {
        return Err(Problem::not_now("A game can be claimed once both have moved."));
    }
    if to_move == by {
        return Err(Problem::not_now(
            "It is your turn: a game can be claimed only while the other is to move.",
        ));
    }
    let Some(gone) = table.gone(opponent) else {
        return Err(Problem::new("opponent_here", format!("{name} is here.")));
    };
    if facts.opponent_here {
        return Err(Problem::new("opponent_back", format!("{name} is back.")));
    }
    let wait_ms = facts.times.claim_at(gone) - table.now;
    if wait_ms > 0 {
        let seconds = (wait_ms + 999) / 1000;
        let problem = Problem::new("wait", format!("{name} may come back yet: wait {seconds} seconds more."));
        return Err(Problem { retry_after_ms: Some(wait_ms.cast_unsigned()), ..problem });
    }
    let wins = claim == Claim::Win && table.played.can_win(by);
    let ending = Ending { winner: wins.then_some(by), reason: Reason::Abandoned };
    Ok(Some(Next::of(table).ends(ending, at)))
}

fn rematch(table: &Table, by: Color, opponent_here: bool) -> Result<Option<Next>, Problem> {
    if table.ending.is_none() {
        return Err(Problem::new("game_running", "This game isn't over yet."));
    }
    if table.rematch.game.is_some() {
        return Ok(None);
    }
    let opponent = table.player(by.other());
    if !opponent_here {
        return Err(Problem::new("offline", format!("{} has left.", opponent.name)));
    }
    if table.rematch.offer == Some(by) {
        return Ok(None);
    }
    let mut next = Next::of(table);
    if opponent.bot || table.rematch.offer == Some(by.other()) {
        let id = random_id();
        next.table.rematch.offer = None;
        next.table.rematch.game = Some(id.clone());
        next.begins = Some(id);
    } else {
        next.table.rematch.offer = Some(by);
    }
    Ok(Some(next))
}

fn decline_rematch(table: &Table) -> Option<Next> {
    table.rematch.offer?;
    let mut next = Next::of(table);
    next.table.rematch.offer = None;
    Some(next)
}

/// The side to move of a running game.
fn check_running(table: &Table) -> Result<Color, Problem> {
    table.running().ok_or_else(|| Problem::new("game_over", "This game is over."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        UserId,
        clock::Clock,
        games::table::Gone,
        protocol::{Rematch, TimeControl, User},
    };

    fn table(fen: &str) -> Table {
        let user = |id| User { id: UserId(id), name: format!("Player {id}"), bot: false };
        Table {
            id: "game".to_owned(),
            white: user(1),
            black: user(2),
            time: TimeControl { initial_ms: 60_000, increment_ms: 0 },
            version: 7,
            played: Played::from_fen(fen).unwrap(),
            left_ms: Vec::new(),
            clock: Clock { white_ms: 10_000, black_ms: 10_000, turn_at: 100_000 },
            paused_ms: 0,
            draw_offer: None,
            white_gone: None,
            black_gone: None,
            ending: None,
            rematch: Rematch::default(),
            now: 105_000,
        }
    }

    const FACTS: Facts =
        Facts { waited_ms: 0, opponent_here: false, times: ClaimTimes { lost_ms: 3_000, bye_ms: 1_000 } };

    fn ending(verdict: Verdict) -> Option<(Option<Color>, Reason)> {
        verdict.next?.table.ending.map(|ending| (ending.winner, ending.reason))
    }

    #[test]
    fn a_flag_against_what_can_never_mate_is_a_draw() {
        for (fen, result) in [
            ("4k3/8/8/8/8/8/Q7/4K3 w - - 0 1", (None, Reason::TimeInsufficient)),
            ("4kn2/8/8/8/8/8/Q7/4K3 w - - 0 1", (None, Reason::TimeInsufficient)),
            // Opposite bishops and a pawn can be mate.
            ("2b1k3/8/8/8/8/8/P7/2B1K3 w - - 0 1", (Some(Color::Black), Reason::Time)),
            ("4kn2/8/8/8/8/8/P7/4K3 w - - 0 1", (Some(Color::Black), Reason::Time)),
        ] {
            let fallen = flag(&table(fen), 110_000).unwrap();
            let ending = fallen.table.ending.unwrap();
            assert_eq!((ending.winner, ending.reason), result, "{fen}");
            assert_eq!((fallen.table.version, fallen.table.clock.white_ms), (8, 0));
        }
        assert!(flag(&table("4k3/8/8/8/8/8/Q7/4K3 w - - 0 1"), 109_999).is_none());
    }

    #[test]
    fn whatever_comes_after_the_flag_ends_the_game_by_time() {
        let late = Table { now: 110_000, ..table("4k3/p7/8/8/8/8/Q7/4K3 w - - 0 1") };
        for (by, command) in [
            (Color::White, Command::Move(NewMove { ply: 0, text: "Qa3".to_owned() })),
            (Color::Black, Command::Resign),
            (Color::White, Command::Draw),
        ] {
            let verdict = judge(&late, Some(by), &command, FACTS);
            assert_eq!(verdict.answer.as_ref().unwrap_err().reason, "game_over");
            assert_eq!(ending(verdict), Some((Some(Color::Black), Reason::Time)), "{command:?}");
        }
        // It came in time, and waited here.
        let waited = Facts { waited_ms: 1, ..FACTS };
        let command = Command::Move(NewMove { ply: 0, text: "Qa3".to_owned() });
        let verdict = judge(&late, Some(Color::White), &command, waited);
        assert!(verdict.answer.is_ok());
        assert_eq!(verdict.next.unwrap().table.clock.white_ms, 1);
    }

    #[test]
    fn a_win_is_claimed_as_a_draw_by_whoever_could_never_mate() {
        let bare = "4k3/8/8/8/8/8/Q7/4K3 w - - 0 1";
        let mut table = table(bare);
        for text in ["Qa3", "Kd8"] {
            table.played.play(text).unwrap();
            table.left_ms.push(10_000);
        }
        table.white_gone = Some(Gone { at: 102_000, bye: false });
        let claim = |table: &Table, by| judge(table, Some(by), &Command::Claim(Claim::Win), FACTS);
        assert_eq!(ending(claim(&table, Color::Black)), Some((None, Reason::Abandoned)));
        let refused = claim(&Table { now: 104_990, ..table.clone() }, Color::Black).answer.unwrap_err();
        assert_eq!((refused.reason, refused.retry_after_ms), ("wait", Some(10)));
        assert_eq!(claim(&table, Color::White).answer.unwrap_err().reason, "not_now");
        let here = Facts { opponent_here: true, ..FACTS };
        let refused = judge(&table, Some(Color::Black), &Command::Claim(Claim::Win), here);
        assert_eq!(refused.answer.unwrap_err().reason, "opponent_back");
        table.white_gone = Some(Gone { at: 104_000, bye: true });
        assert_eq!(ending(claim(&table, Color::Black)), Some((None, Reason::Abandoned)));
    }
}
