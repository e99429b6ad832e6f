//! From channels to a router.

use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use adsum_pubsub::{OptionsError, Pattern, PubSub, tasks::TaskGroup};
use axum::{Router, response::IntoResponse};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue};
use tracing::Level;

use crate::{
    Acceptor, Assigns, Channel, Connect, Observer, ParamFilter, Refusal, Refused, SecretTooShort, Serializer,
    Sockets, Tokens,
    address::TrustedProxies,
    endpoint::{ConnectFn, Endpoint, EndpointOwner, OnRefused},
    longpoll::LongPoll,
    observe::Watch,
    options::{Options, Ping},
    origin::{Origins, OwnHost, Pattern as OriginPattern, Rule},
    outbound::Budget,
    quota::Quota,
    runtime::Route,
    serializer::{Codec, V1, V2},
};

/// Says which clients may connect and which channels they can join, and becomes a router.
///
/// The limits and timeouts have defaults that suit most programs.
///
/// # Mounting
///
/// The router is nested beside a program's own routes, whose state it doesn't touch, and is a `tower::Service` by
/// itself. Layers and middleware around it see each request that may become a socket; what they leave with it is
/// there for [`connect`](Self::connect), by [`Connect::extension`] and [`Connect::extract`]. TLS and proxies are the
/// host's: a socket takes any stream that can be upgraded from HTTP/1.1.
///
/// ```
/// # use adsum_channels as adsum;
/// use adsum::{PubSub, SocketBuilder};
/// use axum::{Router, extract::State, routing::get};
///
/// #[derive(Clone)]
/// struct Site;
///
/// let socket = SocketBuilder::new(());
/// let site: Router = Router::new()
///     .route("/", get(async |State(_): State<Site>| "a page"))
///     .nest("/socket", socket.into_router(PubSub::local()))
///     .layer(axum::Extension("what a middleware adds"))
///     .with_state(Site);
/// ```
pub struct SocketBuilder<App> {
    app: App,
    connect: ConnectFn,
    on_refused: Option<OnRefused>,
    subprotocols: Vec<HeaderValue>,
    routes: Vec<Route>,
    codecs: Vec<Arc<Codec>>,
    longpoll: Option<Tokens>,
    origins: Origins,
    sockets: Sockets,
    options: Options,
    watch: Watch,
}

impl<App: Clone + Send + Sync + 'static> SocketBuilder<App> {
    /// A socket whose channels share the program's own state, of which each join gets a clone. Everybody may connect.
    pub fn new(app: App) -> Self {
        let connect = Box::new(|_| std::future::ready(Ok(Assigns::new())).boxed());
        let codecs = vec![Codec::new(1, 0, V1), Codec::new(2, 0, V2)];
        Self {
            app,
            connect,
            on_refused: None,
            subprotocols: Vec::new(),
            routes: Vec::new(),
            codecs,
            longpoll: None,
            origins: Origins::default(),
            sockets: Sockets::new(),
            options: Options::default(),
            watch: Watch::default(),
        }
    }

    /// Has a function decide who may connect, and what its channels will know of the client.
    #[must_use]
    pub fn connect<F, Fut>(mut self, connect: F) -> Self
    where
        F: Fn(App, Connect) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Assigns, Refused>> + Send + 'static,
    {
        let app = self.app.clone();
        self.connect = Box::new(move |request| connect(app.clone(), request).boxed());
        self
    }

    /// Has a function answer a client whose WebSocket is refused, instead of an empty 403. It gets what the client
    /// was refused for, and its request.
    ///
    /// Browsers show a page nothing of this answer. Clients of long poll are not told either: they expect 403 in a
    /// form of its own.
    ///
    /// ```
    /// # use adsum_channels as adsum;
    /// # use adsum::{Refusal, SocketBuilder};
    /// use axum::http::StatusCode;
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// #[error("too many connects of one user")]
    /// struct TooMany;
    ///
    /// let socket = SocketBuilder::new(()).on_refused(|refusal, _request| match refusal {
    ///     Refusal::Program(refused) if refused.reason().is::<TooMany>() => StatusCode::TOO_MANY_REQUESTS,
    ///     _ => StatusCode::FORBIDDEN,
    /// });
    /// ```
    #[must_use]
    pub fn on_refused<R: IntoResponse>(
        mut self,
        answer: impl Fn(&Refusal, &Connect) -> R + Send + Sync + 'static,
    ) -> Self {
        self.on_refused = Some(Box::new(move |refusal, request| answer(refusal, request).into_response()));
        self
    }

    /// Speaks these WebSocket subprotocols. The first of them that a client offers is chosen, and named by
    /// [`Connect::subprotocol`]; a client that offers others only is refused, and one that offers none is not.
    ///
    /// `phoenix` comes before all of them: phoenix.js offers it along with its `authToken`.
    ///
    /// # Panics
    /// One is no token of HTTP: letters, digits and a few signs.
    #[must_use]
    pub fn subprotocols<'p>(mut self, protocols: impl IntoIterator<Item = &'p str>) -> Self {
        let is_token = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        };
        let value = |name: &str| match HeaderValue::from_str(name) {
            Ok(value) if is_token(name) => value,
            _ => panic!("{name:?} can't be a subprotocol; write one such as \"chat.v2\""),
        };
        self.subprotocols = protocols.into_iter().map(value).collect();
        self
    }

    /// Serves the topics that match a pattern by a channel. Of several patterns the first that matches counts.
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    #[must_use]
    pub fn channel<C: Channel<App = App>>(self, pattern: &str) -> Self {
        self.route::<C>(pattern, None)
    }

    /// As [`channel`](Self::channel), for channels that find these in [`Socket::assigns`](crate::Socket::assigns)
    /// too, in place of what `connect` has assigned of the same types.
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    #[must_use]
    pub fn channel_with<C: Channel<App = App>>(self, pattern: &str, assigns: Assigns) -> Self {
        self.route::<C>(pattern, Some(assigns))
    }

    fn route<C: Channel<App = App>>(mut self, pattern: &str, assigns: Option<Assigns>) -> Self {
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("{error}"));
        self.routes.push(Route::new::<C>(pattern, self.app.clone(), assigns));
        self
    }

    /// Adds a version of the protocol: clients that connect with `vsn=MAJOR.MINOR.x` are served by it.
    /// In place of one that is there already, if it is of the same number; versions 1.0 and 2.0 are.
    #[must_use]
    pub fn serializer(mut self, major: u64, minor: u64, serializer: impl Serializer) -> Self {
        self.codecs.insert(0, Codec::new(major, minor, serializer));
        self
    }

    /// Accepts requests of web pages of these origins alone, as Phoenix's `check_origin` does: `https://example.com`,
    /// whose port is the scheme's if it names none; `//example.com` of any scheme and port; `//*.example.com` of
    /// that host and all below it.
    ///
    /// By default the host and port of the `Origin` header, which browsers send, must be those of the `Host` header.
    /// A `Host` without a port stands for 80 and 443, and the scheme isn't compared, as a proxy may end TLS. Where a
    /// browser says that a page is of the same origin (`Sec-Fetch-Site`), that counts whatever `Host` is. A request
    /// without an origin is judged by its `Referer`; one that has neither doesn't come from a page, and is accepted.
    ///
    /// # Panics
    /// One is no such pattern.
    #[must_use]
    pub fn origins<'o>(mut self, origins: impl IntoIterator<Item = &'o str>) -> Self {
        let pattern = |text: &str| {
            OriginPattern::parse(text).unwrap_or_else(|| {
                panic!(
                    "{text:?} is no origin; write one such as \"https://example.com\" or \"//*.example.com\""
                )
            })
        };
        self.origins.rule = Rule::Listed(origins.into_iter().map(pattern).collect());
        self
    }

    /// Has a function decide about the origin of a web page, which it gets with the request's headers.
    #[must_use]
    pub fn check_origin(mut self, check: impl Fn(&str, &HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        self.origins.rule = Rule::Checked(Box::new(check));
        self
    }

    /// Accepts requests of web pages of any origin: for sockets that look at no cookie.
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.origins.rule = Rule::Any;
        self
    }

    /// Names the hosts under which the server is reached, such as `example.com`, `localhost` or `127.0.0.1:4000`. A
    /// request of a web page whose `Host` is none of them is refused; a port counts where one is named. By default any
    /// host will do.
    ///
    /// For servers that browsers reach on a private network or on the same machine: a foreign page may let its own
    /// name point there (DNS rebinding), and is of the same origin then.
    ///
    /// # Panics
    /// One is no host.
    #[must_use]
    pub fn host<'h>(mut self, hosts: impl IntoIterator<Item = &'h str>) -> Self {
        let host = |text: &str| {
            OwnHost::parse(text).unwrap_or_else(|| {
                panic!("{text:?} is no host; write one such as \"example.com\" or \"[::1]:4000\"")
            })
        };
        self.origins.hosts = hosts.into_iter().map(host).collect();
        self
    }

    /// Serves clients that can't speak WebSocket by long poll, at `/longpoll`. The `phoenix` package falls back
    /// to it by its option `longPollFallbackMs`.
    ///
    /// Its sessions are named by tokens that are signed with a secret of 20 bytes or more, good for two weeks.
    /// Nodes that share a secret and reach each other by their [`PubSub`] pass requests on to the node that has
    /// the session, so a load balancer may send them anywhere.
    ///
    /// # Errors
    /// The secret is too short.
    pub fn longpoll(mut self, secret: &str) -> Result<Self, SecretTooShort> {
        self.longpoll = Some(Tokens::new(secret)?);
        Ok(self)
    }

    /// How long a long poll is held open while nothing is to be said. Default 10 s. A session whose client
    /// doesn't poll for one and a half times as long ends.
    #[must_use]
    pub fn longpoll_window(mut self, window: Duration) -> Self {
        self.options.longpoll_window = window;
        self
    }

    /// How long another node has to say that it has a long poll session, before the session counts as gone.
    /// Default 2 s.
    #[must_use]
    pub fn longpoll_node_timeout(mut self, timeout: Duration) -> Self {
        self.options.longpoll_node_timeout = timeout;
        self
    }

    /// Tells an observer of connects, joins and events, how long they took and what came of them.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.watch.observer = Some(Arc::new(observer));
        self
    }

    /// At which level a client's connect is logged, or that it isn't. Default [`Level::DEBUG`]. How joins and
    /// events are logged each channel says by [`LOG_JOIN`](Channel::LOG_JOIN) and
    /// [`LOG_HANDLE_IN`](Channel::LOG_HANDLE_IN).
    #[must_use]
    pub fn log_connect(mut self, level: impl Into<Option<Level>>) -> Self {
        self.watch.log_connect = level.into();
        self
    }

    /// Which parameters of clients the log doesn't show. By default the values of keys that contain `password`,
    /// `token` or `secret`.
    #[must_use]
    pub fn filter_params(mut self, filter: ParamFilter) -> Self {
        self.watch.filter = filter;
        self
    }

    /// Takes note of all open sockets in `sockets`, by which they can be drained when the server goes.
    #[must_use]
    pub fn sockets(mut self, sockets: &Sockets) -> Self {
        self.sockets = sockets.clone();
        self
    }

    /// How many channels one socket may have joined. Default 100. A join beyond is answered with
    /// `{"reason": "too many channels joined"}`.
    #[must_use]
    pub fn max_channels(mut self, channels: usize) -> Self {
        self.options.max_channels = channels;
        self
    }

    /// The longest topic, in bytes. Default 255. A longer one is answered with
    /// `{"reason": "topic too long"}`.
    #[must_use]
    pub fn max_topic_bytes(mut self, bytes: usize) -> Self {
        self.options.max_topic_bytes = bytes;
        self
    }

    /// The longest message of a client, in bytes. Default 1 MiB. A longer one closes the socket with 1009.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.options.max_message_bytes = bytes;
        self
    }

    /// How many bytes may wait to be sent to one client. Default 4 MiB. While a [state](crate::View) that is shown
    /// to it waits, twice as many as that state has may wait, if that is more. Where a client reads so slowly that
    /// more would wait, it gets the state again in place of its changes; where that doesn't help, its socket is
    /// closed with 1013, and phoenix.js connects again.
    ///
    /// What waits for one of its channels to be handled is bounded by as much.
    #[must_use]
    pub fn max_queue_bytes(mut self, bytes: usize) -> Self {
        self.options.max_queue_bytes = bytes;
        self
    }

    /// How many bytes may wait to be sent in all sockets that share a [`Sockets`], or that are this builder's.
    /// Default 256 MiB. Bytes that several sockets wait for, such as a broadcast's, are counted once, and those of
    /// clients that take all at once not at all. Beyond it the sockets that have waited longest are closed with 1013,
    /// until an eighth of it is free. A socket that has taken a part of a large message is cut off, as no close can
    /// follow.
    #[must_use]
    pub fn max_total_queue_bytes(mut self, bytes: usize) -> Self {
        self.options.max_total_queue_bytes = bytes;
        self
    }

    /// How long a client may take to read a [state](crate::View) that is shown to it, or a message larger than
    /// [`max_queue_bytes`](Self::max_queue_bytes). Default 30 s. A client that takes longer doesn't keep that memory
    /// by its heartbeats: its socket is closed with 1013.
    #[must_use]
    pub fn state_timeout(mut self, timeout: Duration) -> Self {
        self.options.state_timeout = timeout;
        self
    }

    /// How many events of the client and messages of the program may wait for one channel. Default 1,024. While there
    /// is no room for an event, its client isn't read, for a [limited time](Self::mailbox_timeout); the program's own
    /// senders get an error.
    ///
    /// Broadcasts (those that a channel intercepts, and those of further topics) are bounded by
    /// [`max_queue_bytes`](Self::max_queue_bytes) alone, for one handler may send any number of them before another
    /// channel gets its turn. Where they don't fit, the channel ends with `phx_error` and `{"reason": "overloaded"}`.
    #[must_use]
    pub fn max_mailbox(mut self, letters: usize) -> Self {
        self.options.max_mailbox = letters;
        self
    }

    /// How long a client is not read while one of its channels has no room for its next event. Default 5 s. Then that
    /// channel ends with `phx_error` and `{"reason": "overloaded"}`, and the client is read again.
    ///
    /// Meanwhile the client's other channels get nothing from it either, and the time doesn't count as its silence.
    #[must_use]
    pub fn mailbox_timeout(mut self, timeout: Duration) -> Self {
        self.options.mailbox_timeout = timeout;
        self
    }

    /// How many messages a second a client may send; `None`: any number. Default 20,000. A client that was quiet may
    /// send as many at once. One that sends more isn't closed but read more slowly. Each frame of a WebSocket counts,
    /// pings and parts of a message too.
    #[must_use]
    pub fn max_message_rate(mut self, messages: impl Into<Option<u32>>) -> Self {
        self.options.max_message_rate = messages.into();
        self
    }

    /// How many bytes a second a client may send; `None`: any number. Default 32 MiB. As with
    /// [`max_message_rate`](Self::max_message_rate), a client that sends more is read more slowly.
    #[must_use]
    pub fn max_byte_rate(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.options.max_byte_rate = bytes.into();
        self
    }

    /// How long a client may take from the first byte of a message to its last. Default 60 s. A WebSocket that takes
    /// longer is closed with 1002, however often it sends a byte.
    #[must_use]
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.options.message_timeout = timeout;
        self
    }

    /// How many sockets may be open, long poll sessions included. Default 100,000. A client beyond is answered with 503,
    /// so that a balancer may ask another node; phoenix.js tries again, with longer and longer pauses.
    #[must_use]
    pub fn max_sockets(mut self, sockets: usize) -> Self {
        self.options.max_sockets = sockets;
        self
    }

    /// How many long poll sessions may be open. Default 10,000. A client beyond is answered with 503, in whose body
    /// phoenix.js finds the 403 at which it pauses.
    #[must_use]
    pub fn max_longpoll_sessions(mut self, sessions: usize) -> Self {
        self.options.max_longpoll_sessions = sessions;
        self
    }

    /// How many sockets clients of one [address](Connect::client_address) may have; of IPv6, clients of one /64 network.
    /// `None`: no limit of its own. Default 10,000. A client beyond is answered with 429.
    ///
    /// Behind a proxy all clients have its address, unless it is one of the [`trusted_proxies`](Self::trusted_proxies).
    #[must_use]
    pub fn max_sockets_per_address(mut self, sockets: impl Into<Option<usize>>) -> Self {
        self.options.max_sockets_per_address = sockets.into();
        self
    }

    /// How many sockets may have the same [limit key](Assigns::limit_key), which `connect` names: a user, say. `None`: no
    /// limit. Default 100. A client beyond is answered with 429.
    #[must_use]
    pub fn max_sockets_per_key(mut self, sockets: impl Into<Option<usize>>) -> Self {
        self.options.max_sockets_per_key = sockets.into();
        self
    }

    /// Believes these proxies what they say of their clients: addresses such as `10.0.0.1`, or networks such as
    /// `10.0.0.0/8`. Where a connection comes from one of them, the client's address is the last one of
    /// `X-Forwarded-For`, or else of `Forwarded`, that isn't one of them. By default there are none, and the client's
    /// address is that of the connection.
    ///
    /// # Panics
    /// One is neither an address nor a network.
    #[must_use]
    pub fn trusted_proxies<'p>(mut self, proxies: impl IntoIterator<Item = &'p str>) -> Self {
        self.options.trusted_proxies = TrustedProxies::new(proxies).unwrap_or_else(|error| panic!("{error}"));
        self
    }

    /// How long a client may be silent before its socket is closed; `None`: for ever. Default 60 s. Clients send a
    /// heartbeat every 30 s. Without a timeout, a client whose network fails without a word stays until a write fails.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.timeout = timeout.into();
        self
    }

    /// When a WebSocket whose client is silent is pinged, and how long after the ping it is closed with 1002 if nothing
    /// has come by then. Default 25 s and 10 s. So a client whose network fails without a word is gone after 35 s at
    /// most, in a browser's hidden tab too, whose script sends its heartbeats late: browsers answer pings without it.
    /// [`Observer::round_trip`] hears how long each answer took.
    ///
    /// Any byte counts, not the answer alone. Pings come up to a quarter earlier, by chance, so that sockets that opened
    /// together aren't pinged together. While messages wait that the client is too slow to take, no ping is sent, and the
    /// [`timeout`](Self::timeout) decides. Clients of long poll and of a program's own transports are not pinged.
    ///
    /// ```
    /// # use adsum_channels as adsum;
    /// use std::time::Duration;
    ///
    /// // A player whose cable is pulled is missed within 8 s.
    /// let four = Duration::from_secs(4);
    /// let socket = adsum::SocketBuilder::new(()).ping(four, four);
    /// ```
    #[must_use]
    pub fn ping(mut self, after: Duration, close: Duration) -> Self {
        self.options.ping = Some(Ping { after, close });
        self
    }

    /// Sends no pings, as Phoenix by itself doesn't: only the [`timeout`](Self::timeout) ends a silent client's socket.
    #[must_use]
    pub fn without_ping(mut self) -> Self {
        self.options.ping = None;
        self
    }

    /// How long a join may take, the end of the topic's channel before included. Default 30 s. One that takes
    /// longer is given up and answered with `{"reason": "join timeout"}`.
    #[must_use]
    pub fn join_timeout(mut self, timeout: Duration) -> Self {
        self.options.join_timeout = timeout;
        self
    }

    /// How long a channel has to end before it is cut off, and a client to answer a close. Default 5 s. A channel may
    /// have a grace of its own: [`Channel::SHUTDOWN_GRACE`].
    #[must_use]
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.options.shutdown_grace = grace;
        self
    }

    /// Checks the options, and [`SHUTDOWN_GRACE`](Channel::SHUTDOWN_GRACE) of the channels, against their bounds: for a
    /// program whose options come from outside. No time may be longer than a day.
    ///
    /// # Errors
    /// An option is out of its bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.options.check()?;
        self.routes.iter().try_for_each(Route::check)
    }

    /// The router, with the socket at `/websocket`, and at `/longpoll` if that is on. Nest it where clients look
    /// for the socket.
    ///
    /// It takes a [`PubSub`], or what has one: `socket.into_router(&presence)` is that of a presence, whose diffs then
    /// reach the sockets.
    ///
    /// Its sockets live as long as the router: when the server drops it, they are closed with 1012.
    ///
    /// # Panics
    /// An option is out of its bounds: [`check`](Self::check) says so without a panic.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self, pubsub: impl Into<PubSub>) -> Router<S> {
        self.into_acceptor(pubsub).router()
    }

    /// What takes in clients for a transport of the program's own, and gives the router beside it.
    ///
    /// # Panics
    /// As [`into_router`](Self::into_router).
    pub fn into_acceptor(self, pubsub: impl Into<PubSub>) -> Acceptor {
        let pubsub = pubsub.into();
        self.check().unwrap_or_else(|error| panic!("{error}"));
        if let Some(observer) = &self.watch.observer {
            self.sockets.note_observer(observer);
        }
        let owner = Arc::new(EndpointOwner {
            endpoint: Arc::new(Endpoint {
                connect: self.connect,
                on_refused: self.on_refused,
                subprotocols: self.subprotocols,
                routes: self.routes,
                codecs: self.codecs,
                origins: self.origins,
                budget: Budget::new(&self.options, &self.sockets),
                sockets: self.sockets,
                options: self.options,
                quota: Quota::default(),
                watch: self.watch,
                handle_in_seconds: OnceLock::new(),
                pubsub,
            }),
            tasks: TaskGroup::new(),
        });
        let longpoll = self.longpoll.map(|tokens| Arc::new(LongPoll::new(owner.clone(), tokens)));
        Acceptor::new(owner, longpoll)
    }
}

impl<App> fmt::Debug for SocketBuilder<App> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
