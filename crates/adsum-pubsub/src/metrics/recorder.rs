//! The way to the recorder of the `metrics` crate.

use ::metrics::{Key, Label as KeyLabel, Level, Metadata, Recorder, with_recorder};

use super::{
    Kind, Metric,
    table::{self, Unit},
};

static METADATA: Metadata<'static> = Metadata::new("adsum", Level::INFO, None);

/// Tells the recorder what every metric means. To be called once, when a recorder is installed.
pub fn describe() {
    with_recorder(|recorder| {
        for metric in table::ALL {
            let unit = match metric.unit {
                Unit::Count | Unit::Ratio => ::metrics::Unit::Count,
                Unit::Seconds => ::metrics::Unit::Seconds,
                Unit::Bytes => ::metrics::Unit::Bytes,
            };
            match metric.kind {
                Kind::Counter => {
                    recorder.describe_counter(metric.name.into(), Some(unit), metric.help.into());
                }
                Kind::Gauge => recorder.describe_gauge(metric.name.into(), Some(unit), metric.help.into()),
                Kind::Histogram(_) => {
                    recorder.describe_histogram(metric.name.into(), Some(unit), metric.help.into());
                }
            }
        }
    });
}

/// The name and the bounds of each histogram, for an exporter whose buckets are set by name.
pub fn buckets() -> impl Iterator<Item = (&'static str, &'static [f64])> {
    table::ALL.iter().filter_map(|metric| match metric.kind {
        Kind::Histogram(bounds) => Some((metric.name, bounds)),
        Kind::Counter | Kind::Gauge => None,
    })
}

pub(super) fn key(metric: &'static Metric, labels: &[Box<str>]) -> Key {
    let labels = metric.labels.iter().zip(labels);
    let labels: Vec<_> = labels.map(|(label, value)| KeyLabel::new(label.name, value.to_string())).collect();
    Key::from_parts(metric.name, labels)
}

pub(super) fn add(key: &Key, count: u64) {
    // Also zero: the recorder then has the series.
    with_recorder(|recorder| recorder.register_counter(key, &METADATA)).increment(count);
}

pub(super) fn set(key: &Key, value: f64) {
    with_recorder(|recorder| recorder.register_gauge(key, &METADATA)).set(value);
}

/// Records into a histogram this many times. Also zero times: the recorder then has the series.
pub(super) fn record(key: &Key, values: &[(f64, usize)]) {
    with_recorder(|recorder: &dyn Recorder| {
        let histogram = recorder.register_histogram(key, &METADATA);
        for (value, count) in values {
            histogram.record_many(*value, *count);
        }
    });
}
