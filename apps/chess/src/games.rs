//! Games: commands are judged and stored, and then everyone hears of the change.

mod cache;
mod flags;
mod judge;
mod table;

use tokio::time::Instant;

use self::judge::{Facts, Next, Verdict, judge};
pub(crate) use self::{
    cache::GameCache,
    flags::NextLook,
    judge::{Answer, Command},
    table::{ClaimTimes, Gone, Table, result},
};
use crate::{
    Problem, UserId,
    db::Update,
    node::{LOBBY, Node, game_topic, user_topic},
    protocol::{Change, Color, GameStarted, User},
};

/// How often a command is judged anew because the game was changed meanwhile. Each time another command has won.
const ATTEMPTS: u32 = 10;

impl Node {
    /// Does in a game what a player wants, who asked for it at `received`. It is stored when this returns.
    pub(crate) async fn act(
        &self,
        game: &str,
        user: UserId,
        command: &Command,
        received: Instant,
    ) -> Result<Answer, Problem> {
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            let table = self.table(game).await?;
            let by = table.side_of(user);
            let facts = self.facts(&table, by, command, received);
            let Verdict { next, answer } = judge(&table, by, command, facts);
            let Some(next) = next else {
                if failed.is_some() {
                    // It may be this command that is stored, and nobody has heard of it.
                    self.tell(&table, true);
                }
                return answer;
            };
            match self.store(&next).await {
                Ok(Update::Stored) => {
                    self.changed(&next);
                    if next.begins.is_some() {
                        self.end_offers_of_players(&next.table).await;
                    }
                    return answer;
                }
                Ok(Update::Raced) => {}
                Ok(Update::Busy(busy)) => return Err(busy_problem(next.table.side_of(busy) == by)),
                // It may be stored all the same: looking again tells, once.
                Err(error) if failed.is_none() => failed = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(failed.map_or_else(Problem::unavailable, Problem::from))
    }

    /// Stores what has become of a game.
    async fn store(&self, next: &Next) -> Result<Update, sqlx::Error> {
        match &next.begins {
            Some(game) => self.db.begin_rematch(&next.table, game).await,
            None => self.db.update(&next.table, next.moved).await,
        }
    }

    /// Collects the facts that the judge can't see in the table. Looks for the opponent only if the command depends on it.
    fn facts(&self, table: &Table, by: Option<Color>, command: &Command, received: Instant) -> Facts {
        let opponent_here = match (by, command) {
            (Some(by), Command::Claim(_) | Command::Rematch) => {
                let opponent = table.player(by.other());
                let topic = if opponent.bot { LOBBY.to_owned() } else { game_topic(&table.id) };
                self.is_in(&topic, opponent.id)
            }
            _ => true,
        };
        let waited = received.elapsed().as_millis();
        Facts {
            waited_ms: i64::try_from(waited).unwrap_or(i64::MAX),
            opponent_here,
            times: self.settings.claim_times(),
        }
    }

    /// Tells everyone of a change that is stored.
    fn changed(&self, next: &Next) {
        let table = &next.table;
        self.cache.put(table);
        self.tell(table, next.moved);
        self.board.changed();
        if table.ending.is_none() {
            self.next_look.deadline(table.clock.deadline(table.played.turn()));
        } else if next.has_ended {
            for player in [&table.white, &table.black] {
                self.refresh(player.id);
                self.mine_changed(player.id);
            }
        }
        if let Some(game) = &next.begins {
            self.begun(game, &table.black, &table.white);
        }
    }

    /// Tells everyone in a game how it stands.
    fn tell(&self, table: &Table, moved: bool) {
        self.broadcast(&game_topic(&table.id), "change", change(table, moved));
    }

    /// Tells everyone in a game on this node how it stands.
    pub(crate) fn tell_here(&self, table: &Table, moved: bool) {
        drop(self.pubsub.local_broadcast(game_topic(&table.id), "change", change(table, moved)));
    }

    /// Tells the players that their game has begun.
    pub(crate) fn begun(&self, game: &str, white: &User, black: &User) {
        for (player, color, opponent) in [(white, Color::White, black), (black, Color::Black, white)] {
            let started = GameStarted { game: game.to_owned(), color, opponent: opponent.clone() };
            self.broadcast(&user_topic(player.id), "game_started", started);
            self.refresh(player.id);
            self.mine_changed(player.id);
        }
        self.board.changed();
        self.next_look.now();
    }

    /// A game as it stands.
    pub(crate) async fn table(&self, game: &str) -> Result<Table, Problem> {
        let table = self.db.table(game, &self.cache).await?;
        table.ok_or_else(|| Problem::not_found("There is no such game."))
    }

    /// Tells the tabs of somebody that what concerns only them has changed.
    pub(crate) fn mine_changed(&self, user: UserId) {
        self.broadcast(&user_topic(user), "mine_changed", serde_json::Map::new());
    }
}

/// How a game stands, with its last move if that is new.
fn change(table: &Table, moved: bool) -> Change {
    let moved = table.last_move().filter(|_| moved);
    Change { moved, position: table.position(table.clock.turn_at.max(table.now)) }
}

/// Somebody has a running game already: the one who asked, or the other.
pub(crate) fn busy_problem(is_self: bool) -> Problem {
    if is_self {
        Problem::new("busy", "You have a running game: finish it first.")
    } else {
        Problem::new("they_are_busy", "They have a running game. Try again when it is over.")
    }
}
