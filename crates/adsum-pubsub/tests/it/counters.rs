//! The crate's metrics, for the whole process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, set_global_recorder,
};
use parking_lot::Mutex;

use crate::server::Kind;

static COUNTERS: Mutex<Option<HashMap<Key, Arc<AtomicU64>>>> = Mutex::new(None);

struct Counters;

/// Starts counting. Call it before the events to count.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| assert!(set_global_recorder(Counters).is_ok()));
}

/// Waits until a counter has reached a value.
pub(crate) async fn reaches(name: &'static str, kind: Kind, reason: &'static str, value: u64) {
    let engine = match kind {
        Kind::Nats => "NATS",
        Kind::Redis => "Redis",
    };
    let key = Key::from_parts(name, &[("engine", engine), ("reason", reason)]);
    let count = || {
        let counters = COUNTERS.lock();
        counters.as_ref().and_then(|counters| Some(counters.get(&key)?.load(Ordering::Relaxed))).unwrap_or(0)
    };
    let reached = async {
        while count() < value {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), reached).await.is_ok();
    assert!(in_time, "{key} should reach {value} and is {}", count());
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut counters = COUNTERS.lock();
        let counter = counters.get_or_insert_default().entry(key.clone()).or_default();
        Counter::from_arc(counter.clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
