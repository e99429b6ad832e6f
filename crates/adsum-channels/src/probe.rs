//! One open socket, as operators see it.

use std::{fmt, net::IpAddr, sync::Arc, sync::Weak, time::Duration};

use adsum_pubsub::Topic;
use tokio::time::Instant;

use crate::{
    admission::LONGPOLL, assigns::Assigns, endpoint::Endpoint, observe::SocketEnd, outbound::Outbound,
    trace::SocketTrace, websocket::WEBSOCKET,
};

/// A handle to the socket of a channel, for operators; from [`Socket::probe`](crate::Socket::probe). It keeps no socket
/// open. Clones are handles to the same socket.
#[derive(Clone)]
pub struct SocketProbe(Weak<Outbound>);

/// A socket as it is now; from [`SocketProbe::details`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketDetails {
    /// The [id](crate::Assigns::id) that the program gave it, if it did.
    pub id: Option<Topic>,
    /// The transport: `websocket`, `longpoll`, or `other` for a transport of the program's own.
    pub transport: &'static str,
    /// The client's address, as [`Connect::client_address`](crate::Connect::client_address) tells it.
    pub client_address: Option<IpAddr>,
    /// How long it has been open, or was.
    pub open_for: Duration,
    /// How long ago the client was heard for the last time: any byte of a WebSocket counts, the answer to a ping too.
    pub silent_for: Duration,
    /// The silence after which the server closes it. `None`: never.
    pub silence_limit: Option<Duration>,
    /// How it ended. `None` if it is open.
    pub end: Option<SocketEnd>,
}

impl SocketProbe {
    pub(crate) fn new(outbound: &Arc<Outbound>) -> Self {
        Self(Arc::downgrade(outbound))
    }

    /// The socket as it is now. `None` once it is gone, channels included.
    pub fn details(&self) -> Option<SocketDetails> {
        self.0.upgrade()?.details()
    }

    /// Watches the messages of the socket, in both directions, until the trace is dropped or the socket is gone. A
    /// socket has one trace at a time: a new one ends the one before. `None` if the socket is gone.
    ///
    /// A socket that nobody watches pays a comparison for each message.
    pub fn trace(&self) -> Option<SocketTrace> {
        let outbound = self.0.upgrade()?;
        let filter = outbound.about()?.endpoint.watch.filter.clone();
        Some(SocketTrace::start(&outbound, filter))
    }
}

impl fmt::Debug for SocketProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketProbe").field(&self.details()).finish()
    }
}

/// Kept for each socket, so it is small: times are told from the start of the endpoint.
pub(crate) struct About {
    pub(crate) endpoint: Arc<Endpoint>,
    assigns: Arc<Assigns>,
    address: Option<IpAddr>,
    carrier: Carrier,
    opened: Tick,
}

/// The transport of a socket.
#[derive(Clone, Copy)]
enum Carrier {
    WebSocket,
    LongPoll,
    Other,
}

/// Hundredths of a second since the start of an endpoint. They last for 497 days.
#[derive(Clone, Copy)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    fn at(time: Instant, endpoint: &Endpoint) -> Self {
        let hundredths = time.saturating_duration_since(endpoint.started).as_millis() / 10;
        Self(u32::try_from(hundredths).unwrap_or(u32::MAX))
    }

    fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(10 * u64::from(self.0.saturating_sub(earlier.0)))
    }
}

impl About {
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        assigns: Arc<Assigns>,
        transport: &'static str,
        address: Option<IpAddr>,
    ) -> Self {
        let carrier = match transport {
            WEBSOCKET => Carrier::WebSocket,
            LONGPOLL => Carrier::LongPoll,
            _ => Carrier::Other,
        };
        let opened = Tick::at(Instant::now(), &endpoint);
        Self { endpoint, assigns, address, carrier, opened }
    }

    pub(crate) fn tick(&self, time: Instant) -> Tick {
        Tick::at(time, &self.endpoint)
    }

    pub(crate) fn details(&self, heard: Tick, end: Option<SocketEnd>) -> SocketDetails {
        let options = &self.endpoint.options;
        let pinged = options.ping.map(|ping| ping.after + ping.close);
        let (transport, silence_limit) = match self.carrier {
            Carrier::WebSocket => (WEBSOCKET, options.timeout.into_iter().chain(pinged).min()),
            Carrier::LongPoll => (LONGPOLL, Some(options.longpoll_window.mul_f32(1.5))),
            Carrier::Other => ("other", options.timeout),
        };
        let now = self.tick(Instant::now());
        SocketDetails {
            id: self.assigns.socket_id().cloned(),
            transport,
            client_address: self.address,
            open_for: now.since(self.opened),
            // Nothing was heard before it opened.
            silent_for: now.since(Tick(heard.0.max(self.opened.0))),
            silence_limit,
            end,
        }
    }
}

impl SocketEnd {
    /// The end as a number, which is never 0.
    pub(crate) fn to_bits(self) -> u32 {
        let (kind, code) = match self {
            Self::Closed(code) => (1, code),
            Self::Lost => (2, 0),
            Self::Silent => (3, 0),
            Self::TooSlow => (4, 0),
            Self::BadMessage(code) => (5, code),
            Self::Disconnected => (6, 0),
            Self::Draining => (7, 0),
        };
        kind << 16 | u32::from(code)
    }

    /// The end of which [`to_bits`](Self::to_bits) made a number.
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        let code = (bits & 0xffff) as u16;
        Some(match bits >> 16 {
            1 => Self::Closed(code),
            2 => Self::Lost,
            3 => Self::Silent,
            4 => Self::TooSlow,
            5 => Self::BadMessage(code),
            6 => Self::Disconnected,
            7 => Self::Draining,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_as_it_was_kept() {
        let ends = [
            SocketEnd::Closed(1001),
            SocketEnd::Lost,
            SocketEnd::Silent,
            SocketEnd::TooSlow,
            SocketEnd::BadMessage(1011),
            SocketEnd::Disconnected,
            SocketEnd::Draining,
        ];
        for end in ends {
            assert_eq!(SocketEnd::from_bits(end.to_bits()), Some(end));
        }
        assert_eq!(SocketEnd::from_bits(0), None);
    }
}
