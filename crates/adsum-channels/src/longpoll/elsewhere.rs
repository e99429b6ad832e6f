//! Sessions of other nodes: behind a load balancer a client's requests may come to any of them.
//!
//! A request goes to the node of its session as a direct broadcast to that node's gate, a topic that its other
//! nodes know from the session's token, and the answers come back to the gate of who asked. Topics of this kind
//! can't be joined. A node that doesn't say at once that it has the session counts as gone.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adsum_pubsub::{Inbox, Json, Payload, PubSub, Topic};
use base64::{Engine, engine::general_purpose::STANDARD};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Message, Sessions,
    session::{Polled, Published, Reply, Request},
};
use crate::{log::limited, session::RESERVED_PREFIX};

/// How much travels in one message between nodes, unless one client's message alone is longer. Engines have a
/// limit of their own, and half a mebibyte is within all of them.
const MAX_PARCEL_BYTES: usize = 256 * 1024;

/// Where a node hears of requests for its sessions, and of answers to its own.
pub(super) struct Gate {
    pubsub: PubSub,
    name: String,
    next: AtomicU64,
    /// The requests to other nodes that wait for an answer, by number. Each is one of HTTP that is held open.
    waiting: Mutex<HashMap<u64, mpsc::Sender<Answer>>>,
    timeout: Duration,
}

/// The session of a node, as its token names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    pub(super) node: String,
    pub(super) gate: String,
    pub(super) session: String,
}

#[derive(Serialize, Deserialize)]
struct Letter {
    session: String,
    /// Who asks.
    node: String,
    gate: String,
    number: u64,
    ask: Ask,
}

#[derive(Serialize, Deserialize)]
enum Ask {
    Poll,
    Post(Vec<Parcel>),
    /// The client of that poll has gone away.
    GiveUp,
}

/// A client's message on its way between nodes.
#[derive(Serialize, Deserialize)]
enum Parcel {
    Text(String),
    /// In base64.
    Binary(String),
}

#[derive(Serialize, Deserialize)]
struct Answered {
    number: u64,
    answer: Answer,
}

/// What a node says of one of its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is there; more will follow.
    Here,
    Gone,
    Messages(Vec<String>),
    Nothing,
    Taken,
    Bad(String),
}

enum Silence {
    /// No word of the session.
    Gone,
    /// It is there and doesn't get to it.
    Late,
}

impl Gate {
    pub(super) fn new(pubsub: PubSub, name: String, timeout: Duration) -> Self {
        Self { pubsub, name, next: AtomicU64::new(0), waiting: Mutex::default(), timeout }
    }

    /// Names a session of this node.
    pub(super) fn name(&self, session: String) -> Name {
        Name { node: self.pubsub.node().to_owned(), gate: self.name.clone(), session }
    }

    /// Whether a session may be on another node.
    pub(super) fn is_elsewhere(&self, name: &Name) -> bool {
        self.pubsub.is_networked() && name.node != self.pubsub.node()
    }

    /// What other nodes say arrives there from now on.
    pub(super) fn subscribe(&self) -> Inbox {
        self.pubsub.subscribe(topic(&self.name))
    }

    /// Hears other nodes, for ever.
    pub(super) async fn listen(self: Arc<Self>, mut inbox: Inbox, sessions: Arc<Sessions>) {
        loop {
            match inbox.recv().await {
                Ok(message) if message.event() == "ask" => match message.payload().decode() {
                    Ok(letter) => self.asked(letter, &sessions),
                    Err(error) => limited!(WARN, %error, "unreadable long poll request of another node"),
                },
                Ok(message) => match message.payload().decode() {
                    Ok(answered) => self.answered(answered),
                    Err(error) => limited!(WARN, %error, "unreadable long poll answer of another node"),
                },
                Err(lagged) => limited!(WARN, %lagged, "long poll requests of other nodes were lost"),
            }
        }
    }

    fn asked(&self, letter: Letter, sessions: &Sessions) {
        let Letter { session, node, gate, number, ask } = letter;
        let mut asker = Asker { pubsub: self.pubsub.clone(), node, gate, number, open: true };
        // Dropped, the asker says that it is gone.
        let Some(session) = sessions.lock().get(&session).cloned() else { return };
        let request = match ask {
            Ask::GiveUp => {
                asker.open = false;
                Request::GiveUp { number, gate: asker.gate.clone() }
            }
            Ask::Poll => {
                asker.say(&Answer::Here);
                Request::Poll(Reply::Elsewhere(asker))
            }
            Ask::Post(parcels) => match parcels.into_iter().map(Parcel::open).collect() {
                Some(batch) => {
                    asker.say(&Answer::Here);
                    Request::Publish(batch, Reply::Elsewhere(asker))
                }
                None => return,
            },
        };
        session.offer(request);
    }

    fn answered(&self, Answered { number, answer }: Answered) {
        if let Some(waiting) = self.waiting.lock().get(&number) {
            // There is room for all that an honest node says.
            let _ = waiting.try_send(answer);
        }
    }

    /// As a session of this node: what there is for the client.
    pub(super) async fn poll(&self, name: &Name, window: Duration) -> Polled {
        let give_up = GiveUp { gate: self, name, number: self.number(), armed: true };
        let asked = self.ask(name, give_up.number, Ask::Poll, window + self.timeout).await;
        let polled = match asked {
            Ok(Answer::Messages(messages)) => Polled::Messages(messages),
            Ok(Answer::Nothing) => Polled::Nothing,
            Ok(_) | Err(Silence::Gone) => Polled::Gone,
            // Dropped armed: what the session has for the client waits for the next poll.
            Err(Silence::Late) => return Polled::Nothing,
        };
        give_up.disarm();
        polled
    }

    /// As a session of this node: what the client has posted.
    pub(super) async fn publish(&self, name: &Name, batch: Vec<Message>, window: Duration) -> Published {
        let mut parcels = Vec::new();
        let mut bytes = 0;
        let mut batch = batch.into_iter().peekable();
        while let Some(message) = batch.next() {
            bytes += message.len();
            let Some(parcel) = Parcel::wrap(message) else { return Published::Bad("not UTF-8".to_owned()) };
            parcels.push(parcel);
            if batch.peek().is_some_and(|next| bytes + next.len() <= MAX_PARCEL_BYTES) {
                continue;
            }
            bytes = 0;
            match self.ask(name, self.number(), Ask::Post(std::mem::take(&mut parcels)), window).await {
                Ok(Answer::Taken) => {}
                Ok(Answer::Bad(error)) => return Published::Bad(error),
                Ok(_) | Err(Silence::Gone) => return Published::Gone,
                Err(Silence::Late) => return Published::Late,
            }
        }
        Published::Taken
    }

    async fn ask(&self, name: &Name, number: u64, ask: Ask, window: Duration) -> Result<Answer, Silence> {
        // One for that it is there, one for the answer itself.
        let (answers, mut answered) = mpsc::channel(2);
        self.waiting.lock().insert(number, answers);
        let _waiting = Waiting { gate: self, number };
        self.send(name, number, ask).map_err(|()| Silence::Late)?;
        match timeout(self.timeout, answered.recv()).await {
            Ok(Some(Answer::Here)) => {}
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) | Err(_) => return Err(Silence::Gone),
        }
        match timeout(window, answered.recv()).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) | Err(_) => Err(Silence::Late),
        }
    }

    fn send(&self, name: &Name, number: u64, ask: Ask) -> Result<(), ()> {
        let letter = Letter {
            session: name.session.clone(),
            node: self.pubsub.node().to_owned(),
            gate: self.name.clone(),
            number,
            ask,
        };
        let sent = self.pubsub.direct_broadcast(&name.node, topic(&name.gate), "ask", json(&letter));
        sent.map_err(|error| limited!(WARN, node = name.node, %error, "long poll request not sent on"))
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// A request that waits, until it is dropped.
struct Waiting<'g> {
    gate: &'g Gate,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.waiting.lock().remove(&self.number);
    }
}

/// Tells the session, when it is dropped, that nobody waits for the answer of a poll any more.
struct GiveUp<'g> {
    gate: &'g Gate,
    name: &'g Name,
    number: u64,
    armed: bool,
}

impl GiveUp<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if self.armed {
            // Where it can't be sent, the session's window does the same.
            let _ = self.gate.send(self.name, self.number, Ask::GiveUp);
        }
    }
}

/// Who waits on another node for what a session answers. Dropped without an answer, it hears that the session
/// is gone.
pub(super) struct Asker {
    pubsub: PubSub,
    node: String,
    gate: String,
    number: u64,
    open: bool,
}

impl Asker {
    /// Whether it could be sent.
    pub(super) fn answer(mut self, answer: &Answer) -> bool {
        self.open = false;
        self.say(answer)
    }

    /// It hears nothing, and draws its own conclusion.
    pub(super) fn leave_unanswered(mut self) {
        self.open = false;
    }

    pub(super) fn is(&self, number: u64, gate: &str) -> bool {
        self.number == number && self.gate == gate
    }

    /// How many of the messages fit into one answer: at least one.
    pub(super) fn fitting(messages: &[String]) -> usize {
        let mut bytes = 0;
        let fit = messages.iter().take_while(|message| {
            bytes += message.len();
            bytes <= MAX_PARCEL_BYTES
        });
        fit.count().max(1)
    }

    fn say(&self, answer: &Answer) -> bool {
        let answered = Answered { number: self.number, answer: answer.clone() };
        let sent = self.pubsub.direct_broadcast(&self.node, topic(&self.gate), "answer", json(&answered));
        sent.map_err(|error| limited!(WARN, node = self.node, %error, "long poll answer not sent")).is_ok()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if self.open {
            self.say(&Answer::Gone);
        }
    }
}

impl Parcel {
    /// None where a text isn't one.
    fn wrap(message: Message) -> Option<Self> {
        Some(match message {
            Message::Text(text) => Self::Text(String::from_utf8(text.into()).ok()?),
            Message::Binary(bytes) => Self::Binary(STANDARD.encode(bytes)),
        })
    }

    fn open(self) -> Option<Message> {
        Some(match self {
            Self::Text(text) => Message::Text(text.into()),
            Self::Binary(text) => Message::Binary(STANDARD.decode(text).ok()?),
        })
    }
}

fn topic(gate: &str) -> Topic {
    format!("{RESERVED_PREFIX}longpoll:{gate}").into()
}

fn json(value: &impl Serialize) -> Payload {
    Payload::Json(Json::encode(value).expect("strings and numbers can be written as JSON"))
}

#[cfg(test)]
mod tests {
    use adsum_pubsub::LocalNetwork;
    use tokio::time::Instant;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);
    const WINDOW: Duration = Duration::from_secs(10);

    fn gate(network: &LocalNetwork, node: &str) -> Arc<Gate> {
        let gate = Arc::new(Gate::new(network.node(node), node.to_owned(), TIMEOUT));
        tokio::spawn(gate.clone().listen(gate.subscribe(), Arc::default()));
        gate
    }

    fn post() -> Vec<Message> {
        vec![Message::Text("[]".into())]
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_does_not_get_to_a_request_is_late() {
        let network = LocalNetwork::new();
        let asks = gate(&network, "asks");
        let hangs = network.node("hangs");
        let mut asked = hangs.subscribe(topic("gate"));
        let name = Name { node: "hangs".into(), gate: "gate".into(), session: "s".into() };
        let says_here = async {
            loop {
                let letter: Letter = asked.recv().await.unwrap().payload().decode().unwrap();
                if !matches!(letter.ask, Ask::GiveUp) {
                    let answered = Answered { number: letter.number, answer: Answer::Here };
                    let to = topic(&letter.gate);
                    hangs.direct_broadcast(&letter.node, to, "answer", json(&answered)).unwrap();
                }
            }
        };
        let start = Instant::now();
        tokio::select! {
            published = asks.publish(&name, post(), WINDOW) => assert!(matches!(published, Published::Late)),
            () = says_here => unreachable!(),
        }
        assert_eq!(start.elapsed(), WINDOW);
        assert_eq!(asks.waiting.lock().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_node_does_not_know_is_gone_at_once_and_a_silent_node_after_a_while() {
        let network = LocalNetwork::new();
        let (asks, _other) = (gate(&network, "asks"), gate(&network, "other"));
        let start = Instant::now();
        for (node, after) in [("other", Duration::ZERO), ("nowhere", TIMEOUT)] {
            let name = Name { node: node.into(), gate: node.into(), session: "s".into() };
            assert!(matches!(asks.publish(&name, post(), WINDOW).await, Published::Gone));
            assert_eq!(start.elapsed(), after);
        }
        assert!(matches!(
            asks.poll(&Name { node: "other".into(), gate: "other".into(), session: "s".into() }, WINDOW)
                .await,
            Polled::Gone
        ));
    }
}
