//! A site: users in a database, a session in a signed cookie, and a page that knows who is there.
//!
//! `cargo run -p programs --bin site`, then `POST /session` with `{"name": "Ada"}`, and as the page of that session:
//!
//! ```js
//! const socket = new Socket("/socket")
//! socket.connect()
//! const room = socket.channel("room:lobby", {})
//! const presence = new Presence(room)
//! presence.onSync(() => console.log(presence.list((id, { name, metas }) => [name, metas[0].status])))
//! room.join()
//! room.push("status", "away")
//! ```

use adsum::{
    Assigns, Channel, Connect, Entries, FetchResult, JoinResult, Joined, Key, NoParams, Payload, Presence,
    PresenceHandler, PubSub, Refused, Reply, Socket, SocketBuilder, Stop, Topic,
};
use axum::{
    Json, Router,
    extract::{FromRef, State},
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use axum_extra::extract::cookie::{self, Cookie, SignedCookieJar};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::SqlitePool;

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Here,
    Away,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    status: Status,
}

/// The part of a user that everybody sees, beside the metas.
#[derive(Serialize)]
struct User {
    name: String,
}

struct Roster(SqlitePool);

impl PresenceHandler for Roster {
    type Meta = Meta;
    type Info = User;

    async fn fetch(&self, _: &str, entries: &Entries<Meta>) -> FetchResult<Self> {
        let ids: Vec<&Key> = entries.keys().collect();
        let users = "SELECT CAST(id AS TEXT), name FROM users WHERE id IN (SELECT value FROM json_each(?))";
        let users: Vec<(String, String)> =
            sqlx::query_as(users).bind(serde_json::to_string(&ids)?).fetch_all(&self.0).await?;
        Ok(users.into_iter().map(|(id, name)| (Key::from(id), User { name })).collect())
    }
}

/// The state that routes and channels share.
#[derive(Clone)]
struct Site {
    users: SqlitePool,
    presence: Presence<Roster>,
    cookies: cookie::Key,
}

impl FromRef<Site> for cookie::Key {
    fn from_ref(site: &Site) -> Self {
        site.cookies.clone()
    }
}

/// The user that a socket belongs to.
#[derive(Clone)]
struct UserId(i64);

async fn connect(site: Site, mut request: Connect) -> Result<Assigns, Refused> {
    let cookies: SignedCookieJar = request.extract_with(&site).await?;
    let id = cookies.get("user").ok_or("not signed in")?.value().parse()?;
    Ok(Assigns::new().with(UserId(id)).id(format!("user:{id}")))
}

struct Room {
    presence: Presence<Roster>,
    user: i64,
}

impl Channel for Room {
    type App = Site;
    type Params = NoParams;
    type Info = ();

    async fn join(site: &Site, _: &Topic, _: NoParams, socket: &mut Socket) -> JoinResult<Self> {
        let UserId(user) = *socket.assigns().require()?;
        Ok(Joined::new(Self { presence: site.presence.clone(), user }))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.presence.track(socket, self.user, Meta { status: Status::Here })?;
        Ok(self.presence.push_state(socket).await?)
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match event {
            "status" => self.presence.set(socket, self.user, Meta { status: payload.decode_or_refuse()? })?,
            other => return Err(Stop::unhandled(other)),
        };
        Ok(Reply::ok(json!({})))
    }
}

#[derive(Deserialize)]
struct SignIn {
    name: String,
}

async fn sign_in(
    State(site): State<Site>,
    cookies: SignedCookieJar,
    Json(SignIn { name }): Json<SignIn>,
) -> Result<impl IntoResponse, StatusCode> {
    let stored = sqlx::query("INSERT INTO users (name) VALUES (?)").bind(name).execute(&site.users).await;
    let id = stored.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?.last_insert_rowid();
    // In a real program, `.secure(true)` as well.
    let cookie =
        Cookie::build(("user", id.to_string())).http_only(true).same_site(cookie::SameSite::Lax).path("/");
    Ok((StatusCode::CREATED, cookies.add(cookie)))
}

async fn sign_out(State(site): State<Site>, cookies: SignedCookieJar) -> impl IntoResponse {
    if let Some(user) = cookies.get("user") {
        // On whatever node they are.
        let _ = PubSub::from(&site.presence).disconnect(format!("user:{}", user.value()));
    }
    cookies.remove(Cookie::build("user").path("/"))
}

async fn who(State(site): State<Site>) -> Json<Value> {
    Json(json!(site.presence.list("room:lobby").await))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4100".to_owned());
    // One connection, since each has a database in memory of its own. A real program names a file.
    let users = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    sqlx::query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").execute(&users).await?;
    let presence = Presence::builder(PubSub::local()).handler(Roster(users.clone())).start();
    let site = Site { users, presence: presence.clone(), cookies: cookie::Key::generate() };

    let socket = SocketBuilder::new(site.clone()).connect(connect).channel::<Room>("room:*");
    let routes = Router::new()
        .route("/session", post(sign_in).delete(sign_out))
        .route("/who", get(who))
        .nest("/socket", socket.into_router(&presence))
        .with_state(site);
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(adsum::serve(listener, routes).presence(&presence).await?)
}
