//! The fetches that have failed, for tests.

use adsum_pubsub::Topic;
use adsum_tracker::Key;
use parking_lot::Mutex;

use crate::paused::is_paused;

/// A `fetch` that has failed.
#[derive(Clone, Debug)]
pub(crate) struct FailedFetch {
    pub(crate) topic: Topic,
    pub(crate) keys: Vec<Key>,
    pub(crate) error: String,
    /// Whether time was paused when it failed.
    pub(crate) paused: bool,
}

/// The fetches of a presence that have failed.
#[derive(Debug, Default)]
pub(crate) struct FailedFetches(Mutex<Vec<FailedFetch>>);

/// Maximum number of failed fetches kept.
const MAX_FAILED_FETCHES: usize = 32;

impl FailedFetches {
    pub(crate) fn note(&self, topic: &Topic, keys: &[Key], error: String) {
        let mut failed = self.0.lock();
        if failed.len() < MAX_FAILED_FETCHES {
            failed.push(FailedFetch {
                topic: topic.clone(),
                keys: keys.to_vec(),
                error,
                paused: is_paused(),
            });
        }
    }

    pub(crate) fn all(&self) -> Vec<FailedFetch> {
        self.0.lock().clone()
    }
}
