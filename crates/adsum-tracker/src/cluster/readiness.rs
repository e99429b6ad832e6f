//! Whether this node has a full view of the cluster.

use std::time::Duration;

use super::{Cluster, applying::SLICE, effects::Report, peer::PeerState, phase::NodePhase};
use crate::{layer::Layer, leave_reason::LeaveReason, sharding::SHARDS, time::Time};

/// How long a node waits for a full view at most, however steadily the presences of others come in.
const SYNC_AT_MOST: Duration = Duration::from_mins(10);

/// Whether the program was told that this node has a full view of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Not yet.
    Pending,
    /// It was told that the time for it ran out.
    Overdue,
    /// It was told.
    Synced,
}

impl<X: Layer> Cluster<X> {
    pub(super) fn look_whether_ready(&mut self, now: Time) {
        if self.readiness == Readiness::Synced {
            return;
        }
        let is_due = self.ready_by().is_some_and(|by| by <= now);
        let synced = matches!(self.phase, NodePhase::Live)
            && self.disconnected.is_none()
            && self.ready_from <= now
            && self.peers.values().all(|peer| {
                matches!(peer.state, PeerState::Down(_)) || peer.is_over(now) || peer.is_synced()
            });
        if synced || is_due {
            self.readiness = if synced { Readiness::Synced } else { Readiness::Overdue };
            self.out.report(Report::Ready { synced });
            self.drop_orphans();
        }
    }

    /// Returns when the time for a full view runs out, if the program still waits for it. It runs since the last piece
    /// of another node's set came: a large set takes longer than the `sync_timeout`.
    pub(super) fn ready_by(&self) -> Option<Time> {
        let by = self.progress_at + self.options.sync_timeout;
        (self.readiness == Readiness::Pending).then(|| by.min(self.started + SYNC_AT_MOST))
    }

    /// Takes out the rows that no node has confirmed since this node's part in the cluster has failed.
    fn drop_orphans(&mut self) {
        for index in 0..SHARDS {
            let orphans = self.tracker.shard(index).take_orphans();
            for slice in orphans.chunks(SLICE) {
                let mut set = self.tracker.shard(index);
                for row in slice {
                    set.change(&row.topic, true).take_out(row, Some(LeaveReason::Unreachable));
                    self.out.changed(&row.topic);
                }
                set.unlock_fair();
            }
        }
    }
}
