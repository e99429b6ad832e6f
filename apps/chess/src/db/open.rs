//! Opening a database: ours and no other, writable, for us alone, with its tables up to date.

use std::{path::Path, str::FromStr, sync::Once, time::Duration};

use sqlx::{
    AnyPool, ConnectOptions, Connection, Executor, any::AnyPoolOptions, sqlite::SqliteConnectOptions,
};

use tokio::time::sleep;

use super::{Db, Engine};

/// Connections to an `SQLite` file. It has one writer at a time; the others read.
const SQLITE_CONNECTIONS: u32 = 4;

/// How long a statement waits for another process's lock on the database file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the tables are tried to be brought up to date again while another node does it, and the pause before.
const MIGRATION_RETRIES: u32 = 5;
const MIGRATION_PAUSE: Duration = Duration::from_millis(200);

/// How long a request waits for a connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Of each connection to `SQLite`. NORMAL: a write survives the end of this program, however it ends; a power cut can take
/// back the last ones, but never leaves half of one.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
    PRAGMA busy_timeout = 5000";

/// Of each connection to `PostgreSQL`. A node that is frozen in the middle of a transaction holds its row locks; the
/// server ends that transaction, so that the other nodes go on, and the frozen node finds it gone.
const SESSION: &str = "SET idle_in_transaction_session_timeout = 2000; SET lock_timeout = 10000";

/// Why the database could not be opened, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Not the address of a database. It isn't shown, since addresses may contain passwords.
    #[error(
        "DATABASE_URL {0}; it has to be a file (chess.db), an SQLite address (sqlite:chess.db) or a PostgreSQL address \
         (postgres://user:password@host/database)"
    )]
    Address(String),
    /// It can't be opened, created or written.
    #[error("cannot open or write the database {name}: {source}. {advice}")]
    Open {
        /// The file, or the server.
        name: String,
        /// The database's error.
        source: sqlx::Error,
        /// The remedy.
        advice: &'static str,
    },
    /// It belongs to another program. It was left as it is.
    #[error(
        "the database {0} holds tables of another program, and was left as it is. Name another one in DATABASE_URL"
    )]
    Foreign(String),
    /// It holds something else, or comes from another version of this program.
    #[error(
        "cannot bring the database {name} up to date: {source}. If it isn't this program's, or comes from another \
         version of it, name another one in DATABASE_URL"
    )]
    Migrate {
        /// The file, or the server.
        name: String,
        /// Which migration failed and why.
        source: sqlx::migrate::MigrateError,
    },
}

impl Db {
    /// Opens the database, creates an `SQLite` file if it is missing, and brings the tables up to date.
    ///
    /// `url` is a file, an `sqlite:` address (`sqlite::memory:` is one that is gone at the end) or a `postgres:` address,
    /// for which at most `connections` are opened.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it can't be opened or written, or isn't ours.
    pub async fn open(url: &str, connections: u32) -> Result<Self, OpenError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let (db, name) = match scheme(url) {
            Some("postgres" | "postgresql") => postgres(url, connections).await?,
            Some("sqlite") | None => sqlite(url).await?,
            Some(other) => return Err(OpenError::Address(format!("begins with {other:?}"))),
        };
        db.migrate().await.map_err(|source| OpenError::Migrate { name, source })?;
        Ok(db)
    }

    /// Brings the tables up to date. Nodes that start at once on a new `SQLite` file all try, and fail but for one:
    /// looking again finds it done. `PostgreSQL` has them wait for each other.
    async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        let migrations = sqlx::migrate!();
        for _ in 0..MIGRATION_RETRIES {
            match migrations.run(&self.pool).await {
                Err(sqlx::migrate::MigrateError::ExecuteMigration(..)) if self.engine == Engine::Sqlite => {
                    sleep(MIGRATION_PAUSE).await;
                }
                done => return done,
            }
        }
        migrations.run(&self.pool).await
    }
}

/// The text before the first colon, unless it is the letter of a drive.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once(':')?;
    let is_scheme =
        scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some(scheme)
}

async fn sqlite(url: &str) -> Result<(Db, String), OpenError> {
    let options = sqlite_options(url)?;
    let name = options.get_filename().display().to_string();
    let open_error = |source| {
        let advice = sqlite_advice(&source);
        OpenError::Open { name: name.clone(), source, advice }
    };
    // A database in memory ends with its last connection, so one always stays; and it has no other, since connections to
    // the same memory refuse each other instead of waiting, whatever the busy timeout says.
    let in_memory = url.contains(":memory:") || url.contains("mode=memory");
    if !in_memory {
        create_for_us_alone(options.get_filename());
        if !is_ours_or_empty(&options).await.map_err(open_error)? {
            return Err(OpenError::Foreign(name));
        }
        keep_for_us_alone(options.get_filename());
    }
    let address = if url.starts_with("sqlite:") { url.to_owned() } else { format!("sqlite:{url}") };
    let address = if in_memory || address.contains("mode=") {
        address
    } else {
        format!("{address}{}mode=rwc", if address.contains('?') { '&' } else { '?' })
    };
    let pool = AnyPoolOptions::new()
        .max_connections(if in_memory { 1 } else { SQLITE_CONNECTIONS })
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute(PRAGMAS).await?;
                Ok(())
            })
        })
        .connect(&address)
        .await
        .map_err(open_error)?;
    Ok((Db { pool, engine: Engine::Sqlite }, name))
}

async fn postgres(url: &str, connections: u32) -> Result<(Db, String), OpenError> {
    // Never the address itself: it may contain a password.
    let after_user = url
        .rsplit_once('@')
        .map_or_else(|| url.split_once("//").map_or("", |(_, rest)| rest), |(_, rest)| rest);
    let name = format!("at {}", after_user.split('?').next().unwrap_or_default());
    let open_error = |source| OpenError::Open {
        name: name.clone(),
        source,
        advice: "Check that the server runs, and the user, password and database in DATABASE_URL",
    };
    let pool: AnyPool = AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                connection.execute(SESSION).await?;
                Ok(())
            })
        })
        .connect(url)
        .await
        .map_err(open_error)?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = current_schema()",
    )
    .fetch_all(&pool)
    .await
    .map_err(open_error)?;
    if !is_ours(&tables) {
        return Err(OpenError::Foreign(name));
    }
    Ok((Db { pool, engine: Engine::Postgres }, name))
}

/// The options that an address stands for. An error doesn't quote the address, as it may hold a password.
fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, OpenError> {
    let wrong = |what: &str| OpenError::Address(what.to_owned());
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.split('?').next().unwrap_or_default().trim().is_empty() {
        // SQLite would open a database that is deleted with its connection.
        return Err(wrong("names no file"));
    }
    let options =
        SqliteConnectOptions::from_str(url).map_err(|_| wrong("isn't an address that SQLite understands"))?;
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
    Ok(is_ours(&tables))
}

fn is_ours(tables: &[String]) -> bool {
    tables.is_empty() || tables.iter().any(|table| table == "_sqlx_migrations")
}

/// Makes a missing file so that nobody else can read it, and so those that `SQLite` puts beside it, which take on its mode.
/// Errors show when the file is opened.
fn create_for_us_alone(file: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        drop(std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file));
    }
    #[cfg(not(unix))]
    let _ = file;
}

/// Takes a file that others could read away from them.
fn keep_for_us_alone(file: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if let Err(error) = std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)) {
            tracing::warn!(file = %file.display(), %error, "others may be able to read the database");
        }
    }
    #[cfg(not(unix))]
    let _ = file;
}

/// The remedy for an error of opening.
fn sqlite_advice(error: &sqlx::Error) -> &'static str {
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
