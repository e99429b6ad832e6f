//! The name of one value.

use super::table::Metric;

/// A metric's name, and the values of its labels.
pub(super) type Series = (&'static str, Box<[Box<str>]>);

pub(super) fn series(metric: &'static Metric, labels: &[&str]) -> Series {
    debug_assert_eq!(labels.len(), metric.labels.len(), "of {}", metric.name);
    (metric.name, labels.iter().map(|value| (*value).into()).collect())
}
