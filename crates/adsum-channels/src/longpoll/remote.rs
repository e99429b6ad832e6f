//! Sessions on other nodes: behind a load balancer a client's requests may reach any node.
//!
//! A request is forwarded to the node of its session as a direct broadcast to that node's relay, whose topic is in the
//! session's token. Responses come back to the relay of the requesting node. Clients can't join these topics. If a node
//! doesn't confirm the session within a timeout, or presence reports the node as down, the session counts as gone.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adsum_pubsub::{Inbox, Message, NODE_DOWN, NODES_TOPIC, Payload, PubSub, log::limited};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    PostedMessage, Sessions,
    parts::PartialValues,
    responder::{ASK, ForwardedAnswer, NodeAnswer, NotSent, Responder, max_forwarded_bytes, send, topic},
    session::{Polled, Published, Recipient, Request},
};

/// Receives requests for sessions of this node, and responses to requests of this node.
pub(super) struct Relay {
    pubsub: PubSub,
    name: String,
    next: AtomicU64,
    /// Pending requests to other nodes, by number. Each is an HTTP request that is held open.
    waiting: Mutex<HashMap<u64, Waiter>>,
    /// By relay, when the last request that it answered was sent.
    answered: Mutex<HashMap<String, Instant>>,
    timeout: Duration,
}

/// For how long after an answered request both nodes take long messages of each other. A node forgets another one that
/// is silent for 30 s and verifies it at its next message, and meanwhile keeps less than a long message of it.
const VERIFIED_FOR: Duration = Duration::from_secs(20);

/// A pending request to another node.
struct Waiter {
    /// The node of the session.
    node: String,
    answers: mpsc::Sender<NodeAnswer>,
}

/// The name of a session, from its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) node: String,
    pub(super) relay: String,
    pub(super) session: String,
}

#[derive(Serialize, Deserialize)]
struct ForwardedRequest {
    session: String,
    /// The requesting node.
    node: String,
    relay: String,
    number: u64,
    ask: Ask,
}

#[derive(Serialize, Deserialize)]
enum Ask {
    Poll,
    Post(Vec<ForwardedMessage>),
    /// The client of a poll has gone away.
    GiveUp,
    /// Whether the session exists. Makes the nodes verify each other.
    Find,
}

/// A client's message that is forwarded between nodes.
#[derive(Serialize, Deserialize)]
enum ForwardedMessage {
    Text(String),
    Binary(Vec<u8>),
}

enum NoAnswer {
    /// The session is not confirmed.
    Gone,
    /// The session exists but doesn't process the request in time.
    Late,
    /// The request can never be passed on.
    TooLong,
}

impl Relay {
    pub(super) fn new(pubsub: PubSub, name: String, timeout: Duration) -> Self {
        let (next, waiting, answered) = (AtomicU64::new(0), Mutex::default(), Mutex::default());
        Self { pubsub, name, next, waiting, answered, timeout }
    }

    /// The name of a session of this node.
    pub(super) fn name(&self, session: String) -> Name {
        Name { node: self.pubsub.node().to_owned(), relay: self.name.clone(), session }
    }

    /// Whether a session may be on another node.
    pub(super) fn is_remote(&self, name: &Name) -> bool {
        self.pubsub.is_networked() && name.node != self.pubsub.node()
    }

    /// Subscribes to messages from other nodes, and to the state of other nodes.
    pub(super) fn subscribe(&self) -> Inbox {
        let mut inbox = self.pubsub.subscribe(topic(&self.name));
        inbox.subscribe(NODES_TOPIC);
        inbox
    }

    /// Handles messages from other nodes, forever.
    pub(super) async fn listen(self: Arc<Self>, mut inbox: Inbox, sessions: Arc<Sessions>) {
        let mut parts = PartialValues::default();
        loop {
            match inbox.recv().await {
                Ok(message) if message.topic().as_str() == NODES_TOPIC => self.told(&message),
                Ok(message) => {
                    if let Err(error) = self.heard(&message, &mut parts, &sessions) {
                        limited!(WARN, %error, "dropped a malformed long poll message from another node");
                    }
                }
                Err(lagged) => limited!(WARN, %lagged, "lost long poll requests from other nodes"),
            }
        }
    }

    fn heard(
        &self,
        message: &Message,
        parts: &mut PartialValues,
        sessions: &Sessions,
    ) -> postcard::Result<()> {
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

    /// Ends the pending requests to a node that is down, by dropping their channels.
    fn told(&self, message: &Message) {
        if message.event() == NODE_DOWN
            && let Ok(node) = message.payload().decode::<String>()
        {
            self.waiting.lock().retain(|_, waiter| waiter.node != node);
        }
    }

    fn asked(&self, request: ForwardedRequest, sessions: &Sessions) {
        let ForwardedRequest { session, node, relay, number, ask } = request;
        let responder = Responder::new(self.pubsub.clone(), node, relay, number);
        // If it is dropped, the responder reports that the session is gone.
        let Some(session) = sessions.lock().get(&session).cloned() else { return };
        let request = match ask {
            Ask::GiveUp => {
                let relay = responder.relay().to_owned();
                responder.leave_unanswered();
                Request::GiveUp { number, relay }
            }
            Ask::Find => {
                // If it can't be sent, the requester times out.
                let _ = responder.answer(&NodeAnswer::Here);
                return;
            }
            Ask::Poll => {
                // If it can't be sent, the requester times out, or takes the response itself.
                let _ = responder.say(&NodeAnswer::Here);
                Request::Poll(Recipient::Remote(responder))
            }
            Ask::Post(messages) => {
                // If it can't be sent, the requester times out, or takes the response itself.
                let _ = responder.say(&NodeAnswer::Here);
                let batch = messages.into_iter().map(ForwardedMessage::open).collect();
                Request::Publish(batch, Recipient::Remote(responder))
            }
        };
        session.offer(request);
    }

    fn answered(&self, ForwardedAnswer { number, answer }: ForwardedAnswer) {
        if let Some(waiter) = self.waiting.lock().get(&number) {
            // There is room for all responses of a correct node.
            let _ = waiter.answers.try_send(answer);
        }
    }

    /// Polls a remote session, as [`SessionHandle::poll`](super::session::SessionHandle::poll) does for a local one.
    pub(super) async fn poll(&self, name: &Name, window: Duration) -> Polled {
        let give_up = GiveUp { relay: self, name, number: self.number(), armed: true };
        let asked = self.ask(name, give_up.number, Ask::Poll, window + self.timeout).await;
        let polled = match asked {
            Ok(NodeAnswer::Messages(messages)) => Polled::Messages(messages),
            Ok(NodeAnswer::Nothing) => Polled::Nothing,
            Ok(_) | Err(NoAnswer::Gone | NoAnswer::TooLong) => Polled::Gone,
            // Dropped while armed, so the session keeps its messages for the next poll.
            Err(NoAnswer::Late) => return Polled::Nothing,
        };
        give_up.disarm();
        polled
    }

    /// Publishes to a remote session, as [`SessionHandle::publish`](super::session::SessionHandle::publish) does for a
    /// local one.
    pub(super) async fn publish(
        &self,
        name: &Name,
        batch: Vec<PostedMessage>,
        window: Duration,
    ) -> Published {
        let mut messages = Vec::new();
        let (mut bytes, max) = (0, max_forwarded_bytes(&self.pubsub));
        let mut batch = batch.into_iter().peekable();
        while let Some(message) = batch.next() {
            bytes += message.len();
            let Some(message) = ForwardedMessage::wrap(message) else {
                return Published::Bad("not UTF-8".to_owned());
            };
            messages.push(message);
            if batch.peek().is_some_and(|next| bytes + next.len() <= max) {
                continue;
            }
            bytes = 0;
            match self.ask(name, self.number(), Ask::Post(std::mem::take(&mut messages)), window).await {
                Ok(NodeAnswer::Taken) => {}
                Ok(NodeAnswer::Bad(error)) => return Published::Bad(error),
                Ok(_) | Err(NoAnswer::Gone) => return Published::Gone,
                Err(NoAnswer::Late) => return Published::Late,
                Err(NoAnswer::TooLong) => return Published::TooLong,
            }
        }
        Published::Taken
    }

    async fn ask(
        &self,
        name: &Name,
        number: u64,
        ask: Ask,
        window: Duration,
    ) -> Result<NodeAnswer, NoAnswer> {
        if !self.is_verified(&name.relay) {
            match self.exchange(name, self.number(), Ask::Find, window).await? {
                NodeAnswer::Here => {}
                answer => return Ok(answer),
            }
        }
        self.exchange(name, number, ask, window).await
    }

    /// Sends a request, and waits for its response.
    async fn exchange(
        &self,
        name: &Name,
        number: u64,
        ask: Ask,
        window: Duration,
    ) -> Result<NodeAnswer, NoAnswer> {
        let is_find = matches!(ask, Ask::Find);
        // Room for the confirmation and the actual response.
        let (answers, mut answered) = mpsc::channel(2);
        self.waiting.lock().insert(number, Waiter { node: name.node.clone(), answers });
        let _waiting = PendingGuard { relay: self, number };
        let sent = Instant::now();
        self.send(name, number, ask).map_err(|error| match error {
            NotSent::TooLong(_) => NoAnswer::TooLong,
            NotSent::Now(_) => NoAnswer::Late,
        })?;
        let first = timeout(self.timeout, answered.recv()).await;
        let Ok(Some(first)) = first else { return Err(NoAnswer::Gone) };
        self.note_answered(&name.relay, sent);
        if is_find || first != NodeAnswer::Here {
            return Ok(first);
        }
        let end = Instant::now() + window;
        loop {
            match timeout_at(end.min(Instant::now() + VERIFIED_FOR), answered.recv()).await {
                Ok(Some(NodeAnswer::Here)) => {}
                Ok(Some(answer)) => return Ok(answer),
                // The node has gone down meanwhile.
                Ok(None) => return Err(NoAnswer::Gone),
                Err(_) if Instant::now() >= end => return Err(NoAnswer::Late),
                // Both nodes hear of each other again. If it can't be sent, only a long response may be lost.
                Err(_) => drop(self.send(name, number, Ask::Find)),
            }
        }
    }

    fn is_verified(&self, relay: &str) -> bool {
        self.answered.lock().get(relay).is_some_and(|sent| sent.elapsed() < VERIFIED_FOR)
    }

    fn note_answered(&self, relay: &str, sent: Instant) {
        let mut answered = self.answered.lock();
        if let Some(before) = answered.get_mut(relay) {
            *before = sent.max(*before);
            return;
        }
        // Relays of nodes that have restarted are not kept.
        answered.retain(|_, sent| sent.elapsed() < VERIFIED_FOR);
        answered.insert(relay.to_owned(), sent);
    }

    fn send(&self, name: &Name, number: u64, ask: Ask) -> Result<(), NotSent> {
        let request = ForwardedRequest {
            session: name.session.clone(),
            node: self.pubsub.node().to_owned(),
            relay: self.name.clone(),
            number,
            ask,
        };
        let sent = send(&self.pubsub, &name.node, &name.relay, ASK, (&self.name, number), &request);
        sent.inspect_err(
            |error| limited!(WARN, node = name.node, %error, "could not forward a long poll request"),
        )
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// Removes a pending request when it is dropped.
struct PendingGuard<'g> {
    relay: &'g Relay,
    number: u64,
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        self.relay.waiting.lock().remove(&self.number);
    }
}

/// When it is dropped while armed, tells the session that the client of a poll has gone away.
struct GiveUp<'g> {
    relay: &'g Relay,
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
            // If it can't be sent, the session's window expires instead.
            let _ = self.relay.send(self.name, self.number, Ask::GiveUp);
        }
    }
}

impl ForwardedMessage {
    /// Returns `None` if a text is not UTF-8.
    fn wrap(message: PostedMessage) -> Option<Self> {
        Some(match message {
            PostedMessage::Text(text) => Self::Text(String::from_utf8(text.into()).ok()?),
            PostedMessage::Binary(bytes) => Self::Binary(bytes),
        })
    }

    fn open(self) -> PostedMessage {
        match self {
            Self::Text(text) => PostedMessage::Text(text.into()),
            Self::Binary(bytes) => PostedMessage::Binary(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use adsum_pubsub::LocalNetwork;

    use super::{super::responder::ANSWER, *};
    use crate::{
        acceptor::Acceptor,
        admission,
        builder::SocketBuilder,
        longpoll::{
            SessionEntry,
            session::{self, SessionHandle},
        },
    };

    const TIMEOUT: Duration = Duration::from_secs(2);
    const WINDOW: Duration = Duration::from_secs(10);

    fn relay(network: &LocalNetwork, node: &str) -> Arc<Relay> {
        let relay = Arc::new(Relay::new(network.node(node), node.to_owned(), TIMEOUT));
        tokio::spawn(relay.clone().listen(relay.subscribe(), Arc::default()));
        relay
    }

    fn post() -> Vec<PostedMessage> {
        vec![PostedMessage::Text("[]".into())]
    }

    fn request(message: &Message) -> ForwardedRequest {
        let Payload::Binary(part) = message.payload() else { panic!("no bytes") };
        postcard::from_bytes(&PartialValues::default().join(part).unwrap().unwrap()).unwrap()
    }

    /// A node that confirms each session and never responds further.
    fn says_here(node: PubSub) -> impl Future<Output = ()> {
        let mut asked = node.subscribe(topic("relay"));
        async move {
            loop {
                let request = request(&asked.recv().await.unwrap());
                if !matches!(request.ask, Ask::GiveUp) {
                    let answered = ForwardedAnswer { number: request.number, answer: NodeAnswer::Here };
                    send(&node, &request.node, &request.relay, ANSWER, ("", request.number), &answered)
                        .unwrap();
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_to_a_node_that_goes_silent_ends_at_once() {
        let network = LocalNetwork::new();
        let asks = relay(&network, "asks");
        let name = Name { node: "hangs".into(), relay: "relay".into(), session: "s".into() };
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
        let asks = relay(&network, "asks");
        let name = Name { node: "hangs".into(), relay: "relay".into(), session: "s".into() };
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
    async fn a_session_that_its_node_does_not_know_is_gone_at_once_and_a_silent_node_after_a_while() {
        let network = LocalNetwork::new();
        let (asks, _other) = (relay(&network, "asks"), relay(&network, "other"));
        let start = Instant::now();
        for (node, after) in [("other", Duration::ZERO), ("nowhere", TIMEOUT)] {
            let name = Name { node: node.into(), relay: node.into(), session: "s".into() };
            assert!(matches!(asks.publish(&name, post(), WINDOW).await, Published::Gone));
            assert_eq!(start.elapsed(), after);
        }
        assert!(matches!(
            asks.poll(&Name { node: "other".into(), relay: "other".into(), session: "s".into() }, WINDOW)
                .await,
            Polled::Gone
        ));
    }

    /// A session, which lives as long as its acceptor.
    async fn session() -> (Acceptor, SessionHandle) {
        let acceptor = SocketBuilder::new(()).into_acceptor(PubSub::local());
        let owner = acceptor.owner();
        let request = http::Request::get("/?vsn=2.0.0").body(()).unwrap().into_parts().0;
        let Ok(admitted) = admission::admit(&owner.endpoint, request, "longpoll").await else {
            panic!("refused")
        };
        let entry = SessionEntry { id: "s".into(), sessions: Weak::new() };
        let (session, requests) = SessionHandle::new(WINDOW);
        session::start(owner, admitted, requests, entry);
        (acceptor, session)
    }

    /// Makes responders of one node, and returns the inbox of the requesting node.
    fn asking() -> (impl Fn(u64) -> Responder, Inbox) {
        let network = LocalNetwork::new();
        let (here, there) = (network.node("here"), network.node("there"));
        let answers = there.subscribe(topic("there"));
        let (node, relay) = ("there".to_owned(), "there".to_owned());
        let responder = move |number| {
            // Keeps the other node alive.
            let _ = &there;
            Responder::new(here.clone(), node.clone(), relay.clone(), number)
        };
        (responder, answers)
    }

    async fn answer(answers: &mut Inbox) -> (u64, NodeAnswer) {
        let message = timeout(2 * WINDOW, answers.recv()).await.expect("an answer comes").unwrap();
        let Payload::Binary(part) = message.payload() else { panic!("no bytes") };
        let whole = PartialValues::default().join(part).unwrap().unwrap();
        let ForwardedAnswer { number, answer } = postcard::from_bytes(&whole).unwrap();
        (number, answer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_give_up_ends_the_poll_that_it_names_and_is_not_answered() {
        let (_acceptor, session) = session().await;
        let (responder, mut answers) = asking();
        let give_up = |number, relay: &str| Request::GiveUp { number, relay: relay.to_owned() };
        let start = Instant::now();
        session.offer(Request::Poll(Recipient::Remote(responder(1))));
        session.offer(give_up(0, "there"));
        session.offer(give_up(1, "another"));
        assert_eq!(answer(&mut answers).await, (1, NodeAnswer::Nothing));
        assert_eq!(
            start.elapsed(),
            WINDOW,
            "an older give-up, and one of another node, are not for this poll"
        );
        session.offer(Request::Poll(Recipient::Remote(responder(2))));
        session.offer(give_up(2, "there"));
        assert!(timeout(WINDOW, answers.recv()).await.is_err(), "nobody waits for an answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_too_many_is_not_told_that_the_session_is_gone() {
        let (_acceptor, session) = session().await;
        let (responder, mut answers) = asking();
        for number in 0..17 {
            session.offer(Request::Publish(Vec::new(), Recipient::Remote(responder(number))));
        }
        for number in 0..16 {
            assert_eq!(answer(&mut answers).await, (number, NodeAnswer::Taken));
        }
        assert!(timeout(WINDOW, answers.recv()).await.is_err(), "it may try again");
    }
}
