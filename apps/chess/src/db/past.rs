//! Games that are over, and when people were seen.

use sqlx::{AssertSqlSafe, Row};

use super::{
    Db,
    games::{COLUMNS, Listed, PLAYERS, color, listed},
};
use crate::{UserId, protocol::Reason, rules::Ending};

/// A game that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) game: Listed,
    pub(crate) ending: Ending,
    pub(crate) ended_at: i64,
    /// When each player was last seen, if that is known.
    pub(crate) white_seen_at: Option<i64>,
    pub(crate) black_seen_at: Option<i64>,
}

impl Db {
    /// The games of a user that are over, those that ended last first, from after the one of this time and id on.
    pub(crate) async fn past(
        &self,
        user: UserId,
        after: Option<(i64, &str)>,
        limit: u32,
    ) -> Result<Vec<Past>, sqlx::Error> {
        let (ended_at, id) = after.unwrap_or((i64::MAX, ""));
        let statement = format!(
            "SELECT {COLUMNS}, g.ended_at, w.seen_at AS white_seen_at, b.seen_at AS black_seen_at FROM {PLAYERS} \
             WHERE g.ended_at IS NOT NULL AND (g.white = $1 OR g.black = $1) \
             AND (g.ended_at < $2 OR (g.ended_at = $2 AND g.id > $3)) ORDER BY g.ended_at DESC, g.id LIMIT $4"
        );
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(user.0)
            .bind(ended_at)
            .bind(id)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        let mut past = Vec::new();
        for row in &rows {
            let reason: Option<String> = row.try_get("reason")?;
            let Some(reason) = reason.as_deref().and_then(Reason::parse) else { continue };
            past.push(Past {
                game: listed(row)?,
                ending: Ending { winner: color(row, "winner")?, reason },
                ended_at: row.try_get("ended_at")?,
                white_seen_at: row.try_get("white_seen_at")?,
                black_seen_at: row.try_get("black_seen_at")?,
            });
        }
        Ok(past)
    }

    /// When a game began.
    pub(crate) async fn created_at(&self, game: &str) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT created_at FROM games WHERE id = $1")
            .bind(game)
            .fetch_one(&self.pool)
            .await
    }
}
