//! The metrics of a node, and whether it is ready.

use std::time::Duration;

use adsum::{
    Channel, Depart, Health, JoinResult, Joined, Limits, NoFetch, NotReady, Presence, PubSub, Socket,
    SocketBuilder, Stop, Topic,
    metrics::{Buckets, HighWater, Sample, Value},
    testing::{TestCluster, TestServer},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::support::{Does, INTERVAL, Log, Meta, Script, diff, meta, plain, scripted};

#[derive(serde::Deserialize)]
struct Params {
    name: String,
}

struct Room(Presence<NoFetch<Meta>>, String);

impl Channel for Room {
    type App = Presence<NoFetch<Meta>>;
    type Params = Params;
    type Info = ();

    async fn join(app: &Self::App, _: &Topic, params: Params, _: &mut Socket) -> JoinResult<Self> {
        Ok(Joined::new(Self(app.clone(), params.name)))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.0.track(socket, self.1.as_str(), meta(1))?;
        Ok(self.0.push_state(socket).await?)
    }
}

/// The value of a series; of a histogram, how many values it has.
pub(crate) fn value(pubsub: &PubSub, name: &str, labels: &[&str]) -> f64 {
    let samples = pubsub.read_metrics();
    let is_it = |sample: &&Sample| {
        sample.metric.name == name && sample.labels.iter().map(|label| &**label).eq(labels.iter().copied())
    };
    let count = |count: u64| f64::from(u32::try_from(count).unwrap());
    match &samples.iter().find(is_it).unwrap_or_else(|| panic!("no {name} of {labels:?}")).value {
        Value::Count(value) => count(*value),
        Value::Gauge(value) => *value,
        Value::Buckets(buckets) => count(buckets.count()),
    }
}

/// The values of a histogram's series.
fn buckets(pubsub: &PubSub, name: &str, labels: &[&str]) -> Buckets {
    let samples = pubsub.read_metrics();
    let mut series = samples.into_iter().filter(|sample| {
        sample.metric.name == name && sample.labels.iter().map(|label| &**label).eq(labels.iter().copied())
    });
    match series.next().map(|sample| sample.value) {
        Some(Value::Buckets(buckets)) => buckets,
        other => panic!("{name} of {labels:?} is {other:?}"),
    }
}

fn assert_values(pubsub: &PubSub, values: &[(&str, &[&str], f64)]) {
    for (name, labels, expected) in values {
        let is = value(pubsub, name, labels);
        assert!((is - expected).abs() < 1e-9, "{name} {labels:?} is {is}");
    }
}

#[tokio::test(start_paused = true)]
async fn changes_of_presences_are_counted() {
    let pubsub = PubSub::local();
    let presence =
        Presence::builder(pubsub.clone()).meta::<Meta>().limits(Limits::default().key_bytes(9)).start();
    let server = TestServer::new(SocketBuilder::new(presence.clone()).channel::<Room>("room:*"), &presence);
    let ann = server.connect("").await.unwrap().join("room:1", json!({"name": "Ann"})).await.unwrap();
    let bob = server.connect("").await.unwrap().join("room:1", json!({"name": "Bob"})).await.unwrap();
    ann.until_present("Bob").await;
    let mut owner = presence.owner();
    owner.track("jobs", "x", meta(1)).unwrap();
    owner.update("jobs", "x", meta(2)).unwrap();
    assert!(owner.track("jobs", "a very long key", meta(1)).is_err());
    let p = "presence";
    assert_values(
        &pubsub,
        &[
            ("adsum_presences", &[p, "own"], 3.0),
            ("adsum_presences", &[p, "other"], 0.0),
            ("adsum_presence_topics", &[p], 2.0),
            ("adsum_topics", &[], 1.0),
            ("adsum_presence_changes_total", &[p, "joined"], 3.0),
            ("adsum_presence_changes_total", &[p, "updated"], 1.0),
            ("adsum_presence_changes_total", &[p, "left"], 0.0),
            ("adsum_limits_hit_total", &["key_bytes"], 1.0),
            ("adsum_state_bytes", &[p], 2.0),
            ("adsum_ready", &[p], 1.0),
            ("adsum_sockets", &["test"], 2.0),
            ("adsum_channels", &["room:*"], 2.0),
        ],
    );
    assert!(value(&pubsub, "adsum_bytes_sent_total", &[]) > value(&pubsub, "adsum_messages_sent_total", &[]));
    let samples = pubsub.read_metrics();
    let build = samples.iter().find(|sample| sample.metric.name == "adsum_build_info").unwrap();
    assert_eq!((&*build.labels[0], &build.value), (env!("CARGO_PKG_VERSION"), &Value::Gauge(1.0)));
    bob.leave().await;
    ann.expect_leave("Bob").await;
    owner.finish();
    assert_values(
        &pubsub,
        &[
            ("adsum_presences", &[p, "own"], 1.0),
            ("adsum_presence_leaves_total", &[p, "left"], 1.0),
            ("adsum_presence_leaves_total", &[p, "finished"], 1.0),
            ("adsum_presence_changes_total", &[p, "left"], 2.0),
            ("adsum_channels_left_total", &["room:*", "left"], 1.0),
            ("adsum_channels", &["room:*"], 1.0),
        ],
    );
    // Bob's join, and his leave, were told to Ann; each join was told to somebody.
    assert!(value(&pubsub, "adsum_diffs_total", &[p]) >= 2.0);
    assert!(value(&pubsub, "adsum_limit_high_water_ratio", &["presences_per_owner"]) > 0.0);
}

#[tokio::test(start_paused = true)]
async fn calls_of_fetch_are_counted_by_what_came_of_them() {
    let script = Script::new(Does::Fails);
    let (presence, pubsub) = scripted(&script, |builder| builder);
    let mut owner = presence.owner();
    for (key, does, result) in [
        ("7", Does::Answers(json!({"7": {"name": "Ann"}})), "ok"),
        ("8", Does::Fails, "failed"),
        ("9", Does::Panics, "panic"),
        ("10", Does::Hangs, "timeout"),
    ] {
        script.then(does);
        owner.track("room:1", key, meta(1)).unwrap();
        presence.get_by_key("room:1", key).await;
        assert_values(&pubsub, &[("adsum_fetches_total", &["presence", result], 1.0)]);
    }
    assert_values(
        &pubsub,
        &[("adsum_fetch_seconds", &["presence"], 4.0), ("adsum_fetch_keys", &["presence"], 4.0)],
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_counts_what_it_hears_of_others_and_forgets_nobody_too_soon() {
    let mut cluster = TestCluster::start(["a", "b"], |pubsub| {
        let presence = Presence::builder(pubsub).meta::<Meta>().start();
        (SocketBuilder::new(presence.clone()).channel::<Room>("room:*"), presence)
    })
    .await;
    let pubsub = PubSub::from(cluster.presence("a"));
    let mut owner = cluster.presence("b").owner();
    owner.track("room:1", "7", meta(1)).unwrap();
    cluster.settle(Duration::from_secs(2)).await;
    let p = "presence";
    assert_values(
        &pubsub,
        &[
            ("adsum_replicas", &[p, "up"], 2.0),
            ("adsum_replicas", &[p, "down"], 0.0),
            ("adsum_presences", &[p, "other"], 1.0),
            ("adsum_presences", &[p, "own"], 0.0),
            ("adsum_replica_behind", &[p, "b"], 0.0),
            ("adsum_replica_transitions_total", &[p, "up"], 1.0),
            ("adsum_batches_total", &[p, "in"], 1.0),
            ("adsum_batches_total", &[p, "out"], 0.0),
        ],
    );
    assert!(value(&pubsub, "adsum_replica_silent_seconds", &[p, "b"]) <= 2.0);
    cluster.kill("b");
    sleep(Duration::from_secs(8)).await;
    assert_values(
        &pubsub,
        &[
            ("adsum_replicas", &[p, "up"], 1.0),
            ("adsum_replicas", &[p, "down"], 1.0),
            ("adsum_presences", &[p, "other"], 0.0),
            ("adsum_presence_leaves_total", &[p, "unreachable"], 1.0),
            ("adsum_replica_transitions_total", &[p, "down"], 1.0),
        ],
    );
    assert!(value(&pubsub, "adsum_replica_silent_seconds", &[p, "b"]) >= 7.0);
}

#[tokio::test(start_paused = true)]
async fn the_delay_of_diffs_is_measured_with_an_interval_and_with_a_budget() {
    const DELAY: &str = "adsum_flush_delay_seconds";
    let p = &["presence"];
    let (presence, pubsub) = plain(|builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", 1, meta(1)).unwrap();
    diff(&mut inbox).await;
    sleep(INTERVAL / 5).await;
    owner.track("t", 2, meta(2)).unwrap();
    sleep(INTERVAL / 5).await;
    owner.track("t", 3, meta(3)).unwrap();
    diff(&mut inbox).await;
    assert_values(&pubsub, &[(DELAY, p, 2.0), ("adsum_coalesced_changes_total", p, 1.0)]);
    // From the first of the two changes to the end of the interval.
    let waited = buckets(&pubsub, DELAY, p).sum;
    assert!((waited - 0.8 * INTERVAL.as_secs_f64()).abs() < 0.002, "{waited}");

    let pubsub = PubSub::local();
    let presence = Presence::builder(pubsub.clone()).meta::<Meta>().start();
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", 1, meta(1)).unwrap();
    diff(&mut inbox).await;
    assert_values(&pubsub, &[(DELAY, p, 1.0)]);
}

#[test]
fn a_limit_is_logged_once_it_is_nearly_reached() {
    let (log, _guard) = Log::capture();
    let (option, fixed) = (HighWater::new("max_sockets", Some(10)), HighWater::fixed("inbox_bytes", 10));
    option.note(7);
    fixed.note(7);
    assert_eq!(log.text(), "");
    for value in [8, 9, 10] {
        option.note(value);
    }
    let text = log.text();
    assert_eq!(text.matches("a limit is nearly reached").count(), 1, "{text}");
    assert!(text.contains("raise the option") && text.contains("max_sockets"), "{text}");
    fixed.note_full();
    let text = &log.text()[text.len()..];
    assert!(
        text.contains("it is fixed") && text.contains("inbox_bytes") && !text.contains("raise"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_late_takes_snapshots() {
    let mut cluster = TestCluster::start(["a"], |pubsub| {
        let presence = Presence::builder(pubsub).meta::<Meta>().start();
        (SocketBuilder::new(presence.clone()).channel::<Room>("room:*"), presence)
    })
    .await;
    let mut owner = cluster.presence("a").owner();
    owner.track("room:1", 7, meta(0)).unwrap();
    // More versions than the log of a shard keeps.
    for n in 0..2000 {
        owner.update("room:1", 7, meta(n)).unwrap();
        sleep(Duration::from_millis(200)).await;
    }
    cluster.add("b").ready().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let (a, b) = (PubSub::from(cluster.presence("a")), PubSub::from(cluster.presence("b")));
    let p = "presence";
    assert_values(
        &a,
        &[("adsum_snapshots_total", &[p, "out"], 1.0), ("adsum_snapshots_total", &[p, "in"], 0.0)],
    );
    assert_values(&b, &[("adsum_snapshots_total", &[p, "in"], 1.0), ("adsum_snapshot_seconds", &[p], 1.0)]);
    assert_values(&b, &[("adsum_presences", &[p, "other"], 1.0)]);
}

#[tokio::test]
async fn connections_are_counted_with_those_that_are_refused_and_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = adsum::serve(listener, axum::Router::new());
    let serve = serve.max_connections(1).head_timeout(Duration::from_secs(1));
    tokio::spawn(async move { serve.until(std::future::pending()).await });
    // Other tests of this process may count in the same series.
    let pubsub = PubSub::local();
    let counts = || {
        ["adsum_connections", "adsum_connections_refused_total", "adsum_connections_timed_out_total"]
            .map(|name| value(&pubsub, name, &[]))
    };
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let mut nothing = Vec::new();
    let _ = second.read_to_end(&mut nothing).await;
    let [open, refused, _] = counts();
    assert!(open >= 1.0 && refused >= 1.0, "{open} {refused}");
    let _ = first.read_to_end(&mut nothing).await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while counts()[2] < 1.0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the connection that was cut off is counted");
}

#[tokio::test(start_paused = true)]
async fn topics_and_users_add_no_series() {
    add_no_series(100, 5000).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "takes a minute: make soak"]
async fn a_hundred_thousand_topics_and_users_add_no_series() {
    add_no_series(2000, 100_000).await;
}

/// Lets clients come, and tracks presences, each a user of their own in a topic of its own.
async fn add_no_series(clients: usize, presences: u32) {
    let pubsub = PubSub::local();
    let presence = Presence::builder(pubsub.clone()).meta::<Meta>().start();
    let server = TestServer::new(SocketBuilder::new(presence.clone()).channel::<Room>("room:*"), &presence);
    let visit = async |n: usize| {
        let client = server.connect(&format!("user={n}")).await.unwrap();
        let room = client.join(&format!("room:{n}"), json!({"name": n.to_string()})).await.unwrap();
        room.leave().await;
        client.close().await;
    };
    let series = || {
        pubsub
            .read_metrics()
            .into_iter()
            .map(|sample| (sample.metric.name, sample.labels))
            // HTTP servers of other tests, which begin and end meanwhile, have these.
            .filter(|(name, labels)| {
                *name != "adsum_connections" && labels.iter().all(|label| &**label != "max_connections")
            })
            .collect::<Vec<_>>()
    };
    visit(0).await;
    let before = series();
    for n in 1..clients {
        visit(n).await;
    }
    let mut owner = presence.owner();
    for n in 0..presences {
        owner.track(format!("topic:{n}"), format!("user:{n}"), meta(1)).unwrap();
        if n % 1000 == 999 {
            owner.untrack_all();
        }
    }
    assert!(value(&pubsub, "adsum_presence_changes_total", &["presence", "left"]) >= f64::from(presences));
    assert_eq!(series(), before);
}

#[tokio::test(start_paused = true)]
async fn a_node_is_ready_until_it_is_told_to_end() {
    let presence = Presence::builder(PubSub::local()).meta::<Meta>().start();
    let health = Health::new(&presence);
    assert_eq!(health.ready(), Err(NotReady::Starting));
    presence.ready().await.unwrap();
    assert_eq!(health.ready(), Ok(()));
    presence.announce();
    assert_eq!(health.ready(), Err(NotReady::Ending));
    // It is as well as before, and what it serves goes on.
    assert_eq!(presence.health(), Ok(()));
    assert_values(&PubSub::from(&presence), &[("adsum_ready", &["presence"], 0.0)]);
}
