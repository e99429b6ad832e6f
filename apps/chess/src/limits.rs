//! How often somebody may do something. Anything faster is refused with the time to wait, and nothing else happens.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Problem;

/// How many are remembered of each limit: who hasn't done anything for long is forgotten before. Beyond it, everyone new
/// shares one allowance.
const MAX_REMEMBERED: usize = 100_000;

/// So many in a time, of which all may come at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// 0: any number.
    count: u32,
    per: Duration,
}

impl Rate {
    pub(crate) fn per_minute(count: u32) -> Self {
        Self { count, per: Duration::from_mins(1) }
    }

    /// How long it takes until one more is allowed.
    fn interval(self) -> Duration {
        self.per / self.count.max(1)
    }
}

/// Holds everyone to a rate.
#[derive(Debug)]
pub(crate) struct Limit<K> {
    rate: Rate,
    /// For each, when everything that they have done is paid for.
    paid_at: Mutex<HashMap<Option<K>, Instant>>,
}

impl<K: Eq + Hash> Limit<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, paid_at: Mutex::default() }
    }

    /// Lets one more be done, or says when to try again.
    pub(crate) fn check(&self, who: K) -> Result<(), Problem> {
        self.check_at(who, Instant::now())
    }

    fn check_at(&self, who: K, now: Instant) -> Result<(), Problem> {
        if self.rate.count == 0 {
            return Ok(());
        }
        let mut paid_at = self.paid_at.lock();
        if paid_at.len() >= MAX_REMEMBERED {
            paid_at.retain(|_, paid_at| *paid_at > now);
        }
        let who = Some(who);
        let who = if paid_at.len() < MAX_REMEMBERED || paid_at.contains_key(&who) { who } else { None };
        let paid = paid_at.entry(who).or_insert(now);
        let next = (*paid).max(now) + self.rate.interval();
        let too_early = next.saturating_duration_since(now + self.rate.per);
        if too_early.is_zero() {
            *paid = next;
            return Ok(());
        }
        Err(Problem::too_fast(u64::try_from(too_early.as_millis()).unwrap_or(u64::MAX).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_at_a_time() {
        let (limit, began) = (Limit::new(Rate::per_minute(6)), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        for _ in 0..6 {
            assert_eq!(limit.check_at("anna", began), Ok(()));
        }
        let problem = limit.check_at("anna", began).unwrap_err();
        assert_eq!((problem.reason, problem.retry_after_ms), ("too_fast", Some(10_000)));
        assert_eq!(limit.check_at("ben", began), Ok(()), "others are not concerned");
        assert_eq!(limit.check_at("anna", after(10)), Ok(()));
        assert!(limit.check_at("anna", after(10)).is_err());
        assert_eq!((0..10).filter(|_| limit.check_at("anna", after(3_600)).is_ok()).count(), 6);
    }

    #[test]
    fn zero_is_no_limit() {
        let limit = Limit::new(Rate::per_minute(0));
        assert!((0..10_000).all(|_| limit.check("anna").is_ok()));
    }
}
