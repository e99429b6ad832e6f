//! Numbers that are added to as things happen.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::lanes::Lanes;

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
    /// One bucket for each bound, and one for what is above all of them.
    values: Lanes<Box<[Bucket]>>,
    /// The numbers and sums that the recorder has been told of.
    recorded: Mutex<Vec<(u64, f64)>>,
}

#[derive(Debug, Default)]
struct Bucket {
    count: AtomicU64,
    /// The bits of a float: the sum of the bucket's values.
    sum: AtomicU64,
}

/// Maximum number of values of a histogram that a recorder is told of at a time: recorders keep each by itself for a while.
const MAX_RECORDED: u64 = 10_000;

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let buckets = || (0..=bounds.len()).map(|_| Bucket::default()).collect();
        Self { bounds, values: Lanes::new(buckets), recorded: Mutex::new(vec![(0, 0.0); bounds.len() + 1]) }
    }

    /// Takes note of a value: of seconds, or of a number of things.
    pub fn record(&self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        let bucket = &self.values.own()[index];
        bucket.count.fetch_add(1, Ordering::Relaxed);
        let mut sum = bucket.sum.load(Ordering::Relaxed);
        while let Err(other) = bucket.sum.compare_exchange_weak(
            sum,
            (f64::from_bits(sum) + value).to_bits(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            sum = other;
        }
    }

    /// Takes note of a number of things.
    pub fn record_count(&self, count: usize) {
        self.record(u32::try_from(count).unwrap_or(u32::MAX).into());
    }

    /// Returns the values so far.
    pub fn buckets(&self) -> Buckets {
        let (counts, sums): (Vec<_>, Vec<_>) = self.totals().into_iter().unzip();
        Buckets { bounds: self.bounds, counts, sum: sums.into_iter().sum() }
    }

    /// The number and the sum of each bucket's values.
    fn totals(&self) -> Vec<(u64, f64)> {
        let mut totals = vec![(0, 0.0); self.bounds.len() + 1];
        for lane in self.values.iter() {
            for ((count, sum), bucket) in totals.iter_mut().zip(lane) {
                *count += bucket.count.load(Ordering::Relaxed);
                *sum += f64::from_bits(bucket.sum.load(Ordering::Relaxed));
            }
        }
        totals
    }

    /// Returns what was recorded since the last call: of each bucket the mean of its values, and their number. Where
    /// they are very many, the numbers are a sample in proportion.
    pub(super) fn take_unrecorded(&self) -> Vec<(f64, usize)> {
        let mut recorded = self.recorded.lock();
        let totals = self.totals();
        let news = totals.iter().zip(&*recorded).enumerate().map(|(index, (now, before))| {
            let count = now.0.saturating_sub(before.0);
            #[expect(clippy::cast_precision_loss, reason = "a mean")]
            let mean = (now.1 - before.1) / count.max(1) as f64;
            // A value may be counted before it is in the sum.
            let above = index.checked_sub(1).and_then(|index| self.bounds.get(index)).copied();
            let bound = self.bounds.get(index).copied();
            (mean.min(bound.unwrap_or(f64::INFINITY)).max(above.unwrap_or(0.0)), count)
        });
        let news: Vec<_> = news.filter(|(_, count)| *count > 0).collect();
        *recorded = totals;
        drop(recorded);
        let all = news.iter().map(|(_, count)| count).sum::<u64>().max(MAX_RECORDED);
        let share = |count: u64| u128::from(count) * u128::from(MAX_RECORDED) / u128::from(all);
        news.into_iter()
            .map(|(mean, count)| (mean, usize::try_from(share(count).max(1)).unwrap_or(1)))
            .collect()
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
    fn numbers_that_threads_add_at_the_same_time_are_added_up() {
        let (counter, histogram) = (Counter::default(), Histogram::new(&[1.0]));
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
        let histogram = Histogram::new(&[1.0, 5.0]);
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

    #[test]
    fn a_recorder_is_told_the_mean_of_each_bucket_and_no_more_than_a_sample() {
        let histogram = Histogram::new(&[1.0, 5.0]);
        for value in [0.25, 0.75, 2.0, 8.0, 10.0] {
            histogram.record(value);
        }
        assert_eq!(histogram.take_unrecorded(), [(0.5, 2), (2.0, 1), (9.0, 2)]);
        assert_eq!(histogram.take_unrecorded(), []);
        for _ in 0..30_000 {
            histogram.record(0.5);
        }
        histogram.record(3.0);
        assert_eq!(histogram.take_unrecorded(), [(0.5, 9_999), (3.0, 1)]);
        assert_eq!(histogram.buckets().count(), 30_006, "the values here are all of them");
    }
}
