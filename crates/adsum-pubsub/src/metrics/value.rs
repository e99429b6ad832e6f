//! Numbers that are added to as things happen.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::{lanes::Lanes, recorder};

/// A number that only grows.
#[derive(Debug)]
pub struct Counter {
    value: Lanes<AtomicU64>,
    /// How much of it the recorder has been told of.
    recorded: AtomicU64,
}

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds some.
    pub fn add(&self, count: u64) {
        self.value.own().fetch_add(count, Ordering::Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.value.iter().map(|lane| lane.load(Ordering::Relaxed)).sum()
    }

    /// Returns the number added since the last call. Of two calls at the same time, each takes a part.
    pub(super) fn take_unrecorded(&self) -> u64 {
        let value = self.get();
        value.saturating_sub(self.recorded.fetch_max(value, Ordering::Relaxed))
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self { value: Lanes::new(AtomicU64::default), recorded: AtomicU64::new(0) }
    }
}

/// How often a value was at most as large as each of some bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    values: Lanes<Recorded>,
    key: ::metrics::Key,
    handle: OnceLock<::metrics::Histogram>,
}

#[derive(Debug)]
struct Recorded {
    /// One for each bound, and one for what is above all of them.
    counts: Box<[AtomicU64]>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64], key: ::metrics::Key) -> Self {
        let values = Lanes::new(|| Recorded {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        });
        Self { bounds, values, key, handle: OnceLock::new() }
    }

    /// Takes note of a value: of seconds, or of a number of things.
    pub fn record(&self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        let values = self.values.own();
        values.counts[index].fetch_add(1, Ordering::Relaxed);
        let mut sum = values.sum.load(Ordering::Relaxed);
        while let Err(other) = values.sum.compare_exchange_weak(
            sum,
            (f64::from_bits(sum) + value).to_bits(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            sum = other;
        }
        recorder::histogram(&self.key, &self.handle, |handle| handle.record(value));
    }

    /// Takes note of a number of things.
    pub fn record_count(&self, count: usize) {
        self.record(u32::try_from(count).unwrap_or(u32::MAX).into());
    }

    /// Returns the values so far.
    pub fn buckets(&self) -> Buckets {
        let mut buckets = Buckets { bounds: self.bounds, counts: vec![0; self.bounds.len() + 1], sum: 0.0 };
        for lane in self.values.iter() {
            for (sum, count) in buckets.counts.iter_mut().zip(&lane.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
            buckets.sum += f64::from_bits(lane.sum.load(Ordering::Relaxed));
        }
        buckets
    }
}

/// The values of a [`Histogram`] at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// The bounds, in order.
    pub bounds: &'static [f64],
    /// How many values were in each bucket: above the bound before it, and not above its own. One more than bounds, as
    /// the last bucket has none.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

impl Buckets {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the values that came after an earlier reading of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts);
        Self {
            bounds: self.bounds,
            counts: counts.map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum: self.sum - earlier.sum,
        }
    }

    /// The value below which this part of all values is, such as 0.99, as far as the bounds tell: the upper bound of
    /// its bucket. `None` without values. Values above the last bound count as that bound.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let wanted = part.clamp(0.0, 1.0) * count as f64;
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            below += count;
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            if below as f64 >= wanted {
                return Some(*bound);
            }
        }
        self.bounds.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_told_once() {
        let counter = Counter::default();
        counter.add(3);
        assert_eq!((counter.get(), counter.take_unrecorded(), counter.take_unrecorded()), (3, 3, 0));
        counter.increment();
        assert_eq!((counter.get(), counter.take_unrecorded()), (4, 1));
    }

    #[test]
    fn what_threads_add_at_the_same_time_is_added_up() {
        let (counter, histogram) =
            (Counter::default(), Histogram::new(&[1.0], ::metrics::Key::from_name("h")));
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.increment();
                        histogram.record(0.5);
                    }
                });
            }
        });
        assert_eq!(counter.get(), 5000);
        assert_eq!((histogram.buckets().counts, histogram.buckets().sum), (vec![5000, 0], 2500.0));
    }

    #[test]
    fn values_fall_into_their_buckets() {
        let histogram = Histogram::new(&[1.0, 5.0], ::metrics::Key::from_name("h"));
        let empty = histogram.buckets();
        assert_eq!(empty.quantile(0.5), None);
        for value in [0.5, 1.0, 1.5, 7.0] {
            histogram.record(value);
        }
        let buckets = histogram.buckets();
        assert_eq!((&buckets.counts[..], buckets.sum, buckets.count()), (&[2, 1, 1][..], 10.0, 4));
        let quantiles = [0.0, 0.5, 0.75, 0.99, 1.0].map(|part| buckets.quantile(part).unwrap());
        assert_eq!(format!("{quantiles:?}"), "[1.0, 1.0, 5.0, 5.0, 5.0]");
        histogram.record(3.0);
        assert_eq!(histogram.buckets().since(&buckets).counts, [0, 1, 0]);
        assert_eq!(buckets.since(&empty), buckets);
    }
}
