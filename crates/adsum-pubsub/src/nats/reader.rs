//! Reads the messages of a subscription. The messages that wait to be delivered are bounded in bytes, over all
//! subscriptions.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::{
    driver::{Failure, Lost},
    engine_link::EngineLink,
    metrics::{Counter, table},
    tasks::{self, Task, noticed},
};

/// The overhead of a waiting message in bytes. It bounds the number of small ones.
const WAITING_OVERHEAD: usize = 64;

/// Reads a subscription until it ends, or the tasks are dropped.
///
/// The client's own buffer is bounded in messages only. So one task empties it, whatever the other delivers meanwhile.
pub(super) fn read(
    messages: Subscriber,
    link: Arc<EngineLink>,
    backlog: Arc<Backlog>,
    lost: &Lost,
) -> [Task; 2] {
    let share = Arc::new(Share { backlog, bytes: AtomicUsize::new(0) });
    // The backlog bounds it.
    let (queue, waiting) = mpsc::unbounded_channel();
    [start(lost, empty(messages, share, queue)), start(lost, deliver(waiting, link))]
}

fn start(lost: &Lost, work: impl Future<Output = ()> + Send + 'static) -> Task {
    const NAME: &str = "NATS reader";
    let lost = lost.clone();
    tasks::spawn(NAME, async move {
        if noticed(NAME, work).await.is_err() {
            lost.tell(Failure::away("a reader panicked"));
        }
    })
}

async fn empty(mut messages: Subscriber, share: Arc<Share>, queue: mpsc::UnboundedSender<Waiting>) {
    while let Some(message) = messages.next().await {
        match share.keep(&message.payload) {
            // If it can't be queued, the other task has panicked, and the connection ends.
            Some(waiting) => drop(queue.send(waiting)),
            None => share.backlog.lagging.note(),
        }
    }
}

async fn deliver(mut queue: mpsc::UnboundedReceiver<Waiting>, link: Arc<EngineLink>) {
    while let Some(waiting) = queue.recv().await {
        link.receive(&waiting.take());
    }
}

/// The bytes of all messages of a connection that wait to be delivered.
pub(super) struct Backlog {
    bytes: AtomicUsize,
    max: usize,
    lagging: Arc<Lagging>,
}

impl Backlog {
    pub(super) fn new(max: usize, lagging: Arc<Lagging>) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), max, lagging })
    }
}

/// The bytes of those of one subscription.
struct Share {
    backlog: Arc<Backlog>,
    bytes: AtomicUsize,
}

impl Share {
    /// Keeps a message, unless it takes more than is left for the others: so one subscription alone takes at most half,
    /// and its backlog keeps no heartbeat away. A message that waits alone may have any size.
    fn keep(self: &Arc<Self>, envelope: &[u8]) -> Option<Waiting> {
        let cost = envelope.len() + WAITING_OVERHEAD;
        let own = self.bytes.fetch_add(cost, Ordering::Relaxed);
        let all = self.backlog.bytes.fetch_add(cost, Ordering::Relaxed);
        let room = WaitingCost { share: self.clone(), cost };
        // Copied, since a part of the client's buffer would keep the whole of it.
        (all == 0 || own + cost + all <= self.backlog.max)
            .then(|| Waiting { envelope: envelope.into(), room })
    }
}

struct Waiting {
    envelope: Box<[u8]>,
    room: WaitingCost,
}

impl Waiting {
    /// Returns the message, which doesn't wait any more.
    fn take(self) -> Box<[u8]> {
        drop(self.room);
        self.envelope
    }
}

/// The bytes that a message takes while it waits.
struct WaitingCost {
    share: Arc<Share>,
    cost: usize,
}

impl Drop for WaitingCost {
    fn drop(&mut self) {
        self.share.bytes.fetch_sub(self.cost, Ordering::Relaxed);
        self.share.backlog.bytes.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

/// Counts messages that are lost because they arrive faster than they are delivered, and logs the first one.
pub(super) struct Lagging {
    count: Arc<Counter>,
    is_logged: AtomicBool,
}

impl Lagging {
    pub(super) fn new(link: &EngineLink) -> Arc<Self> {
        let count = link.metrics().counter(&table::LAGGED_MESSAGES, &[link.engine]);
        Arc::new(Self { count, is_logged: AtomicBool::new(false) })
    }

    pub(super) fn note(&self) {
        self.count.increment();
        if !self.is_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                engine = "NATS",
                "lost messages: they arrive faster than they are delivered; further losses are only counted"
            );
        }
    }
}
