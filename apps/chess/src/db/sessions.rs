//! Sessions: who a browser is. The database knows their tokens by a hash only.

use std::time::Duration;

use super::{Db, users::user};
use crate::{UserId, protocol::User};

/// A session that hasn't ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) user: User,
    /// Whether less than half of its time is left.
    pub(crate) is_old: bool,
}

impl Db {
    /// Begins a session, if the user has the password of this hash, or whatever password if none is given. Returns whether
    /// it has begun. Sessions that have expired are forgotten.
    pub(crate) async fn begin_session(
        &self,
        token_hash: &str,
        user: UserId,
        password: Option<&str>,
        lifetime: Duration,
    ) -> Result<bool, sqlx::Error> {
        let now = self.now().await?;
        sqlx::query("DELETE FROM sessions WHERE expires_at <= $1").bind(now).execute(&self.pool).await?;
        let begun = sqlx::query(
            "INSERT INTO sessions (token_hash, user_id, created_at, expires_at) \
             SELECT $1, id, $3, $4 FROM users WHERE id = $2 AND ($5 = '' OR COALESCE(password, '') = $5)",
        )
        .bind(token_hash)
        .bind(user.0)
        .bind(now)
        .bind(now + millis(lifetime))
        .bind(password.unwrap_or_default())
        .execute(&self.pool)
        .await?;
        Ok(begun.rows_affected() > 0)
    }

    /// Whose session it is. `None` if it has ended.
    pub(crate) async fn session(
        &self,
        token_hash: &str,
        lifetime: Duration,
    ) -> Result<Option<Live>, sqlx::Error> {
        let row: Option<(i64, String, i64, i64)> = sqlx::query_as(
            "SELECT u.id, u.name, u.bot, s.expires_at FROM sessions s JOIN users u ON u.id = s.user_id \
             WHERE s.token_hash = $1",
        )
        .bind(token_hash)
        .fetch_optional(&self.pool)
        .await?;
        let Some((id, name, bot, expires_at)) = row else { return Ok(None) };
        let left = expires_at - self.now().await?;
        let live = Live { user: user((id, name, bot)), is_old: left < millis(lifetime) / 2 };
        Ok((left > 0).then_some(live))
    }

    /// Lets a session last for its whole time again.
    pub(crate) async fn renew_session(
        &self,
        token_hash: &str,
        lifetime: Duration,
    ) -> Result<(), sqlx::Error> {
        let now = self.now().await?;
        sqlx::query("UPDATE sessions SET expires_at = $2 WHERE token_hash = $1")
            .bind(token_hash)
            .bind(now + millis(lifetime))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends a session.
    pub(crate) async fn end_session(&self, token_hash: &str) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM sessions WHERE token_hash = $1")
            .bind(token_hash)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends all sessions of a user but this one. Returns their hashes.
    pub(crate) async fn end_other_sessions(
        &self,
        user: UserId,
        token_hash: &str,
    ) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(
            "DELETE FROM sessions WHERE user_id = $1 AND token_hash <> $2 RETURNING token_hash",
        )
        .bind(user.0)
        .bind(token_hash)
        .fetch_all(&self.pool)
        .await
    }

    /// Ends all sessions of a user. Returns their hashes.
    pub(crate) async fn end_sessions(&self, user: UserId) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar("DELETE FROM sessions WHERE user_id = $1 RETURNING token_hash")
            .bind(user.0)
            .fetch_all(&self.pool)
            .await
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2)
}
