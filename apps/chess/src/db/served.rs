//! The state that clients of a node should have been told, in one query for all of them.

use std::collections::{HashMap, HashSet};

use sqlx::AssertSqlSafe;

use super::Db;
use crate::{UserId, served::Affairs};

/// How a game stands, in brief.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) version: i64,
    /// Since when White and Black have been without a connection.
    pub(crate) gone: [Option<i64>; 2],
}

impl Db {
    /// How each of these games stands. Ids that no game has are left out.
    pub(crate) async fn stands<'i>(
        &self,
        ids: impl Iterator<Item = &'i str>,
    ) -> Result<HashMap<String, Stand>, sqlx::Error> {
        let ids = json(&ids.collect::<Vec<_>>())?;
        let statement = format!(
            "SELECT id, version, white_gone_at, black_gone_at FROM games WHERE id IN {}",
            self.texts("$1")
        );
        let rows: Vec<(String, i64, Option<i64>, Option<i64>)> =
            sqlx::query_as(AssertSqlSafe(statement)).bind(ids).fetch_all(&self.pool).await?;
        let stands =
            rows.into_iter().map(|(id, version, white, black)| (id, Stand { version, gone: [white, black] }));
        Ok(stands.collect())
    }

    /// Those of these sessions, by their hashes, that haven't ended.
    pub(crate) async fn live_sessions<'h>(
        &self,
        hashes: impl Iterator<Item = &'h str>,
    ) -> Result<HashSet<String>, sqlx::Error> {
        let hashes = json(&hashes.collect::<Vec<_>>())?;
        let statement = format!(
            "SELECT token_hash FROM sessions WHERE token_hash IN {} AND expires_at > {}",
            self.texts("$1"),
            self.clock()
        );
        let live: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(hashes).fetch_all(&self.pool).await?;
        Ok(live.into_iter().collect())
    }

    /// The running game and the open offers of each of these people. Those who have neither are left out.
    pub(crate) async fn affairs(&self, ids: &[UserId]) -> Result<HashMap<UserId, Affairs>, sqlx::Error> {
        let ids = json(&ids.iter().map(|id| id.0).collect::<Vec<_>>())?;
        let numbers = self.numbers("$1");
        let mut affairs: HashMap<UserId, Affairs> = HashMap::new();
        let statement = format!("SELECT user_id, game FROM playing WHERE user_id IN {numbers}");
        let playing: Vec<(i64, String)> =
            sqlx::query_as(AssertSqlSafe(statement)).bind(&ids).fetch_all(&self.pool).await?;
        for (user, game) in playing {
            affairs.entry(UserId(user)).or_default().playing = Some(game);
        }
        let statement = format!(
            "SELECT id, from_user, to_user FROM offers WHERE state = 'open' AND expires_at > {} \
             AND (from_user IN {numbers} OR to_user IN {numbers}) ORDER BY id",
            self.clock()
        );
        let offers: Vec<(String, i64, Option<i64>)> =
            sqlx::query_as(AssertSqlSafe(statement)).bind(&ids).fetch_all(&self.pool).await?;
        for (id, from, to) in offers {
            for user in [Some(from), to].into_iter().flatten() {
                affairs.entry(UserId(user)).or_default().offers.push(id.clone());
            }
        }
        Ok(affairs)
    }
}

fn json(list: &impl serde::Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(error.into()))
}
