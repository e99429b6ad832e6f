//! Random times, from a seed.

use std::time::Duration;

/// `SplitMix64` (Steele, Lea and Flood, 2014).
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a time below a limit.
    pub(super) fn below(&mut self, limit: Duration) -> Duration {
        let nanos = limit.as_nanos().clamp(1, u128::from(u64::MAX)) as u64;
        Duration::from_nanos(self.next() % nanos)
    }
}
