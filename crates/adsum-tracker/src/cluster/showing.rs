//! Showing and hiding the rows of another replica.

use std::{ops::Bound, sync::Arc};

use adsum_pubsub::Topic;

use super::{
    applying::{SLICE, SLICES_AT_ONCE},
    effects::Out,
    peer::{Peer, PeerShard, PeerState, Unshown},
};
use crate::{layer::Layer, leave_reason::LeaveReason, row::Row, sharding::SHARDS, tracker::Tracker};

impl Peer {
    /// Begins to show a shard once it has the version that its replica announced when it came up.
    pub(super) fn show_if_due<X: Layer>(&mut self, index: usize, tracker: &Tracker<X>, out: &mut Out) {
        let is_down = matches!(self.state, PeerState::Down(_));
        let shard = &mut self.shards[index];
        if shard.version >= shard.show_at
            && !is_down
            && let Some(inherited) = shard.inherited.take()
        {
            let gone =
                inherited.into_iter().map(|reference| (reference, Some(LeaveReason::Unreachable))).collect();
            shard.remove(index, gone, tracker, out);
        }
        if shard.shown || shard.version < shard.show_at || is_down {
            return;
        }
        shard.shown = true;
        if !shard.rows.is_empty() {
            shard.unshown = Some(Box::default());
            self.showing.insert(index);
        }
    }

    /// Shows some of the rows that are to be shown.
    pub(super) fn show_on<X: Layer>(&mut self, tracker: &Tracker<X>, out: &mut Out) {
        let mut left = SLICES_AT_ONCE * SLICE;
        while left > 0
            && let Some(&index) = self.showing.first()
        {
            let shard = &mut self.shards[index];
            let Some(mut unshown) = shard.unshown.take() else {
                self.showing.pop_first();
                continue;
            };
            if !unshown.is_gathered {
                unshown.gather(shard, &mut left);
            }
            while unshown.is_gathered
                && left > 0
                && let Some((topic, rows)) = unshown.topics.pop_first()
            {
                left = left.saturating_sub(rows.len());
                shard.show(index, &topic, &rows, tracker, out);
            }
            if !unshown.is_gathered || !unshown.topics.is_empty() {
                shard.unshown = Some(unshown);
            }
        }
    }

    /// Hides all its rows, and keeps them.
    pub(super) fn hide<X: Layer>(&mut self, reason: LeaveReason, tracker: &Tracker<X>, out: &mut Out) {
        for index in 0..SHARDS {
            let shard = &mut self.shards[index];
            if !std::mem::take(&mut shard.shown) {
                continue;
            }
            shard.unshown = None;
            for rows in shard.in_order().chunk_by(|(a, _), (b, _)| a.topic == b.topic) {
                let topic = &rows[0].0.topic;
                for slice in rows.chunks(SLICE) {
                    let mut set = tracker.shard(index);
                    let mut change = set.change(topic, true);
                    for (row, _) in slice {
                        change.take_out(row, Some(reason));
                    }
                    drop(change);
                    set.unlock_fair();
                }
                out.changed(topic);
            }
        }
    }
}

impl Unshown {
    /// Puts more rows together by topic.
    fn gather(&mut self, shard: &PeerShard, left: &mut usize) {
        let range = (self.gathered.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let count = *left;
        for (reference, row) in shard.rows.range(range).take(count) {
            self.gathered = Some(*reference);
            *left -= 1;
            match self.topics.get_mut(&row.topic) {
                Some(rows) => rows.push(row.clone()),
                None => drop(self.topics.insert(row.topic.clone(), vec![row.clone()])),
            }
        }
        self.is_gathered = *left > 0;
    }
}

impl PeerShard {
    /// Shows rows of one topic, but for those that have left meanwhile.
    fn show<X: Layer>(
        &self,
        index: usize,
        topic: &Topic,
        rows: &[Arc<Row>],
        tracker: &Tracker<X>,
        out: &mut Out,
    ) {
        for slice in rows.chunks(SLICE) {
            let mut set = tracker.shard(index);
            let mut change = set.change(topic, true);
            for row in slice.iter().filter(|row| self.rows.contains_key(&row.reference)) {
                change.show(row, self.departing.contains_key(&row.reference));
                if let Some(replaced) = row.replaces() {
                    change.supersede(topic, &row.key, replaced);
                }
            }
            drop(change);
            tracker.wake_if_logged(&set);
            set.unlock_fair();
        }
        out.changed(topic);
    }

    /// Returns all rows, and whether they are about to leave. Those of a topic are together, in the order in which they
    /// were made.
    fn in_order(&self) -> Vec<(&Arc<Row>, bool)> {
        let departing = |reference| self.departing.contains_key(reference);
        let mut rows: Vec<_> = self.rows.iter().map(|(reference, row)| (row, departing(reference))).collect();
        rows.sort_by(|(a, _), (b, _)| a.topic.cmp(&b.topic));
        rows
    }
}
