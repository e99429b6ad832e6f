//! Users: those who have chosen a name, and bots.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use super::{Db, is_taken};
use crate::{
    Name, UserId,
    protocol::{PlayerInfo, User},
};

/// Why a user could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Somebody has that name, or one that reads or looks the same.
    #[error(
        "Somebody already has that name. If it is yours, give your password too; else please choose another."
    )]
    Taken,
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl Db {
    /// Gives the name to a new user. Of two who ask for it at once, one gets it.
    ///
    /// # Errors
    ///
    /// [`CreateError::Taken`] if somebody has it.
    pub async fn create_user(&self, name: &Name) -> Result<User, CreateError> {
        self.create(name, false, None).await
    }

    /// As [`create_user`](Self::create_user), with the hash of a password.
    pub(crate) async fn create_user_with_password(
        &self,
        name: &Name,
        hash: &str,
    ) -> Result<User, CreateError> {
        self.create(name, false, Some(hash)).await
    }

    /// The bot of a name, made if it is missing.
    ///
    /// # Errors
    ///
    /// [`CreateError::Taken`] if somebody else has the name.
    pub(crate) async fn bot(&self, name: &Name) -> Result<User, CreateError> {
        match self.create(name, true, None).await {
            Err(CreateError::Taken) => {}
            created => return created,
        }
        let bot: Option<(i64, String)> =
            sqlx::query_as("SELECT id, name FROM users WHERE name_key = $1 AND bot = 1")
                .bind(name.key())
                .fetch_optional(&self.pool)
                .await?;
        let (id, name) = bot.ok_or(CreateError::Taken)?;
        Ok(User { id: UserId(id), name, bot: true })
    }

    async fn create(&self, name: &Name, bot: bool, password: Option<&str>) -> Result<User, CreateError> {
        let user = User { id: UserId::random(), name: name.to_string(), bot };
        let statement = format!(
            "INSERT INTO users (id, name, name_key, name_look, bot, password, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, {})",
            self.clock()
        );
        let created = sqlx::query(AssertSqlSafe(statement))
            .bind(user.id.0)
            .bind(name.as_str())
            .bind(name.key())
            .bind(name.look())
            .bind(i64::from(bot))
            .bind(password)
            .execute(&self.pool)
            .await;
        match created {
            Ok(_) => Ok(user),
            Err(error) if is_taken(&error) => Err(CreateError::Taken),
            Err(error) => Err(error.into()),
        }
    }

    /// The user whose name reads like this one, and the hash of their password if they have one.
    pub(crate) async fn by_name(&self, name: &Name) -> Result<Option<(User, Option<String>)>, sqlx::Error> {
        let row: Option<(i64, String, i64, Option<String>)> =
            sqlx::query_as("SELECT id, name, bot, password FROM users WHERE name_key = $1")
                .bind(name.key())
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(|(id, name, bot, password)| (user((id, name, bot)), password)))
    }

    /// The hash of a user's password, if they have one.
    pub(crate) async fn password(&self, id: UserId) -> Result<Option<String>, sqlx::Error> {
        let hash: Option<Option<String>> = sqlx::query_scalar("SELECT password FROM users WHERE id = $1")
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(hash.flatten())
    }

    /// Gives a user another password, if they still have the one of this hash, or still have none. Whether it was so.
    pub(crate) async fn set_password(
        &self,
        id: UserId,
        before: Option<&str>,
        hash: &str,
    ) -> Result<bool, sqlx::Error> {
        let set = sqlx::query("UPDATE users SET password = $2 WHERE id = $1 AND COALESCE(password, '') = $3")
            .bind(id.0)
            .bind(hash)
            .bind(before.unwrap_or_default())
            .execute(&self.pool)
            .await?;
        Ok(set.rows_affected() > 0)
    }

    /// Notes that a user has a tab open, or had until now; no more often than after so long.
    pub(crate) async fn note_seen(&self, id: UserId, after_ms: i64) -> Result<(), sqlx::Error> {
        let statement = format!(
            "UPDATE users SET seen_at = {0} WHERE id = $1 AND COALESCE(seen_at, 0) <= {0} - $2",
            self.clock()
        );
        sqlx::query(AssertSqlSafe(statement)).bind(id.0).bind(after_ms).execute(&self.pool).await?;
        Ok(())
    }

    /// The user of an id. `None` if there is none.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, sqlx::Error> {
        let row: Option<(i64, String, i64)> = sqlx::query_as("SELECT id, name, bot FROM users WHERE id = $1")
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(user))
    }

    /// The infos that presence shows of many users, in one query. Ids that nobody has are left out.
    pub async fn infos(&self, ids: &[UserId]) -> Result<HashMap<UserId, PlayerInfo>, sqlx::Error> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let ids = serde_json::to_string(&ids).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let statement = format!(
            "SELECT u.id, u.name, u.bot, p.game FROM users u LEFT JOIN playing p ON p.user_id = u.id \
             WHERE u.id IN {}",
            self.numbers("$1")
        );
        let rows: Vec<(i64, String, i64, Option<String>)> =
            sqlx::query_as(AssertSqlSafe(statement)).bind(ids).fetch_all(&self.pool).await?;
        let infos = rows.into_iter().map(|(id, name, bot, playing)| {
            let user = user((id, name, bot));
            (user.id, PlayerInfo { user, playing })
        });
        Ok(infos.collect())
    }
}

/// A user as the row of `id, name, bot` says.
pub(super) fn user((id, name, bot): (i64, String, i64)) -> User {
    User { id: UserId(id), name, bot: bot != 0 }
}
