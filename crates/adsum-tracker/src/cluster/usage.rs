//! How much a node keeps of the others.

use super::{Cluster, peer::Peer};
use crate::{counts::ClusterCounts, layer::Layer};

/// How much a node keeps of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Replicas that are up, down or departed, and not forgotten.
    pub peers: usize,
    /// Their presences, shown and hidden.
    pub rows: usize,
    /// Batches that arrived before those they follow.
    pub early: usize,
    /// Rows hidden for good.
    pub hidden: usize,
    /// Snapshots being served.
    pub served: usize,
    /// Presences about to leave.
    pub departing: usize,
}

impl<X: Layer> Cluster<X> {
    /// Returns what was said and heard since the last call.
    pub fn take_counts(&mut self) -> ClusterCounts {
        std::mem::take(&mut self.out.counts)
    }

    /// Returns how much is kept of other nodes.
    pub fn usage(&self) -> Usage {
        Usage {
            peers: self.peers.len(),
            rows: self.peers.values().map(Peer::rows).sum(),
            early: self.peers.values().map(Peer::early).sum(),
            hidden: self.tracker.shards().map(|shard| shard.hidden()).sum(),
            served: self.snapshots.len(),
            departing: self.own.len() + self.peers.values().map(Peer::departing).sum::<usize>(),
        }
    }
}
