//! Time inside a cluster.

use std::{
    fmt,
    ops::{Add, AddAssign},
    time::Duration,
};

/// The time since some moment of this process, by a monotonic clock. Addition saturates at [`MAX`](Self::MAX), which
/// means never.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The moment from which time is counted.
    pub const ZERO: Self = Self(Duration::ZERO);
    /// Never.
    pub const MAX: Self = Self(Duration::MAX);

    /// Returns the time this long after [`ZERO`](Self::ZERO).
    pub const fn new(since_zero: Duration) -> Self {
        Self(since_zero)
    }

    /// Returns how long after [`ZERO`](Self::ZERO) this is.
    pub const fn since_zero(self) -> Duration {
        self.0
    }

    /// Returns how long after an earlier time this is; zero if it isn't later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
