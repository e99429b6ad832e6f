//! Builds a router from channels.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use adsum_pubsub::{OptionsError, Pattern, PubSub, tasks::TaskGroup};
use axum::{Router, response::IntoResponse};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tracing::Level;

use crate::{
    acceptor::Acceptor,
    address::TrustedProxies,
    assigns::Assigns,
    channel::Channel,
    connect::Connect,
    context::SocketContext,
    endpoint::{ConnectFn, Endpoint, EndpointOwner, OnRefused},
    longpoll::LongPoll,
    metrics::{QueueMetrics, SocketMetrics},
    observe::{Observer, Watch},
    options::{Options, Ping},
    origin::{OriginRule, Origins, OwnHost, Pattern as OriginPattern},
    param_filter::ParamFilter,
    quota::Quota,
    refusal::{Refusal, Refused},
    runtime::Route,
    serializer::{Codec, Serializer, V1, V2},
    sockets::Sockets,
    token::{SecretTooShort, Tokens},
    transport_name::{LONGPOLL, WEBSOCKET},
};

/// Configures which clients may connect and which channels they can join, and builds a router.
///
/// The limits and timeouts have defaults that suit most programs.
///
/// # Mounting
///
/// Nest the router beside the program's own routes, whose state it doesn't touch; it is also a `tower::Service` by
/// itself. Layers and middleware around it see each request that may become a socket; [`connect`](Self::connect) finds
/// the extensions that they add, through [`Connect::extension`] and [`Connect::extract`]. TLS and proxies are up to the
/// server: a socket works over any stream that can be upgraded from HTTP/1.1.
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
    longpoll_also_accepted: Vec<Tokens>,
    origins: Origins,
    sockets: Sockets,
    options: Options,
    watch: Watch,
}

impl<App: Clone + Send + Sync + 'static> SocketBuilder<App> {
    /// Creates a builder whose channels share the program's state; each join gets a clone. By default all clients may
    /// connect.
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
            longpoll_also_accepted: Vec::new(),
            origins: Origins::default(),
            sockets: Sockets::new(),
            options: Options::default(),
            watch: Watch::default(),
        }
    }

    /// Sets the function that decides which clients may connect, and which values their channels get.
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

    /// Sets the function that makes the response for a refused WebSocket, instead of an empty 403. It gets the refusal
    /// and the request.
    ///
    /// Browsers don't expose this response to a page. Long poll clients don't get it either: they expect a 403 in a
    /// specific form.
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

    /// Sets the supported WebSocket subprotocols. The first of them that a client offers is chosen, and
    /// [`Connect::subprotocol`] returns it. A client that offers only others is refused; one that offers none is not.
    ///
    /// `phoenix` has precedence over all of them: phoenix.js offers it along with its `authToken`.
    ///
    /// # Panics
    /// A name is not an HTTP token: letters, digits and a few signs.
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

    /// Serves the topics that match a pattern with a channel. The first pattern that matches a topic is used.
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    #[must_use]
    pub fn channel<C: Channel<App = App>>(self, pattern: &str) -> Self {
        self.route::<C>(pattern, None)
    }

    /// As [`channel`](Self::channel), and adds values to [`Socket::assigns`](crate::Socket::assigns) of these channels.
    /// They replace values of the same types from `connect`.
    ///
    /// # Panics
    /// The pattern has a `*` before its end.
    #[must_use]
    pub fn channel_with<C: Channel<App = App>>(self, pattern: &str, assigns: Assigns) -> Self {
        self.route::<C>(pattern, Some(assigns))
    }

    fn route<C: Channel<App = App>>(mut self, pattern: &str, assigns: Option<Assigns>) -> Self {
        let parsed = Pattern::new(pattern).unwrap_or_else(|error| panic!("{error}"));
        self.routes.push(Route::new::<C>(pattern, parsed, self.app.clone(), assigns));
        self
    }

    /// Adds a protocol version for clients that connect with `vsn=MAJOR.MINOR.x`. It replaces an existing version with
    /// the same number; versions 1.0 and 2.0 exist by default.
    #[must_use]
    pub fn serializer(mut self, major: u64, minor: u64, serializer: impl Serializer) -> Self {
        self.codecs.insert(0, Codec::new(major, minor, serializer));
        self
    }

    /// Accepts requests only from web pages of these origins, as Phoenix's `check_origin` does. `https://example.com`
    /// has the scheme's port unless it names another; `//example.com` matches any scheme and port; `//*.example.com`
    /// matches that host and all subdomains.
    ///
    /// By default the host and port of the `Origin` header, which browsers send, must equal those of the `Host` header.
    /// A `Host` without a port matches 80 and 443, and the scheme isn't compared, since a proxy may terminate TLS. If
    /// the browser states that a page has the same origin (`Sec-Fetch-Site`), that is trusted whatever `Host` is. A
    /// request without an origin is judged by its `Referer`; one with neither doesn't come from a page, and is
    /// accepted.
    ///
    /// # Panics
    /// An entry is not such a pattern.
    #[must_use]
    pub fn origins<'o>(mut self, origins: impl IntoIterator<Item = &'o str>) -> Self {
        let pattern = |text: &str| {
            OriginPattern::parse(text).unwrap_or_else(|| {
                panic!(
                    "{text:?} is not an origin; write one such as \"https://example.com\" or \"//*.example.com\""
                )
            })
        };
        self.origins.rule = OriginRule::Listed(origins.into_iter().map(pattern).collect());
        self
    }

    /// Sets the function that decides about the origin of a web page. It gets the origin and the request's headers.
    #[must_use]
    pub fn check_origin(mut self, check: impl Fn(&str, &HeaderMap) -> bool + Send + Sync + 'static) -> Self {
        self.origins.rule = OriginRule::Checked(Box::new(check));
        self
    }

    /// Accepts requests from web pages of any origin, for sockets that don't use cookies.
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.origins.rule = OriginRule::Any;
        self
    }

    /// Sets the hosts of the server, such as `example.com`, `localhost` or `127.0.0.1:4000`. A request from a web page
    /// with any other `Host` is refused. The port is compared only if an entry names one. By default any host is
    /// accepted.
    ///
    /// Use it for servers that browsers reach on a private network or on the same machine: a foreign page may point its
    /// own name there (DNS rebinding), and then has the same origin.
    ///
    /// # Panics
    /// An entry is not a host.
    #[must_use]
    pub fn host<'h>(mut self, hosts: impl IntoIterator<Item = &'h str>) -> Self {
        let host = |text: &str| {
            OwnHost::parse(text).unwrap_or_else(|| {
                panic!("{text:?} is not a host; write one such as \"example.com\" or \"[::1]:4000\"")
            })
        };
        self.origins.hosts = hosts.into_iter().map(host).collect();
        self
    }

    /// Serves clients without WebSocket through long poll, at `/longpoll`. The `phoenix` package falls back to it with
    /// its option `longPollFallbackMs`.
    ///
    /// Session tokens are signed with this secret of at least 20 bytes, and are valid for two weeks. Nodes that share
    /// the secret and a [`PubSub`] forward requests to the node of the session, so a load balancer may send them to any
    /// node.
    ///
    /// # Errors
    /// The secret is too short.
    pub fn longpoll(mut self, secret: &str) -> Result<Self, SecretTooShort> {
        self.longpoll = Some(Tokens::new(secret)?);
        Ok(self)
    }

    /// Accepts session tokens of another secret as well, to change the secret of [`longpoll`](Self::longpoll) while
    /// sessions stay: first all nodes accept the new one, then all sign with it and accept the old one, then the old
    /// one is removed. Each step is a rolling restart. Without the first step, a session that was opened at a node with
    /// the new secret is unknown to the nodes that still have the old one only, and its client opens another.
    ///
    /// ```
    /// # use adsum_channels as adsum;
    /// # let (old, new) = ("o".repeat(64), "n".repeat(64));
    /// // The second step.
    /// let socket = adsum::SocketBuilder::new(()).longpoll(&new)?.longpoll_also_accept(&old)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The secret is too short.
    pub fn longpoll_also_accept(mut self, secret: &str) -> Result<Self, SecretTooShort> {
        self.longpoll_also_accepted.push(Tokens::new(secret)?);
        Ok(self)
    }

    /// Sets how long a long poll is held open while there is no message. Default 10 s. A session ends if its client
    /// doesn't poll for one and a half times as long.
    #[must_use]
    pub fn longpoll_window(mut self, window: Duration) -> Self {
        self.options.longpoll_window = window;
        self
    }

    /// Sets how long another node has to confirm that it has a long poll session before the session counts as gone.
    /// Default 2 s.
    #[must_use]
    pub fn longpoll_node_timeout(mut self, timeout: Duration) -> Self {
        self.options.longpoll_node_timeout = timeout;
        self
    }

    /// Sets an observer of connects, joins and events, with their durations and results.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.watch.observer = Some(Arc::new(observer));
        self
    }

    /// Sets the level at which connects are logged; `None` to log none. Default [`Level::DEBUG`]. Each channel sets the
    /// levels for joins and events with [`LOG_JOIN`](Channel::LOG_JOIN) and [`LOG_HANDLE_IN`](Channel::LOG_HANDLE_IN).
    #[must_use]
    pub fn log_connect(mut self, level: impl Into<Option<Level>>) -> Self {
        self.watch.log_connect = level.into();
        self
    }

    /// Sets which parameters of clients are hidden in the log. By default the values of keys that contain `password`,
    /// `token` or `secret`.
    #[must_use]
    pub fn filter_params(mut self, filter: ParamFilter) -> Self {
        self.watch.filter = filter;
        self
    }

    /// Adds all open sockets to `sockets`, so that they can be drained when the server shuts down.
    #[must_use]
    pub fn sockets(mut self, sockets: &Sockets) -> Self {
        self.sockets = sockets.clone();
        self
    }

    /// Compresses messages for clients of WebSocket that accept it, as browsers do: those whose payload is larger than
    /// `bytes`. `None` for no compression, the default. A good size is 512: a smaller message fits into one packet of the
    /// network in any case.
    ///
    /// A broadcast, a diff and a state are compressed once, and the same bytes are sent to all clients. A client's
    /// message may be compressed as well; [`max_message_bytes`](Self::max_message_bytes) and
    /// [`max_byte_rate`](Self::max_byte_rate) count it inflated.
    ///
    /// Don't enable it if one message contains a secret beside text that a stranger chooses: its length then tells
    /// whether they are alike (CRIME, BREACH). `SECURITY.md` has more.
    ///
    /// ```
    /// # use adsum_channels as adsum;
    /// let socket = adsum::SocketBuilder::new(()).compress_over(512);
    /// ```
    #[must_use]
    pub fn compress_over(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.options.compress_over = bytes.into();
        self
    }

    /// Sets the maximum number of joined channels per socket. Default 100. A join beyond it gets the error
    /// `{"reason": "too many channels joined"}`.
    #[must_use]
    pub fn max_channels(mut self, channels: usize) -> Self {
        self.options.max_channels = channels;
        self
    }

    /// Sets the maximum length of a topic, in bytes. Default 255. A join of a longer one gets the error
    /// `{"reason": "topic too long"}`.
    #[must_use]
    pub fn max_topic_bytes(mut self, bytes: usize) -> Self {
        self.options.max_topic_bytes = bytes;
        self
    }

    /// Sets the maximum size of a client's message, in bytes. Default 1 MiB. A larger one closes the socket with 1009.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.options.max_message_bytes = bytes;
        self
    }

    /// Sets the maximum size of a client's outbound queue, in bytes. Default 4 MiB. While a [state](crate::View) is
    /// queued, the maximum is twice the state's size, if that is more. If a client reads so slowly that its queue is
    /// full, it gets the state again in place of its changes; if that doesn't help, its socket is closed with 1013, and
    /// phoenix.js reconnects.
    ///
    /// The same number bounds the mailbox of each of its channels.
    #[must_use]
    pub fn max_queue_bytes(mut self, bytes: usize) -> Self {
        self.options.max_queue_bytes = bytes;
        self
    }

    /// Sets the maximum size of all outbound queues together, in bytes, over all sockets that share a [`Sockets`], or
    /// all sockets of this builder. Default 256 MiB. Bytes shared by several queues, such as a broadcast's, are counted
    /// once; those of clients that take everything at once are not counted. Beyond the maximum, the sockets that have
    /// waited longest are closed with 1013 until an eighth of it is free. A socket that has taken part of a large
    /// message is cut off, since no close frame can follow.
    #[must_use]
    pub fn max_total_queue_bytes(mut self, bytes: usize) -> Self {
        self.options.max_total_queue_bytes = bytes;
        self
    }

    /// Sets how long a client may take to read a [state](crate::View), or a message larger than
    /// [`max_queue_bytes`](Self::max_queue_bytes). Default 30 s. After that its socket is closed with 1013, even if it
    /// sends heartbeats.
    #[must_use]
    pub fn state_timeout(mut self, timeout: Duration) -> Self {
        self.options.state_timeout = timeout;
        self
    }

    /// Sets the maximum number of client events and program messages in a channel's mailbox. Default 1,024. While there
    /// is no room for an event, its client isn't read, for a [limited time](Self::mailbox_timeout); senders in the
    /// program get an error.
    ///
    /// Broadcasts (those that a channel intercepts, and those of extra subscriptions) are bounded only by
    /// [`max_queue_bytes`](Self::max_queue_bytes), since one handler may send any number of them before another channel
    /// runs. If they don't fit, the channel ends with `phx_error` and `{"reason": "overloaded"}`.
    #[must_use]
    pub fn max_mailbox(mut self, messages: usize) -> Self {
        self.options.max_mailbox = messages;
        self
    }

    /// Sets how long a client is not read while one of its channels has no room for the next event. Default 5 s. Then
    /// that channel ends with `phx_error` and `{"reason": "overloaded"}`, and the client is read again.
    ///
    /// Meanwhile the client's other channels get no events either, and the time doesn't count as silence.
    #[must_use]
    pub fn mailbox_timeout(mut self, timeout: Duration) -> Self {
        self.options.mailbox_timeout = timeout;
        self
    }

    /// Sets the maximum number of messages per second from a client; `None` for no limit. Default 20,000. A client that
    /// was quiet may send as many at once. A faster client isn't closed but read more slowly. Each WebSocket frame
    /// counts, including pings and fragments of a message.
    #[must_use]
    pub fn max_message_rate(mut self, messages: impl Into<Option<u32>>) -> Self {
        self.options.max_message_rate = messages.into();
        self
    }

    /// Sets the maximum number of bytes per second from a client; `None` for no limit. Default 32 MiB. As with
    /// [`max_message_rate`](Self::max_message_rate), a faster client is read more slowly.
    #[must_use]
    pub fn max_byte_rate(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.options.max_byte_rate = bytes.into();
        self
    }

    /// Sets how long a client may take from the first byte of a message to its last. Default 60 s. A WebSocket that
    /// takes longer is closed with 1002, even if it keeps sending bytes.
    #[must_use]
    pub fn message_timeout(mut self, timeout: Duration) -> Self {
        self.options.message_timeout = timeout;
        self
    }

    /// Sets the maximum number of open sockets, including long poll sessions. Default 100,000. A client beyond it gets
    /// a 503, so that a load balancer may try another node; phoenix.js retries with increasing pauses.
    #[must_use]
    pub fn max_sockets(mut self, sockets: usize) -> Self {
        self.options.max_sockets = sockets;
        self
    }

    /// Sets the maximum number of open long poll sessions. Default 10,000. A client beyond it gets a 503, whose body
    /// contains the 403 that makes phoenix.js pause.
    #[must_use]
    pub fn max_longpoll_sessions(mut self, sessions: usize) -> Self {
        self.options.max_longpoll_sessions = sessions;
        self
    }

    /// Sets the maximum number of sockets per client [address](Connect::client_address), or per /64 network for IPv6;
    /// `None` for no limit. Default 10,000. A client beyond it gets a 429.
    ///
    /// Behind a proxy all clients have the proxy's address, unless it is one of the
    /// [`trusted_proxies`](Self::trusted_proxies).
    #[must_use]
    pub fn max_sockets_per_address(mut self, sockets: impl Into<Option<usize>>) -> Self {
        self.options.max_sockets_per_address = sockets.into();
        self
    }

    /// Sets the maximum number of sockets with the same [limit key](Assigns::limit_key), which `connect` assigns, for
    /// example a user's id; `None` for no limit. Default 100. A client beyond it gets a 429.
    #[must_use]
    pub fn max_sockets_per_key(mut self, sockets: impl Into<Option<usize>>) -> Self {
        self.options.max_sockets_per_key = sockets.into();
        self
    }

    /// Sets the proxies whose forwarding headers are trusted: addresses such as `10.0.0.1`, or networks such as
    /// `10.0.0.0/8`. If a connection comes from one of them, the client's address is the last entry of
    /// `X-Forwarded-For`, or else of `Forwarded`, that is not a trusted proxy. By default there are none, and the
    /// client's address is that of the connection.
    ///
    /// # Panics
    /// An entry is neither an address nor a network.
    #[must_use]
    pub fn trusted_proxies<'p>(mut self, proxies: impl IntoIterator<Item = &'p str>) -> Self {
        self.options.trusted_proxies = TrustedProxies::new(proxies).unwrap_or_else(|error| panic!("{error}"));
        self
    }

    /// Sets how long a client may be silent before its socket is closed; `None` for no timeout. Default 60 s. Clients
    /// send a heartbeat every 30 s. Without a timeout, the socket of a client whose network fails silently stays open
    /// until a write fails.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.timeout = timeout.into();
        self
    }

    /// Sets after which time of silence a WebSocket is pinged, and how long after the ping it is closed with 1002 if
    /// nothing arrives. Default 25 s and 10 s. So a client whose network fails silently is detected within 35 s. This
    /// holds for hidden browser tabs as well, whose scripts send heartbeats late: browsers answer pings without the
    /// script. [`Observer::round_trip`] gets the duration of each answer.
    ///
    /// Any byte counts, not only the answer. Pings are sent up to a quarter earlier, at random, so that sockets that
    /// opened together aren't pinged together. While messages are queued for a slow client, no ping is sent, and the
    /// [`timeout`](Self::timeout) applies. Clients of long poll and of custom transports are not pinged.
    ///
    /// ```
    /// # use adsum_channels as adsum;
    /// use std::time::Duration;
    ///
    /// // A player whose network fails is detected within 8 s.
    /// let four = Duration::from_secs(4);
    /// let socket = adsum::SocketBuilder::new(()).ping(four, four);
    /// ```
    #[must_use]
    pub fn ping(mut self, after: Duration, close: Duration) -> Self {
        self.options.ping = Some(Ping { after, close });
        self
    }

    /// Sends no pings, as in Phoenix: only the [`timeout`](Self::timeout) closes the socket of a silent client.
    #[must_use]
    pub fn without_ping(mut self) -> Self {
        self.options.ping = None;
        self
    }

    /// Sets how long a join may take, including the end of the topic's previous channel. Default 30 s. A join that
    /// takes longer is aborted, and gets the error `{"reason": "join timeout"}`.
    #[must_use]
    pub fn join_timeout(mut self, timeout: Duration) -> Self {
        self.options.join_timeout = timeout;
        self
    }

    /// Sets how long a channel has to end before it is aborted, and a client to answer a close. Default 5 s. A channel
    /// may override it with [`Channel::SHUTDOWN_GRACE`].
    #[must_use]
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.options.shutdown_grace = grace;
        self
    }

    /// Checks the options, and [`SHUTDOWN_GRACE`](Channel::SHUTDOWN_GRACE) of the channels, against their bounds. Use
    /// it if options come from a configuration. No time may be longer than a day.
    ///
    /// # Errors
    /// An option is out of its bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.options.check()?;
        if self.longpoll.is_none() && !self.longpoll_also_accepted.is_empty() {
            return Err(OptionsError::new("longpoll", "missing", "set if `longpoll_also_accept` is"));
        }
        self.routes.iter().try_for_each(Route::check)
    }

    /// Builds the router, with the socket at `/websocket`, and at `/longpoll` if that is enabled. Nest it under the
    /// path of the socket.
    ///
    /// It takes a [`PubSub`] or something that contains one: `socket.into_router(&presence)` uses the presence's, whose
    /// diffs then reach the sockets.
    ///
    /// Its sockets live as long as the router: when the server drops it, they are closed with 1012.
    ///
    /// # Panics
    /// An option is out of its bounds; [`check`](Self::check) returns this as an error.
    pub fn into_router<S: Clone + Send + Sync + 'static>(self, pubsub: impl Into<PubSub>) -> Router<S> {
        self.into_acceptor(pubsub).router()
    }

    /// Builds an acceptor, for custom transports beside the router.
    ///
    /// # Panics
    /// As [`into_router`](Self::into_router).
    pub fn into_acceptor(self, pubsub: impl Into<PubSub>) -> Acceptor {
        let pubsub = pubsub.into();
        self.check().unwrap_or_else(|error| panic!("{error}"));
        if let Some(observer) = &self.watch.observer {
            self.sockets.note_observer(observer);
        }
        let metrics = pubsub.metrics();
        self.sockets.register(metrics);
        let patterns = self.routes.iter().map(Route::pattern);
        let transports = [WEBSOCKET].into_iter().chain(self.longpoll.is_some().then_some(LONGPOLL));
        let socket_metrics = SocketMetrics::new(metrics, &self.options, patterns, transports);
        let owner = Arc::new(EndpointOwner {
            endpoint: Arc::new(Endpoint {
                connect: self.connect,
                on_refused: self.on_refused,
                subprotocols: self.subprotocols,
                compressing_codecs: match self.options.compress_over {
                    Some(over) => self.codecs.iter().map(|codec| codec.compressing(over)).collect(),
                    None => Vec::new(),
                },
                codecs: self.codecs,
                origins: self.origins,
                budget: self.sockets.budget(&self.options, QueueMetrics::new(metrics, &self.options)),
                metrics: socket_metrics,
                sockets: self.sockets,
                routes: self.routes,
                quota: Quota::new(&self.options, metrics),
                context: Arc::new(SocketContext {
                    options: self.options,
                    watch: self.watch,
                    pubsub: pubsub.clone(),
                    started: Instant::now(),
                }),
            }),
            tasks: TaskGroup::new(),
        });
        let accepted = self.longpoll_also_accepted;
        let longpoll = self.longpoll.map(|tokens| Arc::new(LongPoll::new(owner.clone(), tokens, accepted)));
        Acceptor::new(owner, longpoll)
    }
}

impl<App> fmt::Debug for SocketBuilder<App> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
