//! The lists of the lobby: open seeks and running games, sent whole when something in them has changed.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    db::Listed,
    node::{BOARD, LOBBY, Node, watch_topic},
    protocol::{Color, Running, RunningGames, Seek, Seeks},
};

/// How many seeks and games are looked at, and how many of them are shown.
const LOOKED_AT: u32 = 500;
const SEEKS: usize = 50;
const GAMES: usize = 20;

/// The lists as they were last sent.
#[derive(Debug, Default)]
pub(crate) struct Board {
    changed: Notify,
    /// Whether the other nodes are to hear of it.
    is_news: AtomicBool,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    seeks: Option<Seeks>,
    games: Option<Games>,
}

/// The running games with their spectators, as they were at an instant.
#[derive(Debug, Clone)]
struct Games {
    listed: Vec<(Listed, usize)>,
    total: usize,
    now: i64,
    read_at: Instant,
}

impl Board {
    /// Something in the lists may have changed, by what this node has stored.
    pub(crate) fn changed(&self) {
        self.is_news.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Something in the lists may have changed, by what every node notices.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// The lists as they are to be sent now.
    pub(crate) fn lists(&self) -> (Option<Seeks>, Option<RunningGames>) {
        let shown = self.shown.lock();
        (shown.seeks.clone(), shown.games.as_ref().map(Games::shown))
    }
}

impl Games {
    fn shown(&self) -> RunningGames {
        let now = self.now + i64::try_from(self.read_at.elapsed().as_millis()).unwrap_or_default();
        let games = self.listed.iter().map(|(game, spectators)| Running {
            id: game.id.clone(),
            white: game.white.clone(),
            black: game.black.clone(),
            time: game.time,
            ply: game.ply,
            fen: game.fen.clone(),
            last: game.last.clone(),
            clocks: game.clock.shown(Some(Color::to_move(game.ply)), now),
            spectators: *spectators,
        });
        RunningGames { games: games.collect(), total: self.total }
    }

    /// Whether a client that has one would see another by the other.
    fn differs(&self, other: &Self) -> bool {
        self.total != other.total || self.listed != other.listed
    }
}

impl Node {
    /// Keeps the lists, and sends to everyone in the lobby of this node what has changed in them.
    pub(crate) async fn keep_lists(&self) {
        let mut others = self.pubsub.subscribe(BOARD);
        let mut ticks = interval(self.settings.list_interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.send_lists().await {
                tracing::error!(%error, "the lists of the lobby can't be read; retrying");
                continue;
            }
            tokio::select! {
                () = self.board.changed.notified() => {
                    if self.board.is_news.swap(false, Ordering::Relaxed) {
                        let nothing = serde_json::Map::new();
                        drop(self.pubsub.broadcast_from(others.id(), BOARD, "changed", nothing));
                    }
                }
                _ = others.recv() => {}
                // In case another node wasn't heard.
                () = sleep(self.settings.sync_interval()), if self.pubsub.is_networked() => {}
            }
            while others.try_recv().is_some() {}
        }
    }

    async fn send_lists(&self) -> Result<(), sqlx::Error> {
        let seeks = self.read_seeks().await?;
        let games = self.read_games().await?;
        let (new_seeks, new_games) = {
            let mut shown = self.board.shown.lock();
            let new_seeks = (shown.seeks.as_ref() != Some(&seeks)).then(|| seeks.clone());
            let is_new = shown.games.as_ref().is_none_or(|shown| shown.differs(&games));
            let new_games = is_new.then(|| games.shown());
            *shown = Shown { seeks: Some(seeks), games: Some(games) };
            (new_seeks, new_games)
        };
        // Each node has its own lists, of one database and one presence.
        if let Some(seeks) = new_seeks {
            drop(self.pubsub.local_broadcast(LOBBY, "seeks", seeks));
        }
        if let Some(games) = new_games {
            drop(self.pubsub.local_broadcast(LOBBY, "games", games));
        }
        Ok(())
    }

    /// The seeks of those who are online.
    async fn read_seeks(&self) -> Result<Seeks, sqlx::Error> {
        let mut seeks: Vec<Seek> = Vec::new();
        for offer in self.db.seeks(LOOKED_AT).await? {
            if let Some(seek) = offer.seek()
                && self.is_in(LOBBY, seek.user.id)
            {
                seeks.push(seek);
            }
        }
        let total = seeks.len();
        seeks.truncate(SEEKS);
        Ok(Seeks { seeks, total })
    }

    /// The running games, the most watched first, then the newest.
    async fn read_games(&self) -> Result<Games, sqlx::Error> {
        let (games, now) = self.db.running(LOOKED_AT).await?;
        let read_at = Instant::now();
        let total =
            if games.len() < LOOKED_AT as usize { games.len() } else { self.db.running_count().await? };
        let spectators = |game: &Listed| self.presence.key_count(watch_topic(&game.id));
        let mut games: Vec<(Listed, usize)> = games
            .into_iter()
            .map(|game| {
                let spectators = spectators(&game);
                (game, spectators)
            })
            .collect();
        games.sort_by_key(|(_, spectators)| std::cmp::Reverse(*spectators));
        games.truncate(GAMES);
        Ok(Games { listed: games, total, now, read_at })
    }
}
