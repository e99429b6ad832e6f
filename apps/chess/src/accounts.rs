use std::{collections::HashMap, str::FromStr, time::Duration};

use serde::Serialize;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::Name;

/// Connections to the database. `SQLite` has one writer at a time; the others read.
const CONNECTIONS: u32 = 4;

/// How long a statement waits for another process's lock on the database file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Somebody who has chosen a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Never given out twice.
    pub id: i64,
    /// As its owner wrote it: text, never markup.
    pub name: String,
}

/// The users, in an `SQLite` database. Clones share it.
#[derive(Debug, Clone)]
pub struct Accounts {
    pool: SqlitePool,
}

/// Why the database could not be opened, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not the address of an `SQLite` database.
    #[error("DATABASE_URL is {0:?}; it has to be a file (chess.db) or an SQLite address (sqlite:chess.db)")]
    Address(String),
    /// It can't be opened, created or written.
    #[error(
        "cannot open or write the database {url}: {source}. Check that its folder exists and is writable, or \
         name another file in DATABASE_URL"
    )]
    Open {
        /// What `DATABASE_URL` said.
        url: String,
        /// What `SQLite` said.
        source: sqlx::Error,
    },
    /// It holds something else, or comes from a newer version of this program.
    #[error(
        "cannot bring the database {url} up to date: {source}. If it isn't this program's, name another file \
         in DATABASE_URL"
    )]
    Migrate {
        /// What `DATABASE_URL` said.
        url: String,
        /// Which migration failed and why.
        source: sqlx::migrate::MigrateError,
    },
}

/// Why a user could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Somebody has that name, or one that reads the same.
    #[error("Somebody already has that name. Please choose another.")]
    Taken,
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl Accounts {
    /// Opens the database, creates it if it is missing, and brings its tables up to date.
    ///
    /// `url` is a file or an `sqlite:` address; `sqlite::memory:` is one that is gone at the end.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it can't be opened or written, or isn't ours.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        if url.contains("://") && !url.starts_with("sqlite://") {
            return Err(OpenError::Address(url.to_owned()));
        }
        let options = SqliteConnectOptions::from_str(url).map_err(|_| OpenError::Address(url.to_owned()))?;
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT);
        let open_error = |source| OpenError::Open { url: url.to_owned(), source };

        // A database in memory ends with its last connection, so one always stays; and it has no other, since
        // connections to the same memory refuse each other instead of waiting, whatever the busy timeout says.
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let pool = SqlitePoolOptions::new()
            .max_connections(if in_memory { 1 } else { CONNECTIONS })
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(open_error)?;
        // A file that can only be read is found out now, not when the first person chooses a name.
        pool.begin_with("BEGIN IMMEDIATE").await.map_err(open_error)?.rollback().await.map_err(open_error)?;
        sqlx::migrate!()
            .run(&pool)
            .await
            .map_err(|source| OpenError::Migrate { url: url.to_owned(), source })?;
        Ok(Self { pool })
    }

    /// Gives the name to a new user. Of two who ask for it at once, one gets it.
    ///
    /// # Errors
    ///
    /// [`CreateError::Taken`] if somebody has it.
    pub async fn create(&self, name: &Name) -> Result<User, CreateError> {
        let created = sqlx::query_scalar("INSERT INTO users (name, name_key) VALUES (?, ?) RETURNING id")
            .bind(name.as_str())
            .bind(name.key())
            .fetch_one(&self.pool)
            .await;
        match created {
            Ok(id) => Ok(User { id, name: name.to_string() }),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(CreateError::Taken),
            Err(error) => Err(error.into()),
        }
    }

    /// The user of an id, or none.
    pub async fn user(&self, id: i64) -> Result<Option<User>, sqlx::Error> {
        Ok(self.users_by_ids(&[id]).await?.remove(&id))
    }

    /// The users of many ids, in one query. Ids that nobody has are left out.
    pub async fn users_by_ids(&self, ids: &[i64]) -> Result<HashMap<i64, User>, sqlx::Error> {
        // One parameter however many ids: one prepared statement, and no limit on their number.
        let ids = serde_json::to_string(ids).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let rows: Vec<(i64, String)> =
            sqlx::query_as("SELECT id, name FROM users WHERE id IN (SELECT value FROM json_each(?))")
                .bind(ids)
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.into_iter().map(|(id, name)| (id, User { id, name })).collect())
    }

    /// The secret kept in the database: `fresh` the first time, the same one from then on.
    pub async fn secret(&self, fresh: &[u8]) -> Result<Vec<u8>, sqlx::Error> {
        sqlx::query("INSERT INTO settings (name, value) VALUES ('secret', ?) ON CONFLICT DO NOTHING")
            .bind(fresh)
            .execute(&self.pool)
            .await?;
        sqlx::query_scalar("SELECT value FROM settings WHERE name = 'secret'").fetch_one(&self.pool).await
    }

    /// Finishes what is under way and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
