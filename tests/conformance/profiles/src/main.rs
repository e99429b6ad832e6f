//! A server for tests: rooms whose users have profiles in a database that takes 200 ms, where presences linger, and
//! where a client that stops reading is soon behind.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use adsum::{
    Assigns, Channel, Connect, Entries, FetchError, JoinError, Joined, Key, NoParams, Payload, Presence,
    PresenceHandler, PubSub, Refused, Reply, Socket, SocketBuilder, Sockets, Stop, Topic,
};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::net::TcpSocket;

const QUERY_TIME: Duration = Duration::from_millis(200);
const LINGER: Duration = Duration::from_mins(1);
/// Of a client that doesn't read the server keeps little: this in its own queue, and what the kernel holds besides.
const QUEUE_BYTES: usize = 64 * 1024;
const KERNEL_BYTES: u32 = 8 * 1024;

/// How often each user has edited their profile.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<HashMap<Key, u32>>>);

impl Database {
    fn edit(&self, user: Key) -> u32 {
        let mut edits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let edits = edits.entry(user).or_default();
        *edits += 1;
        *edits
    }

    /// Reads as of now, and answers later.
    async fn profiles(&self, users: impl Iterator<Item = &Key>) -> HashMap<Key, Profile> {
        let profiles = {
            let edits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            users
                .map(|user| (user.clone(), Profile { edits: edits.get(user).copied().unwrap_or_default() }))
                .collect()
        };
        tokio::time::sleep(QUERY_TIME).await;
        profiles
    }
}

#[derive(Serialize)]
struct Profile {
    edits: u32,
}

struct Profiles(Database);

impl PresenceHandler for Profiles {
    type Meta = Map<String, Value>;
    type Info = Profile;

    async fn fetch(
        &self,
        _: &str,
        entries: &Entries<Self::Meta>,
    ) -> Result<HashMap<Key, Profile>, FetchError> {
        Ok(self.0.profiles(entries.keys()).await)
    }
}

#[derive(Clone)]
struct App {
    presence: Presence<Profiles>,
    database: Database,
}

#[derive(Clone)]
struct User(Key);

async fn connect(_: App, request: Connect) -> Result<Assigns, Refused> {
    #[derive(Deserialize)]
    struct Params {
        user_id: String,
    }
    let Params { user_id } = request.params()?;
    Ok(Assigns::new().with(User(user_id.into())))
}

struct Room {
    app: App,
    user: Key,
}

impl Channel for Room {
    type App = App;
    type Params = NoParams;
    type Info = ();

    async fn join(app: &App, _: &Topic, _: NoParams, socket: &mut Socket) -> Result<Joined<Self>, JoinError> {
        let User(user) = socket.assigns().require::<User>()?.clone();
        Ok(Joined::new(Room { app: app.clone(), user }))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.app.presence.track(socket, self.user.clone(), Map::new())?;
        Ok(self.app.presence.push_state(socket).await?)
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match event {
            "update" => {
                self.app.presence.update(socket, self.user.clone(), payload.decode()?)?;
                Ok(Reply::ok(json!({})))
            }
            "edit" => {
                let edits = self.app.database.edit(self.user.clone());
                self.app.presence.refresh(socket.topic(), self.user.clone());
                Ok(Reply::ok(json!({ "edits": edits })))
            }
            _ => Err(Stop::unhandled(event)),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = Database::default();
    let presence = Presence::builder(PubSub::local())
        .handler(Profiles(database.clone()))
        // No machine is so slow that a query fails.
        .fetch_timeout(Duration::from_mins(1))
        .linger(LINGER)
        .start();
    let sockets = Sockets::new();
    let socket = SocketBuilder::new(App { presence: presence.clone(), database })
        .connect(connect)
        .sockets(&sockets)
        .max_queue_bytes(QUEUE_BYTES)
        // A client that reads nothing for as long as a test wants is kept.
        .state_timeout(Duration::from_mins(10))
        .timeout(None)
        .without_ping()
        .channel::<Room>("room:*");
    let site = axum::Router::new()
        .nest("/socket", socket.into_router(&presence))
        .route("/sockets", get(async move || sockets.len().to_string()));
    let listener = TcpSocket::new_v4()?;
    listener.set_send_buffer_size(KERNEL_BYTES)?;
    listener.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = listener.listen(1024)?;
    println!("listening on {}", listener.local_addr()?);
    Ok(adsum::serve(listener, site).presence(&presence).await?)
}
