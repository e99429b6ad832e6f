//! The memory held by clients that don't read. A program of its own, since it measures the whole process.

// A test that can't go on fails.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use adsum::{
    Channel, JoinError, Joined, NoFetch, NoParams, Presence, PubSub, Socket, SocketBuilder, Sockets, Stop,
    Topic,
};
use futures_util::SinkExt;
use serde_json::{Map, json};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
};
use tokio_tungstenite::{client_async, tungstenite::Message};

const MIB: usize = 1024 * 1024;
/// A state has 6.4 MB, of which the kernel buffers at most 4 MB.
const PRESENCES: usize = 800;
const META_BYTES: usize = 7_900;
const STATE_BYTES: usize = 7 * MIB;
/// Their states would take 640 MB.
const JOINERS: usize = 100;
const MAX_TOTAL: usize = 48 * MIB;

struct App {
    presence: Presence<NoFetch>,
    /// Notified of each state that was pushed.
    pushed: mpsc::UnboundedSender<()>,
}

struct Room(Arc<App>);

impl Channel for Room {
    type App = Arc<App>;
    type Params = NoParams;
    type Info = ();

    async fn join(app: &Arc<App>, _: &Topic, _: NoParams, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self(app.clone())))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.0.presence.push_state(socket).await?;
        let _ = self.0.pushed.send(());
        Ok(())
    }
}

fn meta(n: usize) -> Map<String, serde_json::Value> {
    Map::from_iter([("n".to_owned(), json!(n)), ("x".to_owned(), json!("x".repeat(META_BYTES)))])
}

/// Returns the memory of the process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joiners_of_a_large_state_that_do_not_read_hold_no_more_than_the_total() {
    let presence: Presence<NoFetch> =
        Presence::builder(PubSub::local()).diff_interval(Duration::ZERO).start();
    let sockets = Sockets::new();
    let (pushed, mut states) = mpsc::unbounded_channel();
    let socket = SocketBuilder::new(Arc::new(App { presence: presence.clone(), pushed }))
        .channel::<Room>("room:*")
        .sockets(&sockets)
        .max_total_queue_bytes(MAX_TOTAL)
        .state_timeout(Duration::from_hours(1));
    let site = axum::Router::new().nest("/socket", socket.into_router(&presence));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, site).await });
    let mut owner = presence.owner();
    for n in 0..PRESENCES {
        owner.track("room:a", format!("k{n}"), meta(n)).unwrap();
    }

    let mut clients = Vec::new();
    let (mut before, mut most) = (0, 0);
    let mut keys: Vec<_> = (0..PRESENCES).map(|n| format!("k{n}")).collect();
    keys.sort();
    for n in 0..JOINERS {
        // Each state differs in all its pieces, and so does each diff.
        for key in keys.iter().skip(n % 32).step_by(32) {
            owner.update("room:a", key.as_str(), meta(PRESENCES + n)).unwrap();
        }
        let stream = TcpSocket::new_v4().unwrap();
        stream.set_recv_buffer_size(4096).unwrap();
        let stream = stream.connect(address).await.unwrap();
        let url = "ws://localhost/socket/websocket?vsn=2.0.0";
        let (mut client, _) = client_async(url, stream).await.unwrap();
        client.send(Message::text(r#"["1","1","room:a","phx_join",{}]"#)).await.unwrap();
        clients.push(client);
        states.recv().await.unwrap();
        // Each worker may be about to free what is over the limit.
        let queued = sockets.queued_bytes();
        assert!(queued <= MAX_TOTAL + 2 * STATE_BYTES, "{queued} bytes wait");
        // The first state allocates some memory once, whatever the number of clients.
        if n == 0 {
            before = resident();
        }
        most = most.max(resident());
    }
    // The last ones still wait, and the first ones are closed.
    let settled = async {
        while sockets.queued_bytes() < MAX_TOTAL / 2 || sockets.len() > JOINERS / 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_mins(1), settled).await;
    let (queued, open) = (sockets.queued_bytes(), sockets.len());
    assert!(settled.is_ok(), "{queued} bytes wait in {open} sockets");
    assert!(sockets.queued_bytes() <= MAX_TOTAL);
    // Three times as much, since the allocator keeps some freed memory.
    let held = most - before.min(most);
    assert!(held < 4 * MAX_TOTAL, "the joiners hold {} MiB", held / MIB);
    println!("{} MiB of {} MiB that may wait", held / MIB, MAX_TOTAL / MIB);
}
