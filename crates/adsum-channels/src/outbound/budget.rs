//! The bounds of a socket's queue, and of all queues of a node together.

use std::{
    collections::{HashMap, hash_map},
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::entry::Entry;
use crate::{frame::Frame, metrics::QueueMetrics, options::Options};

/// The part of the total that is freed once it is exceeded, so that it isn't exceeded again at once.
const FREED_PART: usize = 8;
/// The number of locks that the counts of shared buffers are spread over.
const STRIPES: usize = 64;

/// The bounds that the queues of a router share.
pub(crate) struct Budget {
    /// Maximum number of bytes in a socket's queue, not counting a large state.
    pub(super) max_queue: usize,
    max_total: usize,
    /// How long a state may be queued.
    pub(super) state_timeout: Duration,
    pub(super) total: Arc<Total>,
    pub(super) metrics: Arc<QueueMetrics>,
    relieve: Relieve,
}

/// Closes sockets until at most this many bytes are queued in total.
type Relieve = Box<dyn Fn(usize) + Send + Sync>;

impl Budget {
    pub(crate) fn new(
        options: &Options,
        total: Arc<Total>,
        metrics: Arc<QueueMetrics>,
        relieve: impl Fn(usize) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            max_queue: options.max_queue_bytes,
            max_total: options.max_total_queue_bytes,
            state_timeout: options.state_timeout,
            total,
            metrics,
            relieve: Box::new(relieve),
        })
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.total.bytes() > self.max_total
    }

    /// Takes note of what waits in one queue, and in all of them. Called without any lock held.
    pub(super) fn note(&self, cost: usize) {
        // One large state may wait alone, over the limit.
        self.metrics.most_queue_bytes.note(cost.min(self.max_queue));
        self.metrics.most_total_bytes.note(self.total.bytes());
    }

    /// Closes the sockets that have waited longest, if the total is exceeded. Called without any lock held.
    pub(super) fn relieve(&self) {
        if self.is_exceeded() {
            (self.relieve)(self.max_total - self.max_total / FREED_PART);
        }
    }
}

/// The number of bytes in the queues of all sockets. Bytes shared by several queues are counted once.
pub(crate) struct Total {
    bytes: AtomicUsize,
    /// The number of queues that contain each buffer. A queued buffer isn't freed, so its address identifies it.
    buffers: [Mutex<Buffers>; STRIPES],
}

/// The number of queues that contain a buffer, by its address and length.
type Buffers = HashMap<(usize, usize), usize>;

impl Default for Total {
    fn default() -> Self {
        Self { bytes: AtomicUsize::new(0), buffers: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Total {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, frame: &Frame) {
        let (own, shared) = frame.buffers();
        let first = shared.filter(|buffer| self.is_first(buffer)).map(Bytes::len).sum::<usize>();
        self.add_bytes(mem::size_of::<Entry>() + own + first);
    }

    pub(super) fn remove(&self, frame: &Frame) {
        let (own, shared) = frame.buffers();
        let last = shared.filter(|buffer| self.is_last(buffer)).map(Bytes::len).sum::<usize>();
        self.remove_bytes(mem::size_of::<Entry>() + own + last);
    }

    pub(super) fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove_bytes(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts a queue that contains a buffer. Returns whether it is the only one.
    fn is_first(&self, buffer: &Bytes) -> bool {
        let (key, stripe) = self.place(buffer);
        let mut stripe = stripe.lock();
        let queues = stripe.entry(key).or_insert(0);
        *queues += 1;
        *queues == 1
    }

    /// Uncounts a queue that contained a buffer. Returns whether it was the only one.
    fn is_last(&self, buffer: &Bytes) -> bool {
        let (key, stripe) = self.place(buffer);
        let mut stripe = stripe.lock();
        let hash_map::Entry::Occupied(mut queues) = stripe.entry(key) else { return false };
        *queues.get_mut() -= 1;
        let is_last = *queues.get() == 0;
        if is_last {
            queues.remove();
            if stripe.len() * 4 < stripe.capacity() {
                stripe.shrink_to(64);
            }
        }
        is_last
    }

    fn place(&self, buffer: &Bytes) -> ((usize, usize), &Mutex<Buffers>) {
        let address = buffer.as_ptr() as usize;
        // Allocations are aligned, so the lowest bits carry no information.
        let stripe = (address >> 6 ^ address >> 14) % STRIPES;
        ((address, buffer.len()), &self.buffers[stripe])
    }
}
