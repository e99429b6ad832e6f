//! Observability of sockets: the observer, the log, and metrics.

use std::{
    io,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use adsum_channels::{
    Assigns, Drain, EventOutcome, Level, ObservedConnect, ObservedDisconnect, ObservedDrain, ObservedEvent,
    ObservedJoin, ObservedLeave, ObservedLimit, Observer, ParamFilter, PubSub, SocketBuilder, Sockets,
};
use adsum_pubsub::metrics::{Sample, Value};
use axum::body::Body;
use futures_util::stream;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::{Dispatch, subscriber::NoSubscriber};

use crate::{
    longpoll,
    server::{Server, Transport},
};

struct Telling(mpsc::UnboundedSender<String>);

impl Observer for Telling {
    fn connected(&self, connected: &ObservedConnect<'_>) {
        let ObservedConnect { transport, version, result, .. } = connected;
        let result = result.map(|_| "ok").map_err(ToString::to_string);
        let _ = self.0.send(format!("{transport} {version} {result:?}"));
    }

    fn joined(&self, joined: &ObservedJoin<'_>) {
        let ObservedJoin { topic, params, result, .. } = joined;
        assert!(joined.channel.ends_with("Room") || joined.channel.ends_with("Typed"));
        let _ = self.0.send(format!("{topic} {result:?} {params:?}"));
    }

    fn handled_in(&self, handled: &ObservedEvent<'_>) {
        let ObservedEvent { topic, event, payload, result, .. } = handled;
        let _ = self.0.send(format!("{topic} {event} {result:?} {payload:?}"));
        assert_ne!(*event, "greeting", "an observer that panics, as the test wants it");
        if *event == "slow" {
            assert!(handled.duration >= Duration::from_millis(1));
            assert!(matches!(result, EventOutcome::Replied("ok")));
        }
    }
}

async fn an_observer_hears_of_connects_joins_and_events(transport: Transport) {
    let (sender, mut told) = mpsc::unbounded_channel();
    let mut server = Server::start_with(transport, |socket| {
        socket.observe(Telling(sender)).shutdown_grace(Duration::from_millis(50))
    })
    .await;
    let mut tells = async |line: &str| assert_eq!(told.recv().await.as_deref(), Some(line));
    let _ = server.connect("vsn=3.0.0", &[]).await;
    tells(r#"websocket 3.0.0 Err("version \"3.0.0\" of the protocol isn't supported")"#).await;
    let mut client = server.client().await;
    tells(r#"websocket 2.0.0 Ok("ok")"#).await;
    for (topic, params, told) in [
        ("room:a", "1", "room:a Joined Json(1)"),
        ("room:denied", "{}", "room:denied Refused Json({})"),
        ("typed:a", "{}", "typed:a Refused Json({})"),
        ("room:panic", "{}", "room:panic Crashed Json({})"),
    ] {
        client.send(&format!(r#"["1","1","{topic}","phx_join",{params}]"#)).await;
        client.frame().await;
        tells(told).await;
    }
    for (event, told) in [
        ("echo", r#"room:a echo Replied("ok") Json({})"#),
        ("fail", r#"room:a fail Replied("error") Json({})"#),
        ("greeting", r#"room:a greeting Replied("ok") Json({})"#),
        ("shout", "room:a shout Handled Json({})"),
    ] {
        client.send(&format!(r#"["1","2","room:a","{event}",{{}}]"#)).await;
        client.frame().await;
        tells(told).await;
    }
    client.send(r#"["1","2","room:a","slow",{}]"#).await;
    server.logged_at_last("slow").await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    server.app.gate.add_permits(1);
    client.frame().await;
    tells(r#"room:a slow Replied("ok") Json({})"#).await;
    for (event, told) in [
        ("stop", "room:a stop Stopped Json({})"),
        ("nosuchevent", "room:a nosuchevent Crashed Json({})"),
        ("crash", "room:a crash Crashed Json({})"),
    ] {
        client.send(&format!(r#"["1","2","room:a","{event}",{{}}]"#)).await;
        client.frame().await;
        tells(told).await;
        client.join("room:a", "1").await;
        tells("room:a Joined Json({})").await;
    }
    client.send(r#"["1","2","room:a","hang",{}]"#).await;
    client.send(r#"["1","3","room:a","phx_leave",{}]"#).await;
    tells("room:a hang Crashed Json({})").await;
}

/// Records only ends, limits and drains.
struct TellingEnds(mpsc::UnboundedSender<String>);

impl Observer for TellingEnds {
    fn left(&self, left: &ObservedLeave<'_>) {
        let _ = self.0.send(format!("{} {:?}", left.topic, left.reason));
    }

    fn disconnected(&self, disconnected: &ObservedDisconnect<'_>) {
        assert!(disconnected.assigns.socket_id().is_some());
        let _ = self.0.send(format!("{} {:?}", disconnected.transport, disconnected.end));
    }

    fn limited(&self, limited: &ObservedLimit<'_>) {
        let _ = self.0.send(format!("{:?} {:?}", limited.limit, limited.topic));
    }

    fn draining(&self, draining: &ObservedDrain) {
        let ObservedDrain { open, is_over, .. } = draining;
        let _ = self.0.send(format!("draining {open} {is_over}"));
    }
}

async fn an_observer_hears_how_channels_and_sockets_end(transport: Transport) {
    let (sender, mut told) = mpsc::unbounded_channel();
    let sockets = Sockets::new();
    let server =
        Server::start_with(transport, |socket| socket.sockets(&sockets).observe(TellingEnds(sender))).await;
    let mut tells = async |line: &str| assert_eq!(told.recv().await.as_deref(), Some(line));

    let mut client = server.client().await;
    client.join("room:a", "1").await;
    for (event, frames, line) in
        [("phx_leave", 2, "room:a Left"), ("stop", 1, "room:a Stopped"), ("crash", 1, "room:a Crashed")]
    {
        client.send(&format!(r#"["1","2","room:a","{event}",{{}}]"#)).await;
        tells(line).await;
        for _ in 0..frames {
            client.frame().await;
        }
        client.join("room:a", "1").await;
    }
    client.join("room:b", "1").await;
    drop(client);
    let mut ends = [told.recv().await.unwrap(), told.recv().await.unwrap()];
    ends.sort();
    assert_eq!(ends, ["room:a Closed", "room:b Closed"]);
    let mut tells = async |line: &str| assert_eq!(told.recv().await.as_deref(), Some(line));
    tells("websocket Lost").await;

    server.client().await.close().await;
    tells("websocket Closed(1000)").await;

    let mut client = server.client().await;
    client.send("nonsense").await;
    tells("websocket BadMessage(1011)").await;

    let _told = server.client().await;
    server.pubsub.disconnect("user:u").unwrap();
    tells("websocket Disconnected").await;
    // The observer hears of an end before the socket's last frame is written, and a socket counts until then.
    while !sockets.is_empty() {
        tokio::task::yield_now().await;
    }

    let mut client = server.client().await;
    client.join("room:a", "1").await;
    let drained = tokio::spawn({
        let sockets = sockets.clone();
        async move { sockets.drain(Drain::default()).await }
    });
    tells("draining 1 false").await;
    client.expect_close(1012).await;
    tells("room:a Draining").await;
    tells("websocket Draining").await;
    tells("draining 0 true").await;
    assert_eq!(drained.await.unwrap(), 0);
}

async fn an_observer_hears_of_limits(transport: Transport) {
    let (sender, mut told) = mpsc::unbounded_channel();
    let observer = sender.clone();
    let server = Server::start_with(transport, |socket| {
        socket.observe(TellingEnds(observer)).max_channels(1).max_topic_bytes(10).max_message_rate(20)
    })
    .await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    for topic in ["room:b", "room:of_a_long_name"] {
        client.send(&format!(r#"["1","1","{topic}","phx_join",{{}}]"#)).await;
        client.frame().await;
    }
    for _ in 0..60 {
        client.send(r#"[null,"1","phoenix","heartbeat",{}]"#).await;
    }
    for line in
        [r#"Channels Some("room:b")"#, r#"TopicBytes Some("room:of_a_long_name")"#, "MessageRate None"]
    {
        assert_eq!(told.recv().await.as_deref(), Some(line));
    }
    let hits = |server: &Server, limit| {
        Counted(server.pubsub.read_metrics()).get("adsum_limits_hit_total", &[limit])
    };
    assert!(hits(&server, "max_message_rate") >= 1.0);
    Counted(server.pubsub.read_metrics()).assert("adsum_limits_hit_total", &["max_byte_rate"], 0.0);

    let server =
        Server::start_with(transport, |socket| socket.observe(TellingEnds(sender)).max_byte_rate(1_000))
            .await;
    let mut client = server.client().await;
    while told.try_recv().is_ok() {}
    client.send(&json!([null, "1", "phoenix", "heartbeat", "x".repeat(2_000)]).to_string()).await;
    while told.recv().await.unwrap() != "ByteRate None" {}
    assert!(hits(&server, "max_byte_rate") >= 1.0);
}

over_both!(
    an_observer_hears_of_connects_joins_and_events,
    an_observer_hears_how_channels_and_sockets_end,
    an_observer_hears_of_limits,
);

/// The whole log.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    pub(crate) fn at(level: Level) -> (Self, tracing::subscriber::DefaultGuard) {
        // While a process has one subscriber, tracing asks only that of the current thread about a new span or event.
        // The thread of another test has none, and so would disable it for this one. With two it asks all.
        static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
        ANOTHER.get_or_init(|| Dispatch::new(NoSubscriber::default()));
        let written = Self::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (written, tracing::subscriber::set_default(subscriber))
    }

    /// The number of lines that contain this.
    pub(crate) fn count(&self, part: &str) -> usize {
        let text = String::from_utf8(self.0.lock().clone()).unwrap();
        text.lines().filter(|line| line.contains(part)).count()
    }

    /// The line that contains this.
    fn line(&self, part: &str) -> Option<String> {
        let text = String::from_utf8(self.0.lock().clone()).unwrap();
        text.lines().find(|line| line.contains(part)).map(str::to_owned)
    }
}

/// Connects, joins and sends events, each with a secret.
async fn tell_secrets(server: &longpoll::Server) {
    let opened = server.json("GET", "vsn=2.0.0&user_id=u&token=hunter2&page=7", &[], "").await;
    let query = format!("vsn=2.0.0&token={}", opened["token"].as_str().unwrap());
    for (body, answers) in [
        (r#"["1","1","room:a","phx_join",{"page":7,"user":{"password":"hunter2"}}]"#, 1),
        (r#"["1","2","room:a","echo",{"page":7,"list":[{"api_Secret":"hunter2"}]}]"#, 1),
        // Errors from parsing quote their input.
        (r#"["2","2","typed:a","phx_join",{"count":1,"password":"hunter2"}]"#, 1),
        (r#"["1","4","room:a","typed",{"count":1,"password":"hunter2"}]"#, 1),
    ] {
        assert_eq!(server.json("POST", &query, &[], body).await, json!({"status": 200}));
        let messages = server.json("GET", &query, &[], "").await;
        assert_eq!(messages["messages"].as_array().unwrap().len(), answers, "{body}: {messages}");
    }
    let (status, ..) = server.request("POST", &query, &[], r#""hunter2""#).await;
    assert_eq!(status, 400);
}

#[test]
fn a_line_that_another_test_has_written_first_is_kept() {
    let (written, _guard) = Written::at(Level::INFO);
    let write = || tracing::info!("a line of two tests");
    thread::spawn(write).join().unwrap();
    write();
    assert_eq!(written.count("a line of two tests"), 1);
}

#[tokio::test(start_paused = true)]
async fn secrets_of_clients_are_in_no_log() {
    let (written, _guard) = Written::at(Level::TRACE);
    tell_secrets(&longpoll::Server::start_with(|socket| socket)).await;
    assert_eq!(written.line("hunter2"), None);
    for (part, params) in [
        ("connected", r#"params="{\"page\":\"7\",\"token\":\"[FILTERED]\",\"user_id\":\"u\","#),
        ("joined", r#"params="{\"page\":7,\"user\":{\"password\":\"[FILTERED]\"}}""#),
        (" handled", r#"params="{\"list\":[{\"api_Secret\":\"[FILTERED]\"}],\"page\":7}""#),
        ("a join has invalid params", ""),
        ("channel crashed", ""),
    ] {
        let line = written.line(part).unwrap_or_else(|| panic!("nothing logged of {part:?}"));
        assert!(line.contains(params), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn levels_and_filters_are_the_programs_to_choose() {
    let (written, _guard) = Written::at(Level::INFO);
    tell_secrets(&longpoll::Server::start_with(|socket| {
        socket.log_connect(Level::INFO).filter_params(ParamFilter::keep(["token"]))
    }))
    .await;
    let line = written.line("connected").unwrap();
    assert!(
        line.contains(r#"\"token\":\"hunter2\""#) && line.contains(r#"\"page\":\"[FILTERED]\""#),
        "{line}"
    );
    // A channel that logs at INFO, and one that doesn't log.
    assert!(written.line("joined").unwrap().contains("typed:a"));
    assert_eq!(written.line(" handled"), None);
    let (written, _guard) = Written::at(Level::TRACE);
    tell_secrets(&longpoll::Server::start_with(|socket| socket.log_connect(None))).await;
    assert_eq!(written.line("connected"), None);
}

#[tokio::test(start_paused = true)]
async fn a_line_of_the_program_in_a_channel_names_its_topic_and_its_socket() {
    let (written, _guard) = Written::at(Level::INFO);
    let server = longpoll::Server::start_with(|socket| socket);
    let client = server.open("2.0.0").await;
    client.join().await;
    client.post(r#"["1","2","room:a","note",{}]"#).await;
    client.post(r#"["1","3","room:a","echo",{}]"#).await;
    client.messages().await;
    let line = written.line("noted").unwrap();
    assert!(line.contains("channel{topic=room:a socket_id=user:u}"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_line_logged_while_a_client_connects_names_its_transport_and_version() {
    let (written, _guard) = Written::at(Level::DEBUG);
    let server = longpoll::Server::start_with(|socket| {
        socket.connect(async |_, _| {
            tracing::info!("asking the database");
            Ok(Assigns::new())
        })
    });
    server.json("GET", "vsn=2.0.0", &[], "").await;
    server.json("GET", "vsn=9.0.0", &[], "").await;
    for (part, version) in [("asking the database", "2.0.0"), ("connect refused", "9.0.0")] {
        let line = written.line(part).unwrap();
        assert!(line.contains(&format!(r#"connect{{transport="longpoll" version={version}}}"#)), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn series_of_long_poll_are_there_before_its_first_session() {
    let counted = |configure: fn(SocketBuilder<()>) -> SocketBuilder<()>| {
        let pubsub = PubSub::local();
        let router: axum::Router = configure(SocketBuilder::new(())).into_router(pubsub.clone());
        let counted = Counted(pubsub.read_metrics());
        drop(router);
        counted
    };
    let on = counted(|socket| socket.longpoll(longpoll::SECRET).unwrap());
    for transport in ["websocket", "longpoll"] {
        on.assert("adsum_sockets", &[transport], 0.0);
        on.assert("adsum_sockets_opened_total", &[transport], 0.0);
    }
    let off = counted(|socket| socket);
    assert!(!off.0.iter().any(|sample| sample.labels.contains(&"longpoll".into())), "it is off");
}

#[tokio::test(start_paused = true)]
async fn posts_that_are_too_large_are_counted_by_the_limit_that_refuses_them() {
    let pubsub = PubSub::local();
    let server = longpoll::Server::start_on(pubsub.clone(), |socket| {
        socket.max_message_bytes(1_000).max_queue_bytes(10_000)
    });
    let client = server.open("2.0.0").await;
    let refused = async |body: Body, large_messages, large_posts| {
        let (status, ..) = server.request("POST", &client.query, &[], body).await;
        assert_eq!(status, 400);
        let counted = Counted(pubsub.read_metrics());
        counted.assert("adsum_limits_hit_total", &["max_message_bytes"], large_messages);
        counted.assert("adsum_limits_hit_total", &["max_queue_bytes"], large_posts);
    };
    let broken = stream::once(async { Err::<String, _>(io::Error::other("cut off")) });
    refused(Body::from_stream(broken), 0.0, 0.0).await;
    refused("x".repeat(1_001).into(), 1.0, 0.0).await;
    refused("x".repeat(10_001).into(), 1.0, 1.0).await;
    let largest = Counted(pubsub.read_metrics()).get("adsum_limit_high_water_ratio", &["max_message_bytes"]);
    assert!(largest >= 1.0, "{largest}");
}

#[tokio::test(start_paused = true)]
async fn sockets_joins_and_events_are_counted_and_timed() {
    let sockets = adsum_channels::Sockets::new();
    let pubsub = PubSub::local();
    let server = longpoll::Server::start_on(pubsub.clone(), |socket| socket.sockets(&sockets));
    tell_secrets(&server).await;
    server.json("GET", "vsn=9.0.0", &[], "").await;
    let counted = || Counted(pubsub.read_metrics());
    counted().assert("adsum_sockets", &["longpoll"], 1.0);
    // It has crashed.
    counted().assert("adsum_channels", &["room:*"], 0.0);
    assert_eq!(sockets.drain(adsum_channels::Drain::default()).await, 0);
    for (name, labels, count) in [
        ("adsum_socket_connect_seconds", &[][..], 2.0),
        ("adsum_sockets_refused_total", &["version"], 1.0),
        ("adsum_sockets_opened_total", &["longpoll"], 1.0),
        ("adsum_sockets_closed_total", &["draining"], 1.0),
        ("adsum_sockets", &["longpoll"], 0.0),
        ("adsum_channel_join_seconds", &["room:*"], 1.0),
        ("adsum_channels_joined_total", &["room:*", "joined"], 1.0),
        ("adsum_channels_joined_total", &["typed:*", "refused"], 1.0),
        ("adsum_channel_handle_in_seconds", &["room:*"], 2.0),
        ("adsum_channels_crashed_total", &["room:*"], 1.0),
        ("adsum_channels_left_total", &["room:*", "crashed"], 1.0),
        ("adsum_messages_received_total", &[], 5.0),
        ("adsum_writes_total", &[], 0.0),
    ] {
        counted().assert(name, labels, count);
    }
    assert!(counted().get("adsum_messages_sent_total", &[]) >= 4.0);
    assert!(counted().get("adsum_bytes_received_total", &[]) > 100.0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_clients_is_measured() {
    const BYTES: f64 = 100_000.0;
    let server = Server::start(Transport::Duplex).await;
    let mut clients = Vec::new();
    for topic in ["room:a", "room:a", "room:b"] {
        let mut client = server.client().await;
        client.join(topic, "1").await;
        clients.push(client);
    }
    let counted = || Counted(server.pubsub.read_metrics());
    let nothing_waits = || {
        for name in ["adsum_queue_bytes", "adsum_queue_bytes_max"] {
            counted().assert(name, &[], 0.0);
        }
    };
    nothing_waits();
    // More than the streams take. Two clients share the bytes of the first room.
    for (topic, times) in [("room:a", 1), ("room:b", 2)] {
        server.pubsub.broadcast(topic, "news", json!("x".repeat(times * 100_000))).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let total = counted().get("adsum_queue_bytes", &[]);
    let most = counted().get("adsum_queue_bytes_max", &[]);
    assert!(total > 2.5 * BYTES && total < 3.5 * BYTES, "{total}");
    assert!(most > 1.5 * BYTES && most < 2.5 * BYTES, "{most}");
    for client in &mut clients {
        assert_eq!(client.frame().await[3], "news");
    }
    nothing_waits();
}

/// The metrics of a node at one time.
pub(crate) struct Counted(pub(crate) Vec<Sample>);

impl Counted {
    pub(crate) fn assert(&self, name: &str, labels: &[&str], expected: f64) {
        let is = self.get(name, labels);
        assert!((is - expected).abs() < 1e-9, "{name} {labels:?} is {is}, not {expected}");
    }

    /// A value; of a histogram, how many values it has.
    pub(crate) fn get(&self, name: &str, labels: &[&str]) -> f64 {
        let is_it = |sample: &&Sample| {
            sample.metric.name == name
                && sample.labels.iter().map(|label| &**label).eq(labels.iter().copied())
        };
        let count = |count: u64| f64::from(u32::try_from(count).unwrap());
        match self.0.iter().find(is_it).map(|sample| &sample.value) {
            Some(Value::Count(value)) => count(*value),
            Some(Value::Gauge(value)) => *value,
            Some(Value::Buckets(buckets)) => count(buckets.count()),
            None => panic!("there is no {name} of {labels:?}"),
        }
    }
}
