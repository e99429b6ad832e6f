//! How a program watches its sockets: an observer, and the log.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{Payload, Topic, tasks::panic_text};
use tokio::time::Instant;
use tracing::Level;

use crate::{
    Assigns, Connect, EndReason, ParamFilter, Refusal,
    disconnect::DISCONNECT_CODE,
    log::{cut_name, event_at, is_enabled, limited},
    outbound::OVERFLOW_CODE,
    sockets::{IDLE_CODE, RESTART_CODE},
};

/// Told of what clients do, as the listeners of Phoenix's telemetry are. Given to
/// [`SocketBuilder::observe`](crate::SocketBuilder::observe).
///
/// It is called in the tasks that serve the clients, after the fact: it must be quick, and not block.
pub trait Observer: Send + Sync + 'static {
    /// A client has connected or was refused.
    fn connected(&self, connected: &ObservedConnect<'_>) {
        let _ = connected;
    }

    /// A client has joined a topic, or its join has failed.
    fn joined(&self, joined: &ObservedJoin<'_>) {
        let _ = joined;
    }

    /// A channel has handled an event of its client.
    fn handled_in(&self, handled: &ObservedEvent<'_>) {
        let _ = handled;
    }

    /// A client has answered a [ping](crate::SocketBuilder::ping).
    fn round_trip(&self, answered: &ObservedRoundTrip<'_>) {
        let _ = answered;
    }

    /// A channel that was joined has ended.
    fn left(&self, left: &ObservedLeave<'_>) {
        let _ = left;
    }

    /// A client's socket has closed, and its channels before it.
    fn disconnected(&self, disconnected: &ObservedDisconnect<'_>) {
        let _ = disconnected;
    }

    /// A client asks for more than it may have. What becomes of it says [`ClientLimit`].
    fn limited(&self, limited: &ObservedLimit<'_>) {
        let _ = limited;
    }

    /// The sockets are drained: told as it begins, and when it is over.
    fn draining(&self, draining: &ObservedDrain) {
        let _ = draining;
    }
}

/// A client that asked to connect.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedConnect<'o> {
    /// The request.
    pub request: &'o Connect,
    /// What carries the messages: `websocket`, `longpoll`, or the name of a transport of the program's own.
    pub transport: &'o str,
    /// The version of the protocol that the client asks for.
    pub version: &'o str,
    /// How long it took to decide.
    pub duration: Duration,
    /// What came of it.
    pub result: Result<&'o Assigns, &'o Refusal>,
}

/// A client that asked to join.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedJoin<'o> {
    /// The topic.
    pub topic: &'o Topic,
    /// The type of the channel.
    pub channel: &'static str,
    /// What the client has sent along, secrets included.
    pub params: &'o Payload,
    /// What the program knows of the socket.
    pub assigns: &'o Assigns,
    /// From the arrival of the join to its reply.
    pub duration: Duration,
    /// What came of it.
    pub result: JoinOutcome,
}

/// What came of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JoinOutcome {
    /// The client is in.
    Joined,
    /// The channel has refused it, or its parameters don't have the shape that the channel asks for.
    Refused,
    /// The channel's `join` has failed, panicked, or taken too long.
    Crashed,
}

/// An event of a client that a channel has handled.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedEvent<'o> {
    /// The topic.
    pub topic: &'o Topic,
    /// The type of the channel.
    pub channel: &'static str,
    /// The event's name, which is the client's.
    pub event: &'o str,
    /// What it carries, secrets included.
    pub payload: &'o Payload,
    /// What the program knows of the socket.
    pub assigns: &'o Assigns,
    /// How long the channel took.
    pub duration: Duration,
    /// What came of it.
    pub result: EventOutcome<'o>,
}

/// A client that has answered a ping.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedRoundTrip<'o> {
    /// What the program knows of the socket.
    pub assigns: &'o Assigns,
    /// From the ping to its answer. Clients can delay it, but not shorten it.
    pub duration: Duration,
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventOutcome<'o> {
    /// It was answered with this status.
    Replied(&'o str),
    /// It was handled, and is not answered by the handler.
    Handled,
    /// The channel ends in good order.
    Stopped,
    /// The handler has failed or panicked, or was cut off.
    Crashed,
}

/// A channel that has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedLeave<'o> {
    /// The topic.
    pub topic: &'o Topic,
    /// The type of the channel.
    pub channel: &'static str,
    /// What the program knows of the socket.
    pub assigns: &'o Assigns,
    /// How long the client was in.
    pub duration: Duration,
    /// Why it has ended.
    pub reason: &'o EndReason,
}

/// A socket that has closed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedDisconnect<'o> {
    /// What has carried the messages, as at the connect.
    pub transport: &'static str,
    /// What the program knows of the socket.
    pub assigns: &'o Assigns,
    /// How long it was open.
    pub duration: Duration,
    /// How it has ended.
    pub end: SocketEnd,
}

/// How a socket has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketEnd {
    /// The client has closed it, with this code of WebSocket's.
    Closed(u16),
    /// The connection is lost, or a client of long poll polls no more.
    Lost,
    /// The client was silent for longer than the [`timeout`](crate::SocketBuilder::timeout), or took too long to end a
    /// message.
    Silent,
    /// The client read too slowly for what waited to be sent to it.
    TooSlow,
    /// The client sent something that nobody can make sense of. It was closed with this code.
    BadMessage(u16),
    /// It was told to [`disconnect`](adsum_pubsub::PubSub::disconnect).
    Disconnected,
    /// The server is drained, or ends.
    Draining,
}

impl SocketEnd {
    /// The end of a socket that the server has closed.
    pub(crate) fn by_server(code: u16) -> Self {
        match code {
            IDLE_CODE => Self::Silent,
            OVERFLOW_CODE => Self::TooSlow,
            DISCONNECT_CODE => Self::Disconnected,
            RESTART_CODE => Self::Draining,
            code => Self::BadMessage(code),
        }
    }
}

/// A client that asked for more than it may have.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedLimit<'o> {
    /// Of what.
    pub limit: ClientLimit,
    /// The topic. `None` for a rate.
    pub topic: Option<&'o str>,
    /// What the program knows of the socket.
    pub assigns: &'o Assigns,
}

/// A limit that a connected client has reached. Those of sockets refuse the connect: see
/// [`Refusal::Limit`]; one for what waits to be sent ends the socket: see [`SocketEnd::TooSlow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientLimit {
    /// [`max_message_rate`](crate::SocketBuilder::max_message_rate) or
    /// [`max_byte_rate`](crate::SocketBuilder::max_byte_rate): the client isn't read for a moment.
    Rate,
    /// [`max_mailbox`](crate::SocketBuilder::max_mailbox): the client isn't read until its channel has room, for
    /// [`mailbox_timeout`](crate::SocketBuilder::mailbox_timeout) at most.
    Mailbox,
    /// [`max_channels`](crate::SocketBuilder::max_channels): the join is refused.
    Channels,
    /// [`max_topic_bytes`](crate::SocketBuilder::max_topic_bytes): the join is refused.
    TopicBytes,
}

/// A drain of sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservedDrain {
    /// How many sockets are open now.
    pub open: usize,
    /// Whether it is over: with sockets open yet, since its time is up.
    pub is_over: bool,
}

/// Who watches the sockets of a router.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) filter: ParamFilter,
    pub(crate) log_connect: Option<Level>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { observer: None, filter: ParamFilter::default(), log_connect: Some(Level::DEBUG) }
    }
}

impl Watch {
    /// Whether there is anybody to be told what would be logged at this level.
    pub(crate) fn is_watched(&self, level: Option<Level>) -> bool {
        self.observer.is_some() || level.is_some_and(is_enabled)
    }

    pub(crate) fn connected(&self, connected: &ObservedConnect<'_>) {
        if let (Some(level), Ok(_)) = (self.log_connect.filter(|level| is_enabled(*level)), connected.result)
        {
            event_at!(
                level,
                transport = connected.transport,
                version = %cut_name(connected.version),
                duration = ?connected.duration,
                params = self.filter.show_query(connected.request.uri()),
                "connected"
            );
        }
        self.tell(|observer| observer.connected(connected));
    }

    pub(crate) fn joined(&self, level: Option<Level>, joined: &ObservedJoin<'_>) {
        if let Some(level) = level.filter(|level| is_enabled(*level)) {
            event_at!(
                level,
                topic = %cut_name(joined.topic),
                channel = joined.channel,
                result = ?joined.result,
                duration = ?joined.duration,
                params = self.filter.show(joined.params),
                "joined"
            );
        }
        self.tell(|observer| observer.joined(joined));
    }

    pub(crate) fn handled_in(&self, level: Option<Level>, handled: &ObservedEvent<'_>) {
        if let Some(level) = level.filter(|level| is_enabled(*level)) {
            event_at!(
                level,
                topic = %cut_name(handled.topic),
                channel = handled.channel,
                event = %cut_name(handled.event),
                result = ?handled.result,
                duration = ?handled.duration,
                params = self.filter.show(handled.payload),
                "handled"
            );
        }
        self.tell(|observer| observer.handled_in(handled));
    }

    pub(crate) fn round_trip(&self, answered: &ObservedRoundTrip<'_>) {
        self.tell(|observer| observer.round_trip(answered));
    }

    pub(crate) fn left(&self, level: Option<Level>, left: &ObservedLeave<'_>) {
        if let Some(level) = level.filter(|level| is_enabled(*level)) {
            event_at!(
                level,
                topic = %cut_name(left.topic),
                channel = left.channel,
                reason = ?left.reason,
                duration = ?left.duration,
                "left"
            );
        }
        self.tell(|observer| observer.left(left));
    }

    pub(crate) fn limited(&self, limited: &ObservedLimit<'_>) {
        self.tell(|observer| observer.limited(limited));
    }

    fn tell(&self, tell_it: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            tell(&**observer, tell_it);
        }
    }
}

/// A panic of the observer's is not the client's matter.
pub(crate) fn tell(observer: &dyn Observer, tell: impl FnOnce(&dyn Observer)) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| tell(observer))) {
        limited!(ERROR, panic = panic_text(&*panic), "an observer of sockets panicked");
    }
}

/// An open socket, as its observer knows it. However the socket ends, the observer hears of it as this is dropped.
pub(crate) struct Opened {
    observer: Arc<dyn Observer>,
    assigns: Arc<Assigns>,
    transport: &'static str,
    since: Instant,
    pub(crate) end: SocketEnd,
}

impl Opened {
    /// `None` if nobody watches.
    pub(crate) fn new(watch: &Watch, assigns: &Arc<Assigns>, transport: &'static str) -> Option<Box<Self>> {
        let observer = watch.observer.clone()?;
        let (assigns, since) = (assigns.clone(), Instant::now());
        Some(Box::new(Self { observer, assigns, transport, since, end: SocketEnd::Lost }))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Self { observer, assigns, transport, since, end } = self;
        let duration = since.elapsed();
        let observed = ObservedDisconnect { transport, assigns, duration, end: *end };
        tell(&**observer, |observer| observer.disconnected(&observed));
    }
}
