//! Follows who is where: offers go with those who leave the site, players without a connection are noted, and the
//! spectators of a game are told about each other.

use std::collections::HashSet;

use adsum::{Change, Entry, TopicDiff};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    UserId,
    node::{LOBBY, Node, Roster, game_topic, watch_topic},
    protocol::{Color, Crowd},
};

/// How many spectators are shown by name.
const NAMED: usize = 20;

/// After its start, clients of a node that went before come back; until then nobody counts as having left.
const SWEEPS_AFTER_START: u32 = 3;

impl Node {
    /// Follows presence on this node until it ends.
    pub(crate) async fn follow_presence(&self) {
        let mut watch = self.presence.watch_all();
        let mut crowds = HashSet::new();
        let mut ticks = interval(self.settings.list_interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = watch.next() => match change {
                    Some(Change::Diff(diff)) => {
                        if let Err(error) = self.follow(&diff, &mut crowds).await {
                            // The sweep makes up for it.
                            tracing::error!(%error, topic = %diff.topic, "a change of presence can't be followed");
                        }
                    }
                    // The sweep makes up for missed changes.
                    Some(Change::State(topics)) => {
                        crowds.extend(topics.keys().filter_map(|topic| topic.strip_prefix("watch:")).map(str::to_owned));
                        self.board.look();
                    }
                    None => return,
                },
                _ = ticks.tick(), if !crowds.is_empty() => {
                    for game in crowds.drain() {
                        let crowd = self.crowd(&game).await;
                        drop(self.pubsub.local_broadcast(game_topic(&game), "crowd", crowd));
                    }
                    self.board.look();
                }
            }
        }
    }

    async fn follow(
        &self,
        diff: &TopicDiff<Roster>,
        crowds: &mut HashSet<String>,
    ) -> Result<(), sqlx::Error> {
        let topic = diff.topic.as_str();
        if let Some(game) = topic.strip_prefix("watch:") {
            crowds.insert(game.to_owned());
        } else if let Some(game) = topic.strip_prefix("game:") {
            for (key, entry) in diff.joins.iter().chain(&diff.leaves) {
                let (Ok(user), Some(color)) = (key.parse(), color_of(entry)) else { continue };
                // The word that counts is the newest: of a change, what came with it. Whoever said it may be gone by now.
                let newest = diff.joins.get(key).or_else(|| diff.leaves.get(key));
                let bye = newest.is_some_and(|entry| entry.metas().any(|meta| meta.bye));
                self.note_player(game, user, color, bye).await?;
            }
        } else if topic == LOBBY {
            for key in diff.leaves.keys() {
                let Ok(user) = key.parse() else { continue };
                if !self.is_in(LOBBY, user) {
                    // Every node sees the leave; the first one writes.
                    self.db.note_seen(user, 1_000).await?;
                    self.left(user).await?;
                }
            }
            self.board.look();
        }
        Ok(())
    }

    /// Notes whether a player has a connection, as it is now, and tells the game if that is new.
    async fn note_player(
        &self,
        game: &str,
        user: UserId,
        color: Color,
        bye: bool,
    ) -> Result<(), sqlx::Error> {
        let is_here = self.is_in(&game_topic(game), user);
        let is_new = if is_here {
            self.db.clear_gone(game, color).await?
        } else {
            self.db.set_gone(game, color, bye).await?
        };
        if is_new && let Some(table) = self.db.table(game, &self.cache).await? {
            let absent = table.absent(self.settings.claim_times(), table.now);
            self.broadcast(&game_topic(game), "absent", absent);
        }
        Ok(())
    }

    /// The spectators of a game.
    pub(crate) async fn crowd(&self, game: &str) -> Crowd {
        let topic = watch_topic(game);
        let shown = self.presence.page(topic.as_str(), None, NAMED).await;
        let users = shown.into_iter().filter_map(|(_, entry)| Some(entry.info?.user.clone()));
        Crowd { users: users.collect(), total: self.presence.key_count(topic) }
    }

    /// Says from time to time that this node is up, and makes up for what no node has noticed.
    pub(crate) async fn sweep(&self) {
        let mut ticks = interval(self.settings.sweep_interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = Instant::now();
        let settled = self.settings.linger() + self.settings.sweep_interval() * SWEEPS_AFTER_START;
        loop {
            ticks.tick().await;
            let is_settled = began.elapsed() >= settled;
            if let Err(error) = self.sweep_once(is_settled).await {
                tracing::error!(%error, "a sweep failed; retrying");
            }
        }
    }

    async fn sweep_once(&self, is_settled: bool) -> Result<(), sqlx::Error> {
        // Twice the sweep is a gap in which no node was up.
        let sweep_ms = self.settings.sweep_ms.cast_signed();
        let slept_ms = self.db.alive(2 * sweep_ms).await?;
        if slept_ms > 0 {
            tracing::warn!(slept_ms, "no node was up: the time isn't charged to the players");
        }
        self.sweep_offers(is_settled).await?;
        if is_settled {
            for (game, user, color, is_gone) in self.db.people_playing().await? {
                if is_gone == self.is_in(&game_topic(&game), user) {
                    self.note_player(&game, user, color, false).await?;
                }
            }
        }
        Ok(())
    }
}

fn color_of(entry: &Entry<Roster>) -> Option<Color> {
    entry.metas().find_map(|meta| meta.color)
}
