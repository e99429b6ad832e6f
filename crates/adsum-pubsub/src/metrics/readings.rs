//! Numbers that are looked up when somebody asks.

use std::collections::BTreeMap;

use super::{
    series::{Series, series},
    table::Metric,
};

/// Something whose numbers are read when somebody asks: a router, a presence.
///
/// A reading should take no longer than a few hundred locks.
pub trait Source: Send + Sync {
    /// Adds its numbers.
    fn read(&self, readings: &mut Readings);
}

/// The numbers of all sources.
#[derive(Debug, Default)]
pub struct Readings {
    pub(super) gauges: BTreeMap<Series, f64>,
    pub(super) counters: BTreeMap<Series, u64>,
}

impl Readings {
    /// Adds to a gauge: that of several sources is their sum. The labels are in the order of the metric's.
    pub fn add(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        *self.gauges.entry(series(metric, labels)).or_default() += value;
    }

    /// Adds a number of things to a gauge.
    pub fn add_count(&mut self, metric: &'static Metric, labels: &[&str], count: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.add(metric, labels, count as f64);
    }

    /// Sets a gauge to this, if it is more: that of several sources is their largest.
    pub fn max(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        let gauge = self.gauges.entry(series(metric, labels)).or_default();
        *gauge = gauge.max(value);
    }

    /// Adds to a counter that its source keeps itself. When the source ends, what was read last stays in the sum.
    pub fn count(&mut self, metric: &'static Metric, labels: &[&str], count: u64) {
        *self.counters.entry(series(metric, labels)).or_default() += count;
    }
}
