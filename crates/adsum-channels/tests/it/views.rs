//! Views of a slow client.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use adsum_channels::{
    Channel, DEFAULT_STATE_TIMEOUT, JoinError, Joined, Json, Mark, Message, NoParams, Payload, PubSub, Reply,
    Socket, SocketBuilder, Sockets, Stop, SubscriberId, Topic, View, ViewState, Wire,
};
use futures_util::SinkExt;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;

use crate::{
    client::Client,
    deflating::noise,
    longpoll,
    room::App,
    server::{Server, Transport},
    transport,
};

/// An increasing number, and the topic of its changes.
struct Board {
    topic: String,
    number: Mutex<u64>,
    sender: SubscriberId,
    /// The approximate size of its state in bytes.
    state_len: usize,
}

/// All boards by topic, since a channel only gets its topic.
static BOARDS: Mutex<Vec<Arc<Board>>> = Mutex::new(Vec::new());

/// More than the kernel buffers for a connection, in addition to our own queue.
const MANY: u64 = 400;
const MAX_QUEUE: usize = 500_000;

/// Text that compression makes little smaller.
static NOISE: LazyLock<String> = LazyLock::new(|| noise(50_000));

impl Board {
    fn new() -> Arc<Self> {
        Self::with_state_of(0)
    }

    fn with_state_of(state_len: usize) -> Arc<Self> {
        let mut boards = BOARDS.lock();
        let topic = format!("board:{}", boards.len());
        let sender = SubscriberId::unique();
        let board = Arc::new(Self { topic, number: Mutex::new(0), sender, state_len });
        boards.push(board.clone());
        board
    }

    fn mark(&self, number: u64) -> Mark {
        Mark { sender: self.sender, number }
    }

    /// Changes the number, and broadcasts a large change.
    fn change(&self, pubsub: &PubSub) {
        let mut number = self.number.lock();
        *number += 1;
        let change = self.told(*number, &NOISE);
        drop(number);
        pubsub.deliver(change);
    }

    fn told(&self, n: u64, why: &str) -> Message {
        let payload = Json::encode(&json!({"n": n, "why": why})).unwrap();
        Message::new(&*self.topic, "changed", payload.into()).marked(self.mark(n))
    }
}

struct BoardView(Arc<Board>);

impl View for BoardView {
    fn state(&self) -> ViewState {
        let n = *self.0.number.lock();
        let why: String = NOISE.chars().cycle().take(self.0.state_len).collect();
        let payload = Json::encode(&json!({"n": n, "why": why})).unwrap();
        ViewState { messages: vec![("state", payload.into())], seen: self.0.mark(n) }
    }
}

struct Watching(Arc<Board>);

impl Channel for Watching {
    type App = Arc<App>;
    type Params = NoParams;
    type Info = ();

    async fn join(
        _: &Arc<App>,
        topic: &Topic,
        _: NoParams,
        _: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        let board = BOARDS.lock().iter().find(|board| board.topic == **topic).cloned();
        Ok(Joined::new(Self(board.expect("the test has made it"))))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        Ok(socket.show(BoardView(self.0.clone()))?)
    }

    async fn handle_in(&mut self, event: &str, _: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        if event == "show" {
            socket.show(BoardView(self.0.clone()))?;
        }
        Ok(Reply::ok(json!({})))
    }
}

/// A client that checks that it gets every change that no state contains.
struct Watcher {
    client: Client,
    number: u64,
    states: usize,
}

impl Watcher {
    async fn join(server: &Server, board: &Board) -> Self {
        let mut client = server.client().await;
        client.join(&board.topic, "1").await;
        let mut watcher = Self { client, number: 0, states: 0 };
        watcher.read().await;
        assert_eq!(watcher.states, 1);
        watcher
    }

    /// Reads one frame, and returns its event.
    async fn read(&mut self) -> String {
        let frame = self.client.frame().await;
        let n = frame[4]["n"].as_u64();
        match frame[3].as_str().unwrap() {
            "state" => {
                assert!(n.unwrap() >= self.number, "a state is as new as all before it");
                self.number = n.unwrap();
                self.states += 1;
            }
            "changed" => {
                assert_eq!(n.unwrap(), self.number + 1, "no change is missing, and none comes twice");
                self.number = n.unwrap();
            }
            _ => {}
        }
        frame[3].as_str().unwrap().to_owned()
    }
}

async fn start(transport: Transport) -> (Server, Arc<Board>) {
    let configure = |socket: SocketBuilder<Arc<App>>| {
        // On a slow machine, a client that reads late isn't pinged, nor taken for silent.
        socket.max_queue_bytes(MAX_QUEUE).without_ping().timeout(None).channel::<Watching>("board:*")
    };
    (Server::start_with(transport, configure).await, Board::new())
}

async fn a_client_that_reads_again_is_shown_the_state_and_others_see_no_delay(transport: Transport) {
    let (server, board) = start(transport).await;
    let (mut slow, mut fast) = (Watcher::join(&server, &board).await, Watcher::join(&server, &board).await);
    for n in 1..=MANY {
        board.change(&server.pubsub);
        fast.read().await;
        assert_eq!(fast.number, n);
    }
    while slow.number < MANY {
        slow.read().await;
    }
    assert!(slow.states > 1, "the changes would have taken more room than there is");
    // The kernel may have accepted more whenever its buffer grew.
    if transport == Transport::Duplex {
        assert_eq!(slow.states, 2);
    }
    board.change(&server.pubsub);
    for watcher in [&mut slow, &mut fast] {
        assert_eq!((watcher.read().await, watcher.number), ("changed".to_owned(), MANY + 1));
        watcher.client.expect_nothing().await;
    }
    assert_eq!(fast.states, 1);
}

async fn messages_before_the_changes_are_kept(transport: Transport) {
    let (server, board) = start(transport).await;
    let mut slow = Watcher::join(&server, &board).await;
    for n in 0..MANY {
        board.change(&server.pubsub);
        if n % 100 == 0 {
            server.pubsub.broadcast(&*board.topic, "said", json!(n)).unwrap();
        }
    }
    let mut said = Vec::new();
    while slow.number < MANY || said.len() < 4 {
        let frame = slow.client.frame().await;
        match frame[3].as_str().unwrap() {
            "said" => said.push(frame[4].clone()),
            _ => slow.number = frame[4]["n"].as_u64().unwrap(),
        }
    }
    assert_eq!(said, [0, 100, 200, 300]);
}

async fn a_state_that_is_owed_ends_with_its_subscription(transport: Transport) {
    let (server, board) = start(transport).await;
    let mut slow = Watcher::join(&server, &board).await;
    for _ in 0..MANY {
        board.change(&server.pubsub);
    }
    slow.client.send(&json!(["1", "9", board.topic, "phx_leave", {}]).to_string()).await;
    while server.pubsub.subscribers(&board.topic) > 0 {
        tokio::task::yield_now().await;
    }
    while slow.read().await != "phx_close" {}
    assert!(slow.number < MANY, "the state is no longer sent");
    slow.client.expect_nothing().await;
}

async fn a_state_shown_again_is_not_owed_any_more(transport: Transport) {
    let (server, board) = start(transport).await;
    let mut slow = Watcher::join(&server, &board).await;
    for _ in 0..MANY {
        board.change(&server.pubsub);
    }
    slow.client.send(&json!(["1", "9", board.topic, "show", {}]).to_string()).await;
    while slow.read().await != "phx_reply" {}
    let states = slow.states;
    assert_eq!(slow.number, MANY);
    slow.client.expect_nothing().await;
    assert_eq!(slow.states, states);
}

async fn a_change_that_the_state_contains_is_not_sent(transport: Transport) {
    let (server, board) = start(transport).await;
    *board.number.lock() = 7;
    let mut watcher = Watcher::join(&server, &board).await;
    (5..=8).for_each(|n| server.pubsub.deliver(board.told(n, "late")));
    watcher.read().await;
    assert_eq!(watcher.number, 8);
    watcher.client.expect_nothing().await;
}

async fn a_state_that_is_not_read_in_time_closes_its_socket_whatever_heartbeats_come(transport: Transport) {
    let sockets = Sockets::new();
    let configure = |socket: SocketBuilder<Arc<App>>| {
        socket
            .channel::<Watching>("board:*")
            .sockets(&sockets)
            .state_timeout(Duration::from_millis(200))
            .shutdown_grace(Duration::from_millis(50))
    };
    let server = Server::start_with(transport, configure).await;
    // More than the kernel buffers for a connection.
    let board = Board::with_state_of(24 * 1024 * 1024);
    let mut client = server.client().await;
    client.join(&board.topic, "1").await;
    assert_eq!(sockets.len(), 1);
    let closed = async {
        while !sockets.is_empty() {
            // Ignore the error: it may be closing.
            let _ = client.0.send(tungstenite::Message::text(r#"[null,"b","phoenix","heartbeat",{}]"#)).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("the socket is closed");
    assert_eq!(sockets.queued_bytes(), 0);
}

async fn a_client_that_reads_its_large_state_stays(transport: Transport) {
    let configure = |socket: SocketBuilder<Arc<App>>| {
        socket
            .max_queue_bytes(MAX_QUEUE)
            .channel::<Watching>("board:*")
            .state_timeout(Duration::from_mins(10))
    };
    let server = Server::start_with(transport, configure).await;
    let board = Board::with_state_of(8 * 1024 * 1024);
    let mut watcher = Watcher::join(&server, &board).await;
    for n in 1..=3 {
        board.change(&server.pubsub);
        assert_eq!((watcher.read().await, watcher.number), ("changed".to_owned(), n));
    }
    watcher.client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_that_is_owed_a_state_is_sent_it_at_once() {
    let server =
        longpoll::Server::start_with(|socket| socket.max_queue_bytes(200_000).channel::<Watching>("board:*"));
    let board = Board::new();
    let client = server.open("2.0.0").await;
    client.post(json!(["1", "1", board.topic, "phx_join", {}]).to_string()).await;
    let mut shown = client.messages().await;
    while shown.len() < 2 {
        shown.extend(client.messages().await);
    }
    assert_eq!(shown[1][3], "state");
    for _ in 0..10 {
        board.change(&server.pubsub);
    }
    // The changes exceed the queue, so only the state is left to send.
    let start = Instant::now();
    let messages = client.messages().await;
    let last = messages.last().unwrap();
    assert_eq!((&last[3], &last[4]["n"]), (&json!("state"), &json!(10)));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_late_with_a_large_change_that_gave_way_to_its_state() {
    let (acceptor, pubsub, _log) = transport::start(|socket| {
        socket.max_queue_bytes(10_000).timeout(None).channel::<Watching>("board:*")
    });
    let mut client = transport::accept(&acceptor).await;
    let board = Board::new();
    let join = json!(["1", "1", board.topic, "phx_join", {}]).to_string();
    client.receive(Wire::Text(join.as_bytes())).unwrap();
    for event in ["phx_reply", "state"] {
        assert_eq!(transport::text(&mut client).await[3], event);
    }
    // Larger than the queue, and not read before something else comes.
    board.change(&pubsub);
    pubsub.broadcast(&*board.topic, "said", json!(1)).unwrap();
    for event in ["said", "state"] {
        assert_eq!(transport::text(&mut client).await[3], event);
    }
    pubsub.broadcast(&*board.topic, "said", json!(2)).unwrap();
    let unread = tokio::time::timeout(2 * DEFAULT_STATE_TIMEOUT, client.next_unread());
    assert!(unread.await.is_err(), "a small frame may wait as long as the client likes");
    assert_eq!(transport::text(&mut client).await[3], "said");
}

mod unread {
    use super::a_state_that_is_not_read_in_time_closes_its_socket_whatever_heartbeats_come;

    over_both!(a_state_that_is_not_read_in_time_closes_its_socket_whatever_heartbeats_come);
}

over_all!(
    a_client_that_reads_its_large_state_stays,
    a_client_that_reads_again_is_shown_the_state_and_others_see_no_delay,
    messages_before_the_changes_are_kept,
    a_state_that_is_owed_ends_with_its_subscription,
    a_state_shown_again_is_not_owed_any_more,
    a_change_that_the_state_contains_is_not_sent,
);
