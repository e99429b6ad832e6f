//! How a program watches its sockets: an observer, and the log.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{Payload, Topic, tasks::panic_text};
use tracing::Level;

use crate::{
    Assigns, Connect, ParamFilter, Refusal,
    log::{cut_name, event_at, is_enabled, limited},
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
    pub result: JoinResult,
}

/// What came of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JoinResult {
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
    pub result: EventResult<'o>,
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
pub enum EventResult<'o> {
    /// It was answered with this status.
    Replied(&'o str),
    /// It was handled, and is not answered by the handler.
    Handled,
    /// The channel ends in good order.
    Stopped,
    /// The handler has failed or panicked, or was cut off.
    Crashed,
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

    /// A panic of the observer's is not the client's matter.
    fn tell(&self, tell: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer
            && let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| tell(&**observer)))
        {
            limited!(ERROR, panic = panic_text(&*panic), "an observer of sockets panicked");
        }
    }
}
