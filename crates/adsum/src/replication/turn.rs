//! How long the replication task goes on before other tasks get their turn.

use std::time::Duration;

use tokio::task::yield_now;

/// A task that has worked for this long lets others go on. One step takes a few milliseconds at most: a chunk of a
/// snapshot, or rows that are shown.
const TURN: Duration = Duration::from_millis(1);

/// How long a task has worked since others had their turn. It is counted, as a task that waits for messages doesn't always
/// have to wait, and would go on for as long as they come.
#[derive(Default)]
pub(super) struct Turn(Duration);

impl Turn {
    /// Counts a step, after which others get their turn if it is time.
    pub(super) async fn worked(&mut self, time: Duration) {
        self.0 += time;
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
    fn others_get_their_turn_once_a_task_has_worked_long_enough() {
        let mut turn = Turn::default();
        let mut goes_on = |time| turn.worked(time).now_or_never().is_some();
        assert!(goes_on(TURN / 2));
        assert!(!goes_on(TURN / 2));
        assert!(goes_on(TURN / 2));
    }
}
