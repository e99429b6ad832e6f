//! Limits how fast a client may send, by pausing its transport's reads.
//!
//! The size of a message is known only once it was read, and may exceed a second's allowance, so it is counted as a
//! debt that is paid off over time. (The crate `governor` refuses anything beyond its burst, and keeps 80 bytes per
//! socket for two limits.)

use std::time::Duration;

use adsum_pubsub::bounds::MAX_TIME;
use tokio::time::Instant;

use crate::{observe::ClientLimit, options::Options};

/// A client that was quiet may send a second's allowance at once.
const BURST: Duration = Duration::from_secs(1);

/// How much a client has sent, measured against its rates.
#[derive(Debug)]
pub(crate) struct Pace {
    messages_paid: Instant,
    bytes_paid: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { messages_paid: now, bytes_paid: now }
    }

    /// Counts what was sent. Returns until when reading must pause, if the client is too fast.
    pub(crate) fn spend(
        &mut self,
        messages: usize,
        bytes: usize,
        options: &Options,
        now: Instant,
    ) -> Option<Instant> {
        if let Some(rate) = options.max_message_rate {
            self.messages_paid = pay(self.messages_paid, messages, rate, now);
        }
        if let Some(rate) = options.max_byte_rate {
            self.bytes_paid = pay(self.bytes_paid, bytes, rate, now);
        }
        self.waits_until(now)
    }

    /// Until when reading must pause, if the client is too fast.
    pub(crate) fn waits_until(&self, now: Instant) -> Option<Instant> {
        let paid = self.messages_paid.max(self.bytes_paid);
        (paid > now + BURST).then(|| paid - BURST)
    }

    /// The rate that a client exceeds if it is too fast. If both, that for which reading pauses longer.
    pub(crate) fn limit(&self) -> ClientLimit {
        if self.messages_paid > self.bytes_paid { ClientLimit::MessageRate } else { ClientLimit::ByteRate }
    }
}

fn pay(paid: Instant, count: usize, rate: u32, now: Instant) -> Instant {
    if count == 0 {
        return paid;
    }
    let nanos = (count as u64).saturating_mul(1_000_000_000) / u64::from(rate);
    // Bounded to a day, so that no sum overflows.
    (paid.max(now) + Duration::from_nanos(nanos).min(MAX_TIME)).min(now + MAX_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(messages: impl Into<Option<u32>>, bytes: impl Into<Option<u32>>) -> Options {
        Options { max_message_rate: messages.into(), max_byte_rate: bytes.into(), ..Options::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_s_worth_is_free_and_what_is_more_waits_for_its_time() {
        let options = options(10, None);
        let (mut pace, start) = (Pace::new(), Instant::now());
        assert_eq!(pace.spend(10, usize::MAX, &options, start), None);
        assert_eq!(pace.spend(1, 0, &options, start), Some(start + Duration::from_millis(100)));
        let later = start + Duration::from_millis(100);
        assert_eq!(pace.waits_until(later), None);
        assert_eq!(pace.spend(5, 0, &options, later), Some(later + Duration::from_millis(500)));
        // Silence saves up no more than the burst.
        let much_later = start + Duration::from_mins(1);
        assert_eq!(pace.spend(10, 0, &options, much_later), None);
        assert!(pace.spend(1, 0, &options, much_later).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_have_a_rate_of_their_own() {
        let options = options(None, 1000);
        let (mut pace, start) = (Pace::new(), Instant::now());
        assert_eq!(pace.spend(usize::MAX, 1000, &options, start), None);
        assert_eq!(pace.spend(0, 500, &options, start), Some(start + Duration::from_millis(500)));
        // The debt is at most a day, whatever was sent.
        assert_eq!(pace.spend(0, usize::MAX, &options, start), Some(start + MAX_TIME - BURST));
    }
}
