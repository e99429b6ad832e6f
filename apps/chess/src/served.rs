//! Makes up for lost broadcasts. A node knows what its clients have been told of games and of their own affairs, and by
//! which sessions they are here, and compares that with the database, in one query each for all of them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Weak},
};

use adsum::{Attachment, Message, PubSub, Subscriber, SubscriberId};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    UserId,
    games::Table,
    node::{Node, game_topic, session_topic, user_topic},
    protocol::Mine,
};

/// The games and people that have a channel on this node, and the sessions that have a socket.
#[derive(Debug, Default)]
pub(crate) struct Served {
    games: Shared<String, ServedGame>,
    people: Shared<UserId, ServedPerson>,
    sessions: Shared<String, ServedSession>,
}

/// Values that exist as long as somebody holds them.
#[derive(Debug)]
struct Shared<K, V>(Mutex<HashMap<K, Weak<V>>>);

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V> Shared<K, V> {
    fn get_or_make(&self, key: &K, make: impl FnOnce() -> V) -> Arc<V> {
        if let Some(there) = self.0.lock().get(key).and_then(Weak::upgrade) {
            return there;
        }
        // Made outside of the lock, since it subscribes. Of two at once one is kept.
        let new = Arc::new(make());
        let mut values = self.0.lock();
        if let Some(there) = values.get(key).and_then(Weak::upgrade) {
            return there;
        }
        if values.len() == values.capacity() {
            values.retain(|_, value| value.strong_count() > 0);
        }
        values.insert(key.clone(), Arc::downgrade(&new));
        new
    }

    /// All that are held by somebody.
    fn all(&self) -> Vec<(K, Arc<V>)> {
        let mut all = Vec::new();
        self.0.lock().retain(|key, value| {
            let value = value.upgrade();
            let is_held = value.is_some();
            all.extend(value.map(|value| (key.clone(), value)));
            is_held
        });
        all
    }
}

/// A game that clients of this node have joined.
pub(crate) struct ServedGame {
    told: Arc<ToldOfGame>,
    _subscription: Attachment,
}

/// The last change of a game that its clients here have heard of.
struct ToldOfGame {
    position: Mutex<Told>,
    /// Since when each player has been without a connection.
    gone: Mutex<[Option<i64>; 2]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Told {
    version: i64,
    ply: u32,
}

impl Subscriber for ToldOfGame {
    fn deliver(&self, message: &Arc<Message>) {
        if message.event() != "change" {
            return;
        }
        let Ok(heard) = message.payload().decode::<Told>() else { return };
        let mut told = self.position.lock();
        if heard.version > told.version {
            *told = heard;
        }
    }
}

/// Somebody with a tab on this node.
#[derive(Debug)]
pub(crate) struct ServedPerson {
    told: Mutex<Affairs>,
}

/// A session with a socket on this node.
#[derive(Debug)]
pub(crate) struct ServedSession {
    pub(crate) hash: String,
}

/// A person's running game and open offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Affairs {
    pub(crate) playing: Option<String>,
    /// Their ids, in order.
    pub(crate) offers: Vec<String>,
}

impl From<&Mine> for Affairs {
    fn from(mine: &Mine) -> Self {
        let seek = mine.seek.iter().map(|seek| seek.id.clone());
        let mut offers: Vec<String> =
            seek.chain(mine.invites.iter().map(|invite| invite.id.clone())).collect();
        offers.sort_unstable();
        Self { playing: mine.playing.clone(), offers }
    }
}

impl ServedPerson {
    /// All tabs are told this.
    pub(crate) fn told(&self, mine: &Mine) {
        *self.told.lock() = Affairs::from(mine);
    }
}

impl Served {
    /// Notes that a client has joined a game and has been told how it stands. Held as long as the client stays.
    pub(crate) fn game(&self, pubsub: &PubSub, table: &Table) -> Arc<ServedGame> {
        self.games.get_or_make(&table.id, || {
            let told = Arc::new(ToldOfGame {
                position: Mutex::new(Told { version: table.version, ply: table.played.ply() }),
                gone: Mutex::new(table.gone_since()),
            });
            let topic = game_topic(&table.id);
            let subscription = pubsub.attach(topic, SubscriberId::unique(), told.clone());
            ServedGame { told, _subscription: subscription }
        })
    }

    /// Notes that somebody has a tab, which is told this. Held as long as the tab is open.
    pub(crate) fn person(&self, user: UserId, mine: &Mine) -> Arc<ServedPerson> {
        self.people.get_or_make(&user, || ServedPerson { told: Mutex::new(Affairs::from(mine)) })
    }

    /// Notes that a socket is here by a session. Held as long as the socket is open.
    pub(crate) fn session(&self, hash: &String) -> Arc<ServedSession> {
        self.sessions.get_or_make(hash, || ServedSession { hash: hash.clone() })
    }
}

impl Node {
    /// Compares from time to time what clients have been told with the database. A node without others loses nothing.
    pub(crate) async fn make_up(&self) {
        if !self.pubsub.is_networked() {
            return std::future::pending().await;
        }
        let mut ticks = interval(self.settings.sync_interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let made_up = async {
                self.make_up_games().await?;
                self.make_up_people().await?;
                self.make_up_sessions().await
            };
            if let Err(error) = made_up.await {
                tracing::error!(%error, "what clients were told can't be compared with the database; retrying");
            }
        }
    }

    async fn make_up_games(&self) -> Result<(), sqlx::Error> {
        let served = self.served.games.all();
        if served.is_empty() {
            return Ok(());
        }
        let stored = self.db.stands(served.iter().map(|(id, _)| &**id)).await?;
        for (id, game) in served {
            let Some(stored) = stored.get(&id) else { continue };
            let told = *game.told.position.lock();
            let is_behind = stored.version > told.version;
            let is_gone_new = *game.told.gone.lock() != stored.gone;
            if !is_behind && !is_gone_new {
                continue;
            }
            let Some(table) = self.db.table(&id, &self.cache).await? else { continue };
            if is_behind {
                tracing::debug!(game = id, told.version, stored.version, "making up for a lost broadcast");
                self.tell_here(&table, told.ply + 1 == table.played.ply());
            }
            if is_gone_new {
                let absent = table.absent(self.settings.claim_times(), table.now);
                drop(self.pubsub.local_broadcast(game_topic(&id), "absent", absent));
                *game.told.gone.lock() = stored.gone;
            }
        }
        Ok(())
    }

    async fn make_up_people(&self) -> Result<(), sqlx::Error> {
        let served = self.served.people.all();
        if served.is_empty() {
            return Ok(());
        }
        let ids: Vec<UserId> = served.iter().map(|(id, _)| *id).collect();
        let mut stored = self.db.affairs(&ids).await?;
        for (id, person) in served {
            let stored = stored.remove(&id).unwrap_or_default();
            let told = person.told.lock().clone();
            if told == stored {
                continue;
            }
            drop(self.pubsub.local_broadcast(user_topic(id), "mine_changed", serde_json::Map::new()));
            if told.playing != stored.playing {
                self.refresh(id);
            }
        }
        Ok(())
    }

    /// Closes the sockets of sessions that have ended.
    async fn make_up_sessions(&self) -> Result<(), sqlx::Error> {
        let served = self.served.sessions.all();
        if served.is_empty() {
            return Ok(());
        }
        let live = self.db.live_sessions(served.iter().map(|(hash, _)| &**hash)).await?;
        for (hash, _) in served {
            if !live.contains(&hash) {
                drop(self.pubsub.disconnect(session_topic(&hash)));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for ServedGame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedGame").field("told", &*self.told.position.lock()).finish_non_exhaustive()
    }
}
