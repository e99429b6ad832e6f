//! The metrics of a router's sockets. The names are in [`adsum_pubsub::metrics::table`].
//!
//! The handles are taken when the router is made, and a count is one addition. The sockets of a transport and the
//! channels of a route are counted by guards, so that however they end, they are counted once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use adsum_pubsub::metrics::{Counter, HighWater, Histogram, Metrics, Readings, Source, table};
use parking_lot::Mutex;

use crate::{
    end_reason::EndReason,
    observe::{ClientLimit, JoinOutcome},
    options::Options,
    refusal::Refusal,
    socket_end::SocketEnd,
};

/// The counts of one router.
pub(crate) struct SocketMetrics {
    metrics: Arc<Metrics>,
    pub(crate) connect_seconds: Arc<Histogram>,
    pub(crate) ping_seconds: Arc<Histogram>,
    pub(crate) messages_received: Arc<Counter>,
    pub(crate) bytes_received: Arc<Counter>,
    pub(crate) most_channels: HighWater,
    pub(crate) most_mailbox: HighWater,
    pub(crate) most_message_bytes: HighWater,
    /// In the order of the router's.
    routes: Box<[Arc<RouteMetrics>]>,
    transports: Mutex<Vec<Arc<TransportMetrics>>>,
}

/// The counts of one route.
pub(crate) struct RouteMetrics {
    pattern: Box<str>,
    /// The channels that clients are in.
    open: AtomicUsize,
    joined: Box<[Arc<Counter>]>,
    left: Box<[Arc<Counter>]>,
    crashed: Arc<Counter>,
    pub(crate) join_seconds: Arc<Histogram>,
    pub(crate) handle_in_seconds: Arc<Histogram>,
}

/// The counts of one transport.
struct TransportMetrics {
    name: &'static str,
    open: AtomicUsize,
    opened: Arc<Counter>,
    closed: Box<[Arc<Counter>]>,
}

impl SocketMetrics {
    /// The series of these transports are zero from the start; those of others begin with their first socket.
    pub(crate) fn new<'p>(
        metrics: &Arc<Metrics>,
        options: &Options,
        patterns: impl Iterator<Item = &'p str>,
        transports: impl Iterator<Item = &'static str>,
    ) -> Arc<Self> {
        let new = Arc::new(Self {
            metrics: metrics.clone(),
            connect_seconds: metrics.histogram(&table::SOCKET_CONNECT_SECONDS, &[]),
            ping_seconds: metrics.histogram(&table::PING_SECONDS, &[]),
            messages_received: metrics.counter(&table::MESSAGES_RECEIVED, &[]),
            bytes_received: metrics.counter(&table::BYTES_RECEIVED, &[]),
            most_channels: HighWater::new("max_channels", Some(options.max_channels)),
            most_mailbox: HighWater::new("max_mailbox", Some(options.max_mailbox)),
            most_message_bytes: HighWater::new("max_message_bytes", Some(options.max_message_bytes)),
            routes: patterns.map(|pattern| Arc::new(RouteMetrics::new(metrics, pattern))).collect(),
            transports: Mutex::default(),
        });
        let source: Arc<dyn Source> = new.clone();
        metrics.register(Arc::downgrade(&source));
        transports.for_each(|name| drop(new.transport(name)));
        new
    }

    pub(crate) fn route(&self, index: usize) -> &Arc<RouteMetrics> {
        &self.routes[index]
    }

    fn transport(&self, name: &'static str) -> Arc<TransportMetrics> {
        let mut transports = self.transports.lock();
        if let Some(known) = transports.iter().find(|transport| transport.name == name) {
            return known.clone();
        }
        let new = Arc::new(TransportMetrics {
            name,
            open: AtomicUsize::new(0),
            opened: self.metrics.counter(&table::SOCKETS_OPENED, &[name]),
            closed: self.metrics.counters(&table::SOCKETS_CLOSED, &[]),
        });
        transports.push(new.clone());
        new
    }

    /// Counts a socket of a transport, until the guard is dropped.
    pub(crate) fn opened(&self, transport: &'static str) -> CountedSocket {
        let transport = self.transport(transport);
        transport.opened.increment();
        transport.open.fetch_add(1, Ordering::Relaxed);
        CountedSocket { transport, end: SocketEnd::Lost }
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        let reason = match refusal {
            Refusal::Version(_) => "version",
            Refusal::Query(_) => "query",
            Refusal::Origin => "origin",
            Refusal::Host => "host",
            Refusal::Subprotocol => "subprotocol",
            Refusal::Draining => "draining",
            Refusal::Program(_) => "program",
            Refusal::Limit(limit) => {
                self.limit_hit(limit.option());
                limit.option()
            }
        };
        self.metrics.add(&table::SOCKETS_REFUSED, &[reason], 1);
    }

    /// A client sent a message that is larger than `max_message_bytes`.
    pub(crate) fn message_too_large(&self) {
        self.most_message_bytes.note_full();
        self.limit_hit("max_message_bytes");
    }

    /// A client wanted more than an option allows.
    pub(crate) fn limit_hit(&self, option: &str) {
        self.metrics.add(&table::LIMITS_HIT, &[option], 1);
    }

    pub(crate) fn limited(&self, limit: ClientLimit) {
        match limit {
            ClientLimit::MessageRate => self.limit_hit("max_message_rate"),
            ClientLimit::ByteRate => self.limit_hit("max_byte_rate"),
            ClientLimit::Mailbox => {
                self.most_mailbox.note_full();
                self.limit_hit("max_mailbox");
            }
            ClientLimit::Channels => {
                self.most_channels.note_full();
                self.limit_hit("max_channels");
            }
            ClientLimit::TopicBytes => self.limit_hit("max_topic_bytes"),
        }
    }
}

impl Source for SocketMetrics {
    fn read(&self, readings: &mut Readings) {
        for transport in &*self.transports.lock() {
            let open = transport.open.load(Ordering::Relaxed);
            readings.add_count(&table::SOCKETS, &[transport.name], open);
        }
        for route in &self.routes {
            readings.add_count(&table::CHANNELS, &[&route.pattern], route.open.load(Ordering::Relaxed));
        }
        for most in [&self.most_channels, &self.most_mailbox, &self.most_message_bytes] {
            most.read(readings);
        }
    }
}

impl RouteMetrics {
    fn new(metrics: &Metrics, pattern: &str) -> Self {
        Self {
            pattern: pattern.into(),
            open: AtomicUsize::new(0),
            joined: metrics.counters(&table::CHANNELS_JOINED, &[pattern]),
            left: metrics.counters(&table::CHANNELS_LEFT, &[pattern]),
            crashed: metrics.counter(&table::CHANNELS_CRASHED, &[pattern]),
            join_seconds: metrics.histogram(&table::CHANNEL_JOIN_SECONDS, &[pattern]),
            handle_in_seconds: metrics.histogram(&table::CHANNEL_HANDLE_IN_SECONDS, &[pattern]),
        }
    }

    pub(crate) fn joined(&self, outcome: JoinOutcome) {
        self.joined[match outcome {
            JoinOutcome::Joined => 0,
            JoinOutcome::Refused => 1,
            JoinOutcome::Crashed => 2,
        }]
        .increment();
    }

    /// Counts a channel, until the guard is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> CountedChannel {
        self.open.fetch_add(1, Ordering::Relaxed);
        CountedChannel { route: self.clone(), left: false }
    }
}

/// A socket that is counted as open.
pub(crate) struct CountedSocket {
    transport: Arc<TransportMetrics>,
    /// How it has ended, as far as is known.
    pub(crate) end: SocketEnd,
}

impl Drop for CountedSocket {
    fn drop(&mut self) {
        self.transport.open.fetch_sub(1, Ordering::Relaxed);
        self.transport.closed[match self.end {
            SocketEnd::Closed(_) => 0,
            SocketEnd::Lost => 1,
            SocketEnd::Silent => 2,
            SocketEnd::TooSlow => 3,
            SocketEnd::BadMessage(_) => 4,
            SocketEnd::Disconnected => 5,
            SocketEnd::Draining => 6,
        }]
        .increment();
    }
}

/// A channel that is counted as open.
pub(crate) struct CountedChannel {
    route: Arc<RouteMetrics>,
    left: bool,
}

impl CountedChannel {
    pub(crate) fn left(mut self, reason: &EndReason) {
        self.count(reason);
    }

    fn count(&mut self, reason: &EndReason) {
        self.left = true;
        self.route.left[match reason {
            EndReason::Left => 0,
            EndReason::Closed => 1,
            EndReason::Draining => 2,
            EndReason::DuplicateJoin => 3,
            EndReason::Stopped => 4,
            EndReason::Shutdown => 5,
            EndReason::Overloaded => 6,
            EndReason::Crashed => 7,
        }]
        .increment();
        if matches!(reason, EndReason::Crashed | EndReason::Overloaded) {
            self.route.crashed.increment();
        }
    }
}

impl Drop for CountedChannel {
    fn drop(&mut self) {
        self.route.open.fetch_sub(1, Ordering::Relaxed);
        // Its task was aborted with the socket.
        if !self.left {
            self.count(&EndReason::Closed);
        }
    }
}

/// The metrics of the queues of a router's sockets.
pub(crate) struct QueueMetrics {
    metrics: Arc<Metrics>,
    pub(crate) messages_sent: Arc<Counter>,
    pub(crate) bytes_sent: Arc<Counter>,
    pub(crate) writes: Arc<Counter>,
    pub(crate) states_conflated: Arc<Counter>,
    pub(crate) most_queue_bytes: HighWater,
    pub(crate) most_total_bytes: HighWater,
}

impl QueueMetrics {
    pub(crate) fn new(metrics: &Arc<Metrics>, options: &Options) -> Arc<Self> {
        let new = Arc::new(Self {
            metrics: metrics.clone(),
            messages_sent: metrics.counter(&table::MESSAGES_SENT, &[]),
            bytes_sent: metrics.counter(&table::BYTES_SENT, &[]),
            writes: metrics.counter(&table::WRITES, &[]),
            states_conflated: metrics.counter(&table::STATES_CONFLATED, &[]),
            most_queue_bytes: HighWater::new("max_queue_bytes", Some(options.max_queue_bytes)),
            most_total_bytes: HighWater::new("max_total_queue_bytes", Some(options.max_total_queue_bytes)),
        });
        let source: Arc<dyn Source> = new.clone();
        metrics.register(Arc::downgrade(&source));
        new
    }

    /// A socket is closed, as too much waited for it, or something that can't be passed on.
    pub(crate) fn overflowed(&self, reason: &'static str) {
        self.metrics.add(&table::SOCKETS_OVERFLOWED, &[reason], 1);
        let limit = match reason {
            "queue" => "max_queue_bytes",
            "total" => "max_total_queue_bytes",
            "nodes" => "queue_bytes",
            _ => "state_timeout",
        };
        self.metrics.add(&table::LIMITS_HIT, &[limit], 1);
    }
}

impl Source for QueueMetrics {
    fn read(&self, readings: &mut Readings) {
        self.most_queue_bytes.read(readings);
        self.most_total_bytes.read(readings);
    }
}
