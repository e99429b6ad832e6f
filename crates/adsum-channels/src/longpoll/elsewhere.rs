//! Sessions of other nodes: behind a load balancer a client's requests may come to any of them.
//!
//! A request goes to the node of its session as a direct broadcast to that node's gate, a topic that its other
//! nodes know from the session's token, and the answers come back to the gate of who asked. Topics of this kind
//! can't be joined. A node that doesn't say at once that it has the session counts as gone, and so does one that the
//! presences of this node call silent.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adsum_pubsub::{
    BroadcastError, Inbox, Message as Broadcast, NODE_DOWN, NODES_TOPIC, Payload, PubSub, Topic,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Message, Sessions,
    parts::{self, Parts},
    session::{Polled, Published, Reply, Request},
};
use crate::{log::limited, session::RESERVED_PREFIX};

/// The events at a gate.
const ASK: &str = "ask";
const ANSWER: &str = "answer";
/// How much one request or answer between nodes carries, unless one client's message alone is longer.
const MAX_PARCEL_BYTES: usize = 256 * 1024;

/// Where a node hears of requests for its sessions, and of answers to its own.
pub(super) struct Gate {
    pubsub: PubSub,
    name: String,
    next: AtomicU64,
    /// The requests to other nodes that wait for an answer, by number. Each is one of HTTP that is held open.
    waiting: Mutex<HashMap<u64, Waiter>>,
    timeout: Duration,
}

/// A request that waits for its answer.
struct Waiter {
    /// The node that is asked.
    node: String,
    answers: mpsc::Sender<Answer>,
}

/// The session of a node, as its token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    Binary(Vec<u8>),
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

    /// What other nodes say arrives there from now on, and what is said of them.
    pub(super) fn subscribe(&self) -> Inbox {
        let mut inbox = self.pubsub.subscribe(topic(&self.name));
        inbox.subscribe(NODES_TOPIC);
        inbox
    }

    /// Hears other nodes, for ever.
    pub(super) async fn listen(self: Arc<Self>, mut inbox: Inbox, sessions: Arc<Sessions>) {
        let mut parts = Parts::default();
        loop {
            match inbox.recv().await {
                Ok(message) if message.topic().as_str() == NODES_TOPIC => self.told(&message),
                Ok(message) => {
                    if let Err(error) = self.heard(&message, &mut parts, &sessions) {
                        limited!(WARN, %error, "unreadable long poll message from another node");
                    }
                }
                Err(lagged) => limited!(WARN, %lagged, "long poll requests from other nodes were lost"),
            }
        }
    }

    fn heard(&self, message: &Broadcast, parts: &mut Parts, sessions: &Sessions) -> postcard::Result<()> {
        let Payload::Binary(bytes) = message.payload() else {
            return Err(postcard::Error::DeserializeBadEncoding);
        };
        let Some(whole) = parts.join(bytes)? else { return Ok(()) };
        if message.event() == ASK {
            self.asked(postcard::from_bytes(&whole)?, sessions);
        } else {
            self.answered(postcard::from_bytes(&whole)?);
        }
        Ok(())
    }

    /// Ends the requests to a node that is silent. Dropped, their senders say so.
    fn told(&self, message: &Broadcast) {
        if message.event() == NODE_DOWN
            && let Ok(node) = message.payload().decode::<String>()
        {
            self.waiting.lock().retain(|_, waiter| waiter.node != node);
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
            Ask::Post(parcels) => {
                asker.say(&Answer::Here);
                let batch = parcels.into_iter().map(Parcel::open).collect();
                Request::Publish(batch, Reply::Elsewhere(asker))
            }
        };
        session.offer(request);
    }

    fn answered(&self, Answered { number, answer }: Answered) {
        if let Some(waiter) = self.waiting.lock().get(&number) {
            // There is room for all that an honest node says.
            let _ = waiter.answers.try_send(answer);
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
        self.waiting.lock().insert(number, Waiter { node: name.node.clone(), answers });
        let _waiting = Waiting { gate: self, number };
        self.send(name, number, ask).map_err(|()| Silence::Late)?;
        match timeout(self.timeout, answered.recv()).await {
            Ok(Some(Answer::Here)) => {}
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) | Err(_) => return Err(Silence::Gone),
        }
        match timeout(window, answered.recv()).await {
            Ok(Some(answer)) => Ok(answer),
            // The node has gone silent meanwhile.
            Ok(None) => Err(Silence::Gone),
            Err(_) => Err(Silence::Late),
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
        let sent = send(&self.pubsub, &name.node, &name.gate, ASK, (&self.name, number), &letter);
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
        let sent = send(&self.pubsub, &self.node, &self.gate, ANSWER, ("", self.number), &answered);
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
            Message::Binary(bytes) => Self::Binary(bytes),
        })
    }

    fn open(self) -> Message {
        match self {
            Self::Text(text) => Message::Text(text.into()),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

fn topic(gate: &str) -> Topic {
    format!("{RESERVED_PREFIX}longpoll:{gate}").into()
}

/// Sends a value to a gate, in several messages where it is long.
fn send(
    pubsub: &PubSub,
    node: &str,
    gate: &str,
    event: &str,
    (from, number): (&str, u64),
    value: &impl Serialize,
) -> Result<(), BroadcastError> {
    let bytes = postcard::to_allocvec(value).expect("strings, bytes and numbers have a form");
    for part in parts::split(from, number, &bytes) {
        pubsub.direct_broadcast(node, topic(gate), event, Payload::Binary(part.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use adsum_pubsub::LocalNetwork;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        Acceptor, SocketBuilder, admission,
        longpoll::{
            Seat,
            session::{self, Session},
        },
    };

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

    fn letter(message: &Broadcast) -> Letter {
        let Payload::Binary(part) = message.payload() else { panic!("no bytes") };
        postcard::from_bytes(&Parts::default().join(part).unwrap().unwrap()).unwrap()
    }

    /// A node that has each session and never gets to it.
    fn says_here(node: PubSub) -> impl Future<Output = ()> {
        let mut asked = node.subscribe(topic("gate"));
        async move {
            loop {
                let letter = letter(&asked.recv().await.unwrap());
                if !matches!(letter.ask, Ask::GiveUp) {
                    let answered = Answered { number: letter.number, answer: Answer::Here };
                    send(&node, &letter.node, &letter.gate, ANSWER, ("", letter.number), &answered).unwrap();
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_to_a_node_that_goes_silent_ends_at_once() {
        let network = LocalNetwork::new();
        let asks = gate(&network, "asks");
        let name = Name { node: "hangs".into(), gate: "gate".into(), session: "s".into() };
        let told = |node: &'static str| asks.pubsub.local_broadcast(NODES_TOPIC, NODE_DOWN, node).unwrap();
        let says_here = says_here(network.node("hangs"));
        let start = Instant::now();
        let silent = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            told("another");
            tokio::time::sleep(Duration::from_secs(1)).await;
            told("hangs");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            polled = asks.poll(&name, WINDOW) => assert!(matches!(polled, Polled::Gone)),
            () = says_here => unreachable!(),
            () = silent => unreachable!(),
        }
        assert_eq!(start.elapsed(), Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_does_not_get_to_a_request_is_late() {
        let network = LocalNetwork::new();
        let asks = gate(&network, "asks");
        let name = Name { node: "hangs".into(), gate: "gate".into(), session: "s".into() };
        let says_here = says_here(network.node("hangs"));
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

    /// A session, for as long as its acceptor is there.
    async fn session() -> (Acceptor, Session) {
        let acceptor = SocketBuilder::new(()).into_acceptor(PubSub::local());
        let owner = acceptor.owner();
        let request = http::Request::get("/?vsn=2.0.0").body(()).unwrap().into_parts().0;
        let Ok(admitted) = admission::admit(&owner.endpoint, request, "longpoll").await else {
            panic!("refused")
        };
        let seat = Seat { id: "s".into(), sessions: Weak::new() };
        let (session, requests) = Session::new(WINDOW);
        session::start(owner, admitted, requests, seat);
        (acceptor, session)
    }

    /// Two nodes, and what the one hears of the other's session.
    fn asking() -> (impl Fn(u64) -> Asker, Inbox) {
        let network = LocalNetwork::new();
        let (here, there) = (network.node("here"), network.node("there"));
        let answers = there.subscribe(topic("there"));
        let (node, gate) = ("there".to_owned(), "there".to_owned());
        let asker = move |number| {
            // The other node lives as long as this.
            let _ = &there;
            Asker { pubsub: here.clone(), node: node.clone(), gate: gate.clone(), number, open: true }
        };
        (asker, answers)
    }

    async fn answer(answers: &mut Inbox) -> (u64, Answer) {
        let message = timeout(2 * WINDOW, answers.recv()).await.expect("an answer comes").unwrap();
        let Payload::Binary(part) = message.payload() else { panic!("no bytes") };
        let whole = Parts::default().join(part).unwrap().unwrap();
        let Answered { number, answer } = postcard::from_bytes(&whole).unwrap();
        (number, answer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_give_up_ends_the_poll_that_it_names_and_is_not_answered() {
        let (_acceptor, session) = session().await;
        let (asker, mut answers) = asking();
        let give_up = |number, gate: &str| Request::GiveUp { number, gate: gate.to_owned() };
        let start = Instant::now();
        session.offer(Request::Poll(Reply::Elsewhere(asker(1))));
        session.offer(give_up(0, "there"));
        session.offer(give_up(1, "another"));
        assert_eq!(answer(&mut answers).await, (1, Answer::Nothing));
        assert_eq!(
            start.elapsed(),
            WINDOW,
            "an older give-up, and one of another node, are not for this poll"
        );
        session.offer(Request::Poll(Reply::Elsewhere(asker(2))));
        session.offer(give_up(2, "there"));
        assert!(timeout(WINDOW, answers.recv()).await.is_err(), "nobody waits for an answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_too_many_is_not_told_that_the_session_is_gone() {
        let (_acceptor, session) = session().await;
        let (asker, mut answers) = asking();
        for number in 0..17 {
            session.offer(Request::Publish(Vec::new(), Reply::Elsewhere(asker(number))));
        }
        for number in 0..16 {
            assert_eq!(answer(&mut answers).await, (number, Answer::Taken));
        }
        assert!(timeout(WINDOW, answers.recv()).await.is_err(), "it may try again");
    }
}
