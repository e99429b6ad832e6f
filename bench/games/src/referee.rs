//! Replays a game from its PGN, by rules that share no code with the site's.

use owlchess::{MoveChain, Outcome, moves::make::San};
use serde_json::Value;

use crate::{game::Played, http::ask, site::Site};

/// Checks that a game is whole: legal to its end, with each move that was answered as stored, and with the result that the
/// last position has.
pub(crate) async fn check(site: &Site, game: &Played) -> Result<(), String> {
    let path = format!("/game/{}/pgn", game.id);
    let answer = ask(site.port(0), "GET", &path, &game.cookie, &Value::Null)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("its PGN is answered with {}", answer.status));
    }
    let (tags, moves) = answer.body.split_once("\n\n").ok_or("a PGN without moves")?;
    let tag = |name: &str| {
        let line = tags.lines().find_map(|line| line.strip_prefix(&format!("[{name} \"")));
        line.and_then(|line| line.strip_suffix("\"]")).unwrap_or_default()
    };
    let mut replayed = MoveChain::new_initial();
    let mut played = Vec::new();
    let mut words = moves.split_whitespace();
    while let Some(word) = words.next() {
        if word.starts_with('{') {
            words.next();
        } else if !word.ends_with('.') && word != tag("Result") {
            replayed.push(San(word)).map_err(|error| format!("{word} is illegal: {error}"))?;
            played.push(replayed.get(replayed.len() - 1).uci().to_string());
        }
    }
    for (ply, uci) in &game.acknowledged {
        let stored = played.get(*ply as usize);
        if stored != Some(uci) {
            return Err(format!("{uci} was stored at {ply}, and the game has {stored:?} there"));
        }
    }
    let result = match replayed.calc_outcome() {
        Some(Outcome::Win { side: owlchess::Color::White, .. }) => "1-0",
        Some(Outcome::Win { .. }) => "0-1",
        Some(Outcome::Draw(_)) => "1/2-1/2",
        None => "*",
    };
    if tag("Termination") == "normal" && result != tag("Result") {
        return Err(format!("it is {}, and the last position is {result}", tag("Result")));
    }
    Ok(())
}
