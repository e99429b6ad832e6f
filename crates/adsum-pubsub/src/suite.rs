//! The tests that every adapter must pass.
//!
//! For authors of adapters: [`run`] makes small clusters through your function and checks that they behave as a
//! [`PubSub`] should, whatever carries the messages.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use adsum_pubsub::{LocalNetwork, suite};
//!
//! suite::run(suite::DEADLINE, async |names| {
//!     let network = LocalNetwork::new();
//!     names.iter().map(|name| network.node(name)).collect()
//! })
//! .await;
//! # }
//! ```

use std::{
    fmt, iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    adapter::BroadcastError,
    ids::{EncodingId, SubscriberId},
    inbox::Inbox,
    message::Message,
    payload::{Json, Payload},
    pubsub::PubSub,
    registry::Attachment,
    subscribers::Subscriber,
};

/// A deadline for the arrival of a message that suits most adapters.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Runs all checks, one after the other.
///
/// `cluster` is called once for each check. It returns nodes with the given names, in that order, that reach each
/// other. They must not receive messages of earlier clusters: give each a namespace of its own. Their queues must hold
/// a thousand small messages, and no message may be lost on the way.
///
/// Each expected message has `deadline` to arrive. To check that a message doesn't arrive, the suite waits for a later
/// one from the same sender.
///
/// # Panics
/// A check failed; the text begins with its name.
pub async fn run(deadline: Duration, cluster: impl AsyncFn(&[&str]) -> Vec<PubSub>) {
    let check = |name| Check { name, deadline };
    let two = async || pair(cluster(&["a", "b"]).await);
    let three = async || triple(cluster(&["a", "b", "c"]).await);

    arrival(check("subscribe and receive"), two().await).await;
    isolation(check("topics are kept apart"), two().await).await;
    twice(check("subscribed twice, delivered twice"), two().await).await;
    again(check("a topic that was left can be joined again"), two().await).await;
    dropped(check("a dropped subscriber no longer receives"), two().await).await;
    everywhere(check("broadcast reaches every node once"), three().await).await;
    from(check("broadcast_from passes over the sender alone"), two().await).await;
    local(check("local_broadcast stays on its node"), two().await).await;
    direct(check("direct_broadcast reaches one node"), three().await).await;
    order(check("messages of one sender keep their order"), three().await).await;
    payloads(check("payloads arrive unchanged"), two().await).await;
    shared_encoding(check("one encoding for many subscribers"), two().await).await;
}

fn pair(nodes: Vec<PubSub>) -> [PubSub; 2] {
    nodes.try_into().expect("the cluster has as many nodes as it was given names")
}

fn triple(nodes: Vec<PubSub>) -> [PubSub; 3] {
    nodes.try_into().expect("the cluster has as many nodes as it was given names")
}

async fn arrival(check: Check, [a, b]: [PubSub; 2]) {
    check.same("the first node's name", a.node(), "a");
    check.same("the second node's name", b.node(), "b");
    let mut inbox = b.subscribe("news");
    check.settle(&a, "news", &mut [&mut inbox]).await;

    check.sent(a.broadcast("news", "hello", "world"));
    let message = check.next(&mut inbox, "hello").await;
    check.same("the topic", message.topic().as_str(), "news");
    check.same("the event", message.event(), "hello");
    check.same("the payload", message.payload(), &Payload::Json(Json::from_encoded(r#""world""#)));
}

async fn isolation(check: Check, [a, b]: [PubSub; 2]) {
    // Engines give a meaning to dots, stars and spaces; for adsum a topic is just a name.
    let topics =
        ["room", "room.a", "room.*", "room.>", "room:*", ">", "*", "a b\r\n", "Räume 🎲", "%72oom", ""];
    let mut inboxes: Vec<Inbox> = topics.iter().map(|topic| b.subscribe(*topic)).collect();
    for (topic, inbox) in topics.iter().zip(&mut inboxes) {
        check.settle(&a, topic, &mut [inbox]).await;
    }
    for topic in topics {
        check.sent(a.broadcast(topic, format!("to {topic}"), ()));
    }
    for topic in topics {
        check.sent(a.broadcast(topic, "end", ()));
    }
    for (topic, inbox) in topics.iter().zip(&mut inboxes) {
        check.receives(inbox, &[&format!("to {topic}")], "end").await;
    }
}

async fn twice(check: Check, [a, b]: [PubSub; 2]) {
    let mut inbox = b.subscribe("news");
    let mut other = b.subscribe("news");
    check.settle(&a, "news", &mut [&mut inbox, &mut other]).await;

    inbox.subscribe("news");
    check.sent(a.broadcast("news", "one", ()));
    check.sent(a.broadcast("news", "end", ()));
    check.receives(&mut inbox, &["one", "one"], "end").await;
    check.receives(&mut inbox, &[], "end").await;

    inbox.unsubscribe("news");
    check.sent(a.broadcast("news", "two", ()));
    check.sent(a.broadcast("news", "end", ()));
    check.receives(&mut other, &["one", "end", "two"], "end").await;
    check.same("the unsubscribed inbox's messages", &inbox.len(), &0);
}

async fn again(check: Check, [a, b]: [PubSub; 2]) {
    for event in ["one", "two", "three"] {
        let mut inbox = b.subscribe("news");
        check.settle(&a, "news", &mut [&mut inbox]).await;
        check.sent(a.broadcast("news", event, ()));
        check.sent(a.broadcast("news", "end", ()));
        check.receives(&mut inbox, &[event], "end").await;
    }
    check.same("subscribers left", &b.subscribers("news"), &0);
}

async fn dropped(check: Check, [a, b]: [PubSub; 2]) {
    let mut stays = b.subscribe("news");
    let mut goes = b.subscribe("news");
    let (attachment, mut calls) = Caller::attach(&b, "news");
    check.settle(&a, "news", &mut [&mut stays, &mut goes]).await;
    check.same("subscribers", &b.subscribers("news"), &3);

    drop(goes);
    drop(attachment);
    check.same("subscribers that stay", &b.subscribers("news"), &1);
    check.sent(a.broadcast("news", "one", ()));
    check.sent(a.broadcast("news", "end", ()));
    check.receives(&mut stays, &["one"], "end").await;
    // A message that was being delivered while the attachment was dropped may have come since.
    let late = iter::from_fn(|| calls.try_recv().ok()).filter(|message| message.event() == "one").count();
    check.same("calls after the attachment was dropped", &late, &0);
}

async fn everywhere(check: Check, [a, b, c]: [PubSub; 3]) {
    let (mut on_a, mut on_b, mut on_c) = (a.subscribe("news"), b.subscribe("news"), c.subscribe("news"));
    for sender in [&a, &b, &c] {
        check.settle(sender, "news", &mut [&mut on_a, &mut on_b, &mut on_c]).await;
    }
    check.sent(a.broadcast("news", "hello", ()));
    check.receives(&mut on_b, &[], "hello").await;
    check.receives(&mut on_c, &[], "hello").await;
    // Sent after every node has `hello`, so an echo of `hello` would come before it.
    check.sent(b.broadcast("news", "end", ()));
    check.receives(&mut on_a, &["hello"], "end").await;
    check.receives(&mut on_c, &[], "end").await;
    check.sent(c.broadcast("news", "last", ()));
    check.receives(&mut on_b, &["end"], "last").await;
}

async fn from(check: Check, [a, b]: [PubSub; 2]) {
    let (mut sender, mut beside, mut on_b) = (a.subscribe("news"), a.subscribe("news"), b.subscribe("news"));
    for node in [&a, &b] {
        check.settle(node, "news", &mut [&mut sender, &mut beside, &mut on_b]).await;
    }
    sender.subscribe("news");
    check.sent(a.broadcast_from(sender.id(), "news", "hello", ()));
    check.receives(&mut on_b, &[], "hello").await;
    check.sent(b.broadcast("news", "end", ()));
    check.receives(&mut sender, &[], "end").await;
    check.receives(&mut beside, &["hello"], "end").await;
}

async fn local(check: Check, [a, b]: [PubSub; 2]) {
    let (mut on_a, mut on_b) = (a.subscribe("news"), b.subscribe("news"));
    check.settle(&a, "news", &mut [&mut on_a, &mut on_b]).await;

    check.sent(a.local_broadcast("news", "hello", ()));
    check.sent(a.broadcast("news", "end", ()));
    check.receives(&mut on_a, &["hello"], "end").await;
    check.receives(&mut on_b, &[], "end").await;
}

async fn direct(check: Check, [a, b, c]: [PubSub; 3]) {
    let (mut on_a, mut on_b, mut on_c) = (a.subscribe("news"), b.subscribe("news"), c.subscribe("news"));
    check.settle_by(&mut [&mut on_b], |event| a.direct_broadcast("b", "news", event, ())).await;
    check.settle_by(&mut [&mut on_c], |event| a.direct_broadcast("c", "news", event, ())).await;

    check.sent(a.direct_broadcast("b", "news", "to b", ()));
    check.sent(a.direct_broadcast("a", "news", "to a", ()));
    check.sent(a.direct_broadcast("nobody", "news", "to nobody", ()));
    check.sent(a.direct_broadcast("", "news", "to nobody", ()));
    check.sent(a.direct_broadcast("*", "news", "to nobody", ()));
    for node in ["a", "b", "c"] {
        check.sent(a.direct_broadcast(node, "news", "end", ()));
    }
    check.receives(&mut on_a, &["to a"], "end").await;
    check.receives(&mut on_b, &["to b"], "end").await;
    check.receives(&mut on_c, &[], "end").await;
}

async fn order(check: Check, [a, b, c]: [PubSub; 3]) {
    const MESSAGES: u32 = 1_000;
    let mut inbox = c.inbox(4 * MESSAGES as usize);
    inbox.subscribe("news");
    for sender in [&a, &b] {
        check.settle(sender, "news", &mut [&mut inbox]).await;
    }
    for n in 0..MESSAGES {
        for sender in [&a, &b] {
            check.sent(sender.broadcast("news", sender.node(), n));
        }
    }
    let mut next = [0, 0];
    while next != [MESSAGES; 2] {
        let message = check.next(&mut inbox, "the next of a thousand").await;
        let next = &mut next[usize::from(message.event() == "b")];
        let expected = Json::encode(next).expect("a number can be encoded");
        check.same(message.event(), message.payload(), &Payload::Json(expected));
        *next += 1;
    }
}

async fn payloads(check: Check, [a, b]: [PubSub; 2]) {
    let json = [
        r#"{"b":1, "a":1e3 ,"b":-0, "deep":[[[{}]]]}"#,
        "null",
        r#""\u0000 \ud83c\udfb2 🎲 \"""#,
        "12345678901234567890.123456789",
    ];
    let json = json.map(|text| Payload::Json(Json::from_encoded(text)));
    let long = Payload::Json(Json::encode(&"x".repeat(64 * 1024)).expect("a text can be encoded"));
    let bytes = [Bytes::new(), (0..=255).collect(), Bytes::from_static(br#"{"not":"json"}"#)];
    let expected: Vec<Payload> = json.into_iter().chain([long]).chain(bytes.map(Payload::Binary)).collect();

    let mut inbox = b.subscribe("news");
    check.settle(&a, "news", &mut [&mut inbox]).await;
    for payload in &expected {
        check.sent(a.broadcast("news", "päyload \n", payload.clone()));
    }
    for payload in &expected {
        let message = check.next(&mut inbox, "a payload").await;
        check.same("the event", message.event(), "päyload \n");
        check.same("the payload", message.payload(), payload);
    }
}

async fn shared_encoding(check: Check, [a, b]: [PubSub; 2]) {
    let mut inbox = b.subscribe("news");
    check.settle(&a, "news", &mut [&mut inbox]).await;

    let mut subscribers: Vec<_> = (0..300).map(|_| Caller::attach(&b, "news")).collect();
    check.sent(a.broadcast("news", "hello", ()));
    let (encoding, encoded) = (EncodingId::unique(), AtomicUsize::new(0));
    let mut frames = Vec::new();
    for (_, calls) in &mut subscribers {
        let message = check.within("hello", calls.recv()).await.expect("the subscriber is attached");
        let frame = message.encoded(encoding, |message| {
            encoded.fetch_add(1, Ordering::Relaxed);
            Bytes::copy_from_slice(message.event().as_bytes())
        });
        frames.push(frame.clone());
    }
    check.same("how often it was encoded", &encoded.into_inner(), &1);
    check.same("the frame", frames[0].as_ref(), b"hello");
    let shared = frames.iter().filter(|frame| frame.as_ptr() == frames[0].as_ptr()).count();
    check.same("how many share the frame", &shared, &subscribers.len());
}

/// Forwards the messages that it is called with.
struct Caller(mpsc::UnboundedSender<Arc<Message>>);

impl Caller {
    fn attach(pubsub: &PubSub, topic: &str) -> (Attachment, mpsc::UnboundedReceiver<Arc<Message>>) {
        // Unbounded, as a check sends it a handful of messages.
        let (sender, calls) = mpsc::unbounded_channel();
        (pubsub.attach(topic, SubscriberId::unique(), Arc::new(Self(sender))), calls)
    }
}

impl Subscriber for Caller {
    fn deliver(&self, message: &Arc<Message>) {
        // Ignore the error: the check has ended.
        let _ = self.0.send(message.clone());
    }
}

/// A running check: its name for failures, and how long to wait.
struct Check {
    name: &'static str,
    deadline: Duration,
}

impl Check {
    fn fail(&self, why: &str) -> ! {
        panic!("{}: {why}", self.name)
    }

    fn same<T, U>(&self, what: &str, found: &T, expected: &U)
    where
        T: PartialEq<U> + fmt::Debug + ?Sized,
        U: fmt::Debug + ?Sized,
    {
        if found != expected {
            self.fail(&format!("{what} should be {expected:?} and is {found:?}"));
        }
    }

    fn sent(&self, result: Result<(), BroadcastError>) {
        if let Err(error) = result {
            self.fail(&format!("a message wasn't sent: {error}"));
        }
    }

    async fn within<T>(&self, awaited: &str, future: impl Future<Output = T>) -> T {
        match timeout(self.deadline, future).await {
            Ok(output) => output,
            Err(_) => self.fail(&format!("{awaited:?} didn't arrive within {:?}", self.deadline)),
        }
    }

    async fn next(&self, inbox: &mut Inbox, awaited: &str) -> Arc<Message> {
        match self.within(awaited, inbox.recv()).await {
            Ok(message) => message,
            Err(lagged) => self.fail(&lagged.to_string()),
        }
    }

    /// Expects these events and then `last`, which proves that no other came before it.
    async fn receives(&self, inbox: &mut Inbox, expected: &[&str], last: &str) {
        let mut found = Vec::new();
        for _ in 0..=expected.len() {
            found.push(self.next(inbox, last).await.event().to_owned());
        }
        let expected: Vec<&str> = expected.iter().copied().chain([last]).collect();
        self.same("the events", &found, &expected);
    }

    async fn settle(&self, sender: &PubSub, topic: &str, inboxes: &mut [&mut Inbox]) {
        self.settle_by(inboxes, |event| sender.broadcast(topic, event, ())).await;
    }

    /// Waits until all inboxes receive from a sender: on a network, a subscription takes effect after a moment.
    ///
    /// It leaves none of its own messages behind.
    async fn settle_by(&self, inboxes: &mut [&mut Inbox], send: impl Fn(&str) -> Result<(), BroadcastError>) {
        /// How long to wait for one probe before sending the next.
        const PAUSE: Duration = Duration::from_millis(20);
        let probe = async |inbox: &mut Inbox| {
            loop {
                self.sent(send("probe"));
                if timeout(PAUSE, inbox.recv()).await.is_ok() {
                    break;
                }
            }
        };
        for inbox in &mut *inboxes {
            self.within("a probe", probe(inbox)).await;
        }
        self.sent(send("settled"));
        for inbox in inboxes {
            while self.next(inbox, "settled").await.event() != "settled" {}
        }
    }
}
