//! How long things took, by their names.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The longest time that is told from longer ones, in nanoseconds.
const LONGEST: u64 = 600_000_000_000;

#[derive(Default)]
pub(crate) struct Latencies(BTreeMap<&'static str, Histogram<u64>>);

impl Latencies {
    pub(crate) fn record(&mut self, name: &'static str, took: Duration) {
        let histogram = self.0.entry(name).or_insert_with(|| {
            Histogram::new_with_bounds(1, LONGEST, 3).expect("three digits are in its range")
        });
        histogram.saturating_record((took.as_nanos() as u64).max(1));
    }

    /// In microseconds.
    pub(crate) fn json(&self) -> Value {
        let micros = |nanos: u64| (nanos as f64 / 100.0).round() / 10.0;
        let told = |histogram: &Histogram<u64>| {
            json!({
                "n": histogram.len(),
                "p50": micros(histogram.value_at_quantile(0.5)),
                "p99": micros(histogram.value_at_quantile(0.99)),
                "max": micros(histogram.max()),
            })
        };
        Value::Object(self.0.iter().map(|(name, of)| (format!("{name}_us"), told(of))).collect())
    }
}
