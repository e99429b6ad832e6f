//! A lobby: whoever has joined is tracked since when they are online, and shown with their account.
//!
//! In Elixir this is `MyApp.Presence` with `fetch`, and a channel that tracks in `handle_info(:after_join, socket)`.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use adsum::{
    Assigns, Channel, Connect, Entries, FetchResult, JoinResult, Joined, Key, NoParams, Presence,
    PresenceHandler, PubSub, Refused, Socket, SocketBuilder, Stop, Topic,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Meta {
    online_at: u64,
}

#[derive(Serialize)]
struct Info {
    user: User,
}

struct Roster(Accounts);

impl PresenceHandler for Roster {
    type Meta = Meta;
    type Info = Info;

    async fn fetch(&self, _: &str, entries: &Entries<Meta>) -> FetchResult<Self> {
        let users = self.0.users(entries.keys()).await?;
        Ok(users.into_iter().map(|(id, user)| (id, Info { user })).collect())
    }
}

struct Lobby(Presence<Roster>);

impl Channel for Lobby {
    type App = Presence<Roster>;
    type Params = NoParams;
    type Info = ();

    async fn join(app: &Self::App, _: &Topic, _: NoParams, _: &mut Socket) -> JoinResult<Self> {
        Ok(Joined::new(Self(app.clone())))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        let UserId(user) = socket.assigns().require::<UserId>()?.clone();
        let online_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        self.0.track(socket, user, Meta { online_at })?;
        Ok(self.0.push_state(socket).await?)
    }
}

// What the program has besides:

/// In a real program, a database.
#[derive(Clone, Default)]
struct Accounts;

#[derive(Clone, Serialize)]
struct User {
    name: String,
}

impl Accounts {
    /// One query, however many ids.
    #[expect(clippy::unused_async, reason = "a database would be awaited")]
    async fn users(&self, ids: impl Iterator<Item = &Key>) -> Result<Vec<(Key, User)>, std::io::Error> {
        Ok(ids.map(|id| (id.clone(), User { name: format!("user {id}") })).collect())
    }
}

#[derive(Clone, Deserialize)]
struct UserId(String);

async fn connect(_: Presence<Roster>, request: Connect) -> Result<Assigns, Refused> {
    let mut params = request.params::<HashMap<String, String>>()?;
    Ok(Assigns::new().with(UserId(params.remove("user_id").ok_or("no user_id")?))) // in a real program, a token
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4100".to_owned());
    let presence = Presence::builder(PubSub::local()).handler(Roster(Accounts)).start();
    let socket = SocketBuilder::new(presence.clone()).connect(connect).channel::<Lobby>("lobby:*");
    let site = axum::Router::new().nest("/socket", socket.into_router(&presence));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    adsum::serve(listener, site).presence(&presence).await
}
