//! A client of a test, and the task that carries its messages.

use std::{fmt, future::Future, panic::Location, sync::Arc, time::Duration};

use adsum_channels::{Acceptor, Client, Outgoing, Refusal, Wire};
use adsum_pubsub::tasks::{self, Task};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval_at},
};

use super::{
    client_log::{ClientLog, JoinState},
    frame::{self, Body},
};

/// How often phoenix.js sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The code that a transport closes with if it can make no sense of a message.
const BAD_MESSAGE_CODE: u16 = 1011;
/// The code that a client notes if its connection was lost without a close.
const LOST_CODE: u16 = 1006;

/// A client that has connected, as a page with phoenix.js would. Clones are the same client.
///
/// It reads whatever comes and sends heartbeats by itself. Events and replies wait until a test asks for them. With the
/// last clone and the last of its channels it goes away, as a closed tab does.
#[derive(Clone)]
pub struct TestClient(pub(super) Arc<TestPage>);

/// A channel has refused a client, from [`TestClient::join`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the join was refused: {response}")]
#[non_exhaustive]
pub struct JoinRefused {
    /// The response of the refusal.
    pub response: Value,
}

pub(super) struct TestPage {
    pub(super) log: Arc<ClientLog>,
    request: Request,
    connection: Mutex<Option<Connection>>,
}

/// The way to the task that carries the messages. When this is dropped the task ends its side in good order.
struct Connection {
    /// Unbounded: a test sends a handful of messages.
    orders: mpsc::UnboundedSender<Order>,
    reading: watch::Sender<Reading>,
    server: Arc<()>,
    task: Option<Task>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

enum Order {
    Text(String),
    Binary(Vec<u8>),
}

/// How a client treats its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Reads,
    /// Messages wait in the server's queue of its socket.
    Stopped,
    /// Nothing arrives at either side, and neither knows.
    Offline,
}

impl TestClient {
    /// A client that isn't connected yet.
    pub(super) fn new(log: ClientLog, request: Request) -> Self {
        Self(Arc::new(TestPage { log: Arc::new(log), request, connection: Mutex::new(None) }))
    }

    /// Waits until the connection has ended, and returns the code of its close. 1006 is a connection that was lost.
    #[track_caller]
    pub fn expect_close(&self) -> impl Future<Output = u16> + '_ {
        self.0.log.until("a close", Location::caller(), |state| state.closed)
    }

    /// Whether the connection has ended, as far as the client knows.
    pub fn is_closed(&self) -> bool {
        self.0.log.state.lock().closed.is_some()
    }

    /// Goes away as a closed tab does, and waits until the server has ended its channels.
    pub async fn close(&self) {
        let connection = self.0.connection.lock().take();
        if let Some(mut connection) = connection {
            let task = connection.task.take();
            drop(connection);
            if let Some(mut task) = task {
                task.ended().await;
            }
        }
        self.0.log.closed(1001);
    }

    /// Reads nothing from now on: what the server sends waits in its queue of this socket. Heartbeats go on. The server
    /// sends presence states again, or closes with 1013, as
    /// [`max_queue_bytes`](crate::SocketBuilder::max_queue_bytes) says.
    pub fn stop_reading(&self) {
        self.0.set_reading(Reading::Stopped);
    }

    /// Loses the network without a close: nothing arrives at either side. The server closes the socket once it
    /// was silent for its [`timeout`](crate::SocketBuilder::timeout).
    pub fn go_offline(&self) {
        self.0.set_reading(Reading::Offline);
    }

    /// Reads again after [`stop_reading`](Self::stop_reading) or [`go_offline`](Self::go_offline): all that has waited
    /// arrives, in order. A close may be among it.
    pub fn resume(&self) {
        self.0.set_reading(Reading::Reads);
    }

    /// Sends text as it is: for what no page sends.
    pub fn send(&self, text: impl Into<String>) {
        let text = text.into();
        self.0.send(Order::Text(text));
    }
}

impl fmt::Debug for TestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl TestPage {
    pub(super) async fn connect(&self, acceptor: &Acceptor, server: Arc<()>) -> Result<(), Refusal> {
        let client = acceptor.accept("test", self.request.parts()).await?;
        let (orders, ordered) = mpsc::unbounded_channel();
        let (reading, reads) = watch::channel(Reading::Reads);
        self.log.note("connected");
        self.log.state.lock().closed = None;
        let task = tasks::spawn("test client", carry(client, ordered, reads, self.log.clone()));
        *self.connection.lock() = Some(Connection { orders, reading, server, task: Some(task) });
        Ok(())
    }

    /// Connects anew, and joins all again that was joined.
    pub(super) async fn reconnect(
        &self,
        acceptor: &Acceptor,
        server: Arc<()>,
        at: &'static Location<'static>,
    ) -> Result<(), Refusal> {
        drop(self.connection.lock().take());
        self.connect(acceptor, server).await?;
        let joined: Vec<String> = self.log.state.lock().topics.keys().cloned().collect();
        for topic in joined {
            let before = self.log.state.lock().topics.remove(&topic);
            let Some(before) = before else { continue };
            if let Err(refused) = self.join(&topic, before.params, before.roster, at).await {
                self.log.fail(&format!("{topic} can't be joined again: {}", refused.response), at);
            }
            if let Some(topic) = self.log.state.lock().topics.get_mut(&topic) {
                let heard = std::mem::replace(&mut topic.inbox, before.inbox);
                topic.inbox.extend(heard);
            }
        }
        Ok(())
    }

    /// Joins, and returns the server's response.
    pub(super) async fn join(
        &self,
        topic: &str,
        params: Value,
        roster: super::roster::Roster,
        at: &'static Location<'static>,
    ) -> Result<Value, JoinRefused> {
        let join_ref = self.log.next_ref();
        let text = frame::text(Some(&join_ref), &join_ref, topic, "phx_join", &params);
        let state = JoinState { join_ref: join_ref.clone(), params, inbox: [].into(), end: None, roster };
        self.log.state.lock().topics.insert(topic.to_owned(), state);
        self.send(Order::Text(text));
        let expected = format!("the reply to the join of {topic}");
        let (status, body) = self.log.until(&expected, at, |state| state.replies.remove(&join_ref)).await;
        let response = match body {
            Body::Json(response) => response,
            Body::Binary(bytes) => Value::String(frame::describe_binary(&bytes)),
        };
        if status == "ok" {
            return Ok(response);
        }
        self.log.state.lock().topics.remove(topic);
        Err(JoinRefused { response })
    }

    pub(super) fn send_text(&self, text: String) {
        self.send(Order::Text(text));
    }

    pub(super) fn send_binary(&self, bytes: Vec<u8>) {
        self.send(Order::Binary(bytes));
    }

    fn send(&self, order: Order) {
        if let Some(connection) = &*self.connection.lock() {
            // An error: the connection has ended, and what a client sends then is lost.
            let _ = connection.orders.send(order);
        }
    }

    fn set_reading(&self, reading: Reading) {
        self.log.note(match reading {
            Reading::Reads => "reads again",
            Reading::Stopped => "reads nothing from now on",
            Reading::Offline => "is offline",
        });
        if let Some(connection) = &*self.connection.lock() {
            connection.reading.send_replace(reading);
        }
    }

    /// Whether the client is connected to this server, and not to another one since.
    pub(super) fn is_of(&self, server: &Arc<()>) -> bool {
        self.connection.lock().as_ref().is_some_and(|connection| Arc::ptr_eq(&connection.server, server))
    }

    /// The connection is lost, and the server's side of it is gone: its node was killed.
    pub(super) fn lose(&self) {
        if let Some(mut connection) = self.connection.lock().take() {
            // Dropped, it is aborted.
            drop(connection.task.take());
            self.log.closed(LOST_CODE);
        }
    }
}

/// Carries messages between a client and the server, until one of them ends the connection.
async fn carry(
    mut client: Client,
    mut orders: mpsc::UnboundedReceiver<Order>,
    mut reading: watch::Receiver<Reading>,
    log: Arc<ClientLog>,
) {
    let mut beat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    // Messages that have arrived while the client was offline.
    let mut held = Vec::new();
    loop {
        let mode = *reading.borrow_and_update();
        let (is_online, may_send) = (mode != Reading::Offline, client.is_ready());
        if is_online {
            for outgoing in held.drain(..) {
                arrive(&log, outgoing);
            }
        }
        let outgoing = async {
            match mode {
                Reading::Stopped => client.next_unread().await,
                Reading::Reads | Reading::Offline => client.next().await,
            }
        };
        tokio::select! {
            biased;
            // An error: the client has gone away.
            changed = reading.changed() => if changed.is_err() {
                break;
            },
            outgoing = outgoing => {
                let ends = matches!(outgoing, Outgoing::Close(_));
                if is_online { arrive(&log, outgoing) } else { held.push(outgoing) }
                if ends {
                    break;
                }
            },
            order = orders.recv(), if is_online && may_send => {
                let Some(order) = order else { break };
                if !send(&mut client, &order, &log) {
                    log.closed(BAD_MESSAGE_CODE);
                    break;
                }
            }
            _ = beat.tick(), if is_online && may_send => {
                let beat = frame::text(None, "heartbeat", "phoenix", "heartbeat", &serde_json::json!({}));
                send(&mut client, &Order::Text(beat), &log);
            }
        }
    }
    client.end().await;
    // A client that was offline hears of the end when it is back.
    if !held.is_empty() && reading.wait_for(|reading| *reading != Reading::Offline).await.is_ok() {
        for outgoing in held {
            arrive(&log, outgoing);
        }
    }
}

fn send(client: &mut Client, order: &Order, log: &ClientLog) -> bool {
    let message = match order {
        Order::Text(text) => {
            log.note(&format!("-> {text}"));
            Wire::Text(text.as_bytes())
        }
        Order::Binary(bytes) => {
            log.note(&format!("-> {}", frame::describe_binary(bytes)));
            Wire::Binary(bytes)
        }
    };
    client.receive(message).is_ok()
}

fn arrive(log: &ClientLog, outgoing: Outgoing) {
    match outgoing {
        Outgoing::Text(text) => log.heard_text(&text),
        Outgoing::Binary(bytes) => log.heard_binary(&bytes),
        Outgoing::Close(code) => log.closed(code),
        Outgoing::Nothing => {}
    }
}

/// The request of a client, also for when it connects again.
#[derive(Clone, Debug)]
pub(super) struct Request(pub(super) http::request::Parts);

impl Request {
    pub(super) fn new(params: &str) -> Self {
        let separator = if params.is_empty() { "" } else { "&" };
        let request = http::Request::get(format!("/websocket?vsn=2.0.0{separator}{params}"));
        let request = request.header(http::header::HOST, "localhost").body(());
        Self(request.expect("parameters are the query of a URI").into_parts().0)
    }

    fn parts(&self) -> http::request::Parts {
        self.0.clone()
    }
}
