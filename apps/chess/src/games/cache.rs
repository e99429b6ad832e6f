//! The moves of games that were just looked at, so that a move doesn't replay its whole game. The database's version
//! decides whether they are still good.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::table::Table;
use crate::rules::Played;

/// How many games are remembered; then all are forgotten. One takes some 20 KB by its hundredth move.
const MAX_GAMES: usize = 2_000;

/// The moves of some games.
#[derive(Debug, Default)]
pub(crate) struct GameCache {
    games: Mutex<HashMap<String, Arc<Cached>>>,
}

/// The moves of one game, at one version.
#[derive(Debug)]
pub(crate) struct Cached {
    version: i64,
    pub(crate) played: Played,
    pub(crate) left_ms: Vec<i64>,
}

impl GameCache {
    /// The moves of a game at a version, if they are known.
    pub(crate) fn get(&self, game: &str, version: i64) -> Option<Arc<Cached>> {
        self.games.lock().get(game).filter(|cached| cached.version == version).cloned()
    }

    /// Remembers the moves of a game. One that is over is forgotten.
    pub(crate) fn put(&self, table: &Table) {
        if table.ending.is_some() {
            self.games.lock().remove(&table.id);
            return;
        }
        let cached =
            Cached { version: table.version, played: table.played.clone(), left_ms: table.left_ms.clone() };
        let mut games = self.games.lock();
        if games.len() >= MAX_GAMES && !games.contains_key(&table.id) {
            games.clear();
        }
        games.insert(table.id.clone(), Arc::new(cached));
    }
}
