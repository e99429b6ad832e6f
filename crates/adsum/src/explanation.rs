//! The explanation of a key in a topic: its form between nodes, and its form for programs.

pub(crate) mod words;

use std::{net::IpAddr, time::Duration};

use adsum_channels::{SocketDetails, SocketEnd};
use adsum_pubsub::Topic;
use adsum_tracker::{Key, LeaveReason, NodeState, Ref};
use serde::{Deserialize, Serialize};

use crate::seconds;

/// How long other nodes have to answer [`Presence::explain`](crate::Presence::explain).
pub const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a key is in a topic, or isn't; from [`Presence::explain`](crate::Presence::explain).
///
/// As JSON, times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The topic.
    pub topic: Topic,
    /// The key.
    pub key: Key,
    /// The node that was asked.
    pub node: String,
    /// The presences of the key that any node shows, or keeps hidden.
    pub presences: Vec<ExplainedPresence>,
    /// The presences that left of late, the last first. Updates are not leaves.
    pub leaves: Vec<ExplainedLeave>,
    /// The nodes that the asked one takes for up, and those that answered.
    pub nodes: Vec<ExplainedNode>,
    /// How many leaves the asked node remembers, and for how long.
    pub remembers: Remembers,
}

/// The bounds of a node's memory of leaves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Remembers {
    /// How many leaves.
    pub count: usize,
    /// For how long.
    #[serde(with = "seconds")]
    pub age: Duration,
}

/// A node, as it answered a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExplainedNode {
    /// The node's name.
    pub name: String,
    /// Whether this is the node that was asked.
    pub is_self: bool,
    /// Whether it answered in time.
    pub answered: bool,
    /// Its state, for the node that was asked.
    pub state: Option<NodeState>,
    /// How long ago the asked node heard it for the last time.
    #[serde(with = "seconds")]
    pub silent_for: Duration,
}

/// One presence of a key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExplainedPresence {
    /// Its name.
    pub reference: Ref,
    /// The node that it was tracked on. `None` if no node that answered knows it.
    pub node: Option<HoldingNode>,
    /// Its owner. `None` if its node did not answer.
    pub holder: Option<Holder>,
    /// Set if it is about to leave.
    pub departing: Option<ExplainedDeparture>,
    /// The nodes that show it.
    pub shown_by: Vec<String>,
    /// The nodes that keep it hidden, until its node is heard again.
    pub hidden_by: Vec<String>,
    /// The nodes that answered and don't have it.
    pub missing_on: Vec<String>,
}

/// The node that a presence was tracked on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HoldingNode {
    /// The node's name.
    pub name: String,
    /// Its state, for the node that was asked.
    #[serde(skip_deserializing)]
    pub state: Option<NodeState>,
    /// How long ago the asked node heard it for the last time.
    #[serde(with = "seconds")]
    pub silent_for: Duration,
    /// For how long it may stay silent yet before it is down. Zero if it is down, or has departed.
    #[serde(with = "seconds")]
    pub silence_left: Duration,
    /// Whether it answered itself.
    pub answered: bool,
}

/// The owner of a presence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// Which owner of its node.
    pub owner: u64,
    /// The socket, if it is a channel. `None` if it is a task, or if the node doesn't remember the socket.
    pub socket: Option<ExplainedSocket>,
    /// How long it has held presences, or had.
    #[serde(with = "seconds::optional")]
    pub held_for: Option<Duration>,
    /// How long ago it ended, if it has.
    #[serde(with = "seconds::optional")]
    pub ended: Option<Duration>,
}

/// The socket of a channel that holds a presence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExplainedSocket {
    /// The id that the program gave it, if it did.
    pub id: Option<String>,
    /// The transport: `websocket`, `longpoll`, or the name of one of the program's own.
    pub transport: String,
    /// The client's address.
    pub client_address: Option<IpAddr>,
    /// How long it has been open, or was.
    #[serde(with = "seconds")]
    pub open_for: Duration,
    /// How long ago the client was heard for the last time.
    #[serde(with = "seconds")]
    pub silent_for: Duration,
    /// The silence after which the server closes it. `None`: never.
    #[serde(with = "seconds::optional")]
    pub silence_limit: Option<Duration>,
    /// How it ended, in words. `None` if it was open when it was last looked at.
    pub end: Option<String>,
}

/// A presence that is about to leave.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExplainedDeparture {
    /// Why.
    pub reason: LeaveReason,
    /// After which time, unless another presence of the key takes its place.
    #[serde(with = "seconds")]
    pub remaining: Duration,
}

/// A presence that has left.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExplainedLeave {
    /// Its name.
    pub reference: Ref,
    /// The node that it was tracked on, if it is remembered.
    pub node: Option<String>,
    /// Why it left.
    pub reason: LeaveReason,
    /// How long ago.
    #[serde(with = "seconds")]
    pub ago: Duration,
    /// If it was unreachable, how long its node had been silent.
    #[serde(with = "seconds::optional")]
    pub node_silent_for: Option<Duration>,
    /// Its owner. `None` if its node did not say.
    pub holder: Option<Holder>,
    /// The nodes that remember it so.
    pub told_by: Vec<String>,
}

impl Explanation {
    /// Whether the node that was asked shows the key in the topic.
    pub fn is_present(&self) -> bool {
        self.presences.iter().any(|presence| presence.shown_by.contains(&self.node))
    }

    /// The nodes that did not answer in time.
    pub fn unanswered(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|node| !node.answered).map(|node| &*node.name)
    }
}

impl ExplainedSocket {
    pub(crate) fn of(details: SocketDetails) -> Self {
        Self {
            id: details.id.map(|id| id.to_string()),
            transport: details.transport.to_owned(),
            client_address: details.client_address,
            open_for: details.open_for,
            silent_for: details.silent_for,
            silence_limit: details.silence_limit,
            end: details.end.map(end_in_words),
        }
    }
}

/// How a socket ended, as the end of a sentence that begins with the socket.
fn end_in_words(end: SocketEnd) -> String {
    match end {
        SocketEnd::Closed(code) => format!("was closed by its client, with code {code}"),
        SocketEnd::Lost => "was lost: its client closed nothing, the connection broke".to_owned(),
        SocketEnd::Silent => "was closed, as its client had been silent for too long".to_owned(),
        SocketEnd::TooSlow => "was closed, as its client read too slowly".to_owned(),
        SocketEnd::BadMessage(code) => {
            format!("was closed with code {code}, after a message that can't be read")
        }
        SocketEnd::Disconnected => "was told to disconnect".to_owned(),
        SocketEnd::Draining => "was closed, as its node was stopped".to_owned(),
        _ => "has ended".to_owned(),
    }
}
