//! A server without a network.

use std::{
    fmt::{self, Write as _},
    future::{Future, IntoFuture},
    panic::Location,
    pin::Pin,
    sync::{Arc, Weak, atomic::Ordering},
    thread,
    time::Duration,
};

use adsum_channels::{Acceptor, Depart, Drain, Refusal, SocketBuilder};
use adsum_pubsub::PubSub;
use adsum_tracker::Key;
use http::{HeaderValue, header::IntoHeaderName};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::{
    client::{Request, TestClient, TestPage},
    client_log::{ClientLog, Shared},
};
use crate::{failed_fetches::FailedFetch, handler::PresenceHandler, presence::Presence};

/// A program's socket and presence, to which a test connects clients.
///
/// Dropped, it fails the test if a `fetch` has failed or has timed out, unless
/// [`allow_failed_fetches`](Self::allow_failed_fetches) was called.
pub struct TestServer {
    pub(super) acceptor: Acceptor,
    pub(super) shared: Arc<Shared>,
    presences: Vec<Box<dyn Watched>>,
    clients: Mutex<Vec<Weak<TestPage>>>,
    /// Names it.
    pub(super) id: Arc<()>,
    allows_failed_fetches: bool,
}

/// A presence, whatever its types.
trait Watched: Depart {
    fn failed_fetches(&self) -> Vec<FailedFetch>;
}

impl<H: PresenceHandler> Watched for Presence<H> {
    fn failed_fetches(&self) -> Vec<FailedFetch> {
        self.core.failed_fetches.all()
    }
}

impl TestServer {
    /// Serves a program's socket, built as for its router, on the topics of a presence.
    pub fn new<App: Clone + Send + Sync + 'static, H: PresenceHandler>(
        socket: SocketBuilder<App>,
        presence: &Presence<H>,
    ) -> Self {
        Self::without_presence(socket, PubSub::from(presence)).presence(presence)
    }

    /// Serves a program's socket that has no presence.
    pub fn without_presence<App: Clone + Send + Sync + 'static>(
        socket: SocketBuilder<App>,
        pubsub: PubSub,
    ) -> Self {
        Self {
            acceptor: socket.into_acceptor(pubsub),
            shared: Arc::default(),
            presences: Vec::new(),
            clients: Mutex::default(),
            id: Arc::default(),
            allows_failed_fetches: false,
        }
    }

    /// Drains another presence with the server, and looks whether its `fetch` fails.
    #[must_use]
    pub fn presence<H: PresenceHandler>(mut self, presence: &Presence<H>) -> Self {
        self.presences.push(Box::new(presence.clone()));
        self
    }

    /// Has a `fetch` that fails not fail the test.
    #[must_use]
    pub fn allow_failed_fetches(mut self) -> Self {
        self.allowing_failed_fetches();
        self
    }

    /// How long a test waits for what it expects before it fails. Default [`DEFAULT_PATIENCE`](super::DEFAULT_PATIENCE)
    /// (10 s), of paused time or of real time.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        *self.shared.patience.lock() = patience;
        self
    }

    pub(super) fn allowing_failed_fetches(&mut self) {
        self.allows_failed_fetches = true;
    }

    pub(super) fn sharing(mut self, shared: &Arc<Shared>) -> Self {
        self.shared = shared.clone();
        self
    }

    /// Connects a client with these parameters, as a query such as `user_id=7&dev=1`. Await what is returned, after
    /// adding headers and extensions, if the program's `connect` looks at them.
    ///
    /// ```
    /// # use adsum::testing::TestServer;
    /// # async fn test(server: TestServer) -> Result<(), adsum::Refusal> {
    /// let ann = server.connect("user_id=7").await?;
    /// let bob = server.connect("").header("cookie", "session=8").await?;
    /// assert!(server.connect("user_id=nobody").await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(&self, params: &str) -> Connecting<'_> {
        Connecting { server: self, request: Request::new(params) }
    }

    /// Drains the server as at a deploy: its sockets are closed with 1012, and its presences are handed over.
    pub async fn drain(&self) {
        for presence in &self.presences {
            presence.departing();
        }
        self.acceptor.sockets().drain(Drain::default()).await;
        for presence in &self.presences {
            presence.depart().await;
        }
    }

    /// Waits until no client hears anything for `quiet`. In paused time nothing can run then, and no timer that is due
    /// within `quiet` makes a client hear something.
    ///
    /// # Panics
    /// The clients of this server, or of its cluster, hear something all the time.
    pub async fn settle(&self, quiet: Duration) {
        settle(&self.shared, quiet).await;
    }

    pub(super) fn took_in(&self, client: &TestClient) {
        self.clients.lock().push(Arc::downgrade(&client.0));
    }

    /// Loses the connections of all clients.
    pub(super) fn lose_clients(&self) {
        for client in self.clients.lock().drain(..) {
            if let Some(client) = client.upgrade().filter(|client| client.is_of(&self.id)) {
                client.lose();
            }
        }
    }

    fn failed_fetches(&self) -> String {
        let failed: Vec<FailedFetch> =
            self.presences.iter().flat_map(|presence| presence.failed_fetches()).collect();
        let mut text = String::new();
        for FailedFetch { topic, keys, error, .. } in &failed {
            let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
            write!(text, "\n  topic {topic}, keys {keys:?}: {error}").expect("a string takes all");
        }
        if failed.iter().any(|failed| failed.paused) {
            text.push_str(
                "\n  Time is paused, so it passes at once while a database works in a thread of its own: fetch_timeout, \
                 too. Run a test with such a database in real time (`#[tokio::test]` without `start_paused`).",
            );
        }
        text
    }
}

pub(super) async fn settle(shared: &Shared, quiet: Duration) {
    let patience = (*shared.patience.lock()).max(quiet * 10);
    let settled = timeout(patience, async {
        loop {
            let heard = shared.heard.load(Ordering::Relaxed);
            sleep(quiet).await;
            if shared.heard.load(Ordering::Relaxed) == heard {
                return;
            }
        }
    });
    assert!(settled.await.is_ok(), "clients still hear something every {quiet:?}, after {patience:?}");
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !self.allows_failed_fetches && !thread::panicking() {
            let failed = self.failed_fetches();
            assert!(failed.is_empty(), "fetch has failed; `allow_failed_fetches` if it is meant to:{failed}");
        }
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("sockets", &self.acceptor.sockets().len()).finish_non_exhaustive()
    }
}

/// A client that is about to connect, from [`TestServer::connect`]. Await it.
#[derive(Debug)]
pub struct Connecting<'s> {
    server: &'s TestServer,
    request: Request,
}

impl Connecting<'_> {
    /// Adds a header to the request, such as a cookie or an origin.
    ///
    /// # Panics
    /// The value can't stand in a header.
    #[must_use]
    pub fn header(mut self, name: impl IntoHeaderName, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("the value can stand in a header");
        self.request.0.headers.append(name, value);
        self
    }

    /// Adds what a layer around the router would leave with the request: a session, or axum's `ConnectInfo`.
    #[must_use]
    pub fn extension(mut self, extension: impl Clone + Send + Sync + 'static) -> Self {
        self.request.0.extensions.insert(extension);
        self
    }
}

impl<'s> IntoFuture for Connecting<'s> {
    type Output = Result<TestClient, Refusal>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 's>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { server, request } = self;
        Box::pin(async move {
            let client = TestClient::new(ClientLog::new(server.shared.clone()), request);
            client.0.connect(&server.acceptor, server.id.clone()).await?;
            server.took_in(&client);
            Ok(client)
        })
    }
}

impl TestClient {
    /// Connects anew, as phoenix.js does by itself, and joins every channel again that wasn't left. The channels of the
    /// test go on with it.
    ///
    /// A connection that is still open is given up first: the server sees its end, and no more.
    ///
    /// # Errors
    /// The client is refused.
    ///
    /// # Panics
    /// A channel refuses to be joined again.
    #[track_caller]
    pub fn reconnect(&self, server: &TestServer) -> impl Future<Output = Result<(), Refusal>> {
        let at = Location::caller();
        let (client, acceptor, id) = (self.clone(), server.acceptor.clone(), server.id.clone());
        server.took_in(self);
        async move { client.0.reconnect(&acceptor, id, at).await }
    }
}
