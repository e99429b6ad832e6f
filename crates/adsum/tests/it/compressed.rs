//! States and diffs for clients that accept compression, over a real socket. Some of them keep their inflater between
//! messages, and others reset it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use adsum::{Presence, PubSub, SocketBuilder};
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    channels::{Client, connect, connect_over, serve_socket},
    deflating::{Inflater, Seen, noise, translate},
    slow::Folded,
    support::{Script, meta},
    told::Hall,
};

/// A client, its view, and the compressed messages that it got.
struct Viewer {
    client: Client,
    folded: Folded,
    seen: Seen,
    /// The text of its first state.
    state: String,
}

impl Viewer {
    async fn join(address: SocketAddr, key: &str, is_kept: bool) -> Self {
        let seen = Seen::default();
        let stream = TcpStream::connect(address).await.unwrap();
        let client = connect_over(translate(stream, Inflater::new(is_kept).noting(&seen))).await;
        Self::joined(client, seen, key).await
    }

    async fn plain(address: SocketAddr, key: &str) -> Self {
        Self::joined(connect(address).await, Seen::default(), key).await
    }

    async fn joined(mut client: Client, seen: Seen, key: &str) -> Self {
        client.send(&json!(["1", "1", "hall", "phx_join", {"key": key}]).to_string()).await;
        let mut viewer = Self { client, folded: Folded::default(), seen, state: String::new() };
        while viewer.folded.states == 0 {
            viewer.read().await;
        }
        viewer
    }

    async fn read(&mut self) {
        let (event, payload) = self.client.event().await;
        if event == "presence_state" && self.folded.states == 0 {
            self.state = payload.to_string();
        }
        self.folded.take(&event, &payload);
    }

    async fn read_until(&mut self, expected: &BTreeMap<String, Vec<String>>) {
        while self.folded.view != *expected {
            self.read().await;
        }
    }
}

async fn start(pubsub: &PubSub, interval: u64) -> (Presence<Script>, SocketAddr) {
    let presence = Presence::builder(pubsub.clone())
        .handler(Script::answering(json!({"name": "Ann"})))
        .diff_interval(Duration::from_millis(interval))
        .start();
    let socket = SocketBuilder::new(presence.clone()).channel::<Hall>("hall").compress_over(512);
    let address = serve_socket(socket, pubsub).await;
    (presence, address)
}

async fn listed(presence: &Presence<Script>) -> BTreeMap<String, Vec<String>> {
    let refs =
        |entry: &adsum::Entry<Script>| entry.metas.iter().map(|meta| meta.reference.to_string()).collect();
    presence.list("hall").await.iter().map(|(key, entry)| (key.to_string(), refs(entry))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_of_many_pieces_are_compressed_once_with_own_rows_in_them() {
    let pubsub = PubSub::local();
    let (presence, address) = start(&pubsub, 20).await;
    let mut owner = presence.owner();
    for n in 0..960 {
        owner.track("hall", format!("u{n:04}"), meta(n)).unwrap();
    }
    let mut viewers = vec![Viewer::plain(address, "plain").await];
    let expected = listed(&presence).await;
    viewers[0].read_until(&expected).await;
    // A key before all others, two between them, one of them that was told, and one after them.
    for (n, key) in ["a", "u0250a", "u0100", "z", "b"].into_iter().enumerate() {
        let viewer = Viewer::join(address, key, n % 2 == 0).await;
        let len: usize = viewer.seen.lock().iter().map(Vec::len).sum();
        assert!(len < viewer.state.len() / 3, "{len} of {}", viewer.state.len());
        viewers.push(viewer);
        owner.update("hall", format!("u{:04}", 90 * n), meta(n)).unwrap();
    }
    // Most of the pieces of a state are those of the state before it.
    for pair in viewers[1..].windows(2) {
        let [first, second] = [&pair[0], &pair[1]].map(|viewer| viewer.seen.lock()[0].clone());
        let is_in_second = |sample: &[u8]| second.windows(sample.len()).any(|window| window == sample);
        let samples: Vec<bool> = first.chunks_exact(100).map(is_in_second).collect();
        let alike = samples.iter().filter(|alike| **alike).count();
        assert!(alike > samples.len() / 2, "{alike} of {}", samples.len());
    }
    let expected = listed(&presence).await;
    for viewer in &mut viewers {
        viewer.read_until(&expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_of_few_people_who_say_much_is_compressed_as_well() {
    let pubsub = PubSub::local();
    let (presence, address) = start(&pubsub, 20).await;
    let mut owner = presence.owner();
    for key in ["bob", "carol", "dave", "eve"] {
        owner.track("hall", key, meta("what is said again and again ".repeat(100))).unwrap();
    }
    let mut plain = Viewer::plain(address, "plain").await;
    let expected = listed(&presence).await;
    plain.read_until(&expected).await;
    let mut viewer = Viewer::join(address, "ann", true).await;
    let len = viewer.seen.lock()[0].len();
    assert!(len < viewer.state.len() / 3, "{len} of {}", viewer.state.len());
    let expected = listed(&presence).await;
    viewer.read_until(&expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diffs_are_compressed_once_also_for_those_who_get_part_of_them() {
    let pubsub = PubSub::local();
    let (presence, address) = start(&pubsub, 100).await;
    let mut owner = presence.owner();
    let mut viewers = vec![Viewer::plain(address, "plain").await];
    for round in 0..4 {
        for n in 0..300 {
            owner.track("hall", format!("{round}-{n}"), meta(n)).unwrap();
        }
        viewers.push(Viewer::join(address, &format!("{round}-own"), round % 2 == 0).await);
        if round > 0 {
            for n in 0..300 {
                owner.untrack("hall", format!("{}-{n}", round - 1));
            }
        }
    }
    let expected = listed(&presence).await;
    for viewer in &mut viewers {
        viewer.read_until(&expected).await;
        assert!(viewer.folded.states == 1);
    }
    // Each has heard of its own row now.
    for n in 0..200 {
        owner.track("hall", format!("last-{n}"), meta(n)).unwrap();
    }
    let expected = listed(&presence).await;
    for viewer in &mut viewers {
        viewer.read_until(&expected).await;
    }
    let last = |viewer: &Viewer| viewer.seen.lock().last().cloned();
    assert!(last(&viewers[1]).is_some());
    assert!(viewers[2..].iter().all(|viewer| last(viewer) == last(&viewers[1])), "the same bytes are sent");
}

/// More than the kernel and the streams between hold, beside our own queue.
const MANY: usize = 2_200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_is_sent_the_state_again() {
    let pubsub = PubSub::local();
    let presence = Presence::builder(pubsub.clone())
        .handler(Script::answering(json!({"name": "Ann"})))
        .diff_interval(Duration::ZERO)
        .start();
    let socket = SocketBuilder::new(presence.clone())
        .channel::<Hall>("hall")
        .compress_over(512)
        .max_queue_bytes(200_000)
        // However long the slow one says and reads nothing.
        .without_ping()
        .timeout(None)
        .state_timeout(Duration::from_mins(30));
    let address = serve_socket(socket, &pubsub).await;
    let (mut slow, mut fast) =
        (Viewer::join(address, "slow", true).await, Viewer::join(address, "fast", false).await);
    let mut owner = presence.owner();
    for n in 0..30 {
        owner.track("hall", format!("k{n:02}"), meta(n)).unwrap();
    }
    for _ in 0..MANY {
        owner.update("hall", "k07", meta(noise(8_000))).unwrap();
        let expected = listed(&presence).await;
        fast.read_until(&expected).await;
    }
    let expected = listed(&presence).await;
    slow.read_until(&expected).await;
    assert!(slow.folded.states > 1, "the diffs would have taken more room than there is");
    assert_eq!(fast.folded.states, 1);
    owner.untrack("hall", "k07");
    let expected = listed(&presence).await;
    for viewer in [&mut slow, &mut fast] {
        viewer.read_until(&expected).await;
    }
}
