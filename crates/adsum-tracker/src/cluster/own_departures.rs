//! This node's own presences that are about to leave.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::Cluster;
use crate::{
    layer::Layer, leave_reason::LeaveReason, log::Departed, reference::Ref, row::Row, sharding::shard_of,
    time::Time, wire::MAX_GRACE,
};

/// This node's own presences that are about to leave.
#[derive(Default)]
pub(super) struct OwnDepartures {
    departures: HashMap<Ref, OwnDeparture>,
    ends: BTreeSet<(Time, Ref)>,
}

struct OwnDeparture {
    row: Arc<Row>,
    reason: LeaveReason,
    end: Time,
}

impl OwnDepartures {
    pub(super) fn note(&mut self, now: Time, departed: Vec<Departed>) {
        for Departed { row, reason, grace } in departed {
            let (end, reference) = (now + grace.min(MAX_GRACE), row.reference);
            self.departures.insert(reference, OwnDeparture { row, reason, end });
            self.ends.insert((end, reference));
        }
    }

    /// If a presence is about to leave, returns when and why.
    pub(super) fn of(&self, reference: Ref) -> Option<(Time, LeaveReason)> {
        self.departures.get(&reference).map(|departure| (departure.end, departure.reason))
    }

    pub(super) fn next_end(&self) -> Option<Time> {
        self.ends.first().map(|(end, _)| *end)
    }

    pub(super) fn len(&self) -> usize {
        self.departures.len()
    }

    fn take_ended(&mut self, now: Time) -> Vec<OwnDeparture> {
        let mut ended = Vec::new();
        while let Some((end, reference)) = self.ends.first().copied()
            && end <= now
        {
            self.ends.pop_first();
            ended.extend(self.departures.remove(&reference));
        }
        ended
    }
}

impl<X: Layer> Cluster<X> {
    /// Ends this node's departing presences whose graces are over.
    pub(super) fn end_own_departures(&mut self, now: Time) {
        for OwnDeparture { row, reason, .. } in self.own.take_ended(now) {
            let shard = shard_of(&row.topic);
            if self.tracker.shard(shard).end_departing(&row, reason) {
                self.out.changed(&row.topic);
                self.to_publish |= 1 << shard;
            }
        }
    }
}
