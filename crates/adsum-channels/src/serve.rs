//! A ready HTTP server with limits per client and a graceful shutdown.

mod accept;
mod activity;
mod body;
mod connection;
mod options;
mod signal;
mod site;

use std::{
    fmt,
    future::{Future, IntoFuture, ready},
    io,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{
    OptionsError,
    bounds::{MAX_TIME, within},
    tasks,
};
use axum::Router;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    accept::{Acceptance, ConnectionCount},
    options::ServeOptions,
    site::Site,
};
pub(crate) use self::{activity::WatchedStream, site::unanswered};
pub use self::{
    options::{
        DEFAULT_BODY_TIMEOUT, DEFAULT_HEAD_TIMEOUT, DEFAULT_IDLE_TIMEOUT, DEFAULT_MAX_CONNECTIONS,
        DEFAULT_MAX_HEAD_BYTES, DEFAULT_REQUEST_GRACE, MIN_BODY_RATE,
    },
    signal::termination,
};
use crate::sockets::{Drain, Sockets};

/// Serves a site over HTTP/1.1 until a signal, then shuts down gracefully.
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
/// See [`Serve`] for its limits and its shutdown.
pub fn serve(listener: TcpListener, site: Router) -> Serve {
    Serve {
        listener,
        site,
        options: ServeOptions::default(),
        sockets: Sockets::new(),
        departing: Vec::new(),
        drain: Drain::default(),
        until: None,
        drain_delay: Duration::ZERO,
        is_counted: true,
    }
}

/// A server from [`serve`]. Await it to run it.
///
/// # Limits
///
/// Plain `axum::serve` waits for slow clients without a limit. This server closes a connection whose request head,
/// request body or next request doesn't arrive in time, or whose client doesn't read the response. A request has no
/// limit while its handler runs, so a long poll lasts as long as its handler, and a WebSocket has the limits of its
/// [`SocketBuilder`](crate::SocketBuilder). The number of connections and the size of a head are limited; a head with
/// more than 100 headers gets a 431, one without a `Host` a 400. If the process has no file descriptors left, the
/// server logs it, and continues to accept connections once there are some.
///
/// Requests have `ConnectInfo<SocketAddr>`, so [`Connect::peer`](crate::Connect::peer) works.
///
/// # Shutdown
///
/// On the [signal](Self::until), or once the [`drain_delay`](Self::drain_delay) after it is over, the server stops
/// listening, so that a load balancer sends new clients to other nodes. Then, concurrently:
///
/// - the sockets are [drained](Self::drain) with 1012, and [presences](Self::presence) leave;
/// - requests in flight are answered within the [`request_grace`](Self::request_grace).
///
/// At last the `PubSub` of each of these presences is [closed](adsum_pubsub::PubSub::close), so that the other nodes get
/// what was broadcast up to then.
///
/// If a client requests a new socket meanwhile over an open connection, the connection is closed without a response, so
/// that a load balancer tries the next node.
#[must_use = "a server runs once it is awaited"]
pub struct Serve {
    listener: TcpListener,
    site: Router,
    options: ServeOptions,
    sockets: Sockets,
    departing: Vec<Arc<dyn Depart>>,
    drain: Drain,
    until: Option<BoxFuture<'static, ()>>,
    drain_delay: Duration,
    is_counted: bool,
}

/// Something that leaves when a server shuts down, like the presences of a node. `adsum::Presence` implements it.
pub trait Depart: Send + Sync + 'static {
    /// Called before the server is told to end. It still takes clients, but should be sent no more.
    fn announce(&self) {}

    /// The server's sockets are closed.
    fn departing(&self);

    /// Called once the server's sockets are closed.
    fn depart(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Called last: the server has answered its requests, too, or their time is over.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }
}

impl Serve {
    /// Shuts the server down once this future resolves. Default: [`termination`], SIGTERM or ctrl-c.
    pub fn until(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.until = Some(signal.boxed());
        self
    }

    /// Makes a presence leave gracefully when the server shuts down: its presences stay for the handoff, so that
    /// clients that reconnect to another node never appear to leave. May be called for several presences.
    ///
    /// Its `PubSub` is closed with the server: what the program broadcasts after that stays on this node. If several
    /// servers share it, give the presence to the one that ends last.
    pub fn presence<P: Depart + Clone>(mut self, presence: &P) -> Self {
        self.departing.push(Arc::new(presence.clone()));
        self
    }

    /// Adds all sockets of this server to `sockets`, for example to count them. Sockets of custom transports are
    /// drained with the server if their builder has the same `sockets`.
    pub fn sockets(mut self, sockets: &Sockets) -> Self {
        self.sockets = sockets.clone();
        self
    }

    /// Sets how the sockets are closed when the server shuts down.
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Sets how long the server goes on as before once it is told to end, while its presences say that the node isn't
    /// ready (`adsum::Health`). Default zero; at most a day. As long as a balancer takes to notice: then it sends no
    /// client here that is refused.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.drain_delay = delay;
        self
    }

    /// Leaves its connections out of the metrics: it serves the operator.
    #[doc(hidden)]
    pub fn uncounted(mut self) -> Self {
        self.is_counted = false;
        self
    }

    /// How long requests in flight may take once the server shuts down. Default 10 s.
    pub fn request_grace(mut self, grace: Duration) -> Self {
        self.options.request_grace = grace;
        self
    }

    /// Sets the timeout for the head of a request, from its first byte, or from the start of the connection. Default 20
    /// s.
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.options.head_timeout = timeout;
        self
    }

    /// Sets how long a handler waits for the body of a request. Default 30 s. Arriving bytes extend it according to
    /// [`MIN_BODY_RATE`], so a large body over a slow line has enough time.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.options.body_timeout = timeout;
        self
    }

    /// Sets how long a connection may be idle between a response and the next request, and how long a client may read
    /// nothing of a response. Default 75 s: longer than the 60 s for which most proxies keep a connection.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = timeout;
        self
    }

    /// Sets the maximum size of a request's head, in bytes. Default 16 KiB. A larger one gets a 431.
    pub fn max_head_bytes(mut self, bytes: usize) -> Self {
        self.options.max_head_bytes = bytes;
        self
    }

    /// Sets the maximum number of open connections, including sockets. Default 100,000. Beyond it, new connections are
    /// closed without a response.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.options.max_connections = connections;
        self
    }

    /// Checks the options, as running the server does first.
    ///
    /// # Errors
    /// An option is out of its bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.options.check()?;
        within("drain_delay", self.drain_delay, Duration::ZERO, MAX_TIME)?;
        self.drain.check()
    }

    async fn run(self) -> io::Result<()> {
        self.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let Self { listener, site, options, sockets, departing, drain, until, drain_delay, is_counted } =
            self;
        let told = until.unwrap_or_else(|| termination().boxed());
        let announced = departing.clone();
        let mut until = Box::pin(async move {
            told.await;
            for presence in &announced {
                presence.announce();
            }
            if !drain_delay.is_zero() {
                tracing::info!(?drain_delay, "the server is told to end, and isn't ready any more");
                sleep(drain_delay).await;
            }
        });
        let grace = options.request_grace;
        let places = Arc::new(Semaphore::new(options.max_connections));
        let counted = ConnectionCount::new(places.clone(), options.max_connections, is_counted);
        let site = Site::new(site, sockets.clone());
        let (options, ending) = (Arc::new(options), CancellationToken::new());
        let mut connections = JoinSet::new();
        let mut acceptance = Acceptance::new(listener, places, counted);
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
        tracing::info!(
            sockets = sockets.len(),
            connections = connections.len(),
            "the server is shutting down"
        );
        drop(acceptance);
        sockets.refuse_new();
        ending.cancel();
        let left = async {
            for presence in &departing {
                presence.departing();
            }
            let left_open = sockets.drain(drain).await;
            for presence in &departing {
                presence.depart().await;
            }
            left_open
        };
        let answered = async {
            let _ = timeout(grace, async { while connections.join_next().await.is_some() {} }).await;
            connections.len()
        };
        let (sockets_left, requests_left) = tokio::join!(left, answered);
        join_all(departing.iter().map(|presence| presence.close())).await;
        if sockets_left + requests_left > 0 {
            tracing::warn!(
                sockets_left,
                requests_left,
                "the server has shut down, and cut off clients that did not end in time"
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
