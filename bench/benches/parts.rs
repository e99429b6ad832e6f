//! The parts of a change, each by itself and against the size that it must not depend on.

#![allow(missing_docs, reason = "criterion's macros write functions without")]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use adsum::{Json, Presence, PubSub};
use adsum_pubsub::{Message, Subscriber, SubscriberId};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Map, Value};

struct Counter(AtomicUsize);

impl Subscriber for Counter {
    fn deliver(&self, _: &Arc<Message>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn meta() -> Map<String, Value> {
    Map::from_iter([("online_at".to_owned(), "1795520148".into())])
}

/// Joining and leaving a topic must cost the same, however many are in it.
fn subscribe(c: &mut Criterion) {
    let mut group = c.benchmark_group("subscribe and unsubscribe");
    for others in [10, 1_000, 100_000] {
        let pubsub = PubSub::local();
        let subscriber = Arc::new(Counter(AtomicUsize::new(0)));
        let attach = || pubsub.attach("topic", SubscriberId::unique(), subscriber.clone());
        let _others: Vec<_> = (0..others).map(|_| attach()).collect();
        group.bench_function(BenchmarkId::from_parameter(others), |b| b.iter(|| drop(attach())));
    }
}

/// A broadcast to subscribers that do next to nothing: what the way to them costs, for each.
fn broadcast(c: &mut Criterion) {
    let mut group = c.benchmark_group("broadcast");
    for subscribers in [10, 1_000, 100_000] {
        let pubsub = PubSub::local();
        let subscriber = Arc::new(Counter(AtomicUsize::new(0)));
        let _all: Vec<_> = (0..subscribers)
            .map(|_| pubsub.attach("topic", SubscriberId::unique(), subscriber.clone()))
            .collect();
        group.throughput(Throughput::Elements(subscribers));
        group.bench_function(BenchmarkId::from_parameter(subscribers), |b| {
            b.iter(|| pubsub.broadcast("topic", "event", Json::empty_object()));
        });
    }
}

/// A track and an untrack must cost the same, however many are in the topic. Nobody listens.
fn track(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let _inside = runtime.enter();
    let mut group = c.benchmark_group("track and untrack");
    for others in [10, 1_000, 100_000] {
        let presence = Presence::builder(PubSub::local()).start();
        let _others: Vec<_> = (0..others)
            .map(|n: usize| {
                let mut owner = presence.owner();
                owner.track("topic", n.to_string().as_str(), meta()).expect("it is new");
                owner
            })
            .collect();
        let mut owner = presence.owner();
        group.bench_function(BenchmarkId::from_parameter(others), |b| {
            b.iter(|| {
                owner.track("topic", "key", meta()).expect("it is not tracked");
                owner.untrack("topic", "key")
            });
        });
    }
}

/// The diff of one update, encoded and handed to one listener.
fn diff(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let _inside = runtime.enter();
    let pubsub = PubSub::local();
    let presence = Presence::builder(pubsub.clone()).diff_interval(std::time::Duration::ZERO).start();
    let mut inbox = pubsub.inbox(16);
    inbox.subscribe("topic");
    let mut owner = presence.owner();
    owner.track("topic", "key", meta()).expect("it is new");
    c.bench_function("update and its diff", |b| {
        b.iter(|| {
            owner.update("topic", "key", meta()).expect("it is tracked");
            while let Some(message) = inbox.try_recv() {
                let _ = black_box(message);
            }
        });
    });
}

criterion_group!(parts, subscribe, broadcast, track, diff);
criterion_main!(parts);
