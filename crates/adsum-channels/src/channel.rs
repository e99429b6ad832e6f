//! A channel: the program's code for one topic of one socket.

use std::{error::Error, fmt, future::Future, sync::Arc, time::Duration};

use adsum_pubsub::{IntoPayload, MalformedPayload, Message, Payload, Topic};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};
use tracing::Level;

use crate::{
    end_reason::EndReason,
    reply::{Reply, Stop, are_same},
    socket::Socket,
};

/// A topic that a socket has joined.
///
/// Each join is a task of its own: a slow or crashing channel affects no other one, not even on the same socket. Its
/// functions run one at a time, so they have `&mut self` without a lock. A panic in one of them ends only this channel,
/// and the client rejoins.
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
    /// The parameters of a join. [`NoParams`] accepts anything; [`invalid_params`](Self::invalid_params) handles
    /// parameters that can't be decoded.
    type Params: DeserializeOwned + Send;
    /// Messages from the rest of the program, sent with a [`Sender`](crate::Sender).
    type Info: Send + 'static;

    /// The events whose broadcasts to the channel's topic go to [`handle_out`](Self::handle_out) instead of the client.
    /// Each such broadcast wakes every channel in the topic; others wake none.
    const INTERCEPT: &'static [&'static str] = &[];

    /// The level at which joins are logged, with parameters filtered by
    /// [`filter_params`](crate::SocketBuilder::filter_params). `None` to log none.
    const LOG_JOIN: Option<Level> = Some(Level::DEBUG);

    /// The level at which handled client events are logged. `None` to log none.
    const LOG_HANDLE_IN: Option<Level> = Some(Level::DEBUG);

    /// How long the channel has to end before it is aborted. `None` for the socket's
    /// [`shutdown_grace`](crate::SocketBuilder::shutdown_grace).
    const SHUTDOWN_GRACE: Option<Duration> = None;

    /// Called when a client joins. The client doesn't get broadcasts made before this returns.
    ///
    /// # Errors
    /// The client is refused, or gets `{"reason": "join crashed"}` if the error was converted by `?`.
    fn join(
        app: &Self::App,
        topic: &Topic,
        params: Self::Params,
        socket: &mut Socket,
    ) -> impl Future<Output = JoinResult<Self>> + Send;

    /// Returns the parameters to join with if those of the client can't be decoded. By default the client is refused
    /// with `{"reason": "invalid params"}`.
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

    /// Called once the client has the reply to its join. Track the client and push its initial data here. It is the
    /// first function called after [`join`](Self::join); events of the client wait meanwhile.
    ///
    /// In Phoenix this is a message that `join` sends to itself, `:after_join`.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] specifies.
    fn joined(&mut self, socket: &mut Socket) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = socket;
        async { Ok(()) }
    }

    /// Called when the client has sent an event. An unhandled event ends the channel, as in Phoenix.
    ///
    /// It must not wait for another event of the same client: while its mailbox is full, the client isn't read.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] specifies.
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

    /// Called when the program has sent a message.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] specifies.
    fn handle_info(
        &mut self,
        info: Self::Info,
        socket: &mut Socket,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = (info, socket);
        async { Ok(()) }
    }

    /// Called with a message of an extra topic that the channel has subscribed to.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] specifies.
    fn handle_message(
        &mut self,
        message: Arc<Message>,
        socket: &mut Socket,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = (message, socket);
        async { Ok(()) }
    }

    /// Called with a broadcast to the channel's topic whose event is in [`INTERCEPT`](Self::INTERCEPT). Push it, change
    /// it, or drop it. By default it is pushed unchanged.
    ///
    /// # Errors
    /// The channel ends as the [`Stop`] specifies.
    fn handle_out(
        &mut self,
        message: Arc<Message>,
        socket: &mut Socket,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        let pushed = socket.push(message.event(), message.payload().clone());
        async { Ok(pushed?) }
    }

    /// Called when the channel ends. Not called after a panic, nor if the channel took longer to end than its
    /// [`SHUTDOWN_GRACE`](Self::SHUTDOWN_GRACE).
    fn terminate(&mut self, reason: &EndReason, socket: &mut Socket) -> impl Future<Output = ()> + Send {
        let _ = (reason, socket);
        async {}
    }
}

/// The result of a channel's [`join`](Channel::join).
pub type JoinResult<C> = Result<Joined<C>, JoinError>;

/// A successful join.
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

    /// Excludes this client, and [`handle_out`](Channel::handle_out), from broadcasts of an event while it is joined.
    /// Other clients of the topic get them. Pushes of the channel itself are sent.
    ///
    /// A client that may not see the presences, or doesn't need them, gets no presence diffs:
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

    /// Sets the response to the join.
    #[must_use]
    pub fn reply(mut self, response: impl IntoPayload) -> Self {
        self.response = Some(response.into_payload());
        self
    }

    /// The channel.
    pub fn channel(&self) -> &C {
        &self.channel
    }

    /// The response to the join. `None` if it is empty, or can't be encoded as JSON.
    pub fn response(&self) -> Option<&Payload> {
        self.response.as_ref()?.as_ref().ok()
    }
}

/// Responses are equal if their encodings are.
impl<C: Channel + PartialEq> PartialEq for Joined<C> {
    fn eq(&self, other: &Self) -> bool {
        let is_same_response = match (&self.response, &other.response) {
            (Some(one), Some(other)) => are_same(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        is_same_response && self.channel == other.channel && self.without == other.without
    }
}

/// A failed join.
///
/// `?` converts any error, including boxed errors and those from `anyhow`. The error is logged, and the client gets
/// `{"reason": "join crashed"}`; a [`MalformedPayload`] refuses the client with
/// `{"reason": "malformed payload", "at": ".."}`.
pub struct JoinError {
    pub(crate) kind: JoinErrorKind,
}

pub(crate) enum JoinErrorKind {
    Refused(Result<Payload, serde_json::Error>),
    Malformed(Box<MalformedPayload>),
    Crashed(Box<dyn Error + Send + Sync>),
}

impl JoinError {
    /// Refuses the client, with a response such as `json!({"reason": "unauthorized"})`.
    pub fn new(response: impl IntoPayload) -> Self {
        Self { kind: JoinErrorKind::Refused(response.into_payload()) }
    }

    /// Refuses the client with `{"reason": reason}`: a word, or the text of an error that the client may see
    /// (`presence.check_key(&id).map_err(JoinError::reason)?`).
    pub fn reason(reason: impl fmt::Display) -> Self {
        Self::new(std::collections::BTreeMap::from([("reason", reason.to_string())]))
    }

    /// Fails the join for a reason that is logged but not sent to the client, as `?` does with any error.
    pub fn crash(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        Self {
            kind: match error.downcast::<MalformedPayload>() {
                Ok(malformed) => JoinErrorKind::Malformed(malformed),
                Err(error) => JoinErrorKind::Crashed(error),
            },
        }
    }

    /// The response to a refused client. `None` if the join crashed, or if the response can't be encoded as JSON.
    pub fn response(&self) -> Option<&Payload> {
        match &self.kind {
            JoinErrorKind::Refused(response) => response.as_ref().ok(),
            JoinErrorKind::Malformed(_) | JoinErrorKind::Crashed(_) => None,
        }
    }

    /// The error that the join failed with, or why its parameters are malformed.
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        match &self.kind {
            JoinErrorKind::Refused(_) => None,
            JoinErrorKind::Malformed(error) => Some(error),
            JoinErrorKind::Crashed(error) => Some(&**error),
        }
    }
}

/// Responses are equal if their encodings are, and errors if their texts are.
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

/// Join parameters that are ignored: an object, an array or anything else.
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
    fn the_result_of_a_join_can_be_looked_at_and_compared() {
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
