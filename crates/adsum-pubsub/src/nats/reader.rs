//! Reads the messages of a subscription. The messages that wait to be delivered are bounded in bytes, over all
//! subscriptions.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::task::consume_budget;

use crate::{
    engine_link::EngineLink,
    metrics::{Counter, table},
};

/// Reads a subscription until it ends.
///
/// The client's own buffer is bounded in messages only, so it is emptied before each delivery.
pub(super) async fn read(mut messages: Subscriber, link: Arc<EngineLink>, backlog: Backlog) {
    let mut waiting = SubscriptionBacklog { messages: VecDeque::new(), backlog };
    while let Some(message) = messages.next().await {
        waiting.push(message.payload);
        while let Some(payload) = waiting.pop() {
            link.receive(&payload);
            while let Some(Some(message)) = messages.next().now_or_never() {
                waiting.push(message.payload);
            }
            consume_budget().await;
        }
    }
}

/// The bytes of all messages of a connection that are not delivered yet.
#[derive(Clone)]
pub(super) struct Backlog {
    bytes: Arc<AtomicUsize>,
    max: usize,
    lagging: Arc<Lagging>,
}

impl Backlog {
    pub(super) fn new(max: usize, lagging: Arc<Lagging>) -> Self {
        Self { bytes: Arc::default(), max, lagging }
    }
}

/// The messages of one subscription that are not delivered yet.
struct SubscriptionBacklog {
    messages: VecDeque<Bytes>,
    backlog: Backlog,
}

impl SubscriptionBacklog {
    /// Keeps a message, or drops it if the backlog is full.
    fn push(&mut self, message: Bytes) {
        let Backlog { bytes, max, lagging } = &self.backlog;
        let before = bytes.fetch_add(message.len(), Ordering::Relaxed);
        if before + message.len() > *max {
            bytes.fetch_sub(message.len(), Ordering::Relaxed);
            lagging.note();
        } else {
            self.messages.push_back(message);
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.backlog.bytes.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }
}

impl Drop for SubscriptionBacklog {
    fn drop(&mut self) {
        while self.pop().is_some() {}
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
