//! How long the replication task goes on before other tasks get their turn.

use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// A task that has worked for this long lets others go on. One step takes a few milliseconds at most: a chunk of a
/// snapshot, or rows that are shown.
const TURN: Duration = Duration::from_millis(1);

/// The work of a task since others had their turn. It is counted, as a task that waits for messages doesn't always have to
/// wait, and would go on for as long as they come.
#[derive(Default)]
pub(super) struct Turn(Duration);

impl Turn {
    /// Does a part of the work. Its time is that of the machine, which a test doesn't pause.
    pub(super) fn work<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        self.0 += began.elapsed();
        result
    }

    /// Ends the turn if it has been long enough.
    pub(super) async fn end_if_long(&mut self) {
        if self.0 >= TURN {
            self.0 = Duration::ZERO;
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_long_turn_ends_once_and_a_short_one_goes_on() {
        let mut turn = Turn::default();
        assert!(turn.end_if_long().now_or_never().is_some());
        let began = Instant::now();
        // In two steps, neither of which is the whole.
        for part in 1..=2 {
            turn.work(|| while began.elapsed() < TURN * part {});
        }
        assert!(turn.end_if_long().now_or_never().is_none());
        assert!(turn.end_if_long().now_or_never().is_some());
    }
}
