//! The details of a socket that operators see: its id, transport, address and times.

use std::{net::IpAddr, sync::Arc, time::Duration};

use adsum_pubsub::Topic;
use tokio::time::Instant;

use crate::{
    assigns::Assigns,
    context::SocketContext,
    socket_end::SocketEnd,
    transport_name::{LONGPOLL, WEBSOCKET},
};

/// A socket as it is now; from [`SocketProbe::details`](crate::SocketProbe::details).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketDetails {
    /// The [id](crate::Assigns::id) that the program gave it, if it did.
    pub id: Option<Topic>,
    /// The transport: `websocket`, `longpoll`, or the name that a transport of the program's own gave to
    /// [`Acceptor::accept`](crate::Acceptor::accept).
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

/// Kept for each socket, so it is small: times are told from the start of the router.
pub(crate) struct About {
    pub(crate) context: Arc<SocketContext>,
    assigns: Arc<Assigns>,
    address: Option<IpAddr>,
    transport: &'static str,
    opened: Tick,
}

/// Hundredths of a second since the start of a router. They last for 497 days.
#[derive(Clone, Copy)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    fn at(time: Instant, context: &SocketContext) -> Self {
        let hundredths = time.saturating_duration_since(context.started).as_millis() / 10;
        Self(u32::try_from(hundredths).unwrap_or(u32::MAX))
    }

    fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(10 * u64::from(self.0.saturating_sub(earlier.0)))
    }
}

impl About {
    pub(crate) fn new(
        context: Arc<SocketContext>,
        assigns: Arc<Assigns>,
        transport: &'static str,
        address: Option<IpAddr>,
    ) -> Self {
        let opened = Tick::at(Instant::now(), &context);
        Self { context, assigns, address, transport, opened }
    }

    pub(crate) fn tick(&self, time: Instant) -> Tick {
        Tick::at(time, &self.context)
    }

    pub(crate) fn details(&self, heard: Tick, end: Option<SocketEnd>) -> SocketDetails {
        let options = &self.context.options;
        let pinged = options.ping.map(|ping| ping.after + ping.close);
        let silence_limit = match self.transport {
            WEBSOCKET => options.timeout.into_iter().chain(pinged).min(),
            LONGPOLL => Some(options.longpoll_window.mul_f32(1.5)),
            _ => options.timeout,
        };
        let now = self.tick(Instant::now());
        SocketDetails {
            id: self.assigns.socket_id().cloned(),
            transport: self.transport,
            client_address: self.address,
            open_for: now.since(self.opened),
            // Nothing was heard before it opened.
            silent_for: now.since(Tick(heard.0.max(self.opened.0))),
            silence_limit,
            end,
        }
    }
}
