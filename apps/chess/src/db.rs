//! The database: `SQLite`, or `PostgreSQL` for several nodes. The same statements run on both.

mod games;
mod offers;
mod open;
mod past;
mod served;
mod sessions;
mod users;

use std::fmt;

use sqlx::{AnyPool, AssertSqlSafe};

pub(crate) use self::{
    games::{Listed, Update},
    offers::{Accept, Offer},
    past::Past,
};
pub use self::{open::OpenError, users::CreateError};

/// The kinds of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

/// Users, sessions, games and offers. Clones share the connections.
#[derive(Clone)]
pub struct Db {
    pool: AnyPool,
    engine: Engine,
}

impl Db {
    /// The database's clock, in milliseconds since 1970: that of all nodes of the site.
    pub async fn now(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT {}", self.clock()))).fetch_one(&self.pool).await
    }

    /// The secret kept in the database: `fresh` the first time, the same one from then on.
    pub async fn secret(&self, fresh: &str) -> Result<String, sqlx::Error> {
        sqlx::query("INSERT INTO settings (name, value) VALUES ('secret', $1) ON CONFLICT DO NOTHING")
            .bind(fresh)
            .execute(&self.pool)
            .await?;
        sqlx::query_scalar("SELECT value FROM settings WHERE name = 'secret'").fetch_one(&self.pool).await
    }

    /// Finishes what is under way and closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// The database's clock as an expression.
    fn clock(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "CAST(unixepoch('subsec') * 1000 AS BIGINT)",
            Engine::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// A list of texts, as [`numbers`](Self::numbers).
    fn texts(&self, parameter: &str) -> String {
        match self.engine {
            Engine::Sqlite => format!("(SELECT value FROM json_each({parameter}))"),
            Engine::Postgres => {
                format!("(SELECT value FROM json_array_elements_text(CAST({parameter} AS JSON)))")
            }
        }
    }

    /// A list of numbers that is given as one parameter, in JSON: one prepared statement however many there are.
    fn numbers(&self, parameter: &str) -> String {
        match self.engine {
            Engine::Sqlite => format!("(SELECT value FROM json_each({parameter}))"),
            Engine::Postgres => format!(
                "(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST({parameter} AS JSON)))"
            ),
        }
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Whether something that has to be unique is there already.
fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
