//! The crate's behaviour through its public API.

#![allow(clippy::unwrap_used, reason = "a test may panic; clippy spares test functions, not their helpers")]

mod adapter;
mod closing;
mod concurrent;
mod counters;
mod engine_metrics;
mod engines;
mod events;
mod inbox;
mod large_topic;
mod metrics;
mod nats;
mod network;
mod recorded;
mod redis;
mod registry;
mod server;
mod spy;
mod suite;

use std::sync::Arc;

use adsum_pubsub::{Message, Subscriber};
use parking_lot::Mutex;

/// Records the events that it was called with.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Subscriber for Recorder {
    fn deliver(&self, message: &Arc<Message>) {
        self.0.lock().push(message.event().to_owned());
    }
}

/// Panics in each of its calls.
struct Panics;

impl Subscriber for Panics {
    fn deliver(&self, _: &Arc<Message>) {
        panic!("a subscriber that panics, as the test wants it");
    }
}
