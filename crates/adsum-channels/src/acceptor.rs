//! Accepts clients for transports of a program's own; the built-in transports use it as well.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    routing::{MethodRouter, any},
};
use http::request::Parts;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    admission,
    connection::Connection,
    endpoint::EndpointOwner,
    frame::{Frame, Outgoing},
    longpoll::LongPoll,
    outbound::{Outbound, OutboundState, Transport},
    refusal::Refusal,
    serializer::{BadMessage, Wire},
    socket_end::{IDLE_CODE, RESTART_CODE},
    sockets::Sockets,
    websocket::upgrade,
};

/// Accepts clients over any transport; from [`SocketBuilder::into_acceptor`](crate::SocketBuilder::into_acceptor).
/// Clones share their state.
///
/// [`router`](Self::router) returns the built-in transports. A custom transport accepts a client, passes on the
/// client's messages, and sends the messages for it:
///
/// ```
/// # async fn read() -> Option<Vec<u8>> { None }
/// # async fn write(_: &[u8]) {}
/// # async fn close(_: u16) {}
/// # use adsum_channels as adsum;
/// use adsum::{Acceptor, Outgoing, Refusal, Wire};
///
/// async fn serve(acceptor: Acceptor, request: http::request::Parts) -> Result<(), Refusal> {
///     let mut client = acceptor.accept("carrier pigeon", request).await?;
///     loop {
///         tokio::select! {
///             message = read(), if client.is_ready() => match message {
///                 Some(message) if client.receive(Wire::Text(&message)).is_ok() => {}
///                 _ => break,
///             },
///             outgoing = client.next() => match outgoing {
///                 Outgoing::Text(text) | Outgoing::Binary(text) => write(&text).await,
///                 Outgoing::Close(code) => {
///                     close(code).await;
///                     break;
///                 }
///                 Outgoing::Nothing => {}
///             },
///         }
///     }
///     client.end().await;
///     Ok(())
/// }
/// ```
///
/// Accepted clients live as long as any clone or router of the acceptor: when a server drops the last of them, its
/// sockets are closed with 1012.
#[derive(Clone)]
pub struct Acceptor {
    owner: Arc<EndpointOwner>,
    longpoll: Option<Arc<LongPoll>>,
}

impl Acceptor {
    pub(crate) fn new(owner: Arc<EndpointOwner>, longpoll: Option<Arc<LongPoll>>) -> Self {
        Self { owner, longpoll }
    }

    #[cfg(test)]
    pub(crate) fn owner(&self) -> &EndpointOwner {
        &self.owner
    }

    /// Returns the router of the built-in transports, as
    /// [`SocketBuilder::into_router`](crate::SocketBuilder::into_router) does.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let owner = self.owner.clone();
        let websocket = any(move |request: Request| {
            let owner = owner.clone();
            async move { upgrade::upgrade(&owner, request).await }
        });
        let router = route(Router::new(), "websocket", &websocket);
        let Some(longpoll) = self.longpoll.clone() else { return router };
        let longpoll = any(move |request: Request| {
            let longpoll = longpoll.clone();
            async move { longpoll.answer(request).await }
        });
        route(router, "longpoll", &longpoll)
    }

    /// The open sockets: the set given to [`SocketBuilder::sockets`](crate::SocketBuilder::sockets), or a set of its
    /// own.
    pub fn sockets(&self) -> &Sockets {
        &self.owner.endpoint.sockets
    }

    /// Decides whether a client may connect, as for any other transport: by the version in its URI (`vsn`), its
    /// `origin` header, and the program's [`connect`](crate::SocketBuilder::connect).
    ///
    /// `transport` is its name for observers and the log. A transport other than HTTP makes up a request, for example
    /// `http::Request::get("/?vsn=2.0.0&user_id=7")`.
    ///
    /// # Errors
    /// The client is refused.
    pub async fn accept(&self, transport: &'static str, request: Parts) -> Result<Client, Refusal> {
        let endpoint = &self.owner.endpoint;
        let admitted = admission::admit(endpoint, request, transport).await;
        let admitted = admitted.map_err(|denied| denied.refusal)?;
        let outbound = Arc::new(Outbound::new(&endpoint.budget, Transport::polled()));
        Ok(Client {
            heard: Instant::now(),
            waits: false,
            connection: Connection::new(endpoint.clone(), admitted, outbound.clone()),
            timeout: endpoint.context.options.timeout,
            outbound,
            ready: VecDeque::new(),
            shutdown: self.owner.tasks.token(),
        })
    }
}

/// Adds a transport's routes. As in Phoenix, an extra slash is accepted: `new Socket("/socket/")` requests
/// `/socket//websocket`. Each form is a route, since a router with a fallback or a wildcard can't be merged with the
/// program's own.
fn route<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    transport: &str,
    to: &MethodRouter<S>,
) -> Router<S> {
    let forms = [("/", ""), ("/", "/"), ("//", ""), ("//", "/")];
    forms.into_iter().fold(router, |router, (before, after)| {
        router.route(&format!("{before}{transport}{after}"), to.clone())
    })
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// An accepted client, owned by the task that serves it.
///
/// [`end`](Self::end) ends its channels. If the client is dropped instead, its channels are aborted: their presences
/// leave, but `terminate` doesn't run.
pub struct Client {
    connection: Connection,
    outbound: Arc<Outbound>,
    /// Messages taken out of the queue, to be sent next.
    ready: VecDeque<Outgoing>,
    /// When the client last sent something.
    heard: Instant,
    /// Whether reading the client is paused.
    waits: bool,
    timeout: Option<Duration>,
    shutdown: CancellationToken,
}

impl Client {
    /// Whether the next message of the client should be read. If not, one of its channels has no room for the last
    /// event, or the client exceeds its [rate](crate::SocketBuilder::max_message_rate). If a transport reads anyway,
    /// the channel ends as overloaded.
    ///
    /// Once the client may be read again, [`next`](Self::next) returns [`Outgoing::Nothing`], so that a `select!`
    /// checks again.
    pub fn is_ready(&self) -> bool {
        self.connection.is_ready()
    }

    /// Handles a message of the client.
    ///
    /// The transport must limit the size of messages: a WebSocket closes with 1009 beyond
    /// [`max_message_bytes`](crate::SocketBuilder::max_message_bytes).
    ///
    /// # Errors
    /// The message is malformed. A WebSocket closes with 1011 then, as Phoenix does.
    pub fn receive(&mut self, message: Wire<'_>) -> Result<(), BadMessage> {
        self.heard = Instant::now();
        let bytes = match &message {
            Wire::Text(bytes) | Wire::Binary(bytes) => bytes.len(),
        };
        let received = self.connection.receive(message);
        self.connection.spend(1, bytes, self.heard);
        self.waits = !self.connection.is_ready();
        received
    }

    /// Waits for the next thing to do for the client. Call it in a loop until it returns [`Outgoing::Close`]: it also
    /// drives the client's channels, and closes a client that is silent for longer than the
    /// [`timeout`](crate::SocketBuilder::timeout).
    ///
    /// Cancel safe: a cancelled call loses nothing.
    pub async fn next(&mut self) -> Outgoing {
        loop {
            if let Some(outgoing) = self.ready.pop_front() {
                return outgoing;
            }
            let (frames, state) = self.outbound.take();
            self.ready.extend(frames.into_iter().filter_map(Frame::into_message));
            self.ready.extend(close_of(state));
            if !self.ready.is_empty() {
                continue;
            }
            self.ready = VecDeque::new();
            if self.tend().await {
                return Outgoing::Nothing;
            }
        }
    }

    /// As [`next`](Self::next), while the client reads nothing: messages stay in the socket's bounded queue. Returns
    /// [`Outgoing::Nothing`] or [`Outgoing::Close`]: a client that never reads is eventually closed.
    ///
    /// Cancel safe.
    pub async fn next_unread(&mut self) -> Outgoing {
        loop {
            if let Some(close) = close_of(self.outbound.state()) {
                return close;
            }
            let deadline = self.outbound.deadline();
            tokio::select! {
                ready = self.tend() => if ready {
                    return Outgoing::Nothing;
                },
                () = until(deadline) => self.outbound.expire(),
            }
        }
    }

    /// Drives the channels until there may be something for the client. Returns whether the client may be read again.
    async fn tend(&mut self) -> bool {
        tokio::select! {
            () = self.outbound.woken() => {}
            () = self.connection.tend() => {
                if self.waits && self.connection.is_ready() {
                    self.waits = false;
                    // The time in which it wasn't read doesn't count as silence.
                    self.heard = Instant::now();
                    return true;
                }
            }
            () = until(self.timeout.map(|timeout| self.heard + timeout)), if !self.waits => self.outbound.close(IDLE_CODE),
            () = self.shutdown.cancelled() => self.outbound.close(RESTART_CODE),
        }
        false
    }

    /// Ends the client's channels, and waits until they have ended.
    pub async fn end(mut self) {
        self.connection.end_channels(self.outbound.server_end());
        self.outbound.shut();
        self.connection.finish().await;
    }
}

fn close_of(state: OutboundState) -> Option<Outgoing> {
    match state {
        OutboundState::Open => None,
        OutboundState::Closing(code) => Some(Outgoing::Close(code)),
        OutboundState::Gone => Some(Outgoing::Close(RESTART_CODE)),
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
