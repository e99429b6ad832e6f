//! The channel of the page.

use std::sync::Arc;

use adsum_channels::{Channel, JoinError, Joined, NoParams, Reply, Socket, Stop};
use adsum_pubsub::{Payload, Topic, log::cut_name, tasks, tasks::Task};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{App, Board};
use crate::{
    explanation::Explanation,
    handler::PresenceHandler,
    presence::Presence,
    watching::{Stream, StreamItem},
};

/// The topic of all pages.
pub(super) const TOPIC: &str = "console";
/// The key under which pages are tracked.
const VISITOR: &str = "page";

/// One page.
pub(super) struct Console<H: PresenceHandler> {
    board: Arc<Board<H>>,
    /// The socket that the page watches.
    watching: Option<Task>,
}

/// Asks for topics.
#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    search: String,
}

/// Asks for a part of a topic.
#[derive(Deserialize)]
struct PageOf {
    topic: Topic,
    after: Option<String>,
}

/// Names a key of a topic.
#[derive(Deserialize)]
struct KeyOf {
    topic: Topic,
    key: String,
}

/// Names a socket by its id.
#[derive(Deserialize)]
struct SocketId {
    id: String,
}

/// Names the owner of a presence on its node.
#[derive(Deserialize)]
struct OwnerOn {
    node: String,
    owner: u64,
}

impl<H: PresenceHandler> Channel for Console<H> {
    type App = App<H>;
    type Params = NoParams;
    type Info = StreamItem;

    async fn join(app: &App<H>, _: &Topic, _: NoParams, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        let board = app.board.clone();
        let reply = json!({
            "node": board.presence.core.pubsub.node(),
            "can_disconnect": board.allows_disconnect,
        });
        Ok(Joined::new(Self { board, watching: None }).reply(reply))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.board.visitors.track(socket, VISITOR, Map::new())?;
        self.board.visitors.push_state(socket).await?;
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        let board = self.board.clone();
        Ok(match event {
            "topics" => {
                let Search { search } = payload.decode_or_refuse()?;
                Reply::ok(board.topics(&search).await)
            }
            "page" => {
                let PageOf { topic, after } = payload.decode_or_refuse()?;
                Reply::ok(board.page(&topic, after.as_deref()))
            }
            "explain" => {
                let KeyOf { topic, key } = payload.decode_or_refuse()?;
                Reply::ok(in_words(&board.presence.explain(topic, key).await))
            }
            "disconnect" if board.allows_disconnect => {
                let SocketId { id } = payload.decode_or_refuse()?;
                tracing::info!(socket_id = %cut_name(&id), "an operator disconnects sockets");
                match board.presence.core.pubsub.disconnect(id) {
                    Ok(()) => Reply::ok(json!({})),
                    Err(error) => Reply::error(json!({"reason": error.to_string()})),
                }
            }
            "watch" => {
                let OwnerOn { node, owner } = payload.decode_or_refuse()?;
                self.watching = Some(watch(&board, node, owner, socket));
                Reply::ok(json!({}))
            }
            "unwatch" => {
                self.watching = None;
                Reply::ok(json!({}))
            }
            _ => Reply::error(json!({"reason": "this page can't do that"})),
        })
    }

    async fn handle_info(&mut self, item: StreamItem, socket: &mut Socket) -> Result<(), Stop> {
        match item {
            StreamItem::Begun => socket.push("watching", json!({}))?,
            StreamItem::Message { from_client, bytes, text, skipped } => {
                let message = json!({
                    "from_client": from_client, "bytes": bytes, "text": text, "skipped": skipped,
                });
                socket.push("message", message)?;
            }
            StreamItem::End(why) => socket.push("unwatched", json!({"why": why}))?,
        }
        Ok(())
    }
}

/// Has the messages of a socket come to the channel.
fn watch<H: PresenceHandler>(board: &Board<H>, node: String, owner: u64, socket: &Socket) -> Task {
    let channel = socket.sender::<Console<H>>();
    let Presence { core, exchange, .. } = &board.presence;
    let mut stream = Stream::open(&exchange.watches, core, node, owner);
    tasks::spawn("dashboard watch", async move {
        while let Some(item) = stream.next().await {
            // A page that is too slow doesn't see all.
            if channel.send(item).is_err() && channel.is_closed() {
                return;
            }
        }
    })
}

/// An explanation with its sentences.
fn in_words(explanation: &Explanation) -> Value {
    let presences = explanation
        .presences
        .iter()
        .map(|presence| json!({"presence": presence, "sentences": presence.sentences()}));
    let leaves = explanation
        .leaves
        .iter()
        .map(|leave| json!({"leave": leave, "sentence": explanation.leave_sentence(leave)}));
    json!({
        "topic": explanation.topic,
        "key": explanation.key,
        "is_present": explanation.is_present(),
        "summary": explanation.summary(),
        "presences": presences.collect::<Vec<_>>(),
        "leaves": leaves.collect::<Vec<_>>(),
        "nodes": explanation.nodes,
    })
}
