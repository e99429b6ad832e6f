//! The numbers of the set, for metrics.

use std::{collections::BTreeMap, ops::AddAssign, time::Duration};

use adsum_pubsub::metrics::HighWater;
use parking_lot::Mutex;

use crate::{
    leave_reason::LeaveReason,
    limits::{Limits, OverLimit},
};

/// The presences of the set, and the changes since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The topics that are kept.
    pub topics: usize,
    /// The presences that are shown.
    pub presences: usize,
    /// Those of them that were tracked on this node.
    pub own: usize,
    /// How many were shown anew.
    pub joined: u64,
    /// How many were given a new meta.
    pub updated: u64,
    /// How many went, by reason, in the order of [`LeaveReason::ALL`].
    pub left: [u64; LeaveReason::ALL.len()],
}

impl Counts {
    pub(crate) fn left(&mut self, reason: LeaveReason, count: usize) {
        self.left[reason as usize] += count as u64;
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.topics += more.topics;
        self.presences += more.presences;
        self.own += more.own;
        self.joined += more.joined;
        self.updated += more.updated;
        for (left, more) in self.left.iter_mut().zip(more.left) {
            *left += more;
        }
    }
}

/// How near what is tracked has come to the [`Limits`], and how often it was refused.
#[derive(Debug)]
pub struct LimitCounts {
    pub(crate) meta_bytes: HighWater,
    pub(crate) of_owner: HighWater,
    pub(crate) of_key: HighWater,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl LimitCounts {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            meta_bytes: HighWater::new("meta_bytes", Some(limits.meta_bytes)),
            of_owner: HighWater::new("presences_per_owner", Some(limits.presences_per_owner)),
            of_key: HighWater::new("presences_per_key", Some(limits.presences_per_key)),
            refused: Mutex::default(),
        }
    }

    /// Counts what was over a limit.
    pub(crate) fn note<T>(&self, result: Result<T, OverLimit>) -> Result<T, OverLimit> {
        result.inspect_err(|over| *self.refused.lock().entry(over.option()).or_default() += 1)
    }

    /// The highest so far of each limit that is of interest.
    pub fn highest(&self) -> [&HighWater; 3] {
        [&self.meta_bytes, &self.of_owner, &self.of_key]
    }

    /// How often something was over a limit, by the limit's name.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        self.refused.lock().iter().map(|(option, count)| (*option, *count)).collect()
    }
}

/// The messages of a node and of others, in numbers.
#[derive(Debug, Default)]
pub struct ClusterCounts {
    /// Batches of this node that were published.
    pub batches_out: u64,
    /// Batches of other nodes that were applied.
    pub batches_in: u64,
    /// Batches that didn't follow what was held.
    pub gaps: u64,
    /// Snapshots that were made for other nodes.
    pub snapshots_out: u64,
    /// How long each snapshot took that was taken in whole; of the first thousand, should nobody ask.
    pub snapshots_in: Vec<Duration>,
}
