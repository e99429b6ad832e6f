//! Counts of what a node does, kept while somebody looks at them.

use serde::{Deserialize, Serialize};

#[cfg(feature = "dashboard")]
pub(crate) use self::counting::Activity;

/// The counts, which grow while somebody looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) diffs: u64,
    pub(crate) joins: u64,
    pub(crate) leaves: u64,
}

#[cfg(feature = "dashboard")]
mod counting {
    use std::{
        sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        time::Duration,
    };

    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::Counts;

    /// For how long the counting goes on after somebody has asked for the counts.
    const KEPT: Duration = Duration::from_secs(10);

    /// Counts the changes since somebody looked first. Nothing is counted while nobody does, which costs a comparison for each
    /// diff.
    pub(crate) struct Activity {
        is_counting: AtomicBool,
        until: Mutex<Instant>,
        diffs: AtomicU64,
        joins: AtomicU64,
        leaves: AtomicU64,
    }

    impl Activity {
        pub(crate) fn new() -> Self {
            Self {
                is_counting: AtomicBool::new(false),
                until: Mutex::new(Instant::now()),
                diffs: AtomicU64::new(0),
                joins: AtomicU64::new(0),
                leaves: AtomicU64::new(0),
            }
        }

        /// Counts a diff.
        pub(crate) fn note(&self, joins: usize, leaves: usize) {
            if !self.is_counting.load(Relaxed) {
                return;
            }
            if *self.until.lock() < Instant::now() {
                self.is_counting.store(false, Relaxed);
                return;
            }
            self.diffs.fetch_add(1, Relaxed);
            self.joins.fetch_add(joins as u64, Relaxed);
            self.leaves.fetch_add(leaves as u64, Relaxed);
        }

        /// The counts, which go on for a while.
        pub(crate) fn look(&self) -> Counts {
            *self.until.lock() = Instant::now() + KEPT;
            self.is_counting.store(true, Relaxed);
            Counts {
                diffs: self.diffs.load(Relaxed),
                joins: self.joins.load(Relaxed),
                leaves: self.leaves.load(Relaxed),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[tokio::test(start_paused = true)]
        async fn it_counts_while_somebody_looks_and_for_a_while_after() {
            let activity = Activity::new();
            activity.note(1, 1);
            assert_eq!(activity.look(), Counts::default());
            activity.note(2, 1);
            tokio::time::advance(KEPT / 2).await;
            activity.note(1, 0);
            assert_eq!(activity.look(), Counts { diffs: 2, joins: 3, leaves: 1 });
            tokio::time::advance(KEPT + Duration::from_secs(1)).await;
            activity.note(1, 0);
            activity.note(1, 0);
            assert!(!activity.is_counting.load(Relaxed));
            assert_eq!(activity.look(), Counts { diffs: 2, joins: 3, leaves: 1 });
        }
    }
}
