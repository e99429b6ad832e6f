//! Reports what happens on sockets to an observer and the log.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{
    Payload, Topic,
    log::{cut_name, limited},
    tasks::panic_text,
};
use tokio::time::Instant;
use tracing::Level;

use crate::{
    assigns::Assigns,
    connect::Connect,
    end_reason::EndReason,
    log::{event_at, is_enabled},
    param_filter::ParamFilter,
    refusal::Refusal,
    socket_end::SocketEnd,
};

/// Observes clients, like the telemetry handlers of Phoenix. Set it with
/// [`SocketBuilder::observe`](crate::SocketBuilder::observe).
///
/// It is called in the tasks that serve the clients, after the fact. It must be quick, and must not block.
pub trait Observer: Send + Sync + 'static {
    /// Called when a client has connected or was refused.
    fn connected(&self, connected: &ObservedConnect<'_>) {
        let _ = connected;
    }

    /// Called when a client has joined a topic, or its join has failed.
    fn joined(&self, joined: &ObservedJoin<'_>) {
        let _ = joined;
    }

    /// Called when a channel has handled an event of its client.
    fn handled_in(&self, handled: &ObservedEvent<'_>) {
        let _ = handled;
    }

    /// Called when a client has answered a [ping](crate::SocketBuilder::ping).
    fn round_trip(&self, answered: &ObservedRoundTrip<'_>) {
        let _ = answered;
    }

    /// Called when a joined channel has ended.
    fn left(&self, left: &ObservedLeave<'_>) {
        let _ = left;
    }

    /// Called when a client's socket has closed, after its channels.
    fn disconnected(&self, disconnected: &ObservedDisconnect<'_>) {
        let _ = disconnected;
    }

    /// Called when a client has reached a limit. [`ClientLimit`] describes the effect of each limit.
    fn limited(&self, limited: &ObservedLimit<'_>) {
        let _ = limited;
    }

    /// Called when a drain of sockets begins, and when it is over.
    fn draining(&self, draining: &ObservedDrain) {
        let _ = draining;
    }
}

/// An attempt of a client to connect.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedConnect<'o> {
    /// The request.
    pub request: &'o Connect,
    /// The transport: `websocket`, `longpoll`, or the name of a custom one.
    pub transport: &'o str,
    /// The protocol version that the client requests.
    pub version: &'o str,
    /// The duration of the decision.
    pub duration: Duration,
    /// The decision.
    pub result: Result<&'o Assigns, &'o Refusal>,
}

/// An attempt of a client to join.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedJoin<'o> {
    /// The topic.
    pub topic: &'o Topic,
    /// The type of the channel.
    pub channel: &'static str,
    /// The client's parameters, including secrets.
    pub params: &'o Payload,
    /// The values assigned to the socket.
    pub assigns: &'o Assigns,
    /// The time from the arrival of the join to its reply.
    pub duration: Duration,
    /// The result.
    pub result: JoinOutcome,
}

/// The result of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JoinOutcome {
    /// The client has joined.
    Joined,
    /// The channel has refused the client, or the parameters don't have the expected shape.
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
    /// The event's name, chosen by the client.
    pub event: &'o str,
    /// The payload, including secrets.
    pub payload: &'o Payload,
    /// The values assigned to the socket.
    pub assigns: &'o Assigns,
    /// The duration of the handler.
    pub duration: Duration,
    /// The result.
    pub result: EventOutcome<'o>,
}

/// A client's answer to a ping.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedRoundTrip<'o> {
    /// The values assigned to the socket.
    pub assigns: &'o Assigns,
    /// The time from the ping to its answer. A client can prolong it, but not shorten it.
    pub duration: Duration,
}

/// The result of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventOutcome<'o> {
    /// The handler replied with this status.
    Replied(&'o str),
    /// The handler returned no reply.
    Handled,
    /// The channel stops normally.
    Stopped,
    /// The handler has failed, panicked or was aborted.
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
    /// The values assigned to the socket.
    pub assigns: &'o Assigns,
    /// How long the channel was joined.
    pub duration: Duration,
    /// Why it has ended.
    pub reason: &'o EndReason,
}

/// A socket that has closed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedDisconnect<'o> {
    /// The transport, as in [`ObservedConnect`].
    pub transport: &'static str,
    /// The values assigned to the socket.
    pub assigns: &'o Assigns,
    /// How long the socket was open.
    pub duration: Duration,
    /// How it has ended.
    pub end: SocketEnd,
}

/// A limit that a client has reached.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedLimit<'o> {
    /// The limit.
    pub limit: ClientLimit,
    /// The topic. `None` for a rate.
    pub topic: Option<&'o str>,
    /// The values assigned to the socket.
    pub assigns: &'o Assigns,
}

/// A limit of a connected client. Limits on the number of sockets refuse the connect instead: see [`Refusal::Limit`].
/// The limits of the outbound queue close the socket: see [`SocketEnd::TooSlow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientLimit {
    /// [`max_message_rate`](crate::SocketBuilder::max_message_rate): the client isn't read for a moment.
    MessageRate,
    /// [`max_byte_rate`](crate::SocketBuilder::max_byte_rate): the client isn't read for a moment.
    ByteRate,
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
    /// The number of open sockets.
    pub open: usize,
    /// Whether the drain is over. Sockets may still be open if its timeout has passed.
    pub is_over: bool,
}

/// The observer and the log settings of a router.
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
    /// Whether there is an observer, or events of this level are logged.
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

/// Calls the observer. A panic of the observer doesn't affect the client.
pub(crate) fn tell(observer: &dyn Observer, tell: impl FnOnce(&dyn Observer)) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| tell(observer))) {
        limited!(ERROR, panic = panic_text(&*panic), "an observer of sockets panicked");
    }
}

/// Notifies the observer of a socket's end when it is dropped, however the socket ends.
pub(crate) struct Opened {
    observer: Arc<dyn Observer>,
    assigns: Arc<Assigns>,
    transport: &'static str,
    since: Instant,
    pub(crate) end: SocketEnd,
}

impl Opened {
    /// Returns `None` if there is no observer.
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
