//! A channel: what the program does about one topic of one socket.

use std::{error::Error, fmt, future::Future, sync::Arc, time::Duration};

use adsum_pubsub::{IntoPayload, MalformedPayload, Message, Payload, Topic};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};
use tracing::Level;

use crate::{Reply, Socket, Stop, reply::are_same};

/// One topic that one socket has joined.
///
/// Each join is a task of its own: a slow or crashing channel touches no other one, not even of the same
/// socket. Its functions run one at a time, so they have `&mut self` without a lock. A panic in one of them
/// ends this channel alone, and the client joins again.
///
/// ```
/// # use adsum_channels as adsum;
/// use adsum::{Channel, JoinError, JoinResult, Joined, NoParams, Payload, Reply, Socket, Stop, Topic};
///
/// struct Chat;
///
/// impl Channel for Chat {
///     type App = ();
///     type Params = NoParams;
///     type Info = ();
///
///     async fn join(_: &(), topic: &Topic, _: NoParams, _: &mut Socket) -> JoinResult<Self> {
///         if topic.ends_with(":staff") {
///             return Err(JoinError::reason("unauthorized"));
///         }
///         Ok(Joined::new(Self))
///     }
///
///     async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
///         match event {
///             "say" => socket.broadcast("said", payload)?,
///             other => return Err(Stop::unhandled(other)),
///         }
///         Ok(Reply::none())
///     }
/// }
/// ```
pub trait Channel: Send + Sized + 'static {
    /// The program's own state, given once to the [`SocketBuilder`](crate::SocketBuilder) and cloned for each join, as
    /// axum does with a router's state: a struct of handles, or an `Arc`.
    type App: Clone + Send + Sync + 'static;
    /// What a client sends along with its join. [`NoParams`] takes anything; what becomes of parameters that don't decode
    /// says [`invalid_params`](Self::invalid_params).
    type Params: DeserializeOwned + Send;
    /// Messages from the rest of the program, sent with a [`Sender`](crate::Sender).
    type Info: Send + 'static;

    /// The broadcasts of the channel's topic that go to [`handle_out`](Self::handle_out) instead of the client,
    /// by their events. Each costs a wake of every channel in the topic; the others cost none.
    const INTERCEPT: &'static [&'static str] = &[];

    /// At which level a join is logged, with its parameters as far as
    /// [`filter_params`](crate::SocketBuilder::filter_params) lets them through; none: it isn't.
    const LOG_JOIN: Option<Level> = Some(Level::DEBUG);

    /// Likewise, at which level an event of the client is logged when it was handled.
    const LOG_HANDLE_IN: Option<Level> = Some(Level::DEBUG);

    /// How long the channel has to end before it is cut off; none: as long as
    /// [`shutdown_grace`](crate::SocketBuilder::shutdown_grace) says for all.
    const SHUTDOWN_GRACE: Option<Duration> = None;

    /// A client joins. What the socket broadcasts before this returns, the client itself doesn't get.
    ///
    /// # Errors
    /// The client is refused, or gets `{"reason": "join crashed"}` where the error was converted by `?`.
    fn join(
        app: &Self::App,
        topic: &Topic,
        params: Self::Params,
        socket: &mut Socket,
    ) -> impl Future<Output = JoinResult<Self>> + Send;

    /// Returns the parameters to join with if those of the client don't decode. By default the client is refused with
    /// `{"reason": "invalid params"}`.
    ///
    /// ```
    /// # use adsum_channels::{Channel, JoinError, JoinResult, Joined, Socket, Topic};
    /// #[derive(Default, serde::Deserialize)]
    /// #[serde(default)]
    /// struct Config {
    ///     color: String,
    /// }
    ///
    /// struct Room;
    ///
    /// impl Channel for Room {
    ///     type App = ();
    ///     type Params = Config;
    ///     type Info = ();
    ///
    ///     fn invalid_params(_: serde_json::Error) -> Result<Config, JoinError> {
    ///         Ok(Config::default())
    ///     }
    ///
    ///     async fn join(_: &(), _: &Topic, config: Config, _: &mut Socket) -> JoinResult<Self> {
    /// #       let _ = config.color;
    ///         Ok(Joined::new(Self))
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// The client is refused, as by [`join`](Self::join).
    fn invalid_params(error: serde_json::Error) -> Result<Self::Params, JoinError> {
        drop(error);
        Err(JoinError::reason("invalid params"))
    }

    /// The client has heard that it is in: the place to track it and to push what it needs first. It is the first
    /// function that is called after [`join`](Self::join); what the client sends meanwhile waits.
    ///
    /// In Phoenix this is a message that `join` sends to itself, `:after_join`.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] says.
    fn joined(&mut self, socket: &mut Socket) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = socket;
        async { Ok(()) }
    }

    /// The client has sent an event. One that isn't handled ends the channel, as in Phoenix.
    ///
    /// It must not wait for another event of the same client: while its mailbox is full, the client isn't read.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] says.
    fn handle_in(
        &mut self,
        event: &str,
        payload: Payload,
        socket: &mut Socket,
    ) -> impl Future<Output = Result<Reply, Stop>> + Send {
        let _ = (payload, socket);
        let stop = Stop::unhandled(event);
        async { Err(stop) }
    }

    /// The program has sent a message.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] says.
    fn handle_info(
        &mut self,
        info: Self::Info,
        socket: &mut Socket,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = (info, socket);
        async { Ok(()) }
    }

    /// A message of a topic that the channel has subscribed to beside its own.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] says.
    fn handle_message(
        &mut self,
        message: Arc<Message>,
        socket: &mut Socket,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = (message, socket);
        async { Ok(()) }
    }

    /// A broadcast of the channel's topic that [`INTERCEPT`](Self::INTERCEPT) names: to be pushed as it is,
    /// changed, or not at all. It is pushed as it is where nothing else is said.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] says.
    fn handle_out(
        &mut self,
        message: Arc<Message>,
        socket: &mut Socket,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        let pushed = socket.push(message.event(), message.payload().clone());
        async { Ok(pushed?) }
    }

    /// The channel ends. Not called after a panic, nor for a channel that took longer to end than its
    /// [`SHUTDOWN_GRACE`](Self::SHUTDOWN_GRACE).
    fn terminate(&mut self, reason: &EndReason, socket: &mut Socket) -> impl Future<Output = ()> + Send {
        let _ = (reason, socket);
        async {}
    }
}

/// What a channel's [`join`](Channel::join) returns.
pub type JoinResult<C> = Result<Joined<C>, JoinError>;

/// A client has joined.
#[derive(Debug)]
pub struct Joined<C: Channel> {
    pub(crate) channel: C,
    pub(crate) response: Option<Result<Payload, serde_json::Error>>,
    pub(crate) without: Vec<Box<str>>,
}

impl<C: Channel> Joined<C> {
    /// Joins with an empty response.
    pub fn new(channel: C) -> Self {
        Self { channel, response: None, without: Vec::new() }
    }

    /// Keeps broadcasts of an event from this client, and from [`handle_out`](Channel::handle_out), for as long as it
    /// has joined: other clients of the topic get them. What the channel itself pushes is sent.
    ///
    /// A client that may not see who else is there, or doesn't want to know, needs no presence diffs:
    ///
    /// ```
    /// # use adsum_channels::{Channel, Joined};
    /// # fn joined<C: Channel>(channel: C, sees_presence: bool) -> Joined<C> {
    /// let joined = Joined::new(channel);
    /// if sees_presence { joined } else { joined.without("presence_diff") }
    /// # }
    /// ```
    #[must_use]
    pub fn without(mut self, event: impl Into<Box<str>>) -> Self {
        self.without.push(event.into());
        self
    }

    /// What the client gets with the reply.
    #[must_use]
    pub fn reply(mut self, response: impl IntoPayload) -> Self {
        self.response = Some(response.into_payload());
        self
    }

    /// The channel.
    pub fn channel(&self) -> &C {
        &self.channel
    }

    /// What the client gets with the reply. `None` if that is empty, or can't be written as JSON.
    pub fn response(&self) -> Option<&Payload> {
        self.response.as_ref()?.as_ref().ok()
    }
}

/// Responses are the same if they are encoded alike.
impl<C: Channel + PartialEq> PartialEq for Joined<C> {
    fn eq(&self, other: &Self) -> bool {
        let is_same_response = match (&self.response, &other.response) {
            (Some(one), Some(other)) => are_same(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        is_same_response && self.channel == other.channel && self.without == other.without
    }
}

/// A join that fails.
///
/// Any error becomes one by `?`, also a boxed one or one of `anyhow`. It is logged, and the client gets
/// `{"reason": "join crashed"}`; a [`MalformedPayload`] refuses the client with `{"reason": "malformed payload"}`.
pub struct JoinError {
    pub(crate) kind: JoinErrorKind,
}

pub(crate) enum JoinErrorKind {
    Refused(Result<Payload, serde_json::Error>),
    Malformed(MalformedPayload),
    Crashed(Box<dyn Error + Send + Sync>),
}

impl JoinError {
    /// Refuses the client, with a response such as `json!({"reason": "unauthorized"})`.
    pub fn new(response: impl IntoPayload) -> Self {
        Self { kind: JoinErrorKind::Refused(response.into_payload()) }
    }

    /// Refuses the client with `{"reason": reason}`: a word, or what an error says that the client may see
    /// (`presence.check_key(&id).map_err(JoinError::reason)?`).
    pub fn reason(reason: impl fmt::Display) -> Self {
        Self::new(std::collections::BTreeMap::from([("reason", reason.to_string())]))
    }

    /// The join has failed for a reason that the log shows and the client doesn't see, as `?` makes it of any error.
    pub fn crash(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        Self {
            kind: match error.downcast::<MalformedPayload>() {
                Ok(malformed) => JoinErrorKind::Malformed(*malformed),
                Err(error) => JoinErrorKind::Crashed(error),
            },
        }
    }

    /// What a client that is refused gets. `None` if the join has failed, or if the response can't be written as JSON.
    pub fn response(&self) -> Option<&Payload> {
        match &self.kind {
            JoinErrorKind::Refused(response) => response.as_ref().ok(),
            JoinErrorKind::Malformed(_) | JoinErrorKind::Crashed(_) => None,
        }
    }

    /// What the join has failed with, or why its parameters are refused as malformed.
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        match &self.kind {
            JoinErrorKind::Refused(_) => None,
            JoinErrorKind::Malformed(error) => Some(error),
            JoinErrorKind::Crashed(error) => Some(&**error),
        }
    }
}

/// Responses are the same if they are encoded alike, and errors if they say the same.
impl PartialEq for JoinError {
    fn eq(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (JoinErrorKind::Refused(one), JoinErrorKind::Refused(other)) => are_same(one, other),
            (JoinErrorKind::Malformed(one), JoinErrorKind::Malformed(other)) => one == other,
            (JoinErrorKind::Crashed(one), JoinErrorKind::Crashed(other)) => {
                one.to_string() == other.to_string()
            }
            _ => false,
        }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for JoinError {
    fn from(error: E) -> Self {
        Self::crash(error)
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            JoinErrorKind::Refused(response) => f.debug_tuple("Refused").field(response).finish(),
            JoinErrorKind::Malformed(error) => f.debug_tuple("Malformed").field(error).finish(),
            JoinErrorKind::Crashed(error) => f.debug_tuple("Crashed").field(error).finish(),
        }
    }
}

/// Why a channel ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The client has left the topic.
    Left,
    /// The socket is closed, or its connection lost.
    Closed,
    /// The socket is closed as its server goes: see [`Sockets::drain`](crate::Sockets::drain). The client will join
    /// another one.
    Draining,
    /// The client has joined the same topic again on the same socket.
    DuplicateJoin,
    /// The channel stopped by [`Stop::normal`].
    Stopped,
    /// The channel stopped by [`Stop::shutdown`].
    Shutdown,
    /// More was waiting for the channel than its mailbox may hold.
    Overloaded,
    /// The channel failed, or panicked.
    Crashed,
}

/// Join parameters that nobody looks at: an object, an array or whatever else a client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoParams;

impl<'de> Deserialize<'de> for NoParams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Chat(u8);

    impl Channel for Chat {
        type App = ();
        type Params = NoParams;
        type Info = ();

        async fn join(_: &(), topic: &Topic, _: NoParams, _: &mut Socket) -> JoinResult<Self> {
            Err(JoinError::reason(topic))
        }
    }

    #[test]
    fn what_a_join_returns_can_be_looked_at_and_compared() {
        let joined = Joined::new(Chat(1)).reply(json!({"hello": "there"}));
        assert_eq!(joined.channel(), &Chat(1));
        assert!(joined.response().is_some());
        assert_eq!(joined, Joined::new(Chat(1)).reply(json!({"hello": "there"})));
        assert_ne!(joined, Joined::new(Chat(1)));
        assert_ne!(joined, Joined::new(Chat(2)).reply(json!({"hello": "there"})));

        let refused = JoinError::reason("full");
        assert_eq!(refused, JoinError::new(json!({"reason": "full"})));
        assert!(refused.response().is_some() && refused.error().is_none());
        let crashed = JoinError::crash("boom");
        assert!(crashed.response().is_none() && crashed.error().is_some());
        assert_eq!(crashed, JoinError::crash("boom"));
        assert_ne!(crashed, JoinError::crash("bang"));
    }
}
