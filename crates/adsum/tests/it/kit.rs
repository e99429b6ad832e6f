//! The kit for tests of programs: what it sees, and how it fails.

use std::{panic::AssertUnwindSafe, time::Duration};

use adsum::{
    Assigns, Channel, Connect, JoinError, Joined, NoFetch, Payload, Presence, PresenceHandler, PubSub,
    Refusal, Refused, Reply, Socket, SocketBuilder, Stop, Topic,
    testing::{ChannelEnd, TestChannel, TestCluster, TestServer},
};
use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    metrics::value,
    support::{Does, Meta, Script, meta},
};

#[derive(Clone, Deserialize)]
struct Params {
    name: String,
}

struct Room<H: PresenceHandler> {
    presence: Presence<H>,
    name: String,
}

impl<H: PresenceHandler<Meta = Meta>> Channel for Room<H> {
    type App = Presence<H>;
    type Params = Params;
    type Info = ();

    async fn join(
        app: &Presence<H>,
        topic: &Topic,
        params: Params,
        _: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        if topic.ends_with(":staff") {
            return Err(JoinError::reason("unauthorized"));
        }
        let name = params.name;
        Ok(Joined::new(Self { presence: app.clone(), name: name.clone() }).reply(json!({"name": name})))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.presence.track(socket, self.name.as_str(), meta(1))?;
        Ok(self.presence.push_state(socket).await?)
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        Ok(match event {
            "echo" => Reply::ok(payload),
            "refuse" => Reply::error(json!({"reason": "no"})),
            "say" => {
                socket.broadcast("said", payload)?;
                Reply::none()
            }
            "update" => {
                self.presence.update(socket, self.name.as_str(), meta(2))?;
                Reply::none()
            }
            "stop" => return Err(Stop::normal()),
            _ => return Err(Stop::unhandled(event)),
        })
    }
}

fn socket<H: PresenceHandler<Meta = Meta>>(presence: &Presence<H>) -> SocketBuilder<Presence<H>> {
    SocketBuilder::new(presence.clone()).channel::<Room<H>>("room:*")
}

fn server() -> TestServer {
    let presence = Presence::builder(PubSub::local()).start();
    TestServer::new(socket(&presence), &presence)
}

async fn join(server: &TestServer, name: &str) -> TestChannel {
    let client = server.connect("").await.unwrap();
    client.join("room:1", json!({"name": name})).await.unwrap()
}

/// The text of a test that fails.
async fn failure<T>(test: impl Future<Output = T>) -> String {
    let Err(panic) = AssertUnwindSafe(test).catch_unwind().await else { panic!("it should fail") };
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn replies_pushes_and_refusals_are_values() {
    let server = server();
    let client = server.connect("").await.unwrap();
    let refused = client.join("room:staff", json!({"name": "Ann"})).await.unwrap_err();
    assert_eq!(refused.response, json!({"reason": "unauthorized"}));
    let room = client.join("room:1", json!({"name": "Ann"})).await.unwrap();
    assert_eq!(room.joined::<Value>(), json!({"name": "Ann"}));

    assert_eq!(room.push("echo", json!({"n": 1})).ok::<Value>().await, json!({"n": 1}));
    assert_eq!(room.push("refuse", json!({})).error::<Value>().await, json!({"reason": "no"}));
    let echoed = room.push_binary("echo", b"\0\x01").await;
    assert_eq!((&*echoed.status, echoed.binary.as_deref()), ("ok", Some(&b"\0\x01"[..])));
    room.push("say", json!({"text": "hello"})).unanswered().await;
    assert_eq!(room.expect::<Value>("said").await, json!({"text": "hello"}));
    room.push_binary("say", b"bytes");
    assert_eq!(&*room.expect_binary("said").await, b"bytes");
}

#[tokio::test(start_paused = true)]
async fn a_request_has_what_connect_looks_at() {
    async fn connect(_: Presence, request: Connect) -> Result<Assigns, Refused> {
        let params = request.params::<Params>()?;
        let cookie = request.headers().get("cookie").ok_or("no cookie")?.clone();
        let session = request.extension::<u64>().copied().ok_or("no session")?;
        if cookie == "7" && session == 7 { Ok(Assigns::new().with(params)) } else { Err("another".into()) }
    }
    let presence = Presence::builder(PubSub::local()).start();
    let server = TestServer::new(socket(&presence).connect(connect), &presence);
    let refused = server.connect("name=Ann").await.unwrap_err();
    assert!(matches!(refused, Refusal::Program(refused) if refused.to_string() == "no cookie"));
    assert!(server.connect("").header("cookie", "7").extension(7_u64).await.is_err());
    assert!(server.connect("name=Ann").header("cookie", "7").extension(8_u64).await.is_err());
    assert!(server.connect("name=Ann").header("cookie", "7").extension(7_u64).await.is_ok());
    let origin = server.connect("name=Ann").header("origin", "https://evil.example");
    assert!(matches!(origin.await.unwrap_err(), Refusal::Origin));
}

#[tokio::test(start_paused = true)]
async fn presences_are_folded_as_by_phoenix_js() {
    let server = server();
    let (ann, bob) = (join(&server, "Ann").await, join(&server, "Bob").await);
    assert_eq!(ann.until_present("Bob").await.metas::<Value>()[0]["n"], 1);
    bob.push("update", json!({}));
    ann.until(|present| present["Bob"].metas::<Value>()[0]["n"] == 2).await;
    let second = join(&server, "Bob").await;
    ann.until(|present| present["Bob"].metas::<Value>().len() == 2).await;
    bob.leave().await;
    let left = ann.expect_leave("Bob").await;
    assert_eq!((&*left.reason, left.is_present, &left.metas::<Value>()[0]["n"]), ("left", true, &json!(2)));
    second.client().close().await;
    let left = ann.expect_leave("Bob").await;
    assert_eq!((&*left.reason, left.is_present), ("gone", false));
    assert_eq!(ann.present().keys().collect::<Vec<_>>(), ["Ann"]);
}

#[tokio::test(start_paused = true)]
async fn each_of_two_leaves_in_one_diff_is_expected() {
    let presence = Presence::builder(PubSub::local()).diff_interval(Duration::from_secs(1)).start();
    let server = TestServer::new(socket(&presence), &presence);
    let ann = join(&server, "Ann").await;
    let (first, second) = (join(&server, "Bob").await, join(&server, "Bob").await);
    ann.until(|present| present.get("Bob").is_some_and(|bob| bob.metas::<Value>().len() == 2)).await;
    first.client().close().await;
    second.leave().await;
    let left = [ann.expect_leave("Bob").await, ann.expect_leave("Bob").await];
    let mut reasons = left.each_ref().map(|left| &*left.reason);
    reasons.sort_unstable();
    assert_eq!(reasons, ["gone", "left"]);
    for left in &left {
        assert_eq!((left.metas::<Value>().len(), left.is_present), (1, false));
    }
    ann.refute_leave("Bob").await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_ends_and_a_socket_closes() {
    let server = server();
    let ann = join(&server, "Ann").await;
    ann.push("stop", json!({}));
    assert_eq!(ann.expect_end().await, ChannelEnd::Closed);
    let bob = join(&server, "Bob").await;
    bob.push("crash", json!({}));
    assert!(matches!(bob.expect_end().await, ChannelEnd::Error(_)));
    let bob = bob.client().join("room:1", json!({"name": "Bob"})).await.unwrap();
    bob.client().send("no frame");
    assert_eq!(bob.client().expect_close().await, 1011);
    let ann = join(&server, "Ann").await;
    server.drain().await;
    assert_eq!(ann.client().expect_close().await, 1012);
    assert!(matches!(server.connect("").await.unwrap_err(), Refusal::Draining));
}

#[tokio::test(start_paused = true)]
async fn a_client_sends_heartbeats_until_it_is_offline_and_comes_back() {
    let server = server();
    let (ann, bob) = (join(&server, "Ann").await, join(&server, "Bob").await);
    ann.until_present("Bob").await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(!bob.client().is_closed());

    // Back in time, it has missed nothing.
    bob.client().go_offline();
    ann.push("say", json!({"n": 1}));
    bob.refute("said").await;
    bob.push("say", json!({"n": 2}));
    bob.client().resume();
    assert_eq!(bob.expect::<Value>("said").await, json!({"n": 1}));
    assert_eq!(bob.expect::<Value>("said").await, json!({"n": 2}));

    bob.client().go_offline();
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert_eq!(ann.expect_leave("Bob").await.reason, "gone");
    assert!(!bob.client().is_closed(), "it can't know");
    bob.client().resume();
    assert_eq!(bob.client().expect_close().await, 1002);
    bob.client().reconnect(&server).await.unwrap();
    ann.until_present("Bob").await;
    bob.push("say", json!({"n": 3}));
    assert_eq!(bob.expect::<Value>("said").await, json!({"n": 3}));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_sent_the_state_again_or_away() {
    let presence = Presence::builder(PubSub::local()).diff_interval(Duration::ZERO).start();
    let server = TestServer::new(socket(&presence).max_queue_bytes(4096), &presence);
    let ann = join(&server, "Ann").await;
    ann.until_present("Ann").await;
    ann.client().stop_reading();
    for n in 0..100 {
        drop(join(&server, &format!("passer-by {n}")).await);
    }
    let bob = join(&server, "Bob").await;
    server.settle(Duration::from_secs(1)).await;
    assert_eq!(ann.present().len(), 1);
    let pubsub = PubSub::from(&presence);
    ann.client().resume();
    let present = ann.until(|present| present.contains_key("Bob")).await;
    assert_eq!(present.keys().collect::<Vec<_>>(), ["Ann", "Bob"]);

    ann.client().stop_reading();
    for _ in 0..100 {
        bob.push("say", json!({"text": "x".repeat(100)}));
    }
    assert_eq!(ann.client().expect_close().await, 1013);
    let count = |name: &str, labels: &[&str]| value(&pubsub, name, labels);
    assert!(count("adsum_states_conflated_total", &[]) >= 1.0);
    assert!(count("adsum_sockets_overflowed_total", &["queue"]) >= 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_where_and_prints_every_frame() {
    let server = server();
    let ann = join(&server, "Ann").await;
    ann.until_present("Ann").await;
    let line = line!() + 1;
    let said = failure(ann.expect::<Value>("said")).await;
    assert!(said.contains("\"said\" on room:1 didn't come within 10s"), "{said}");
    assert!(said.contains(&format!("kit.rs:{line}")), "{said}");
    let seen = [
        r#"-> ["1","1","room:1","phx_join",{"name":"Ann"}]"#,
        r#"<- ["1","1","room:1","phx_reply""#,
        "presence_state",
    ];
    for frame in seen {
        assert!(said.contains(frame), "{frame} in {said}");
    }

    ann.push("say", json!({"text": 1}));
    let said = failure(ann.refute("said")).await;
    assert!(said.contains("\"said\" came on room:1"), "{said}");
    ann.push("say", json!({"text": 1}));
    let said = failure(ann.expect::<Params>("said")).await;
    assert!(said.contains("Params: missing field `name`"), "{said}");
    let said = failure(ann.push("refuse", json!({})).ok::<Value>()).await;
    assert!(said.contains(r#"the reply to "refuse" is "error", with {"reason":"no"}"#), "{said}");
    let said = failure(ann.push("echo", json!({})).unanswered()).await;
    assert!(said.contains(r#""echo" was answered"#), "{said}");
    assert!(failure(ann.expect_leave("Ann")).await.contains("a leave of \"Ann\""));
    assert!(failure(ann.client().expect_close()).await.contains("a close didn't come"));
}

#[tokio::test(start_paused = true)]
async fn a_refute_waits_for_a_second_that_takes_no_time() {
    let server = server();
    let ann = join(&server, "Ann").await;
    let (paused, real) = (Instant::now(), std::time::Instant::now());
    for _ in 0..60 {
        ann.refute("said").await;
    }
    assert_eq!(paused.elapsed(), Duration::from_mins(1));
    assert!(real.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn in_real_time_it_waits_as_long_as_phoenix_does() {
    let server = server();
    let ann = join(&server, "Ann").await;
    ann.push("say", json!({}));
    ann.expect::<Value>("said").await;
    let began = Instant::now();
    ann.refute("said").await;
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_or_times_out_fails_the_test() {
    for (does, said) in [(Does::Fails, "as the script says"), (Does::Hangs, "no answer within fetch_timeout")]
    {
        for allowed in [false, true] {
            let presence = Presence::builder(PubSub::local()).handler(Script::new(does.clone())).start();
            let server = TestServer::new(socket(&presence), &presence);
            let server = if allowed { server.allow_failed_fetches() } else { server };
            let ann = join(&server, "Ann").await;
            ann.until_present("Ann").await;
            if allowed {
                continue;
            }
            let failed = failure(async { drop(server) }).await;
            for part in [said, "topic room:1", r#"["Ann"]"#, "Time is paused"] {
                assert!(failed.contains(part), "{part} in {failed}");
            }
        }
    }
    let presence = Presence::builder(PubSub::local()).handler(Script::answering(json!({"age": 7}))).start();
    let server = TestServer::new(socket(&presence), &presence);
    assert_eq!(join(&server, "Ann").await.until_present("Ann").await.info::<Value>(), json!({"age": 7}));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_database_is_away_passes_if_it_may() {
    let failing = |pubsub| Presence::builder(pubsub).handler(Script::new(Does::Fails)).start();
    for allowed in [false, true] {
        let cluster = TestCluster::start(["a", "b"], move |pubsub| {
            let presence = failing(pubsub);
            (socket(&presence), presence)
        })
        .await
        .patience(Duration::from_secs(3));
        let mut cluster = if allowed { cluster.allow_failed_fetches() } else { cluster };
        // A node that comes later is treated alike.
        cluster.add("c").ready().await.unwrap();
        let (ann, cid) = (join(&cluster["a"], "Ann").await, join(&cluster["c"], "Cid").await);
        ann.until_present("Cid").await;
        cid.until_present("Ann").await;
        let began = Instant::now();
        failure(ann.until_present("Dan")).await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        if !allowed {
            for node in ["a", "c"] {
                assert!(failure(async { cluster.kill(node) }).await.contains("as the script says"), "{node}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_further_presence_of_a_node_is_watched_too() {
    let mut cluster = TestCluster::start_servers(["a"], |pubsub| {
        let rooms = Presence::builder(pubsub.clone()).start();
        let users = Presence::builder(pubsub).name("users").handler(Script::new(Does::Fails)).start();
        let server = TestServer::new(socket(&users), &rooms).presence(&users);
        (server, rooms)
    })
    .await;
    join(&cluster["a"], "Ann").await.until_present("Ann").await;
    assert!(failure(async { cluster.kill("a") }).await.contains("as the script says"));
}

type Cluster = TestCluster<Presence, NoFetch>;

async fn cluster() -> (Cluster, TestChannel, TestChannel) {
    let cluster = TestCluster::start(["a", "b", "c"], |pubsub| {
        let presence = Presence::builder(pubsub).start();
        (socket(&presence), presence)
    })
    .await;
    let (ann, bob) = (join(&cluster["a"], "Ann").await, join(&cluster["b"], "Bob").await);
    ann.until_present("Bob").await;
    bob.until_present("Ann").await;
    (cluster, ann, bob)
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_apart_miss_each_other_until_the_network_heals() {
    let (cluster, ann, bob) = cluster().await;
    let cid = join(&cluster["c"], "Cid").await;
    ann.until_present("Cid").await;
    cluster.partition(&[&["a"], &["b", "c"]]);
    assert_eq!(ann.expect_leave("Bob").await.reason, "unreachable");
    assert_eq!(bob.expect_leave("Ann").await.reason, "unreachable");
    assert_eq!(bob.until_present("Cid").await, cid.until_present("Cid").await);
    cluster.heal();
    ann.until_present("Bob").await;
    bob.until_present("Ann").await;
    cluster.settle(Duration::from_secs(5)).await;
    assert_eq!(ann.present(), bob.present());
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_found_missing() {
    let (cluster, ann, _bob) = cluster().await;
    cluster.lose("b", "a", 1);
    let began = Instant::now();
    let _dan = join(&cluster["b"], "Dan").await;
    ann.until_present("Dan").await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(100) && took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_killed_is_missed_and_one_that_is_drained_is_not() {
    let (mut cluster, ann, bob) = cluster().await;
    cluster.kill("b");
    assert_eq!(bob.client().expect_close().await, 1006);
    assert_eq!(ann.expect_leave("Bob").await.reason, "unreachable");
    bob.client().reconnect(&cluster["c"]).await.unwrap();
    ann.until_present("Bob").await;

    cluster.drain("a").await;
    assert_eq!(ann.client().expect_close().await, 1012);
    ann.client().reconnect(&cluster["c"]).await.unwrap();
    cluster.settle(Duration::from_mins(1)).await;
    bob.refute_leave("Ann").await;
    ann.client().close().await;
    assert!(failure(bob.refute_leave("Ann")).await.contains("\"Ann\" has left room:1"));

    cluster.add("a").ready().await.unwrap();
    assert_eq!(cluster.presence("a").count("room:1"), 1);
}
