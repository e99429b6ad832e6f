//! Games and their moves. Every change names the version that it was made from, so of several writers one wins, on
//! whatever node.

use sqlx::{Any, AssertSqlSafe, Row, Transaction, any::AnyRow};

use super::{Db, users::user};
use crate::{
    UserId,
    clock::Clock,
    games::{GameCache, Gone, Table},
    protocol::{Color, Reason, Rematch, TimeControl, User},
    rules::{Ending, Played},
};

/// The outcome of storing a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Update {
    /// It is stored.
    Stored,
    /// The game was changed meanwhile: judge anew.
    Raced,
    /// A new game can't begin: this player has a running one.
    Busy(UserId),
}

/// A game to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewGame<'g> {
    pub(super) id: &'g str,
    pub(super) white: &'g User,
    pub(super) black: &'g User,
    pub(super) time: TimeControl,
    pub(super) rematch_of: Option<&'g str>,
}

/// A running game as the lobby lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) white: User,
    pub(crate) black: User,
    pub(crate) time: TimeControl,
    pub(crate) version: i64,
    pub(crate) ply: u32,
    pub(crate) fen: String,
    pub(crate) last: Option<String>,
    pub(crate) clock: Clock,
}

/// Flags to look at.
#[derive(Debug)]
pub(crate) struct Due {
    /// The games whose flag has fallen.
    pub(crate) games: Vec<String>,
    /// When the next one falls.
    pub(crate) next: Option<i64>,
    pub(crate) now: i64,
}

pub(super) const COLUMNS: &str = "g.id, g.initial_ms, g.increment_ms, g.version, g.ply, g.fen, g.last, g.white_ms, g.black_ms, \
    g.turn_at, g.paused_ms, g.draw_offer, g.white_gone_at, g.black_gone_at, g.white_bye, g.black_bye, g.winner, g.reason, \
    g.rematch_offer, g.rematch, w.id AS white_id, w.name AS white_name, w.bot AS white_bot, \
    b.id AS black_id, b.name AS black_name, b.bot AS black_bot";

pub(super) const PLAYERS: &str = "games g JOIN users w ON w.id = g.white JOIN users b ON b.id = g.black";

impl Db {
    /// A game as it stands, with the time of the database. `None` if there is none.
    pub(crate) async fn table(&self, id: &str, cache: &GameCache) -> Result<Option<Table>, sqlx::Error> {
        let clock = self.clock();
        let statement = format!("SELECT {COLUMNS}, {clock} AS now FROM {PLAYERS} WHERE g.id = $1");
        let row = sqlx::query(AssertSqlSafe(statement)).bind(id).fetch_optional(&self.pool).await?;
        let Some(row) = row else { return Ok(None) };
        if let Some(cached) = cache.get(id, row.try_get("version")?) {
            return table(&row, cached.played.clone(), cached.left_ms.clone()).map(Some);
        }
        // Moves are only ever added: these are those of the row's version, whatever was added since.
        let moves: Vec<(String, i64)> =
            sqlx::query_as("SELECT uci, left_ms FROM moves WHERE game = $1 AND ply < $2 ORDER BY ply")
                .bind(id)
                .bind(row.try_get::<i64, _>("ply")?)
                .fetch_all(&self.pool)
                .await?;
        let (moves, left_ms): (Vec<String>, Vec<i64>) = moves.into_iter().unzip();
        let played = Played::replay(moves.iter().map(|uci| &**uci))
            .map_err(|error| sqlx::Error::Decode(error.into()))?;
        let table = table(&row, played, left_ms)?;
        cache.put(&table);
        Ok(Some(table))
    }

    /// Stores the change that led from the version before to this table, together with its last move if that is new.
    pub(crate) async fn update(&self, next: &Table, moved: bool) -> Result<Update, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        if !self.update_game(&mut transaction, next, moved).await? {
            transaction.rollback().await?;
            return Ok(Update::Raced);
        }
        transaction.commit().await?;
        Ok(Update::Stored)
    }

    /// Stores the change that begins a rematch, whose id it names, and begins it with the colours swapped.
    pub(crate) async fn begin_rematch(&self, next: &Table, id: &str) -> Result<Update, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        if !self.update_game(&mut transaction, next, false).await? {
            transaction.rollback().await?;
            return Ok(Update::Raced);
        }
        let (white, black) = (&next.black, &next.white);
        let game = NewGame { id, white, black, time: next.time, rematch_of: Some(&next.id) };
        if let Some(busy) = self.insert_game(&mut transaction, game).await? {
            transaction.rollback().await?;
            return Ok(Update::Busy(busy));
        }
        transaction.commit().await?;
        Ok(Update::Stored)
    }

    /// Whether the game was still at the version before.
    async fn update_game(
        &self,
        transaction: &mut Transaction<'_, Any>,
        next: &Table,
        moved: bool,
    ) -> Result<bool, sqlx::Error> {
        let played = &next.played;
        // The first statement of a transaction is a write: SQLite refuses one that has read before.
        let statement = format!(
            "UPDATE games SET version = $1, ply = $2, fen = $3, last = $4, white_ms = $5, black_ms = $6, turn_at = $7, \
             deadline_at = $8, draw_offer = $9, winner = $10, reason = $11, rematch_offer = $12, rematch = $13, \
             ended_at = CASE WHEN $11 IS NULL THEN NULL ELSE COALESCE(ended_at, {}) END \
             WHERE id = $14 AND version = $15",
            self.clock()
        );
        let updated = sqlx::query(AssertSqlSafe(statement))
            .bind(next.version)
            .bind(i64::from(played.ply()))
            .bind(played.fen())
            .bind(played.moves().last().map(|last| &*last.uci))
            .bind(next.clock.white_ms)
            .bind(next.clock.black_ms)
            .bind(next.clock.turn_at)
            .bind(next.clock.deadline(played.turn()))
            .bind(next.draw_offer.map(Color::as_str))
            .bind(next.ending.and_then(|ending| ending.winner).map(Color::as_str))
            .bind(next.ending.map(|ending| ending.reason.as_str()))
            .bind(next.rematch.offer.map(Color::as_str))
            .bind(next.rematch.game.as_deref())
            .bind(&next.id)
            .bind(next.version - 1)
            .execute(&mut **transaction)
            .await?;
        if updated.rows_affected() == 0 {
            return Ok(false);
        }
        if moved && let (Some(last), Some(left_ms)) = (played.moves().last(), next.left_ms.last()) {
            sqlx::query("INSERT INTO moves (game, ply, uci, at_ms, left_ms) VALUES ($1, $2, $3, $4, $5)")
                .bind(&next.id)
                .bind(i64::from(played.ply()) - 1)
                .bind(&last.uci)
                .bind(next.clock.turn_at)
                .bind(left_ms)
                .execute(&mut **transaction)
                .await?;
        }
        if next.ending.is_some() {
            sqlx::query("DELETE FROM playing WHERE game = $1")
                .bind(&next.id)
                .execute(&mut **transaction)
                .await?;
        }
        Ok(true)
    }

    /// Begins a game. `Some` is a player who has a running one already: the transaction is to be rolled back.
    pub(super) async fn insert_game(
        &self,
        transaction: &mut Transaction<'_, Any>,
        game: NewGame<'_>,
    ) -> Result<Option<UserId>, sqlx::Error> {
        let now: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {}", self.clock())))
            .fetch_one(&mut **transaction)
            .await?;
        let clock = Clock::start(game.time.initial_ms, now);
        sqlx::query(
            "INSERT INTO games (id, white, black, initial_ms, increment_ms, version, ply, fen, white_ms, black_ms, \
             turn_at, deadline_at, white_bye, black_bye, rematch_of, created_at) \
             VALUES ($1, $2, $3, $4, $5, 1, 0, $6, $7, $8, $9, $10, 0, 0, $11, $12)",
        )
        .bind(game.id)
        .bind(game.white.id.0)
        .bind(game.black.id.0)
        .bind(game.time.initial_ms.cast_signed())
        .bind(game.time.increment_ms.cast_signed())
        .bind(Played::new().fen())
        .bind(clock.white_ms)
        .bind(clock.black_ms)
        .bind(clock.turn_at)
        .bind(clock.deadline(Color::White))
        .bind(game.rematch_of)
        .bind(now)
        .execute(&mut **transaction)
        .await?;
        // In one order, so that two games of the same players don't wait for each other.
        let mut people: Vec<UserId> = [game.white, game.black]
            .into_iter()
            .filter(|player| !player.bot)
            .map(|player| player.id)
            .collect();
        people.sort_unstable();
        for person in people {
            let plays =
                sqlx::query("INSERT INTO playing (user_id, game) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                    .bind(person.0)
                    .bind(game.id)
                    .execute(&mut **transaction)
                    .await?;
            if plays.rows_affected() == 0 {
                return Ok(Some(person));
            }
        }
        Ok(None)
    }

    /// The running game of a person.
    pub(crate) async fn playing(&self, user: UserId) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT game FROM playing WHERE user_id = $1")
            .bind(user.0)
            .fetch_optional(&self.pool)
            .await
    }

    /// The running games of a bot.
    pub(crate) async fn games_of(&self, bot: UserId) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar("SELECT id FROM games WHERE ended_at IS NULL AND (white = $1 OR black = $1)")
            .bind(bot.0)
            .fetch_all(&self.pool)
            .await
    }

    /// The running games, the newest first, and the time of the database.
    pub(crate) async fn running(&self, limit: u32) -> Result<(Vec<Listed>, i64), sqlx::Error> {
        let statement = format!(
            "SELECT {COLUMNS} FROM {PLAYERS} WHERE g.ended_at IS NULL ORDER BY g.created_at DESC, g.id LIMIT $1"
        );
        let rows = sqlx::query(AssertSqlSafe(statement)).bind(i64::from(limit)).fetch_all(&self.pool).await?;
        let games = rows.iter().map(listed).collect::<Result<_, _>>()?;
        Ok((games, self.now().await?))
    }

    /// How many games are running.
    pub(crate) async fn running_count(&self) -> Result<usize, sqlx::Error> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM games WHERE ended_at IS NULL")
            .fetch_one(&self.pool)
            .await?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// Games whose flag has fallen, and when the next one falls.
    pub(crate) async fn due(&self, limit: u32) -> Result<Due, sqlx::Error> {
        let now = self.now().await?;
        let games = sqlx::query_scalar(
            "SELECT id FROM games WHERE ended_at IS NULL AND deadline_at <= $1 ORDER BY deadline_at LIMIT $2",
        )
        .bind(now)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let next = sqlx::query_scalar(
            "SELECT MIN(deadline_at) FROM games WHERE ended_at IS NULL AND deadline_at > $1",
        )
        .bind(now)
        .fetch_one(&self.pool)
        .await?;
        Ok(Due { games, next, now })
    }

    /// Notes that a player of a running game has no connection, if that isn't noted yet. Whether it is new.
    pub(crate) async fn set_gone(&self, id: &str, color: Color, bye: bool) -> Result<bool, sqlx::Error> {
        let statement = format!(
            "UPDATE games SET {0}_gone_at = {1}, {0}_bye = $2 \
             WHERE id = $1 AND ended_at IS NULL AND {0}_gone_at IS NULL",
            color.as_str(),
            self.clock()
        );
        let noted =
            sqlx::query(AssertSqlSafe(statement)).bind(id).bind(i64::from(bye)).execute(&self.pool).await?;
        Ok(noted.rows_affected() > 0)
    }

    /// Notes that a player is back. Whether they were noted as gone.
    pub(crate) async fn clear_gone(&self, id: &str, color: Color) -> Result<bool, sqlx::Error> {
        let statement = format!(
            "UPDATE games SET {0}_gone_at = NULL, {0}_bye = 0 WHERE id = $1 AND {0}_gone_at IS NOT NULL",
            color.as_str()
        );
        let cleared = sqlx::query(AssertSqlSafe(statement)).bind(id).execute(&self.pool).await?;
        Ok(cleared.rows_affected() > 0)
    }

    /// The people in running games: the game, the player, and whether they are noted as gone.
    pub(crate) async fn people_playing(&self) -> Result<Vec<(String, UserId, Color, bool)>, sqlx::Error> {
        let rows: Vec<(String, i64, String, i64)> = sqlx::query_as(
            "SELECT g.id, p.user_id, CASE WHEN p.user_id = g.white THEN 'white' ELSE 'black' END, \
             CASE WHEN (CASE WHEN p.user_id = g.white THEN g.white_gone_at ELSE g.black_gone_at END) IS NULL \
             THEN CAST(0 AS BIGINT) ELSE CAST(1 AS BIGINT) END FROM playing p JOIN games g ON g.id = p.game",
        )
        .fetch_all(&self.pool)
        .await?;
        let players = rows.into_iter().filter_map(|(game, player, color, is_gone)| {
            Some((game, UserId(player), Color::parse(&color)?, is_gone != 0))
        });
        Ok(players.collect())
    }

    /// Says that a node is up. The time that has passed since one was is charged to nobody if it is longer than
    /// `unless_ms`: the clocks of running games are moved on. Returns it.
    pub(crate) async fn alive(&self, unless_ms: i64) -> Result<i64, sqlx::Error> {
        let now = self.now().await?;
        sqlx::query("INSERT INTO settings (name, value) VALUES ('alive_at', $1) ON CONFLICT DO NOTHING")
            .bind(now.to_string())
            .execute(&self.pool)
            .await?;
        let before: String = sqlx::query_scalar("SELECT value FROM settings WHERE name = 'alive_at'")
            .fetch_one(&self.pool)
            .await?;
        let gap = now - before.parse().unwrap_or(now);
        let mut transaction = self.pool.begin().await?;
        let ours = sqlx::query("UPDATE settings SET value = $1 WHERE name = 'alive_at' AND value = $2")
            .bind(now.to_string())
            .bind(&before)
            .execute(&mut *transaction)
            .await?;
        // Of several nodes that start at once one moves the clocks.
        if ours.rows_affected() == 0 || gap <= unless_ms {
            transaction.commit().await?;
            return Ok(0);
        }
        // Never into the future: a turn that began after the last sign of life began at most now.
        sqlx::query(
            "UPDATE games SET deadline_at = deadline_at - turn_at + CASE WHEN turn_at + $1 > $2 THEN $2 ELSE turn_at + $1 END, \
             turn_at = CASE WHEN turn_at + $1 > $2 THEN $2 ELSE turn_at + $1 END, paused_ms = paused_ms + $1, \
             version = version + 1 WHERE ended_at IS NULL",
        )
        .bind(gap)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        // Nobody could have been there; who doesn't come back has been gone from now on.
        sqlx::query(
            "UPDATE games SET white_gone_at = NULL, black_gone_at = NULL, white_bye = 0, black_bye = 0 \
             WHERE ended_at IS NULL",
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(gap)
    }
}

fn table(row: &AnyRow, played: Played, left_ms: Vec<i64>) -> Result<Table, sqlx::Error> {
    let listed = listed(row)?;
    let gone = |at: &str, bye: &str| -> Result<_, sqlx::Error> {
        let bye = row.try_get::<i64, _>(bye)? != 0;
        Ok(row.try_get::<Option<i64>, _>(at)?.map(|at| Gone { at, bye }))
    };
    let reason: Option<String> = row.try_get("reason")?;
    let ending = match reason.as_deref().and_then(Reason::parse) {
        Some(reason) => Some(Ending { winner: color(row, "winner")?, reason }),
        None => None,
    };
    Ok(Table {
        id: listed.id,
        white: listed.white,
        black: listed.black,
        time: listed.time,
        version: listed.version,
        played,
        left_ms,
        clock: listed.clock,
        paused_ms: row.try_get("paused_ms")?,
        draw_offer: color(row, "draw_offer")?,
        white_gone: gone("white_gone_at", "white_bye")?,
        black_gone: gone("black_gone_at", "black_bye")?,
        ending,
        rematch: Rematch { offer: color(row, "rematch_offer")?, game: row.try_get("rematch")? },
        now: row.try_get("now")?,
    })
}

pub(super) fn listed(row: &AnyRow) -> Result<Listed, sqlx::Error> {
    let number = |column: &str| row.try_get::<i64, _>(column);
    Ok(Listed {
        id: row.try_get("id")?,
        white: user((number("white_id")?, row.try_get("white_name")?, number("white_bot")?)),
        black: user((number("black_id")?, row.try_get("black_name")?, number("black_bot")?)),
        time: TimeControl {
            initial_ms: number("initial_ms")?.cast_unsigned(),
            increment_ms: number("increment_ms")?.cast_unsigned(),
        },
        version: number("version")?,
        ply: u32::try_from(number("ply")?).unwrap_or_default(),
        fen: row.try_get("fen")?,
        last: row.try_get("last")?,
        clock: Clock {
            white_ms: number("white_ms")?,
            black_ms: number("black_ms")?,
            turn_at: number("turn_at")?,
        },
    })
}

pub(super) fn color(row: &AnyRow, column: &str) -> Result<Option<Color>, sqlx::Error> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.as_deref().and_then(Color::parse))
}
