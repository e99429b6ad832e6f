//! The set of open sockets, and how it is drained when the server shuts down.

use std::{
    collections::HashMap,
    fmt, ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use adsum_pubsub::{
    bounds::{MAX_TIME, OptionsError, within},
    log::limited,
    metrics::{Metrics, Readings, Source, table},
};
use http::Extensions;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    metrics::QueueMetrics,
    observe::{ObservedDrain, Observer, tell},
    options::Options,
    outbound::{Budget, Outbound, Total},
    quota::Counted,
    socket_end::RESTART_CODE,
};

/// Default number of sockets to close at once.
pub const DEFAULT_DRAIN_BATCH: usize = 10_000;
/// Default time from one batch to the next.
pub const DEFAULT_DRAIN_INTERVAL: Duration = Duration::from_secs(2);
/// Default timeout of a whole drain.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The open sockets of one or more routers; see [`SocketBuilder::sockets`](crate::SocketBuilder::sockets). Clones share
/// them.
///
/// Before a server stops it drains them, so that their clients reconnect to other servers batch by batch:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # use adsum_channels as adsum;
/// use adsum::{Drain, PubSub, SocketBuilder, Sockets};
///
/// let sockets = Sockets::new();
/// let socket = SocketBuilder::new(()).sockets(&sockets);
/// let site: axum::Router = axum::Router::new().nest("/socket", socket.into_router(PubSub::local()));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
///
/// let signal = async {}; // for example, SIGTERM
/// adsum::serve(listener, site).until(signal).await?; // drains its sockets on the signal
/// assert!(sockets.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// With another server, call [`drain`](Self::drain) when it stops.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    draining: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Weak<Outbound>>>,
    /// The total size of their outbound queues.
    total: Arc<Total>,
    /// Whether a task is closing sockets because the total is exceeded.
    relieving: AtomicBool,
    /// Notified when a socket has closed.
    closed: Notify,
    /// The observers of the routers of these sockets.
    observers: Mutex<Vec<Weak<dyn Observer>>>,
}

/// Options of a drain.
///
/// A drain is the last thing that a server does, so it clamps its options instead of failing: a batch has at least one
/// socket, and no time is longer than a day. [`check`](Self::check) refuses other values when the program starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Drain {
    /// The number of sockets to close at once. Default [`DEFAULT_DRAIN_BATCH`] (10,000).
    pub batch: usize,
    /// The time from one batch to the next. Default [`DEFAULT_DRAIN_INTERVAL`] (2 s).
    pub interval: Duration,
    /// The timeout of the whole drain. Default [`DEFAULT_DRAIN_TIMEOUT`] (30 s).
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { batch: DEFAULT_DRAIN_BATCH, interval: DEFAULT_DRAIN_INTERVAL, timeout: DEFAULT_DRAIN_TIMEOUT }
    }
}

impl Drain {
    /// Sets [`batch`](Self#structfield.batch).
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Sets [`interval`](Self#structfield.interval).
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets [`timeout`](Self#structfield.timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Checks that a batch has at least one socket, and that no time is longer than a day.
    ///
    /// # Errors
    /// An option is out of these bounds.
    pub fn check(&self) -> Result<(), OptionsError> {
        within("batch", self.batch, 1, usize::MAX)?;
        within("interval", self.interval, Duration::ZERO, MAX_TIME)?;
        within("timeout", self.timeout, Duration::ZERO, MAX_TIME)
    }

    fn clamped(self) -> Self {
        Self {
            batch: self.batch.max(1),
            interval: self.interval.min(MAX_TIME),
            timeout: self.timeout.min(MAX_TIME),
        }
    }
}

impl Source for Inner {
    fn read(&self, readings: &mut Readings) {
        let total = self.total.bytes();
        readings.add_count(&table::QUEUE_BYTES, &[], total);
        let mut most = 0;
        // As a rule nothing waits, and no socket has to be looked at.
        if total > 0 {
            let open: Vec<_> = self.open.lock().values().filter_map(Weak::upgrade).collect();
            most = open.iter().map(|outbound| outbound.waiting_bytes()).max().unwrap_or(0);
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        readings.max(&table::QUEUE_BYTES_MAX, &[], most as f64);
    }
}

impl Sockets {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of open sockets.
    pub fn len(&self) -> usize {
        self.0.open.lock().len()
    }

    /// Whether no socket is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of bytes queued for clients that don't accept them at once. Bytes shared by several sockets are
    /// counted once. [`SocketBuilder::max_total_queue_bytes`](crate::SocketBuilder::max_total_queue_bytes) limits it.
    pub fn queued_bytes(&self) -> usize {
        self.0.total.bytes()
    }

    /// Closes all sockets with 1012, batch by batch, and waits until they are closed. Returns how many are still open
    /// at the timeout.
    ///
    /// From its start, new sockets are refused with 503, and a join closes its socket instead of getting a reply.
    /// Clients get neither `phx_close`, after which they would not rejoin, nor `phx_error`: channels end with their
    /// socket.
    pub async fn drain(&self, drain: Drain) -> usize {
        let drain = drain.clamped();
        self.refuse_new();
        self.tell_drain(false);
        let _ = timeout(drain.timeout, async {
            let open: Vec<_> = self.0.open.lock().values().cloned().collect();
            for (index, batch) in open.chunks(drain.batch).enumerate() {
                if index > 0 {
                    sleep(drain.interval).await;
                }
                tracing::info!(sockets = batch.len(), of = open.len(), "draining");
                for outbound in batch.iter().filter_map(Weak::upgrade) {
                    outbound.close(RESTART_CODE);
                }
            }
            loop {
                // Created before the check, so that no notification is missed.
                let closed = self.0.closed.notified();
                if self.is_empty() {
                    break;
                }
                closed.await;
            }
        })
        .await;
        self.tell_drain(true)
    }

    /// Reports the number of open sockets to the observers, and returns it.
    fn tell_drain(&self, is_over: bool) -> usize {
        let observed = ObservedDrain { open: self.len(), is_over };
        let observers: Vec<_> = self.0.observers.lock().iter().filter_map(Weak::upgrade).collect();
        for observer in observers {
            tell(&*observer, |observer| observer.draining(&observed));
        }
        observed.open
    }

    /// Adds an observer of drains of these sockets.
    pub(crate) fn note_observer(&self, observer: &Arc<dyn Observer>) {
        let mut observers = self.0.observers.lock();
        if !observers.iter().any(|known| ptr::addr_eq(known.as_ptr(), Arc::as_ptr(observer))) {
            observers.retain(|known| known.strong_count() > 0);
            observers.push(Arc::downgrade(observer));
        }
    }

    /// Has what waits in them read with the metrics of a node.
    pub(crate) fn register(&self, metrics: &Metrics) {
        let source: Arc<dyn Source> = self.0.clone();
        metrics.register(Arc::downgrade(&source));
    }

    /// The bounds of the queues of a router whose sockets are added to this set.
    pub(crate) fn budget(&self, options: &Options, metrics: Arc<QueueMetrics>) -> Arc<Budget> {
        let sockets = self.clone();
        let relieve = move |allowed| sockets.close_longest_waiting(allowed);
        Budget::new(options, self.0.total.clone(), metrics, relieve)
    }

    /// Closes the sockets that have waited longest, until at most `allowed` bytes are queued in total.
    fn close_longest_waiting(&self, allowed: usize) {
        // One task at a time is enough: it sees what others queue meanwhile.
        if self.0.relieving.swap(true, Ordering::Acquire) {
            return;
        }
        let open: Vec<_> = self.0.open.lock().values().filter_map(Weak::upgrade).collect();
        let mut waiting: Vec<_> =
            open.iter().filter_map(|outbound| Some((outbound.waits_since()?, outbound))).collect();
        waiting.sort_by_key(|(since, _)| *since);
        let mut closed = 0;
        for (_, outbound) in waiting {
            if self.0.total.bytes() <= allowed {
                break;
            }
            outbound.evict();
            closed += 1;
        }
        self.0.relieving.store(false, Ordering::Release);
        if closed > 0 {
            limited!(
                WARN,
                sockets = closed,
                "closed the sockets that waited longest: the queues of all sockets exceeded \
                 `SocketBuilder::max_total_queue_bytes`"
            );
        }
    }

    /// Refuses sockets and joins from now on.
    pub(crate) fn refuse_new(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    pub(crate) fn are_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Adds a socket until the returned entry is dropped.
    fn enter(&self, outbound: &Arc<Outbound>) -> SetEntry {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.open.lock().insert(id, Arc::downgrade(outbound));
        // It was admitted just before a drain began, which may not have seen it.
        if self.are_draining() {
            outbound.close(RESTART_CODE);
        }
        SetEntry { sockets: self.clone(), id }
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// All sockets of a [`Serve`](crate::Serve), as an extension of its requests.
#[derive(Clone)]
pub(crate) struct ServerSockets(pub(crate) Sockets);

/// A socket's entry in a set.
struct SetEntry {
    sockets: Sockets,
    id: u64,
}

impl Drop for SetEntry {
    fn drop(&mut self) {
        self.sockets.0.open.lock().remove(&self.id);
        // Wakes all, since several tasks may drain.
        self.sockets.0.closed.notify_waiters();
    }
}

/// The sets that a socket is added to: its router's and its server's.
pub(crate) struct SocketSets {
    router: Sockets,
    server: Option<Sockets>,
    counted: Option<Counted>,
}

impl SocketSets {
    /// The sets of a router, and of the server in a request's extensions.
    pub(crate) fn of(router: &Sockets, request: &Extensions, observer: Option<&Arc<dyn Observer>>) -> Self {
        let server = request.get::<ServerSockets>().map(|server| server.0.clone());
        let server = server.filter(|server| !Arc::ptr_eq(&server.0, &router.0));
        if let (Some(server), Some(observer)) = (&server, observer) {
            server.note_observer(observer);
        }
        Self { router: router.clone(), server, counted: None }
    }

    /// Keeps a socket counted for as long as it is open.
    pub(crate) fn counted(self, counted: Counted) -> Self {
        Self { counted: Some(counted), ..self }
    }

    pub(crate) fn are_draining(&self) -> bool {
        self.router.are_draining() || self.server.as_ref().is_some_and(Sockets::are_draining)
    }

    /// Adds an open socket until the returned value is dropped.
    pub(crate) fn open(self, outbound: &Arc<Outbound>) -> OpenSocket {
        let (router, server) =
            (self.router.enter(outbound), self.server.map(|server| server.enter(outbound)));
        OpenSocket { router, server, _counted: self.counted }
    }
}

/// An open socket's entries in its sets.
pub(crate) struct OpenSocket {
    router: SetEntry,
    server: Option<SetEntry>,
    _counted: Option<Counted>,
}

impl OpenSocket {
    pub(crate) fn is_draining(&self) -> bool {
        self.router.sockets.are_draining()
            || self.server.as_ref().is_some_and(|server| server.sockets.are_draining())
    }
}
