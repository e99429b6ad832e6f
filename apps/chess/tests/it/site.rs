//! Sites that listen, and people in them.

use std::{net::SocketAddr, path::Path};

use adsum::PubSub;
use chess::{Db, Hall, Name, Sessions, Settings, Site, protocol::User, site};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    client::Client,
    pages::{WEB, cookie_of},
};

/// Short times, no bots, no limits. A sweep that is two of its times late takes the machine to have slept, and stops the
/// clocks of all games meanwhile: sweeps are far apart where they aren't what is tested.
pub(crate) fn settings() -> Settings {
    Settings {
        linger_ms: 50,
        // Clients that aren't waiting for anything don't answer pings.
        ping_ms: 3_600_000,
        list_ms: 20,
        sweep_ms: 60_000,
        bots: false,
        bot_ms: 0,
        max_names: 0,
        max_offers: 0,
        max_commands: 0,
        ..Settings::default()
    }
}

/// A site that listens.
pub(crate) struct Served {
    pub(crate) address: String,
    pub(crate) db: Db,
    pub(crate) sessions: Sessions,
    server: JoinHandle<()>,
}

impl Served {
    /// On a database of its own, in memory.
    pub(crate) async fn start(settings: Settings) -> Self {
        Self::on(Db::open("sqlite::memory:", 1).await.unwrap(), settings).await
    }

    pub(crate) async fn on(db: Db, settings: Settings) -> Self {
        Self::node(PubSub::local(), db, settings).await
    }

    /// A node of several on one database.
    pub(crate) async fn node(pubsub: PubSub, db: Db, settings: Settings) -> Self {
        let sessions = Sessions::new(db.clone(), settings.session_lifetime());
        let hall = Hall::open(pubsub, db.clone(), settings).await.unwrap();
        hall.ready().await.unwrap();
        let pages =
            Site { db: db.clone(), sessions: sessions.clone(), hall, origin: None, hosts: Vec::new() };
        let router = site(pages, Path::new(WEB)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async {
            let service = router.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, service).await.unwrap();
        });
        Self { address, db, sessions, server }
    }

    /// Somebody new, with one tab in the lobby.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let user = self.db.create_user(&Name::parse(name).unwrap()).await.unwrap();
        let cookie = cookie_of(self.sessions.sign_in(user.id).await.unwrap());
        let tab = self.tab(&user, &cookie).await;
        Person { user, cookie, tab }
    }

    /// One more tab of somebody, in the lobby.
    pub(crate) async fn tab(&self, user: &User, cookie: &str) -> Client {
        let mut tab = Client::connect(&self.address, cookie).await;
        tab.enter("lobby").await;
        tab.join(&format!("user:{}", user.id), json!({})).await.unwrap();
        tab
    }

    /// Two people who play: white, black, and the game. Both have joined it.
    pub(crate) async fn game(&self, initial_ms: u64, increment_ms: u64) -> (Person, Person, String) {
        let (mut white, mut black) = (self.person("Anna").await, self.person("Ben").await);
        let game = begin(&mut white, &mut black, initial_ms, increment_ms).await;
        (white, black, game)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Two people begin a game and join it. Returns its topic.
pub(crate) async fn begin(
    white: &mut Person,
    black: &mut Person,
    initial_ms: u64,
    increment_ms: u64,
) -> String {
    let terms = json!({
        "to": black.user.id, "color": "white", "initial_ms": initial_ms, "increment_ms": increment_ms,
    });
    let invite = white.me("invite", terms).await.unwrap();
    let game = black.me("accept", json!({ "id": invite["id"] })).await.unwrap();
    let topic = format!("game:{}", game["game"].as_str().unwrap());
    white.join(&topic).await;
    black.join(&topic).await;
    topic
}

/// Somebody with a tab.
pub(crate) struct Person {
    pub(crate) user: User,
    pub(crate) cookie: String,
    pub(crate) tab: Client,
}

impl Person {
    pub(crate) fn topic(&self) -> String {
        format!("user:{}", self.user.id)
    }

    /// Pushes to the topic of what concerns only them.
    pub(crate) async fn me(&mut self, event: &str, payload: Value) -> Result<Value, Value> {
        let topic = self.topic();
        self.tab.push(&topic, event, payload).await
    }

    /// The next event there that is as it should be.
    pub(crate) async fn heard(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let topic = self.topic();
        self.tab.event_where(&topic, event, wanted).await
    }

    pub(crate) async fn join(&mut self, topic: &str) -> Value {
        self.tab.enter(topic).await
    }

    /// How a game stands once it is over. It may have been over as they joined it.
    pub(crate) async fn until_over(&mut self, topic: &str) -> Value {
        let state = self.state(topic).await;
        if !state["result"].is_null() {
            return state;
        }
        self.tab.until_heard(topic, "change", |change| !change["result"].is_null()).await;
        self.state(topic).await
    }

    /// How a game stands.
    pub(crate) async fn state(&mut self, topic: &str) -> Value {
        self.tab.push(topic, "sync", json!({})).await.unwrap()["game"].clone()
    }

    /// Moves, or says why not.
    pub(crate) async fn play(&mut self, topic: &str, ply: u32, text: &str) -> Result<Value, Value> {
        self.tab.push(topic, "move", json!({ "ply": ply, "move": text })).await
    }
}

/// Plays moves from a ply on, both in turn.
pub(crate) async fn play_all(white: &mut Person, black: &mut Person, topic: &str, from: u32, moves: &str) {
    for (ply, text) in (from..).zip(moves.split_whitespace()) {
        let player = if ply % 2 == 0 { &mut *white } else { &mut *black };
        player.play(topic, ply, text).await.unwrap();
    }
}

/// The reason of a refusal.
pub(crate) fn reason(refused: Result<Value, Value>) -> String {
    let problem = refused.expect_err("it is refused");
    assert!(problem["message"].as_str().is_some_and(|message| message.ends_with('.')), "in words: {problem}");
    problem["reason"].as_str().unwrap().to_owned()
}
