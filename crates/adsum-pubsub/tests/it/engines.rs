//! Nodes connected by real engines: the behaviour that both engines share.

use std::{collections::HashSet, sync::Arc, time::Duration};

use adsum_pubsub::{
    BroadcastError, Inbox, MAX_MESSAGE_BYTES, Payload, PubSub, StartError, SubscriberId, suite,
};
use tokio::{sync::watch, time::timeout};

use crate::{
    Panics, counters,
    server::{File, Kind, SECRET, Server, connect},
    spy::Recorded,
};

const REFUSED: &str = "adsum_refused_messages_total";

/// The deadline for everything that should happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Makes a test for each engine from each of these functions.
macro_rules! for_each_engine {
    ($($name:ident),* $(,)?) => {
        mod nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Kind::Nats).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Kind::Redis).await;
            })*
        }
    };
}

for_each_engine! {
    it_passes_the_suite,
    the_first_word_and_the_last_are_heard,
    many_that_start_at_once_are_all_heard,
    a_listener_on_everything_keeps_nobody_away,
    a_recorded_message_that_is_replayed_is_heard_by_nobody,
    a_secret_is_changed_without_a_split,
    a_killed_engine_that_comes_back_is_used_again,
    an_engine_that_is_silent_is_noticed_and_nothing_piles_up,
    an_engine_may_come_later_than_the_node,
    a_user_and_a_password_are_asked_for,
    tls_is_spoken_and_certificates_are_checked,
    nodes_of_another_secret_or_namespace_are_not_heard,
    namesakes_hear_each_other,
    a_subscriber_that_panics_is_counted_and_others_hear,
    only_what_has_subscribers_is_listened_to,
    strangers_harm_nobody,
    a_message_that_is_too_large_stays_on_its_node,
    a_dropped_node_leaves_the_engine,
    a_configuration_that_is_wrong_is_refused,
}

async fn it_passes_the_suite(kind: Kind) {
    let server = Server::start(kind);
    suite::run(suite::DEADLINE, async |names| server.cluster(names).await).await;
}

async fn the_first_word_and_the_last_are_heard(kind: Kind) {
    let server = Server::start(kind);
    let listener = server.node("hears").await;
    let mut inbox = listener.subscribe("t");
    hear(&server.node("probe").await, &mut inbox).await;
    let mut closing = tokio::task::JoinSet::new();
    for n in 0..20 {
        let says = server.node(&format!("says-{n}")).await;
        says.broadcast("t", format!("word {n}"), ()).unwrap();
        closing.spawn(async move {
            says.close().await;
            let error = says.broadcast("t", "too late", ()).unwrap_err();
            assert!(matches!(error, BroadcastError::Disconnected { .. }), "{error}");
        });
    }
    closing.join_all().await;
    let mut heard = Vec::new();
    for _ in 0..20 {
        heard.push(next(&mut inbox).await);
    }
    heard.sort_by_key(|word| word[5..].parse::<u32>().unwrap());
    assert!(heard.iter().enumerate().all(|(n, word)| *word == format!("word {n}")), "{heard:?}");
}

async fn many_that_start_at_once_are_all_heard(kind: Kind) {
    const MANY: usize = 200;
    let server = Server::start(kind);
    let listener = server.node("hears").await;
    let mut inbox = listener.subscribe("t");
    hear(&server.node("probe").await, &mut inbox).await;
    let mut nodes = Vec::new();
    for n in 0..MANY {
        nodes.push(server.node(&format!("says-{n}")).await);
    }
    // No node gets to a challenge before all have spoken, if their tasks have no turn in between.
    for (n, node) in nodes.iter().enumerate() {
        node.broadcast("t", n.to_string(), ()).unwrap();
    }
    let mut heard = HashSet::new();
    while heard.len() < MANY {
        assert!(heard.insert(next(&mut inbox).await.parse::<usize>().unwrap()));
    }
    assert!(heard.iter().all(|n| *n < MANY));
}

async fn a_listener_on_everything_keeps_nobody_away(kind: Kind) {
    let mut server = Server::start(kind);
    let before = server.spy();
    let (a, b) = (server.node("a").await, server.node("b").await);
    let (mut a_connected, mut b_connected) = (a.connected(), b.connected());
    assert!(*a_connected.borrow() && *b_connected.borrow());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;
    eventually("the listener has heard both", || before.recorded().len() > 1).await;

    server.kill();
    becomes(&mut a_connected, false).await;
    becomes(&mut b_connected, false).await;
    server.run();
    let _after = server.spy();
    becomes(&mut a_connected, true).await;
    becomes(&mut b_connected, true).await;
    // Once connected, the engine knows the subscriptions.
    a.broadcast("t", "one", ()).unwrap();
    assert_eq!(next(&mut inbox).await, "one");
}

async fn a_recorded_message_that_is_replayed_is_heard_by_nobody(kind: Kind) {
    let server = Server::start(kind);
    let spy = server.spy();
    let (a, b) = (server.node("a").await, server.node("b").await);
    let mut live = b.subscribe("t");
    hear(&a, &mut live).await;
    let dead = server.node("dead").await;
    // The node is admitted before it stops: it answers challenges for half a second then, which a busy machine may
    // take.
    hear(&dead, &mut live).await;
    for n in 0..20 {
        a.broadcast("t", format!("a {n}"), ()).unwrap();
        dead.broadcast("t", format!("dead {n}"), ()).unwrap();
        a.direct_broadcast("b", "t", format!("to b {n}"), ()).unwrap();
    }
    dead.close().await;
    a.broadcast("t", "end", ()).unwrap();
    let mut heard = Vec::new();
    while heard.len() < 61 {
        heard.push(next(&mut live).await);
    }
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 61, "each message arrives exactly once");
    let is_last = |sent: &Recorded| sent.bytes.windows(3).any(|bytes| bytes == b"end");
    eventually("all is recorded", || spy.recorded().iter().any(is_last)).await;
    let recorded = spy.recorded();

    // To a node that received them, in order and shuffled.
    let reversed = recorded.iter().rev().collect::<Vec<_>>();
    spy.replay(&recorded);
    spy.replay(reversed.iter().copied());
    a.broadcast("t", "after", ()).unwrap();
    assert_eq!(next(&mut live).await, "after");
    counters::reaches(&[a.metrics(), b.metrics()], REFUSED, "replayed", 100).await;

    // To a restarted node and to a new one, once the messages are no longer fresh.
    tokio::time::sleep(Duration::from_millis(5_200)).await;
    drop(live);
    b.close().await;
    let (b, new) = (server.node("b").await, server.node("new").await);
    let (mut restarted, mut late) = (b.subscribe("t"), new.subscribe("t"));
    for inbox in [&mut restarted, &mut late] {
        hear(&a, inbox).await;
    }
    a.broadcast("t", "begin", ()).unwrap();
    for inbox in [&mut restarted, &mut late] {
        while next(inbox).await != "begin" {}
    }
    spy.replay(&recorded);
    spy.replay(reversed.iter().copied());
    a.broadcast("t", "after", ()).unwrap();
    assert_eq!(next(&mut restarted).await, "after");
    assert_eq!(next(&mut late).await, "after");
    counters::reaches(&[b.metrics(), new.metrics()], REFUSED, "unanswered", 1).await;
    assert!(restarted.is_empty() && late.is_empty());
}

async fn a_secret_is_changed_without_a_split(kind: Kind) {
    const NEW: &str = "a newer secret of the cluster";
    let server = Server::start(kind);
    let node = |name: &str, stage| {
        let builder = connect(kind, &server.url()).node(name);
        match stage {
            0 => builder.secret(SECRET),
            1 => builder.secret(SECRET).also_accept(NEW),
            2 => builder.secret(NEW).also_accept(SECRET),
            _ => builder.secret(NEW),
        }
    };
    let mut a = node("a", 0).start().await.unwrap();
    let mut b = node("b", 0).start().await.unwrap();
    for stage in 1..=3 {
        a = node("a", stage).start().await.unwrap();
        let (mut on_a, mut on_b) = (a.subscribe("t"), b.subscribe("t"));
        hear(&a, &mut on_b).await;
        hear(&b, &mut on_a).await;
        b = node("b", stage).start().await.unwrap();
    }
    let mut outside = node("old", 0).start().await.unwrap().subscribe("t");
    let mut on_b = b.subscribe("t");
    hear(&a, &mut on_b).await;
    assert!(outside.try_recv().is_none());
    let error = node("c", 3).also_accept("short").start().await.unwrap_err();
    assert!(error.to_string().contains("20 bytes"), "{error}");
    let error = connect(kind, &server.url()).node("c").also_accept(NEW).start().await.unwrap_err();
    assert!(error.to_string().contains("secret"), "{error}");
}

async fn a_killed_engine_that_comes_back_is_used_again(kind: Kind) {
    const TOPICS: usize = 2_000;
    let mut server = Server::start(kind);
    let (a, b) = (server.node("a").await, server.node("b").await);
    let mut before = b.subscribe("before");
    hear(&a, &mut before).await;
    let mut many = b.inbox(2 * TOPICS);
    for n in 0..TOPICS {
        many.subscribe(format!("many:{n}"));
    }
    let (mut a_connected, mut b_connected) = (a.connected(), b.connected());
    assert!(*a_connected.borrow() && *b_connected.borrow());

    server.kill();
    becomes(&mut a_connected, false).await;
    becomes(&mut b_connected, false).await;
    let mut during = b.subscribe("during");
    let here = a.subscribe("before");
    let error = a.broadcast("before", "stale", ()).unwrap_err();
    assert!(matches!(error, BroadcastError::Disconnected { .. }), "{error}");
    assert_eq!(here.len(), 1, "this node still gets it");

    server.run();
    becomes(&mut a_connected, true).await;
    becomes(&mut b_connected, true).await;
    // There is no wait for the subscription here: once connected, the engine knows it.
    a.broadcast("before", "one", ()).unwrap();
    a.broadcast("during", "two", ()).unwrap();
    a.direct_broadcast("b", "during", "three", ()).unwrap();
    assert_eq!(next(&mut before).await, "one");
    let mut events = [next(&mut during).await, next(&mut during).await];
    events.sort();
    assert_eq!(events, ["three", "two"]);
    for n in 0..TOPICS {
        a.broadcast(format!("many:{n}"), "four", ()).unwrap();
    }
    for _ in 0..TOPICS {
        assert_eq!(next(&mut many).await, "four");
    }
}

async fn an_engine_that_is_silent_is_noticed_and_nothing_piles_up(kind: Kind) {
    const BYTES: usize = 1024 * 1024;
    let server = Server::start(kind);
    let node = |name| server.builder(name).queue(64, BYTES).ping_interval(Duration::from_millis(200)).start();
    let (a, b) = (node("a").await.unwrap(), node("b").await.unwrap());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;
    let (mut a_connected, mut b_connected) = (a.connected(), b.connected());

    server.signal("-STOP");
    let large = Payload::Binary(vec![0; 64 * 1024].into());
    // The system's buffers take some megabytes; then the queue is full, or the silence is detected.
    let mut accepted = 0;
    let error = loop {
        match a.broadcast("t", "stale", large.clone()) {
            Ok(()) => accepted += large.len(),
            Err(error) => break error,
        }
        assert!(accepted < 256 * BYTES, "{accepted} bytes were accepted");
    };
    assert!(matches!(error, BroadcastError::Full { .. } | BroadcastError::Disconnected { .. }), "{error}");
    becomes(&mut a_connected, false).await;
    becomes(&mut b_connected, false).await;
    for _ in 0..10_000 {
        let error = a.broadcast("t", "stale", large.clone()).unwrap_err();
        assert!(matches!(error, BroadcastError::Disconnected { .. }), "{error}");
    }

    server.signal("-CONT");
    becomes(&mut a_connected, true).await;
    becomes(&mut b_connected, true).await;
    hear(&a, &mut inbox).await;
}

async fn an_engine_may_come_later_than_the_node(kind: Kind) {
    let mut server = Server::absent(kind);
    let (a, b) = (server.node("a").await, server.node("b").await);
    let mut inbox = b.subscribe("t");
    assert!(a.is_networked() && !*a.connected().borrow());
    b.broadcast("t", "here", ()).unwrap_err();
    assert_eq!(next(&mut inbox).await, "here");

    server.run();
    becomes(&mut a.connected(), true).await;
    becomes(&mut b.connected(), true).await;
    a.broadcast("t", "there", ()).unwrap();
    assert_eq!(next(&mut inbox).await, "there");
}

async fn a_user_and_a_password_are_asked_for(kind: Kind) {
    let server = Server::with_login(kind, "ann", "p4ss:w@rd");
    let in_url = connect(kind, &server.url_of("ann:p4ss%3Aw%40rd@")).node("a").secret(SECRET);
    let in_builder = server.builder("b").user("ann", "p4ss:w@rd");
    let (a, b) = (in_url.start().await.unwrap(), in_builder.start().await.unwrap());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;

    for refused in [server.builder("c"), server.builder("c").user("ann", "wr0ng")] {
        let error = refused.start().await.unwrap_err();
        assert!(matches!(error, StartError::Refused { .. }), "{error}");
        assert!(!error.to_string().contains("wr0ng"), "{error}");
    }
}

async fn tls_is_spoken_and_certificates_are_checked(kind: Kind) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (File::new(&cert.pem()), File::new(&signing_key.serialize_pem()));
    let server = Server::with_tls(kind, &certificate, &key);
    let node = |name| connect(kind, &server.tls_url()).node(name).secret(SECRET);
    let (a, b) = (node("a").ca_file(certificate.path()), node("b").ca_file(certificate.path()));
    let (a, b) = (a.start().await.unwrap(), b.start().await.unwrap());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;

    // The system doesn't trust this certificate. It might later, so the node starts alone.
    let distrustful = node("c").start().await.unwrap();
    assert!(!*distrustful.connected().borrow());
    let missing = node("c").ca_file("/nowhere/ca.pem").start().await.unwrap_err();
    assert!(matches!(missing, StartError::Config(_)), "{missing}");
}

async fn nodes_of_another_secret_or_namespace_are_not_heard(kind: Kind) {
    let server = Server::start(kind);
    let (a, b) = (server.node("a").await, server.node("b").await);
    let mut on_b = b.subscribe("t");
    hear(&a, &mut on_b).await;

    let builders = |name: &str| {
        [
            server.builder(name).secret("another secret of the cluster"),
            connect(kind, &server.url()).node(name),
            server.builder(name).namespace("elsewhere"),
        ]
    };
    let mut counted = vec![a.metrics().clone(), b.metrics().clone()];
    for (x, y) in builders("x").into_iter().zip(builders("y")) {
        let (x, y) = (x.start().await.unwrap(), y.start().await.unwrap());
        counted.extend([x.metrics().clone(), y.metrics().clone()]);
        let mut on_y = y.subscribe("t");
        hear(&x, &mut on_y).await;
        x.direct_broadcast("b", "t", "stray", ()).unwrap();
        x.broadcast("t", "stray", ()).unwrap();
        assert_eq!(next(&mut on_y).await, "stray");
        // The engine has received all of the above before this, and delivers in that order.
        a.broadcast("t", "end", ()).unwrap();
        assert_eq!(next(&mut on_b).await, "end");
        // Each pair only receives its own messages.
        a.broadcast("t", "end", ()).unwrap();
        assert_eq!(next(&mut on_b).await, "end");
        x.broadcast("t", "last", ()).unwrap();
        assert_eq!(next(&mut on_y).await, "last");
    }
    for reason in ["secret", "sealed", "unsealed"] {
        counters::reaches(&counted.iter().collect::<Vec<_>>(), REFUSED, reason, 1).await;
    }
}

async fn namesakes_hear_each_other(kind: Kind) {
    let server = Server::start(kind);
    let (a, twin) = (server.node("a").await, server.node("a").await);
    let (mut on_a, mut on_twin) = (a.subscribe("t"), twin.subscribe("t"));
    hear(&a, &mut on_twin).await;
    hear(&twin, &mut on_a).await;
}

async fn a_subscriber_that_panics_is_counted_and_others_hear(kind: Kind) {
    let server = Server::start(kind);
    let (a, b) = (server.node("a").await, server.node("b").await);
    let mut first = b.subscribe("t");
    hear(&a, &mut first).await;
    let _panics = b.attach("t", SubscriberId::unique(), Arc::new(Panics));
    let mut last = b.subscribe("t");
    let before = counters::panics(&b);
    for n in 0..10 {
        a.broadcast("t", n.to_string(), ()).unwrap();
    }
    for n in 0..10 {
        assert_eq!(next(&mut first).await, n.to_string());
        assert_eq!(next(&mut last).await, n.to_string());
    }
    assert!(counters::panics(&b) >= before + 10);
    assert!(*b.connected().borrow());
}

async fn only_what_has_subscribers_is_listened_to(kind: Kind) {
    let server = Server::start(kind);
    let a = server.builder("a").namespace("ns").start().await.unwrap();
    let b = server.builder("b").namespace("ns").linger(Duration::ZERO).start().await.unwrap();
    let topics = || server.subjects("ns").iter().filter(|subject| subject.starts_with("ns.t.")).count();
    assert_eq!(server.subjects("ns").len(), 2, "one for each node");

    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;
    a.broadcast("unheard", "e", ()).unwrap();
    assert_eq!(topics(), 1);
    drop(inbox);
    eventually("the topic is left", || topics() == 0).await;

    // The other node stays subscribed for a while: a subscriber that returns misses nothing.
    let mut inbox = a.subscribe("t");
    hear(&b, &mut inbox).await;
    for _ in 0..100 {
        drop(inbox);
        inbox = a.subscribe("t");
        b.broadcast("t", "back", ()).unwrap();
        assert_eq!(next(&mut inbox).await, "back");
    }
    drop(inbox);
    assert_eq!(topics(), 1);
}

async fn strangers_harm_nobody(kind: Kind) {
    let server = Server::start(kind);
    let a = server.builder("a").namespace("ns").start().await.unwrap();
    let b = server.builder("b").namespace("ns").start().await.unwrap();
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;
    for subject in server.subjects("ns") {
        for text in ["hello", "adsm", "adsm\u{2}", "adsm\u{2}\u{4}0123456789abcdef01234567\u{7f}\u{7f}"] {
            server.publish(&subject, text);
        }
    }
    counters::reaches(&[a.metrics(), b.metrics()], REFUSED, "foreign", 3).await;
    counters::reaches(&[a.metrics(), b.metrics()], REFUSED, "malformed", 9).await;
    assert!(inbox.is_empty());
    hear(&a, &mut inbox).await;
    a.direct_broadcast("b", "t", "direct", ()).unwrap();
    assert_eq!(next(&mut inbox).await, "direct");
}

async fn a_message_that_is_too_large_stays_on_its_node(kind: Kind) {
    let server = Server::start(kind);
    let (a, b) = (server.node("a").await, server.node("b").await);
    let (here, mut there) = (a.subscribe("t"), b.subscribe("t"));
    hear(&a, &mut there).await;
    let sent = here.len();

    let bytes = |len| Payload::Binary((0..len).map(|n| n as u8).collect());
    let error = a.broadcast("t", "larger", bytes(MAX_MESSAGE_BYTES + 1)).unwrap_err();
    assert!(matches!(error, BroadcastError::TooLarge(n) if n == MAX_MESSAGE_BYTES + 1), "{error}");
    assert_eq!(here.len(), sent + 1);
    a.broadcast("t", "largest", bytes(MAX_MESSAGE_BYTES)).unwrap();
    let message = timeout(DEADLINE, there.recv()).await.unwrap().unwrap();
    assert_eq!(message.event(), "largest");
    assert!(*message.payload() == bytes(MAX_MESSAGE_BYTES));
}

async fn a_dropped_node_leaves_the_engine(kind: Kind) {
    let server = Server::start(kind);
    let node = server.builder("a").namespace("ns").start().await.unwrap();
    let inbox = node.subscribe("t");
    eventually("both are listened to", || server.subjects("ns").len() == 2).await;
    drop(node);
    assert_eq!(server.subjects("ns").len(), 2, "an inbox keeps its node");
    drop(inbox);
    eventually("nothing is listened to", || server.subjects("ns").is_empty()).await;
}

async fn a_configuration_that_is_wrong_is_refused(kind: Kind) {
    let server = Server::absent(kind);
    if kind == Kind::Redis {
        for (address, text) in [
            ("redis+sentinel://127.0.0.1:26379/main", "Sentinel"),
            ("redis://127.0.0.1:7000,redis://127.0.0.1:7001", "one server"),
        ] {
            let error = connect(kind, address).node("a").start().await.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
    for (builder, option) in [
        (connect(kind, &server.url()), "node (bytes)"),
        (server.builder(&"x".repeat(256)), "node (bytes)"),
        (server.builder("a").secret("short"), "secret"),
        (server.builder("a").namespace("a.b"), "namespace"),
        (server.builder("a").namespace(""), "namespace"),
        (server.builder("a").region(""), "region (bytes)"),
        (server.builder("a").region("x".repeat(65)), "region (bytes)"),
        (server.builder("a").queue(0, 1 << 20), "queue (messages)"),
        (server.builder("a").queue(1, 1000), "queue (bytes)"),
        (server.builder("a").queue(usize::MAX, 1 << 20), "queue (messages)"),
        (server.builder("a").ping_interval(Duration::ZERO), "ping_interval"),
        (server.builder("a").connect_timeout(Duration::MAX), "connect_timeout"),
        (server.builder("a").retry_interval(Duration::MAX), "retry_interval"),
        (server.builder("a").linger(Duration::MAX), "linger"),
    ] {
        let checked = builder.check().unwrap_err();
        let StartError::Options(error) = builder.start().await.unwrap_err() else {
            panic!("an option is out of its bounds: {option}");
        };
        assert_eq!((error.option(), &error), (option, &checked));
        assert!(!error.to_string().contains("short\""), "the error must not show the secret: {error}");
    }
    for builder in [
        connect(kind, "").node("a"),
        connect(kind, "http://127.0.0.1").node("a"),
        connect(kind, "nats://[").node("a"),
        connect(kind, "redis://[").node("a"),
    ] {
        let error = builder.start().await.unwrap_err();
        assert!(matches!(error, StartError::Config(_)), "{error}");
    }
}

/// Waits until messages of a node to the inbox's topic `t` (or to its only topic) arrive in it, and none of them
/// is under way.
pub(crate) async fn hear(sender: &PubSub, inbox: &mut Inbox) {
    let topic = format!("{inbox:?}");
    let topic = topic.split('"').nth(1).unwrap().to_owned();
    timeout(DEADLINE, async {
        while timeout(Duration::from_millis(20), inbox.recv()).await.is_err() {
            sender.broadcast(topic.as_str(), "probe", ()).unwrap();
        }
        for n in 0.. {
            let settled = format!("settled {n}");
            sender.broadcast(topic.as_str(), &*settled, ()).unwrap();
            let heard = async { while inbox.recv().await.is_ok_and(|message| message.event() != settled) {} };
            // It is lost if a connection is, as happens on a busy machine to one that is pinged often.
            if timeout(Duration::from_secs(2), heard).await.is_ok() {
                break;
            }
        }
    })
    .await
    .expect("messages of one node reach the other");
}

async fn next(inbox: &mut Inbox) -> String {
    let message = timeout(DEADLINE, inbox.recv()).await.expect("a message arrives").unwrap();
    message.event().to_owned()
}

pub(crate) async fn becomes(connected: &mut watch::Receiver<bool>, expected: bool) {
    let changed = connected.wait_for(|connected| *connected == expected);
    timeout(DEADLINE, changed).await.unwrap_or_else(|_| panic!("connected becomes {expected}")).unwrap();
}

/// Polls a condition that no event signals.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    timeout(DEADLINE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what}"));
}
