//! The messages between relays, and the response to a request of another node.

use adsum_pubsub::{BroadcastError, Payload, PubSub, Topic, log::limited};
use serde::{Deserialize, Serialize};

use super::parts;
use crate::protocol_session::RESERVED_PREFIX;

/// The events of a relay.
pub(super) const ASK: &str = "ask";
pub(super) const ANSWER: &str = "answer";
/// The default of [`max_forwarded_bytes`].
const MAX_FORWARDED_BYTES: usize = 256 * 1024;

#[derive(Serialize, Deserialize)]
pub(super) struct ForwardedAnswer {
    pub(super) number: u64,
    pub(super) answer: NodeAnswer,
}

/// The response of a session's node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum NodeAnswer {
    /// The session exists; another response follows.
    Here,
    Gone,
    Messages(Vec<String>),
    Nothing,
    Taken,
    Bad(String),
}

/// Sends a session's response to another node. If it is dropped without a response, it reports that the session is
/// gone.
pub(super) struct Responder {
    pubsub: PubSub,
    node: String,
    relay: String,
    number: u64,
    open: bool,
}

impl Responder {
    pub(super) fn new(pubsub: PubSub, node: String, relay: String, number: u64) -> Self {
        Self { pubsub, node, relay, number, open: true }
    }

    /// The relay that asks.
    pub(super) fn relay(&self) -> &str {
        &self.relay
    }

    /// Sends the response. If it never fits, reports that the session is gone.
    pub(super) fn answer(mut self, answer: &NodeAnswer) -> Result<(), NotSent> {
        let sent = self.say(answer);
        self.open = matches!(sent, Err(NotSent::TooLong(_)));
        sent
    }

    /// Sends no response, so the requester times out.
    pub(super) fn leave_unanswered(mut self) {
        self.open = false;
    }

    pub(super) fn is(&self, number: u64, relay: &str) -> bool {
        self.number == number && self.relay == relay
    }

    /// The number of messages to send in one response: at least one.
    pub(super) fn fitting(&self, messages: &[String]) -> usize {
        let (mut bytes, max) = (0, max_forwarded_bytes(&self.pubsub));
        let fit = messages.iter().take_while(|message| {
            bytes += message.len();
            bytes <= max
        });
        fit.count().max(1)
    }

    /// Sends a response, which another one may follow.
    pub(super) fn say(&self, answer: &NodeAnswer) -> Result<(), NotSent> {
        let answered = ForwardedAnswer { number: self.number, answer: answer.clone() };
        let sent = send(&self.pubsub, &self.node, &self.relay, ANSWER, ("", self.number), &answered);
        sent.inspect_err(|error| limited!(WARN, node = self.node, %error, "long poll answer not sent"))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.open {
            // If it can't be sent, the requester times out.
            let _ = self.say(&NodeAnswer::Gone);
        }
    }
}

/// Why a value is not sent to a relay.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    #[error(
        "its {0} bytes never fit into the queue between the nodes; raise `NodeBuilder::queue`, or lower \
         `max_message_bytes` and `max_queue_bytes`"
    )]
    TooLong(usize),
    #[error(transparent)]
    Now(#[from] BroadcastError),
}

/// Maximum size of the messages in one request or response between nodes, unless a single message is larger. If the
/// queue between the nodes is small, half of it, so that what fits one by one also fits together.
pub(super) fn max_forwarded_bytes(pubsub: &PubSub) -> usize {
    pubsub.queue_limits().map_or(MAX_FORWARDED_BYTES, |limits| MAX_FORWARDED_BYTES.min(limits.bytes / 2))
}

pub(super) fn topic(relay: &str) -> Topic {
    format!("{RESERVED_PREFIX}longpoll:{relay}").into()
}

/// Sends a value to a relay, in several parts if it is long.
pub(super) fn send(
    pubsub: &PubSub,
    node: &str,
    relay: &str,
    event: &str,
    (from, number): (&str, u64),
    value: &impl Serialize,
) -> Result<(), NotSent> {
    let bytes = postcard::to_allocvec(value).expect("strings, bytes and numbers can be encoded");
    if !parts::fit(bytes.len(), pubsub.queue_limits()) {
        return Err(NotSent::TooLong(bytes.len()));
    }
    for part in parts::split(from, number, &bytes) {
        pubsub.direct_broadcast(node, topic(relay), event, Payload::Binary(part.into()))?;
    }
    Ok(())
}
