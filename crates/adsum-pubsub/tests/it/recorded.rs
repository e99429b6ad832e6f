//! A recorder that keeps what it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use parking_lot::Mutex;

/// Counters and gauges by name and labels, and how often histograms were recorded into.
#[derive(Clone, Default)]
pub(crate) struct Recorded(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    values: BTreeMap<String, f64>,
    described: BTreeSet<String>,
}

impl Recorded {
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        self.0.lock().values.get(series).copied()
    }

    /// The number of series of a metric.
    pub(crate) fn count_of(&self, metric: &str) -> usize {
        let inner = self.0.lock();
        inner.values.keys().filter(|series| series.split('{').next() == Some(metric)).count()
    }

    pub(crate) fn described(&self) -> BTreeSet<String> {
        self.0.lock().described.clone()
    }

    fn series(&self, key: &Key) -> Arc<One> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
        let name = key.name();
        let name =
            if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) };
        Arc::new(One(self.clone(), name))
    }

    fn describe(&self, name: &KeyName) {
        self.0.lock().described.insert(name.as_str().to_owned());
    }
}

struct One(Recorded, String);

impl One {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        change(self.0.0.lock().values.entry(self.1.clone()).or_default());
    }
}

impl CounterFn for One {
    fn increment(&self, count: u64) {
        self.change(|value| *value += f64::from(u32::try_from(count).unwrap()));
    }

    fn absolute(&self, _: u64) {}
}

impl GaugeFn for One {
    fn increment(&self, more: f64) {
        self.change(|value| *value += more);
    }

    fn decrement(&self, less: f64) {
        self.change(|value| *value -= less);
    }

    fn set(&self, to: f64) {
        self.change(|value| *value = to);
    }
}

impl HistogramFn for One {
    fn record(&self, _: f64) {
        self.change(|value| *value += 1.0);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}
