use std::{collections::HashMap, str::FromStr, time::Duration};

use serde::Serialize;
use sqlx::{
    ConnectOptions, Connection, SqlitePool,
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
    /// Not the address of an `SQLite` database. It isn't shown, since addresses may contain passwords.
    #[error("DATABASE_URL {0}; it has to be a file (chess.db) or an SQLite address (sqlite:chess.db)")]
    Address(String),
    /// It can't be opened, created or written.
    #[error("cannot open or write the database {file}: {source}. {}", advice(source))]
    Open {
        /// The database file.
        file: String,
        /// What `SQLite` said.
        source: sqlx::Error,
    },
    /// It belongs to another program. It was left as it is.
    #[error(
        "the database {0} holds tables of another program, and was left as it is. Name another file in DATABASE_URL"
    )]
    Foreign(String),
    /// It holds something else, or comes from a newer version of this program.
    #[error(
        "cannot bring the database {file} up to date: {source}. If it isn't this program's, name another file \
         in DATABASE_URL"
    )]
    Migrate {
        /// The database file.
        file: String,
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
        let options = options(url)?;
        let file = options.get_filename().display().to_string();
        let open_error = |source| OpenError::Open { file: file.clone(), source };

        // A database in memory ends with its last connection, so one always stays; and it has no other, since
        // connections to the same memory refuse each other instead of waiting, whatever the busy timeout says.
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        if !in_memory && !is_ours_or_empty(&options).await.map_err(open_error)? {
            return Err(OpenError::Foreign(file));
        }
        // A write is durable once it is answered: an id that a power failure takes back would be given out twice.
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(if in_memory { 1 } else { CONNECTIONS })
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(open_error)?;
        sqlx::migrate!()
            .run(&pool)
            .await
            .map_err(|source| OpenError::Migrate { file: file.clone(), source })?;
        Ok(Self { pool })
    }

    /// Gives the name to a new user. Of two who ask for it at once, one gets it.
    ///
    /// # Errors
    ///
    /// [`CreateError::Taken`] if somebody has it.
    pub async fn create(&self, name: &Name) -> Result<User, CreateError> {
        // Not `RETURNING id` with `fetch_one`: SQLite hands out that row before it commits, and sqlx then drops the
        // statement and with it the error of a commit that fails. `execute` waits for the commit.
        let created = sqlx::query("INSERT INTO users (name, name_key) VALUES (?, ?)")
            .bind(name.as_str())
            .bind(name.key())
            .execute(&self.pool)
            .await;
        match created {
            Ok(inserted) => Ok(User { id: inserted.last_insert_rowid(), name: name.to_string() }),
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

/// The options that an address stands for. What is wrong with it is said without quoting it.
fn options(url: &str) -> Result<SqliteConnectOptions, OpenError> {
    let wrong = |what: String| OpenError::Address(what);
    // One letter before the colon is a drive.
    if let Some((scheme, _)) = url.split_once(':')
        && scheme.len() > 1
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && scheme != "sqlite"
    {
        return Err(wrong(format!("begins with {scheme:?}")));
    }
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.split('?').next().unwrap_or_default().trim().is_empty() {
        // SQLite would open a database that is deleted with its connection.
        return Err(wrong("names no file".to_owned()));
    }
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|_| wrong("isn't an address that SQLite understands".to_owned()))?;
    Ok(options.create_if_missing(true))
}

/// Whether a database file is new or this program's, and can be written. It is left as it is.
async fn is_ours_or_empty(options: &SqliteConnectOptions) -> Result<bool, sqlx::Error> {
    // Without `journal_mode`, which is kept in the file.
    let mut connection = options.clone().busy_timeout(BUSY_TIMEOUT).connect().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_all(&mut *transaction)
    .await?;
    // A file that can only be read is found out now, not when the first person chooses a name: of such a file,
    // `BEGIN IMMEDIATE` begins to read.
    sqlx::query("CREATE TABLE is_writable (x)").execute(&mut *transaction).await?;
    transaction.rollback().await?;
    connection.close().await?;
    Ok(tables.is_empty() || tables.iter().any(|table| table == "_sqlx_migrations"))
}

/// What to do about an error of opening.
fn advice(error: &sqlx::Error) -> &'static str {
    // Primary codes of SQLite: an extended code has them in its low byte.
    let code = match error {
        sqlx::Error::Database(error) => {
            error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default() & 0xFF
        }
        _ => 0,
    };
    match code {
        5 | 6 => "Another program holds it; end that program and start again",
        8 => {
            "It can only be read: make the file and its folder writable, or name another file in DATABASE_URL"
        }
        11 | 26 => "It is damaged or something else than a database: name another file in DATABASE_URL",
        13 => "The disk is full: make room and start again",
        _ => "Check that its folder exists and is writable, or name another file in DATABASE_URL",
    }
}
