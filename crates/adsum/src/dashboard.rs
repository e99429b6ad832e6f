//! A page for operators: which nodes there are, who is where, and why.
//!
//! [`dashboard`] makes it a router, to be mounted behind the program's own login:
//!
//! ```
//! # use axum::{Router, extract::Request, http::StatusCode, middleware::{self, Next}, response::Response};
//! # use adsum::{Presence, PubSub};
//! async fn operators_only(request: Request, next: Next) -> Result<Response, StatusCode> {
//!     // The program's own: a session, a header of the proxy.
//!     let is_operator = request.headers().get("x-role").is_some_and(|role| role == "operator");
//!     if is_operator { Ok(next.run(request).await) } else { Err(StatusCode::FORBIDDEN) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let presence = Presence::builder(PubSub::local()).start();
//! let dashboard = adsum::dashboard(&presence).into_router().layer(middleware::from_fn(operators_only));
//! let site: Router = Router::new().nest("/ops/presence", dashboard);
//! # }
//! ```
//!
//! It shows one cluster from any node, as the nodes ask each other. While nobody looks at it, it does nothing.

mod assets;
mod console;
mod sampling;
mod topics;

use std::{fmt, sync::Arc};

use adsum_channels::{ParamFilter, SocketBuilder, Sockets};
use adsum_pubsub::{PubSub, tasks::Task};
use axum::{Router, middleware};

use self::console::Console;
use crate::{handler::PresenceHandler, loopback, presence::Presence};

/// The page for operators of a presence. It shows what the presence has, to whoever reaches it: mount it behind a login.
/// See the [module](self).
pub fn dashboard<H: PresenceHandler>(presence: &Presence<H>) -> Dashboard<H> {
    Dashboard {
        presence: presence.clone(),
        sockets: None,
        allows_disconnect: false,
        is_loopback: false,
        filter: ParamFilter::default(),
    }
}

/// The page for operators, to be made a router; from [`dashboard`].
pub struct Dashboard<H: PresenceHandler> {
    presence: Presence<H>,
    sockets: Option<Sockets>,
    allows_disconnect: bool,
    is_loopback: bool,
    filter: ParamFilter,
}

impl<H: PresenceHandler> Dashboard<H> {
    /// Shows how many sockets this node has, and how many bytes wait for them.
    #[must_use]
    pub fn sockets(mut self, sockets: &Sockets) -> Self {
        self.sockets = Some(sockets.clone());
        self
    }

    /// Lets whoever looks at the page disconnect sockets by their ids, on all nodes. Off by default.
    #[must_use]
    pub fn allow_disconnect(mut self) -> Self {
        self.allows_disconnect = true;
        self
    }

    /// Says which members of metas aren't shown. Default: those whose names contain `password`, `token` or `secret`. The
    /// messages of a socket are filtered by [`SocketBuilder::filter_params`] of its node.
    #[must_use]
    pub fn filter(mut self, filter: ParamFilter) -> Self {
        self.filter = filter;
        self
    }

    /// For a listener on 127.0.0.1 that has no login: answers requests only that are sent to `localhost`, `127.0.0.1` or
    /// `[::1]`, and of pages only those of these hosts. Any other site may let a name of its own point to this machine (DNS
    /// rebinding), and is refused by that name. The address of the peer is no sign: behind a proxy on the same machine it
    /// is a loopback address too.
    ///
    /// Whoever can run a program on the machine can look.
    #[must_use]
    pub fn loopback_only(mut self) -> Self {
        self.is_loopback = true;
        self
    }

    /// The router: the page at `/`, its parts beside it, its socket below `/live`.
    ///
    /// # Panics
    /// Called outside of a tokio runtime.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let is_loopback = self.is_loopback;
        let topics = PubSub::local();
        let visitors = Presence::builder(topics.clone()).name("dashboard").start();
        let board = Arc::new(Board {
            presence: self.presence,
            sockets: self.sockets,
            allows_disconnect: self.allows_disconnect,
            filter: self.filter,
            visitors,
            topics: topics.clone(),
        });
        let sampler = Arc::new(sampling::start(&board));
        let socket = SocketBuilder::new(App { board, sampler }).channel::<Console<H>>(console::TOPIC);
        let socket = if is_loopback { socket.host(loopback::NAMES) } else { socket };
        let router = assets::router().nest("/live", socket.into_router(topics));
        if is_loopback { router.layer(middleware::from_fn(loopback::check)) } else { router }
    }
}

impl<H: PresenceHandler> fmt::Debug for Dashboard<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("presence", &self.presence)
            .field("allows_disconnect", &self.allows_disconnect)
            .field("is_loopback", &self.is_loopback)
            .finish_non_exhaustive()
    }
}

/// The state that all pages share.
struct Board<H: PresenceHandler> {
    presence: Presence<H>,
    sockets: Option<Sockets>,
    allows_disconnect: bool,
    filter: ParamFilter,
    /// The pages that look.
    visitors: Presence,
    /// The topics of the pages: not those of the program, whose names would get in the way.
    topics: PubSub,
}

/// The state of the channels.
struct App<H: PresenceHandler> {
    board: Arc<Board<H>>,
    /// Ends with the last clone of the router.
    sampler: Arc<Task>,
}

impl<H: PresenceHandler> Clone for App<H> {
    fn clone(&self) -> Self {
        Self { board: self.board.clone(), sampler: self.sampler.clone() }
    }
}
