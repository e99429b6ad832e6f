//! The values of all metrics of a node.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
    sync::{Arc, LazyLock, Weak},
};

use parking_lot::Mutex;

use super::{
    readings::{Readings, Source},
    recorder,
    series::{Series, series},
    sources::Sources,
    table::{self, Kind, Metric, OTHER, Values},
    value::{Buckets, Counter, Histogram},
};

/// Maximum number of series of one metric. The last one is `other`: all label values that come later count there.
pub const MAX_SERIES: usize = 512;

/// The values of one node.
pub struct Metrics {
    kept: Mutex<BTreeMap<Series, Kept>>,
    sources: Mutex<Sources>,
    /// Locked last.
    admitted: Mutex<AdmittedSeries>,
    /// The gauges that a recorder was told of, and how much of each counter that its source keeps.
    told: Mutex<Told>,
}

/// The series that there have been, whoever counts them. They stay, as a recorder keeps a series for good.
#[derive(Default)]
struct AdmittedSeries(BTreeSet<Series>);

#[derive(Clone)]
enum Kept {
    Counter(Arc<Counter>),
    Histogram(Arc<Histogram>),
}

#[derive(Default)]
struct Told {
    gauges: BTreeMap<Series, f64>,
    counters: BTreeMap<Series, u64>,
}

/// The value of one series at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric.
    pub metric: &'static Metric,
    /// The values of its labels, in their order.
    pub labels: Box<[Box<str>]>,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a histogram.
    Buckets(Buckets),
}

/// The metrics of the process, for what belongs to no [`PubSub`](crate::PubSub): tasks, HTTP connections.
pub fn process() -> &'static Metrics {
    static PROCESS: LazyLock<Metrics> = LazyLock::new(Metrics::empty);
    &PROCESS
}

impl Metrics {
    /// The metrics of a node. All counters whose labels have known values are zero from the start.
    pub fn new() -> Arc<Self> {
        let metrics = Self::empty();
        for metric in table::ALL {
            if matches!(metric.kind, Kind::Counter) {
                metrics.touch(metric, &mut Vec::new());
            }
        }
        Arc::new(metrics)
    }

    fn empty() -> Self {
        Self {
            kept: Mutex::default(),
            sources: Mutex::default(),
            admitted: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Has a series for each combination of known values.
    fn touch(&self, metric: &'static Metric, labels: &mut Vec<&'static str>) {
        match metric.labels.get(labels.len()).map(|label| label.values) {
            None => drop(self.counter(metric, labels)),
            Some(Values::Bounded(_)) => {}
            Some(Values::Known(values)) => {
                for value in values {
                    labels.push(value);
                    self.touch(metric, labels);
                    labels.pop();
                }
            }
        }
    }

    /// A counter, to be kept by whatever counts often. The labels are in the order of the metric's.
    pub fn counter(&self, metric: &'static Metric, labels: &[&str]) -> Arc<Counter> {
        match self.keep(metric, labels) {
            Kept::Counter(counter) => counter,
            Kept::Histogram(_) => {
                debug_assert!(false, "{} is a histogram", metric.name);
                Arc::default()
            }
        }
    }

    /// The counters of all known values of the metric's last label, in their order.
    pub fn counters(&self, metric: &'static Metric, labels: &[&str]) -> Box<[Arc<Counter>]> {
        let known = match metric.labels.last().map(|label| label.values) {
            Some(Values::Known(values)) => values,
            _ => &[],
        };
        known.iter().map(|value| self.counter(metric, &[labels, &[value]].concat())).collect()
    }

    /// A histogram, to be kept by whatever records.
    pub fn histogram(&self, metric: &'static Metric, labels: &[&str]) -> Arc<Histogram> {
        match self.keep(metric, labels) {
            Kept::Histogram(histogram) => histogram,
            Kept::Counter(_) => {
                debug_assert!(false, "{} is no histogram", metric.name);
                Arc::new(Histogram::new(&[]))
            }
        }
    }

    /// Adds to a counter of something that happens seldom.
    pub fn add(&self, metric: &'static Metric, labels: &[&str], count: u64) {
        self.counter(metric, labels).add(count);
    }

    fn keep(&self, metric: &'static Metric, labels: &[&str]) -> Kept {
        let key = series(metric, labels);
        let mut kept = self.kept.lock();
        if let Some(kept) = kept.get(&key) {
            return kept.clone();
        }
        let key = self.admitted.lock().admit(key);
        let new = match metric.kind {
            Kind::Histogram(bounds) => Kept::Histogram(Arc::new(Histogram::new(bounds))),
            Kind::Counter | Kind::Gauge => Kept::Counter(Arc::default()),
        };
        kept.entry(key).or_insert(new).clone()
    }

    /// Has a source read from now on, for as long as it lives: once, however often it is registered.
    pub fn register(&self, source: Weak<dyn Source>) {
        self.sources.lock().register(source);
    }

    fn readings(&self) -> Readings {
        let sources = self.sources.lock().alive();
        let mut readings = Readings::default();
        for source in sources {
            source.read(&mut readings);
            let counters = self.admitted.lock().bound(std::mem::take(&mut readings.counters));
            self.sources.lock().note(&source, counters);
        }
        let gauges = self.admitted.lock().bound(readings.gauges);
        Readings { gauges, counters: self.sources.lock().counters() }
    }

    /// All values now, in the order of the names.
    pub fn read(&self) -> Vec<Sample> {
        let Readings { gauges, counters } = self.readings();
        let kept = self.kept.lock().clone();
        let mut samples: Vec<_> = kept
            .into_iter()
            .map(|(series, kept)| match kept {
                Kept::Counter(counter) => (series, Value::Count(counter.get())),
                Kept::Histogram(histogram) => (series, Value::Buckets(histogram.buckets())),
            })
            .chain(gauges.into_iter().map(|(series, value)| (series, Value::Gauge(value))))
            .chain(counters.into_iter().map(|(series, count)| (series, Value::Count(count))))
            .collect();
        samples.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Some things are counted here and by a source, too.
        samples.dedup_by(|(series, value), (before, sum)| match (value, sum) {
            (Value::Count(count), Value::Count(sum)) if series == before => {
                *sum += *count;
                true
            }
            _ => false,
        });
        let samples = samples
            .into_iter()
            .filter_map(|((name, labels), value)| Some(Sample { metric: table::find(name)?, labels, value }));
        samples.collect()
    }

    /// Hands all values to the recorder of the `metrics` crate.
    pub fn record(&self) {
        let kept = self.kept.lock().clone();
        for ((name, labels), kept) in kept {
            let Some(metric) = table::find(name) else { continue };
            let key = recorder::key(metric, &labels);
            match kept {
                Kept::Counter(counter) => recorder::add(&key, counter.take_unrecorded()),
                Kept::Histogram(histogram) => recorder::record(&key, &histogram.take_unrecorded()),
            }
        }
        // Locked before it is read, so that of two at once the later one has the later values.
        let mut told = self.told.lock();
        let Readings { gauges, counters } = self.readings();
        // A recorder keeps a series for good, so one that has gone since the last time is zero.
        told.gauges.values_mut().for_each(|value| *value = 0.0);
        told.gauges.extend(gauges);
        for ((name, labels), value) in &told.gauges {
            if let Some(metric) = table::find(name) {
                recorder::set(&recorder::key(metric, labels), *value);
            }
        }
        for (series, count) in counters {
            let Some(metric) = table::find(series.0) else { continue };
            let key = recorder::key(metric, &series.1);
            let before = told.counters.insert(series, count).unwrap_or_default();
            recorder::add(&key, count.saturating_sub(before));
        }
    }
}

impl AdmittedSeries {
    /// Returns the series that counts for this one: itself, or that of the others.
    fn admit(&mut self, mut series: Series) -> Series {
        let Self(admitted) = self;
        if admitted.contains(&series) {
            return series;
        }
        let of_metric = (series.0, Box::default())..;
        let count = admitted.range(of_metric).take_while(|(name, _)| *name == series.0).count();
        // The last place is that of the others.
        if count + 1 >= MAX_SERIES {
            series.1.iter_mut().for_each(|value| *value = OTHER.into());
        }
        admitted.insert(series.clone());
        series
    }

    fn bound<V: Default + AddAssign>(&mut self, values: BTreeMap<Series, V>) -> BTreeMap<Series, V> {
        let mut bounded = BTreeMap::<Series, V>::new();
        for (series, value) in values {
            *bounded.entry(self.admit(series)).or_default() += value;
        }
        bounded
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("series", &self.kept.lock().len()).finish_non_exhaustive()
    }
}
