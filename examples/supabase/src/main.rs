//! Broadcast and presence as Supabase Realtime has them, for its clients as they are.
//!
//! `cargo run -p supabase -- --listen 127.0.0.1:4100`, then with the package `@supabase/realtime-js`:
//!
//! ```js
//! const client = new RealtimeClient("ws://127.0.0.1:4100/realtime/v1", { params: { apikey: "anon" } })
//! const channel = client.channel("lobby").on("presence", { event: "sync" }, () => {})
//! channel.subscribe(() => channel.track({ name: "Ada" }))
//! ```

mod room;
mod serializer;

use std::{collections::HashMap, error::Error, net::SocketAddr, time::Duration};

use adsum::{Assigns, Connect, Payload, Presence, PubSub, Refused, SocketBuilder};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router, body::Bytes, routing::post};
use clap::Parser;
use serde_json::{Value, json};

use crate::serializer::{BYTES, Supabase, in_json};

#[derive(Parser)]
struct Options {
    /// The address to listen on; port 0 takes any free one
    #[arg(long, default_value = "127.0.0.1:4100")]
    listen: SocketAddr,
    /// Gathers presences for a fixed time, in milliseconds; 0 sends each change by itself
    #[arg(long, value_name = "MS")]
    diff_interval: Option<u64>,
    /// Compresses messages whose payload has more than this many bytes, for clients that accept it
    #[arg(long, env = "COMPRESS", value_name = "BYTES")]
    compress: Option<usize>,
}

/// The key that every client has.
const API_KEY: &str = "anon";

/// The token of users, who may join private topics. (A real program would verify a signature.)
const ACCESS_TOKEN: &str = "user";

/// Whether it takes an access token to join. Supabase keeps a private topic apart from a public one of the same name; here
/// the name says which it is.
fn is_private(topic: &str) -> bool {
    topic.starts_with("realtime:private:")
}

/// Says why a client may not use a topic with this token.
fn authorize(topic: &str, private: bool, token: Option<&str>) -> Result<(), &'static str> {
    match token {
        _ if topic == "realtime:" => Err("TopicNameRequired: You must provide a topic name"),
        Some(token) if ![API_KEY, ACCESS_TOKEN].contains(&token) => {
            Err("InvalidJWTToken: unknown, or expired")
        }
        _ if private != is_private(topic) => Err("Unauthorized: private topics begin with `private:`"),
        token if private && token != Some(ACCESS_TOKEN) => Err("Unauthorized: the topic is private"),
        _ => Ok(()),
    }
}

async fn connect(_: Presence, request: Connect) -> Result<Assigns, Refused> {
    let params: HashMap<String, String> = request.params()?;
    let is_known = params.get("apikey").is_some_and(|key| key == API_KEY);
    if is_known { Ok(Assigns::new()) } else { Err(Refused::new("unknown apikey")) }
}

type Answer = Result<StatusCode, (StatusCode, Json<Value>)>;

fn refuse(status: StatusCode, message: &str) -> (StatusCode, Json<Value>) {
    (status, Json(json!({"message": message})))
}

/// Broadcasts what has come by HTTP to a topic, which is private or not.
fn publish(pubsub: &PubSub, head: &HeaderMap, to: (&str, bool), event: &str, payload: Payload) -> Answer {
    let header = |name| head.get(name).and_then(|value| value.to_str().ok());
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let token = bearer.or(header("apikey")).or(Some(""));
    let topic = format!("realtime:{}", to.0);
    authorize(&topic, to.1, token).map_err(|reason| refuse(StatusCode::UNAUTHORIZED, reason))?;
    let sent = pubsub.broadcast(topic, event, payload);
    sent.map_err(|error| refuse(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()))?;
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/broadcast`: several messages at once.
async fn post_all(pubsub: State<PubSub>, headers: HeaderMap, Json(batch): Json<Value>) -> Answer {
    for message in batch["messages"].as_array().into_iter().flatten() {
        let [topic, event] = ["topic", "event"].map(|name| message[name].as_str().unwrap_or_default());
        let to = (topic, message["private"] == true);
        publish(&pubsub, &headers, to, "broadcast", in_json(event, &message["payload"]))?;
    }
    Ok(StatusCode::ACCEPTED)
}

/// `POST /api/broadcast/{topic}/events/{event}`: one message, JSON or bytes.
async fn post_one(
    pubsub: State<PubSub>,
    Path((topic, event)): Path<(String, String)>,
    query: Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let to = (&*topic, query.get("private").is_some_and(|private| private == "true"));
    if headers.get("content-type").is_some_and(|kind| kind == "application/octet-stream") {
        return publish(&pubsub, &headers, to, &format!("{BYTES}{event}"), Payload::Binary(body));
    }
    let payload = serde_json::from_slice(&body).map_err(|_| refuse(StatusCode::BAD_REQUEST, "no JSON"))?;
    publish(&pubsub, &headers, to, "broadcast", in_json(&event, &payload))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let options = Options::parse();
    let mut presence = Presence::builder(PubSub::local()).name("realtime");
    if let Some(interval) = options.diff_interval {
        presence = presence.diff_interval(Duration::from_millis(interval));
    }
    let presence = presence.start();
    let socket = SocketBuilder::new(presence.clone())
        .connect(connect)
        .on_refused(|_, _| refuse(StatusCode::UNAUTHORIZED, "unknown apikey"))
        .any_origin()
        .compress_over(options.compress)
        .serializer(2, 0, Supabase)
        .channel::<room::Room>("realtime:*");
    let routes = Router::new()
        .route("/api/broadcast", post(post_all))
        .route("/api/broadcast/{topic}/events/{event}", post(post_one))
        .with_state(PubSub::from(&presence));
    let site = Router::new().nest("/realtime/v1", socket.into_router(&presence).merge(routes));
    let listener = tokio::net::TcpListener::bind(options.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(adsum::serve(listener, site).presence(&presence).await?)
}
