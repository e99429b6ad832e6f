//! A ready server: limits on what a client may hold open, and an orderly end.

mod accept;
mod activity;
mod body;
mod connection;
mod options;
mod signal;
mod site;

use std::{
    fmt,
    future::{Future, IntoFuture},
    io,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{OptionsError, tasks};
use axum::Router;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{accept::Acceptance, options::Options, site::Site};
pub(crate) use self::{activity::WatchedStream, site::unanswered};
pub use self::{
    options::{
        DEFAULT_BODY_TIMEOUT, DEFAULT_HEAD_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_MAX_CONNECTIONS,
        DEFAULT_MAX_HEAD_BYTES, DEFAULT_REQUEST_GRACE, MIN_BODY_RATE,
    },
    signal::termination,
};
use crate::{Drain, Sockets};

/// Serves a site over HTTP/1.1 until it is told to end, and ends it in good order.
///
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// # use adsum_channels as adsum;
/// use adsum::{PubSub, SocketBuilder};
///
/// let socket = SocketBuilder::new(());
/// let site = axum::Router::new().nest("/socket", socket.into_router(PubSub::local()));
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:4000").await?;
/// adsum::serve(listener, site).await
/// # }
/// ```
///
/// See [`Serve`] for its limits, and for what it does at the end.
pub fn serve(listener: TcpListener, site: Router) -> Serve {
    Serve {
        listener,
        site,
        options: Options::default(),
        sockets: Sockets::new(),
        departing: Vec::new(),
        drain: Drain::default(),
        until: None,
    }
}

/// A server that [`serve`] has made. Await it to run it.
///
/// # Limits
///
/// Plain `axum::serve` waits for a client as long as the client likes. This server closes a connection whose request
/// head, request body or next request doesn't come in time, or that takes nothing of its answer. A request that is being
/// answered has no such limit, so a long poll is held as long as its handler holds it, and a WebSocket has the limits of
/// its [`SocketBuilder`](crate::SocketBuilder). The number of connections has a limit, as has the size of a head; a head
/// of more than 100 headers is answered with 431, one without a `Host` with 400. Once the process has no file
/// descriptors left, the log says so, and accepting goes on as soon as there are some.
///
/// Requests carry `ConnectInfo<SocketAddr>`, so [`Connect::peer`](crate::Connect::peer) is there.
///
/// # The end
///
/// Once the [signal](Self::until) comes, the server stops listening, so that a balancer sends new clients elsewhere.
/// Then, at the same time:
///
/// - the sockets are [drained](Self::drain) with 1012; what is to leave with them ([`presence`](Self::presence)) leaves;
/// - requests in flight are answered, within the [`request_grace`](Self::request_grace).
///
/// A client that asks for a new socket meanwhile, over a connection that it has already, sees that connection close
/// without an answer: a balancer asks the next node then.
#[must_use = "a server runs once it is awaited"]
pub struct Serve {
    listener: TcpListener,
    site: Router,
    options: Options,
    sockets: Sockets,
    departing: Vec<Arc<dyn Depart>>,
    drain: Drain,
    until: Option<BoxFuture<'static, ()>>,
}

/// Something that leaves when a server ends, as the presences of a node do. `adsum::Presence` implements it.
pub trait Depart: Send + Sync + 'static {
    /// The server's sockets are about to be closed.
    fn departing(&self);

    /// The server's sockets are closed.
    fn depart(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl Serve {
    /// Ends the server once this future resolves. Default: [`termination`], SIGTERM or ctrl-c.
    pub fn until(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Some(signal.boxed());
        self
    }

    /// Has a presence leave in good order when the server ends: its presences stay for the handoff, so that clients
    /// that come back on another node were never gone. Several presences may be named.
    pub fn presence<P: Depart + Clone>(mut self, presence: &P) -> Self {
        self.departing.push(Arc::new(presence.clone()));
        self
    }

    /// Takes note of all sockets of this server in `sockets`, by which they can be counted. Sockets of transports of the
    /// program's own are drained with the server if their builder has the same `sockets`.
    pub fn sockets(mut self, sockets: &Sockets) -> Self {
        self.sockets = sockets.clone();
        self
    }

    /// How the sockets are closed when the server ends.
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// How long requests in flight may take once the server ends. Default 10 s.
    pub fn request_grace(mut self, grace: Duration) -> Self {
        self.options.request_grace = grace;
        self
    }

    /// How long the head of a request may take, from its first byte, or from the beginning of the connection. Default
    /// 20 s.
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.options.head_timeout = timeout;
        self
    }

    /// How long a handler waits for the body of a request. Default 30 s. A body that comes gains the time of
    /// [`MIN_BODY_RATE`], so a large one over a slow line has the time that it needs.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.options.body_timeout = timeout;
        self
    }

    /// How long a connection may rest between an answer and the next request, and how long a client may take nothing of
    /// an answer. Default 75 s: longer than the 60 s for which most proxies keep a connection.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = timeout;
        self
    }

    /// The longest head of a request, in bytes. Default 16 KiB. A longer one is answered with 431.
    pub fn max_head_bytes(mut self, bytes: usize) -> Self {
        self.options.max_head_bytes = bytes;
        self
    }

    /// How many connections may be open, sockets included. Default 100,000. Beyond, new ones are closed without an
    /// answer.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.options.max_connections = connections;
        self
    }

    /// Checks the options, which running the server does as well.
    ///
    /// # Errors
    /// An option is out of its bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.options.check()?;
        self.drain.check()
    }

    async fn run(self) -> io::Result<()> {
        self.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let Self { listener, site, options, sockets, departing, drain, until } = self;
        let mut until = until.unwrap_or_else(|| termination().boxed());
        let grace = options.request_grace;
        let places = Arc::new(Semaphore::new(options.max_connections));
        let site = Site::new(site, sockets.clone());
        let (options, ending) = (Arc::new(options), CancellationToken::new());
        let mut connections = JoinSet::new();
        let mut acceptance = Acceptance::new(listener, places);
        loop {
            tokio::select! {
                () = &mut until => break,
                Some(_) = connections.join_next() => {}
                (stream, peer, place) = acceptance.next() => {
                    let ending = ending.child_token();
                    let serve = connection::serve(stream, peer, place, site.clone(), options.clone(), ending);
                    tasks::spawn_in(&mut connections, "http connection", serve);
                }
            }
        }
        tracing::info!(sockets = sockets.len(), connections = connections.len(), "the server ends");
        drop(acceptance);
        sockets.refuse_new();
        ending.cancel();
        let left = async {
            for presence in &departing {
                presence.departing();
            }
            let left_open = sockets.drain(drain).await;
            for presence in departing {
                presence.depart().await;
            }
            left_open
        };
        let answered = async {
            let _ = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
            connections.len()
        };
        let (sockets_left, requests_left) = tokio::join!(left, answered);
        if sockets_left + requests_left > 0 {
            tracing::warn!(
                sockets_left,
                requests_left,
                "the server has ended with clients that it had to cut off"
            );
        }
        Ok(())
    }
}

impl IntoFuture for Serve {
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
