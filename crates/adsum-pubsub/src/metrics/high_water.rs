//! How near anything has come to a limit.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Readings, table};

/// The share of a limit, in percent, beyond which it is logged, once.
const NEAR_PERCENT: u64 = 80;

/// The highest that was seen of something that has a limit.
#[derive(Debug)]
pub struct HighWater {
    option: &'static str,
    /// Tells operators how to react.
    advice: &'static str,
    /// At least one.
    limit: u64,
    highest: AtomicU64,
}

impl HighWater {
    /// Of the option of this name. Without a limit nothing is ever near it.
    pub fn new(option: &'static str, limit: Option<usize>) -> Self {
        let limit = limit.map_or(u64::MAX, |limit| limit as u64);
        let advice = "raise the option, or find out what uses so much";
        Self { option, advice, limit: limit.max(1), highest: AtomicU64::new(0) }
    }

    /// Of a limit that no option sets.
    pub fn fixed(name: &'static str, limit: usize) -> Self {
        Self { advice: "it is fixed, so find out what uses so much", ..Self::new(name, Some(limit)) }
    }

    /// Takes note of how much there is of it now.
    pub fn note(&self, value: usize) {
        let value = value as u64;
        // Read first: a highest is seldom beaten, and often compared.
        if value > self.highest.load(Ordering::Relaxed) {
            self.raise(value);
        }
    }

    /// Takes note that there was no room for more.
    pub fn note_full(&self) {
        self.note(usize::try_from(self.limit).unwrap_or(usize::MAX));
    }

    #[cold]
    fn raise(&self, value: u64) {
        let before = self.highest.fetch_max(value, Ordering::Relaxed);
        let near = (u128::from(self.limit) * u128::from(NEAR_PERCENT)).div_ceil(100);
        if u128::from(before) < near && u128::from(value) >= near {
            tracing::warn!(
                option = self.option,
                highest = value,
                limit = self.limit,
                "a limit is nearly reached: {}",
                self.advice
            );
        }
    }

    /// The highest so far, as a share of the limit.
    pub fn ratio(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let ratio = self.highest.load(Ordering::Relaxed) as f64 / self.limit as f64;
        ratio
    }

    /// Adds it to the gauge of all limits.
    pub fn read(&self, readings: &mut Readings) {
        readings.max(&table::LIMIT_HIGH_WATER, &[self.option], self.ratio());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_stays_and_nothing_is_near_where_there_is_no_limit() {
        let high = HighWater::new("max_sockets", Some(8));
        high.note(6);
        high.note(2);
        assert!((high.ratio() - 0.75).abs() < 1e-9);
        high.note_full();
        assert!((high.ratio() - 1.0).abs() < 1e-9);
        let free = HighWater::new("max_sockets_per_key", None);
        free.note(1_000_000);
        assert!(free.ratio() < 1e-9);
    }
}
