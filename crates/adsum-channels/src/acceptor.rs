//! For transports of a program's own: what the built-in ones are made of as well.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    routing::{MethodRouter, any},
};
use bytes::Bytes;
use http::request::Parts;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    BadMessage, Refusal, SocketEnd, Sockets, Wire, admission,
    connection::Connection,
    endpoint::EndpointOwner,
    longpoll::LongPoll,
    outbound::{Outbound, State},
    sockets::{IDLE_CODE, RESTART_CODE},
    websocket::upgrade,
};

/// Takes in clients, whatever carries their messages: from
/// [`SocketBuilder::into_acceptor`](crate::SocketBuilder::into_acceptor). Clones share all.
///
/// [`router`](Self::router) has the built-in transports. Another one accepts a client, hands over what that client
/// sends, and sends what there is for it:
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
/// What is accepted lives as long as one of the acceptor's clones and routers does: when a server drops the last
/// of them, its sockets are closed with 1012.
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

    /// The router of the built-in transports, as of
    /// [`SocketBuilder::into_router`](crate::SocketBuilder::into_router).
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

    /// The open sockets: those that [`SocketBuilder::sockets`](crate::SocketBuilder::sockets) was given, if it was.
    pub fn sockets(&self) -> &Sockets {
        &self.owner.endpoint.sockets
    }

    /// Decides whether a client may connect, as for any other transport: by the version that its URI asks for
    /// (`vsn`), its `origin` header, and the program's [`connect`](crate::SocketBuilder::connect).
    ///
    /// `transport` names it for observers and the log. A transport that isn't HTTP makes up a request with what
    /// it knows: `http::Request::get("/?vsn=2.0.0&user_id=7")`, say.
    ///
    /// # Errors
    /// The client is refused.
    pub async fn accept(&self, transport: &'static str, request: Parts) -> Result<Client, Refusal> {
        let endpoint = &self.owner.endpoint;
        let admitted = admission::admit(endpoint, request, transport).await;
        let admitted = admitted.map_err(|denied| denied.refusal)?;
        let outbound = Arc::new(Outbound::new(&endpoint.budget, None));
        Ok(Client {
            heard: Instant::now(),
            waits: false,
            connection: Connection::new(endpoint.clone(), admitted, outbound.clone()),
            timeout: endpoint.options.timeout,
            outbound,
            ready: VecDeque::new(),
            shutdown: self.owner.tasks.token(),
        })
    }
}

/// As in Phoenix, a slash too many does no harm: `new Socket("/socket/")` asks for `/socket//websocket`. Each form is a
/// route, since a router with a fallback or a wildcard could not be merged with a program's own.
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

/// A client that was accepted, in the task that serves it.
///
/// Its channels end with [`end`](Self::end). Dropped instead, they are cut off: their presences leave, but they
/// don't get to terminate.
pub struct Client {
    connection: Connection,
    outbound: Arc<Outbound>,
    /// What was taken out of the queue, and is to be sent first.
    ready: VecDeque<Outgoing>,
    /// When the client has last sent something.
    heard: Instant,
    /// It was too fast, and is not to be read.
    waits: bool,
    timeout: Option<Duration>,
    shutdown: CancellationToken,
}

/// What a transport has to do for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Send a message of text.
    Text(Bytes),
    /// Send a message of bytes. A transport that can't leaves it out.
    Binary(Bytes),
    /// Send nothing. The client, which was not [ready](Client::is_ready), may be read again.
    Nothing,
    /// Close, with a code of WebSocket's if the transport has a place for one, and then [`end`](Client::end).
    /// Nothing comes after it.
    Close(u16),
}

impl Client {
    /// Whether the next message of the client should be read. If not, one of its channels has no room for what was
    /// read last, or the client sends faster than its [rate](crate::SocketBuilder::max_message_rate). A transport that
    /// reads on all the same has the channel end as overloaded.
    ///
    /// Once the client may be read again, [`next`](Self::next) says [`Outgoing::Nothing`], so that a `select!` looks
    /// again.
    pub fn is_ready(&self) -> bool {
        self.connection.is_ready()
    }

    /// Handles a message of the client.
    ///
    /// The transport sees to it that it is no longer than it should be: a WebSocket closes with 1009 beyond
    /// [`max_message_bytes`](crate::SocketBuilder::max_message_bytes).
    ///
    /// # Errors
    /// Nobody can make sense of it. A WebSocket closes with 1011 then, as Phoenix does.
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

    /// What there is to do for the client, once there is something. To be awaited again and again until it says
    /// to close: it also looks after the client's channels, and after a client that is silent for longer than the
    /// [`timeout`](crate::SocketBuilder::timeout).
    ///
    /// Cancel safe: nothing is lost by a call that is given up.
    pub async fn next(&mut self) -> Outgoing {
        loop {
            if let Some(outgoing) = self.ready.pop_front() {
                return outgoing;
            }
            let (frames, state) = self.outbound.take();
            // The frame of a close is a WebSocket's affair.
            self.ready.extend(frames.into_iter().filter_map(crate::Frame::into_message));
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

    /// As [`next`](Self::next), for as long as the client reads nothing: messages stay in the socket's bounded queue.
    /// Says [`Outgoing::Nothing`], or to close, as `next` does: a client that never reads is sent away in the end.
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

    /// Looks after the channels until there may be something for the client. Whether it may be read again.
    async fn tend(&mut self) -> bool {
        tokio::select! {
            () = self.outbound.woken() => {}
            () = self.connection.tend() => {
                if self.waits && self.connection.is_ready() {
                    self.waits = false;
                    // That we didn't read is not its silence.
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
        self.connection.end_channels(end_of(&self.outbound));
        self.outbound.shut();
        self.connection.finish().await;
    }
}

/// How a socket has ended whose client says nothing of it.
pub(crate) fn end_of(outbound: &Outbound) -> SocketEnd {
    match outbound.state() {
        State::Closing(code) => SocketEnd::by_server(code),
        State::Open | State::Gone => SocketEnd::Lost,
    }
}

fn close_of(state: State) -> Option<Outgoing> {
    match state {
        State::Open => None,
        State::Closing(code) => Some(Outgoing::Close(code)),
        State::Gone => Some(Outgoing::Close(RESTART_CODE)),
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
