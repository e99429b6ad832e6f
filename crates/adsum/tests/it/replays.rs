//! A recorder on the engine that records all messages of the nodes, and replays them.

use std::{collections::BTreeSet, time::Duration};

use adsum::{NoFetch, NotReady, Owner, Presence, PubSub};
use adsum_pubsub::bus::{Bus, Recorded};
use tokio::time::sleep;

use crate::{
    server::{Kind, Server},
    support::meta,
};

/// Longer than a message counts as fresh.
const STALE: Duration = Duration::from_millis(5_200);
const SECOND: Duration = Duration::from_secs(1);

struct Node {
    presence: Presence,
    pubsub: PubSub,
    owner: Owner<NoFetch>,
}

async fn node(bus: &Bus, name: &str) -> Node {
    let pubsub = bus.node(name).await;
    let presence = Presence::builder(pubsub.clone()).diff_interval(Duration::ZERO).start();
    let owner = presence.owner();
    Node { presence, pubsub, owner }
}

impl Node {
    fn track(&mut self, key: &str) {
        self.owner.track("room", key, meta(1)).unwrap();
    }

    async fn keys(&self) -> BTreeSet<String> {
        self.presence.list("room").await.keys().map(ToString::to_string).collect()
    }
}

fn keys(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// Returns a fixed order that looks random.
fn shuffled<R: Clone>(recorded: &[R]) -> Vec<R> {
    let mut shuffled = recorded.to_vec();
    let mut random = 7_usize;
    for n in (1..shuffled.len()).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        shuffled.swap(n, (random >> 33) % (n + 1));
    }
    shuffled
}

/// Replays everything, in order and shuffled, for some seconds.
async fn replay(bus: &Bus, recorded: &[Recorded]) {
    for order in [recorded.to_vec(), shuffled(recorded)] {
        for pieces in order.chunks(order.len() / 10 + 1) {
            for said in pieces {
                bus.replay(said);
            }
            sleep(SECOND / 3).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_recording_of_a_whole_cluster_changes_no_list() {
    let bus = Bus::default();
    let (mut a, mut b, mut dead) = (node(&bus, "a").await, node(&bus, "b").await, node(&bus, "dead").await);
    let _ = tokio::join!(a.presence.ready(), b.presence.ready(), dead.presence.ready());
    a.track("anna");
    b.track("bea");
    dead.track("dora");
    a.track("gone");
    sleep(SECOND).await;
    assert_eq!(b.keys().await, keys(&["anna", "bea", "dora", "gone"]));
    a.owner.untrack("room", "gone");
    // One node dies without a message, another is killed and restarted.
    drop(dead);
    drop(a);
    sleep(Duration::from_secs(4)).await;
    let mut a = node(&bus, "a").await;
    let _ = a.presence.ready().await;
    a.track("ada");
    sleep(STALE).await;
    let expected = keys(&["ada", "bea"]);
    assert_eq!((a.keys().await, b.keys().await), (expected.clone(), expected.clone()));

    let recorded = bus.recorded();
    let new = node(&bus, "new").await;
    let _ = new.presence.ready().await;
    let (mut on_a, mut on_b) = (a.pubsub.subscribe("room"), b.pubsub.subscribe("room"));
    for _ in 0..3 {
        replay(&bus, &recorded).await;
        for node in [&a, &b, &new] {
            assert_eq!(node.keys().await, expected);
        }
    }
    assert!(on_a.try_recv().is_none() && on_b.try_recv().is_none(), "nobody is told of anything");
}

#[tokio::test(start_paused = true)]
async fn messages_from_dead_nodes_change_nothing_in_a_new_cluster() {
    let bus = Bus::default();
    let mut dead = node(&bus, "dead").await;
    let _ = dead.presence.ready().await;
    dead.track("alice");
    sleep(SECOND).await;
    drop(dead);
    sleep(SECOND).await;
    let recorded = bus.recorded();
    let (a, mut b) = (node(&bus, "a").await, node(&bus, "b").await);
    b.track("bea");
    replay(&bus, &recorded).await;
    let _ = tokio::join!(a.presence.ready(), b.presence.ready());
    replay(&bus, &recorded).await;
    assert_eq!((a.keys().await, b.keys().await), (keys(&["bea"]), keys(&["bea"])));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_an_earlier_run_does_not_evict_a_node() {
    let bus = Bus::default();
    let (a, b) = (node(&bus, "a").await, node(&bus, "b").await);
    let _ = tokio::join!(a.presence.ready(), b.presence.ready());
    sleep(2 * SECOND).await;
    drop(a);
    let recorded = bus.recorded();
    sleep(SECOND).await;
    let mut a = node(&bus, "a").await;
    a.track("anna");
    // From its very start on.
    for _ in 0..3 {
        replay(&bus, &recorded).await;
    }
    let _ = a.presence.ready().await;
    assert_eq!((a.keys().await, b.keys().await), (keys(&["anna"]), keys(&["anna"])));
    replay(&bus, &recorded).await;
    assert_eq!(b.keys().await, keys(&["anna"]));
}

#[tokio::test(start_paused = true)]
async fn a_twin_beside_a_live_node_displaces_nobody() {
    let bus = Bus::default();
    let (mut a, b) = (node(&bus, "a").await, node(&bus, "b").await);
    let _ = tokio::join!(a.presence.ready(), b.presence.ready());
    a.track("anna");
    sleep(SECOND).await;
    let mut twin = node(&bus, "a").await;
    twin.track("tina");
    let _ = twin.presence.ready().await;
    for _ in 0..10 {
        sleep(SECOND).await;
        assert_eq!(b.keys().await, keys(&["anna"]));
    }
    assert!(matches!(twin.presence.health(), Err(NotReady::DuplicateNode(_))));
    // Once it is alone, it is a node like any other.
    drop(a);
    sleep(5 * SECOND).await;
    assert_eq!(twin.presence.health(), Ok(()));
    assert_eq!(b.keys().await, keys(&["tina"]));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_heard_once() {
    let bus = Bus::default();
    let (a, b) = (node(&bus, "a").await, node(&bus, "b").await);
    let mut inbox = b.pubsub.subscribe("chat");
    sleep(SECOND).await;
    a.pubsub.broadcast("chat", "once", ()).unwrap();
    a.pubsub.direct_broadcast("b", "chat", "direct", ()).unwrap();
    sleep(SECOND).await;
    let recorded = bus.recorded();
    for _ in 0..5 {
        replay(&bus, &recorded).await;
    }
    let mut heard = Vec::new();
    while let Some(message) = inbox.try_recv() {
        heard.push(message.unwrap().event().to_owned());
    }
    assert_eq!(heard, ["once", "direct"]);
}

/// As [`a_recording_of_a_whole_cluster_changes_no_list`], on a real engine and in real time.
async fn a_recording_changes_no_list_on(kind: Kind) {
    let server = Server::start(kind);
    let spy = server.spy();
    let start = async |name: &str| {
        let pubsub = server.node(name).await;
        let presence = Presence::builder(pubsub.clone()).diff_interval(Duration::ZERO).start();
        let owner = presence.owner();
        Node { presence, pubsub, owner }
    };
    let (mut a, mut b, mut dead) = (start("a").await, start("b").await, start("dead").await);
    let _ = tokio::join!(a.presence.ready(), b.presence.ready(), dead.presence.ready());
    a.track("anna");
    b.track("bea");
    dead.track("dora");
    a.track("gone");
    lists(&b, &["anna", "bea", "dora", "gone"]).await;
    a.owner.untrack("room", "gone");
    lists(&b, &["anna", "bea", "dora"]).await;
    // One dies without a message, another is killed and restarted.
    drop(dead);
    drop(a);
    lists(&b, &["bea"]).await;
    let mut a = start("a").await;
    let _ = a.presence.ready().await;
    a.track("ada");
    lists(&b, &["ada", "bea"]).await;
    sleep(STALE).await;

    let recorded = spy.recorded();
    let new = start("new").await;
    let _ = new.presence.ready().await;
    let expected = keys(&["ada", "bea"]);
    assert_eq!(new.keys().await, expected);
    let (mut on_a, mut on_b) = (a.pubsub.subscribe("room"), b.pubsub.subscribe("room"));
    for order in [recorded.clone(), shuffled(&recorded)] {
        for pieces in order.chunks(order.len() / 5 + 1) {
            spy.replay(pieces);
            // Longer than an accepted message needs to show.
            sleep(SECOND / 2).await;
            for node in [&a, &b, &new] {
                assert_eq!(node.keys().await, expected);
            }
        }
    }
    assert!(on_a.try_recv().is_none() && on_b.try_recv().is_none(), "nobody is told of anything");
}

/// Waits until a node lists these keys.
async fn lists(node: &Node, expected: &[&str]) {
    let expected = keys(expected);
    let listed = async {
        while node.keys().await != expected {
            sleep(SECOND / 50).await;
        }
    };
    let in_time = tokio::time::timeout(20 * SECOND, listed).await;
    assert!(in_time.is_ok(), "{:?} are listed", node.keys().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_changes_no_list_on_nats() {
    a_recording_changes_no_list_on(Kind::Nats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_changes_no_list_on_redis() {
    a_recording_changes_no_list_on(Kind::Redis).await;
}
