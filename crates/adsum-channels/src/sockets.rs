//! All open sockets, and how they are closed when the server goes.

use std::{
    collections::HashMap,
    fmt, ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use adsum_pubsub::bounds::{MAX_TIME, OptionsError, within};
use http::Extensions;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    ObservedDrain, Observer,
    log::limited,
    observe::tell,
    outbound::{Outbound, Total},
    quota::Counted,
};

/// How many sockets are closed at once, unless told otherwise.
pub const DEFAULT_DRAIN_BATCH: usize = 10_000;
/// How long it takes from one batch to the next, unless told otherwise.
pub const DEFAULT_DRAIN_INTERVAL: Duration = Duration::from_secs(2);
/// How long all of a drain may take, unless told otherwise.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a silent client is sent away with, as by Bandit.
pub(crate) const IDLE_CODE: u16 = 1002;
/// The server goes, and another will be there.
pub(crate) const RESTART_CODE: u16 = 1012;

/// The open sockets of one or more routers, given to them by
/// [`SocketBuilder::sockets`](crate::SocketBuilder::sockets). Clones share them.
///
/// Before a server ends it drains them, so that their clients come back to other servers one batch after the
/// other:
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
/// let ends = async {}; // a signal, say
/// adsum::serve(listener, site).until(ends).await?; // drains its sockets once it comes
/// assert!(sockets.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// Behind another server, call [`drain`](Self::drain) when it ends.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Inner>);

#[derive(Default)]
struct Inner {
    draining: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Weak<Outbound>>>,
    /// What waits for all of them.
    total: Arc<Total>,
    /// Somebody is closing sockets, as too much waits.
    relieving: AtomicBool,
    /// A socket has closed.
    closed: Notify,
    /// Those of the routers whose sockets these are.
    observers: Mutex<Vec<Weak<dyn Observer>>>,
}

/// How sockets are drained.
///
/// A drain is the last thing that a server does, so it goes on whatever it is told: no batch is of less than one socket,
/// and no time is longer than a day. [`check`](Self::check) refuses such values when the program starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Drain {
    /// How many are closed at once. Default [`DEFAULT_DRAIN_BATCH`] (10,000).
    pub batch: usize,
    /// How long it takes from one batch to the next. Default [`DEFAULT_DRAIN_INTERVAL`] (2 s).
    pub interval: Duration,
    /// How long all of it may take. Default [`DEFAULT_DRAIN_TIMEOUT`] (30 s).
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

    /// Checks that a batch has a socket at least, and that no time is longer than a day.
    ///
    /// # Errors
    /// One is out of these bounds.
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

impl Sockets {
    /// None yet.
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

    /// How many bytes wait to be sent to clients that don't take them at once. Bytes that several sockets wait for
    /// are counted once. [`SocketBuilder::max_total_queue_bytes`](crate::SocketBuilder::max_total_queue_bytes)
    /// bounds it.
    pub fn queued_bytes(&self) -> usize {
        self.0.total.bytes()
    }

    /// Closes all sockets, batch by batch, with 1012, and waits until they are closed. Returns how many are left
    /// when the time is over.
    ///
    /// From the start of it new sockets are refused with 503, and a join closes its socket instead of being
    /// answered. Channels are sent neither `phx_close`, after which clients would stay away, nor `phx_error`:
    /// they end with their socket.
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
                let mut drained = 0;
                for outbound in batch.iter().filter_map(Weak::upgrade) {
                    outbound.close(RESTART_CODE);
                    drained += 1;
                }
                metrics::counter!("adsum_sockets_drained_total").increment(drained);
            }
            loop {
                // Made before it is looked whether any is left, so that no end is missed.
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

    /// Tells the observers how many sockets are open, and returns it.
    fn tell_drain(&self, is_over: bool) -> usize {
        let observed = ObservedDrain { open: self.len(), is_over };
        let observers: Vec<_> = self.0.observers.lock().iter().filter_map(Weak::upgrade).collect();
        for observer in observers {
            tell(&*observer, |observer| observer.draining(&observed));
        }
        observed.open
    }

    /// Has an observer told when these sockets are drained.
    pub(crate) fn note_observer(&self, observer: &Arc<dyn Observer>) {
        let mut observers = self.0.observers.lock();
        if !observers.iter().any(|known| ptr::addr_eq(known.as_ptr(), Arc::as_ptr(observer))) {
            observers.retain(|known| known.strong_count() > 0);
            observers.push(Arc::downgrade(observer));
        }
    }

    pub(crate) fn total(&self) -> &Arc<Total> {
        &self.0.total
    }

    /// Closes the sockets that have waited longest, until at most so many bytes wait in all.
    pub(crate) fn close_longest_waiting(&self, allowed: usize) {
        // One is enough: what others add meanwhile, it sees.
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
                "closed the sockets that waited longest: more waits in all sockets than \
                 `SocketBuilder::max_total_queue_bytes` allows"
            );
        }
    }

    /// From now on sockets and joins are refused.
    pub(crate) fn refuse_new(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    pub(crate) fn are_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Takes note of a socket, until the place is dropped.
    fn enter(&self, outbound: &Arc<Outbound>) -> SetEntry {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.open.lock().insert(id, Arc::downgrade(outbound));
        // One that was let in just before a drain began, which may have looked round already.
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

/// All sockets of a [`Serve`](crate::Serve), which has put this into the extensions of a request.
#[derive(Clone)]
pub(crate) struct ServerSockets(pub(crate) Sockets);

/// A socket's place among those of its router.
struct SetEntry {
    sockets: Sockets,
    id: u64,
}

impl Drop for SetEntry {
    fn drop(&mut self) {
        self.sockets.0.open.lock().remove(&self.id);
        // All of them: more than one may drain.
        self.sockets.0.closed.notify_waiters();
    }
}

/// Where a socket is to be noted: among those of its router, and of its server.
pub(crate) struct SocketSets {
    router: Sockets,
    server: Option<Sockets>,
    counted: Option<Counted>,
}

impl SocketSets {
    /// Those of a router, and of the server that a request with these extensions came by.
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

    /// Takes note of a socket, for as long as the seat lives.
    pub(crate) fn open(self, outbound: &Arc<Outbound>) -> OpenSocket {
        metrics::counter!("adsum_sockets_opened_total").increment(1);
        let (router, server) =
            (self.router.enter(outbound), self.server.map(|server| server.enter(outbound)));
        OpenSocket { router, server, _counted: self.counted }
    }
}

/// A socket's place among the open ones.
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

impl Drop for OpenSocket {
    fn drop(&mut self) {
        metrics::counter!("adsum_sockets_closed_total").increment(1);
    }
}
