//! The state that all channels and tasks of a running site share.

use std::net::IpAddr;

use adsum::{Entries, FetchResult, IntoPayload, Presence, PresenceHandler, PubSub, TrustedProxies};
use tokio::sync::Semaphore;

use crate::{
    Db, Settings, UserId,
    board::Board,
    games::{GameCache, NextLook},
    limits::Limit,
    passwords::Passwords,
    protocol::{Meta, PlayerInfo},
    served::Served,
};

/// The topic of everyone who is online.
pub(crate) const LOBBY: &str = "lobby";

/// The topic by which nodes tell each other that the lists of the lobby have changed; no client can join it.
pub(crate) const BOARD: &str = "board";

/// The site on this node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) db: Db,
    pub(crate) pubsub: PubSub,
    pub(crate) presence: Presence<Roster>,
    pub(crate) settings: Settings,
    pub(crate) board: Board,
    pub(crate) cache: GameCache,
    pub(crate) served: Served,
    /// When flags are looked at next.
    pub(crate) next_look: NextLook,
    /// A permit for each bot that may think.
    pub(crate) thinkers: Semaphore,
    /// Whose word counts on a client's address.
    pub(crate) proxies: TrustedProxies,
    pub(crate) passwords: Passwords,
    pub(crate) names: Limit<IpAddr>,
    /// Attempts with a password, by what a name reads as, and by address.
    pub(crate) attempts: Limit<String>,
    pub(crate) attempts_from: Limit<IpAddr>,
    pub(crate) offers: Limit<UserId>,
    pub(crate) commands: Limit<UserId>,
}

impl Node {
    pub(crate) fn new(db: Db, pubsub: PubSub, settings: Settings) -> Self {
        let roster = Roster { db: db.clone() };
        let presence =
            Presence::builder(pubsub.clone()).name("lobby").linger(settings.linger()).handler(roster).start();
        Self {
            db,
            pubsub,
            presence,
            board: Board::default(),
            cache: GameCache::default(),
            served: Served::default(),
            next_look: NextLook::default(),
            thinkers: Semaphore::new(settings.thinkers()),
            proxies: settings.trusted_proxies(),
            passwords: Passwords::new(settings.hashers()),
            names: Limit::new(settings.names()),
            attempts: Limit::new(settings.attempts()),
            attempts_from: Limit::new(settings.attempts_from()),
            offers: Limit::new(settings.offers()),
            commands: Limit::new(settings.commands()),
            settings,
        }
    }

    /// Sends an event to everyone who has joined a topic. Whoever misses it asks for the state, so a failure is only noted.
    pub(crate) fn broadcast(&self, topic: &str, event: &str, payload: impl IntoPayload) {
        if let Err(error) = self.pubsub.broadcast(topic, event, payload) {
            tracing::warn!(topic, event, %error, "a message did not go out to all nodes");
        }
    }

    /// Whether somebody is in a topic.
    pub(crate) fn is_in(&self, topic: &str, user: UserId) -> bool {
        self.presence.contains(topic, user.to_string())
    }

    /// Has the info of a user read anew.
    pub(crate) fn refresh(&self, user: UserId) {
        self.presence.refresh(LOBBY, user.to_string());
    }
}

pub(crate) fn game_topic(game: &str) -> String {
    format!("game:{game}")
}

/// The topic in which the spectators of a game are present; nobody joins it.
pub(crate) fn watch_topic(game: &str) -> String {
    format!("watch:{game}")
}

pub(crate) fn user_topic(user: UserId) -> String {
    format!("user:{user}")
}

/// The name of the sockets of a session, by which they are closed.
pub(crate) fn session_topic(hash: &str) -> String {
    format!("session:{hash}")
}

/// Adds to each key the info of its user.
#[derive(Debug)]
pub(crate) struct Roster {
    db: Db,
}

impl PresenceHandler for Roster {
    type Meta = Meta;
    type Info = PlayerInfo;

    async fn fetch(&self, _: &str, entries: &Entries<Meta>) -> FetchResult<Self> {
        let ids: Vec<UserId> = entries.keys().filter_map(|key| key.parse().ok()).collect();
        let infos = self.db.infos(&ids).await?;
        Ok(infos.into_iter().map(|(id, info)| (id.to_string().into(), info)).collect())
    }
}
