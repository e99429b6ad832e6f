//! The program's observer of diffs.

use std::sync::Arc;

use adsum_pubsub::{Topic, tasks};
use adsum_tracker::Diff;

use crate::key_cache::KeyCache;

/// A diff of a topic, from [`Builder::observe`](crate::Builder::observe). It changes the number of presences by `joins`
/// minus `leaves`.
#[derive(Debug)]
#[non_exhaustive]
pub struct ObservedDiff<'o> {
    /// The topic.
    pub topic: &'o Topic,
    /// The number of metas that joined. An update is one join and one leave.
    pub joins: usize,
    /// The number of metas that left.
    pub leaves: usize,
}

type Observe = dyn Fn(&ObservedDiff<'_>) + Send + Sync;

/// The program's observer, if it has one.
#[derive(Clone, Default)]
pub(crate) struct DiffObserver(Option<Arc<Observe>>);

impl DiffObserver {
    pub(crate) fn new(observe: impl Fn(&ObservedDiff<'_>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(observe)))
    }

    /// Calls the observer. Its panics are logged, and go no further.
    pub(crate) fn observe<I>(&self, topic: &Topic, diff: &Diff<KeyCache<I>>) {
        let Some(observe) = &self.0 else { return };
        let joins = diff.joins.iter().filter(|joined| !joined.is_known).count();
        let leaves = diff.leaves.iter().filter(|left| left.is_known).count();
        let diff = ObservedDiff { topic, joins, leaves };
        let _ = tasks::guarded("an observer of diffs", || observe(&diff));
    }
}
