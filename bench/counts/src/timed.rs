//! Measurements at sizes that no server of sockets reaches: by the clock, in one thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use adsum::{Json, PubSub};
use adsum_pubsub::{Message, Subscriber, SubscriberId};

use crate::parts::Pair;

/// Enough of them that a clock doesn't tell.
const DELIVERIES: u32 = 20_000_000;

/// The median time of a batch of 100 changes that comes to a set of so many, of 100 batches.
pub(crate) fn merge_micros(size: usize) -> u128 {
    let mut pair = Pair::of(size);
    let mut times: Vec<_> = (0..100)
        .map(|turn| {
            let batch = pair.batch(turn % 2 == 0);
            let started = Instant::now();
            pair.merge(&batch);
            pair.b.messages();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2].as_micros()
}

/// Counts, so that its own memory has to be there.
struct Listener(AtomicU32);

impl Subscriber for Listener {
    fn deliver(&self, _: &Arc<Message>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The nanoseconds that a broadcast to so many subscribers takes for each.
pub(crate) fn broadcast_nanos(subscribers: u32) -> f64 {
    let pubsub = PubSub::local();
    let listeners: Vec<_> = (0..subscribers).map(|_| Arc::new(Listener(AtomicU32::new(0)))).collect();
    let attach = |listener: &Arc<Listener>| pubsub.attach("room", SubscriberId::unique(), listener.clone());
    let _attached: Vec<_> = listeners.iter().map(attach).collect();
    let broadcasts = DELIVERIES / subscribers;
    let started = Instant::now();
    for _ in 0..broadcasts {
        // Without a runtime all is delivered here.
        pubsub.broadcast("room", "event", Json::empty_object()).expect("there is no other node");
    }
    let nanos = started.elapsed().as_nanos() as f64;
    assert!(listeners.iter().all(|listener| listener.0.load(Ordering::Relaxed) == broadcasts));
    nanos / f64::from(broadcasts) / f64::from(subscribers)
}
