//! Somebody who plays: a name, a session, and a connection to one of the nodes.

use std::{collections::VecDeque, io, time::Instant};

use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{net::TcpStream, sync::mpsc, task::AbortHandle};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{http::ask, site::Site};

/// Somebody who plays.
pub(crate) struct Player {
    pub(crate) id: String,
    pub(crate) cookie: String,
    /// Whether the list of everyone is read, which is large.
    pub(crate) sees_lobby: bool,
    /// Which node comes next.
    node: usize,
    connection: Option<Connection>,
    kept: VecDeque<Heard>,
}

struct Connection {
    writer: SplitSink<WebSocketStream<TcpStream>, Message>,
    heard: mpsc::UnboundedReceiver<Heard>,
    reader: AbortHandle,
    next_ref: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A message that matters for playing. As many come as the server sends to one player between two moves.
#[derive(Debug)]
pub(crate) enum Heard {
    Reply {
        reference: String,
        is_ok: bool,
        response: Value,
    },
    /// A change of a game, and when it came.
    Change(Position, Instant),
    /// Everyone in the lobby.
    Lobby(Value),
}

/// How a game stands.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Position {
    pub(crate) ply: u32,
    pub(crate) legal: Vec<String>,
    pub(crate) result: Option<Outcome>,
}

/// How it ended.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) reason: String,
}

/// The connection is gone.
#[derive(Debug)]
pub(crate) struct Lost;

impl Player {
    /// Somebody new.
    pub(crate) async fn new(site: &Site, name: &str, node: usize) -> io::Result<Self> {
        let answer = ask(site.port(node), "POST", "/session", "", &json!({ "name": name })).await?;
        let body: Value = serde_json::from_str(&answer.body)?;
        let id = body["user"]["id"].as_str().ok_or_else(|| io::Error::other(answer.body.clone()))?.to_owned();
        let cookie = answer.cookie().ok_or_else(|| io::Error::other("no cookie"))?;
        Ok(Self { id, cookie, sees_lobby: false, node, connection: None, kept: VecDeque::new() })
    }

    /// Connects to a node, the next one each time, and joins what a page does.
    pub(crate) async fn connect(&mut self, site: &Site) -> Result<(), Lost> {
        self.connection = None;
        self.kept.clear();
        let port = site.port(self.node);
        self.node += 1;
        let url = format!("ws://localhost:{port}/socket/websocket?vsn=2.0.0");
        let mut request = url.into_client_request().map_err(|_| Lost)?;
        request.headers_mut().insert("cookie", self.cookie.parse().map_err(|_| Lost)?);
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| Lost)?;
        stream.set_nodelay(true).map_err(|_| Lost)?;
        let (socket, _) = client_async(request, stream).await.map_err(|_| Lost)?;
        let (writer, mut reader) = socket.split();
        let sees_lobby = self.sees_lobby;
        let (tell, heard) = mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            while let Some(Ok(message)) = reader.next().await {
                if let Message::Text(text) = message
                    && let Some(heard) = read(&text, sees_lobby)
                    && tell.send(heard).is_err()
                {
                    return;
                }
            }
        });
        self.connection = Some(Connection { writer, heard, reader: reader.abort_handle(), next_ref: 1 });
        self.push("lobby", "phx_join", json!({ "status": "here" })).await?.map_err(|_| Lost)?;
        let own = self.topic();
        self.push(&own, "phx_join", json!({})).await?.map_err(|_| Lost)?;
        Ok(())
    }

    pub(crate) fn topic(&self) -> String {
        format!("user:{}", self.id)
    }

    /// Joins a game and learns how it stands.
    pub(crate) async fn join(&mut self, game: &str) -> Result<Position, Lost> {
        let joined = self.push(game, "phx_join", json!({ "status": "here" })).await?.map_err(|_| Lost)?;
        serde_json::from_value(joined["game"].clone()).map_err(|_| Lost)
    }

    /// Sends an event, and returns its ref. The reply is among what [`next`](Self::next) returns.
    pub(crate) async fn send(&mut self, topic: &str, event: &str, payload: Value) -> Result<String, Lost> {
        let connection = self.connection.as_mut().ok_or(Lost)?;
        let reference = connection.next_ref.to_string();
        connection.next_ref += 1;
        let frame = json!([topic, reference, topic, event, payload]).to_string();
        if connection.writer.send(Message::text(frame)).await.is_err() {
            self.connection = None;
            return Err(Lost);
        }
        Ok(reference)
    }

    /// Sends an event and waits for its reply.
    pub(crate) async fn push(
        &mut self,
        topic: &str,
        event: &str,
        payload: Value,
    ) -> Result<Result<Value, Value>, Lost> {
        let sent = self.send(topic, event, payload).await?;
        loop {
            match self.receive().await? {
                Heard::Reply { reference, is_ok, response } if reference == sent => {
                    return Ok(if is_ok { Ok(response) } else { Err(response) });
                }
                Heard::Reply { .. } => {}
                other => self.kept.push_back(other),
            }
        }
    }

    /// The next message that matters, from those that came while a reply was waited for.
    pub(crate) async fn next(&mut self) -> Result<Heard, Lost> {
        match self.kept.pop_front() {
            Some(heard) => Ok(heard),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<Heard, Lost> {
        let connection = self.connection.as_mut().ok_or(Lost)?;
        let heard = connection.heard.recv().await;
        if heard.is_none() {
            self.connection = None;
        }
        heard.ok_or(Lost)
    }
}

/// Reads a frame, and of its payload only what is needed.
fn read(text: &str, sees_lobby: bool) -> Option<Heard> {
    type Frame<'t> = (Option<&'t str>, Option<&'t str>, &'t str, &'t str, &'t RawValue);
    let (_, reference, topic, event, payload): Frame<'_> = serde_json::from_str(text).ok()?;
    match event {
        "phx_reply" => {
            let reply: Value = serde_json::from_str(payload.get()).ok()?;
            let is_ok = reply["status"] == "ok";
            Some(Heard::Reply {
                reference: reference?.to_owned(),
                is_ok,
                response: reply["response"].clone(),
            })
        }
        "change" => Some(Heard::Change(serde_json::from_str(payload.get()).ok()?, Instant::now())),
        "presence_state" if sees_lobby && topic == "lobby" && payload.get().contains("\"bot\":true") => {
            Some(Heard::Lobby(serde_json::from_str(payload.get()).ok()?))
        }
        _ => None,
    }
}
