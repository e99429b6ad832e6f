//! Showing and hiding the rows of another replica, in turns.

use std::{collections::VecDeque, ops::Bound, sync::Arc};

use adsum_pubsub::Topic;

use super::{
    applying::SLICE,
    effects::Out,
    peer::{Peer, PeerShard, PeerState, Unsettled},
};
use crate::{layer::Layer, leave_reason::LeaveReason, row::Row, sharding::SHARDS, tracker::Tracker};

impl Peer {
    /// Begins to show a shard once it has the version that its replica announced when it came up, and the other nodes of
    /// a region that was lost with it are back, too.
    pub(super) fn show_if_due(&mut self, index: usize) {
        let is_down = matches!(self.state, PeerState::Down(_));
        if self.shards[index].version < self.shards[index].show_at || is_down {
            return;
        }
        self.shed(index);
        let waits = self.waits_for_region && self.is_up();
        let shard = &mut self.shards[index];
        if shard.shown || waits {
            return;
        }
        shard.shown = true;
        self.unsettle(index);
    }

    /// Begins to hide all its rows, which are kept.
    pub(super) fn hide(&mut self) {
        for index in 0..SHARDS {
            if std::mem::take(&mut self.shards[index].shown) {
                self.unsettle(index);
            }
        }
    }

    pub(super) fn unsettle(&mut self, index: usize) {
        if self.shards[index].rows.is_empty() {
            return;
        }
        self.shards[index].unsettled = Some(Box::default());
        self.unsettled.insert(index);
    }

    /// Shows or hides some of the rows that are still to be, at most as many as are `left`.
    pub(super) fn settle_on<X: Layer>(&mut self, left: &mut usize, tracker: &Tracker<X>, out: &mut Out) {
        while *left > 0
            && let Some(&index) = self.unsettled.first()
        {
            let shard = &mut self.shards[index];
            let Some(mut unsettled) = shard.unsettled.take() else {
                self.unsettled.pop_first();
                continue;
            };
            if !unsettled.is_gathered {
                unsettled.gather(shard, left);
            }
            while let Some((topic, rows)) = unsettled.next((*left).min(SLICE)) {
                *left -= rows.len();
                shard.settle(index, &topic, &rows, tracker, out);
            }
            if !unsettled.is_gathered || !unsettled.topics.is_empty() {
                shard.unsettled = Some(unsettled);
            }
        }
    }
}

impl Unsettled {
    /// Puts more rows together by topic.
    fn gather(&mut self, shard: &PeerShard, left: &mut usize) {
        let range = (self.gathered.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let count = *left;
        for (reference, row) in shard.rows.range(range).take(count) {
            self.gathered = Some(*reference);
            *left -= 1;
            match self.topics.get_mut(&row.topic) {
                Some(rows) => rows.push_back(row.clone()),
                None => drop(self.topics.insert(row.topic.clone(), VecDeque::from([row.clone()]))),
            }
        }
        self.is_gathered = *left > 0;
    }

    /// Takes the next rows, at most `most`, which are of one topic, once all are put together.
    fn next(&mut self, most: usize) -> Option<(Topic, Vec<Arc<Row>>)> {
        let mut first = self.topics.first_entry().filter(|_| self.is_gathered && most > 0)?;
        let rows = first.get_mut();
        let slice = rows.drain(..most.min(rows.len())).collect();
        let topic = if rows.is_empty() { first.remove_entry().0 } else { first.key().clone() };
        Some((topic, slice))
    }
}

impl PeerShard {
    /// Shows or hides rows of one topic, but for those that have left meanwhile.
    fn settle<X: Layer>(
        &self,
        index: usize,
        topic: &Topic,
        rows: &[Arc<Row>],
        tracker: &Tracker<X>,
        out: &mut Out,
    ) {
        let mut set = tracker.shard(index);
        let mut change = set.change(topic, true);
        for row in rows.iter().filter(|row| self.rows.contains_key(&row.reference)) {
            if !self.shown {
                change.take_out(row, Some(LeaveReason::Unreachable));
                continue;
            }
            change.show(row, self.departing.contains_key(&row.reference));
            if let Some(replaced) = row.replaces() {
                change.supersede(topic, &row.key, replaced);
            }
        }
        drop(change);
        tracker.wake_if_logged(&set);
        set.unlock_fair();
        out.changed(topic);
    }
}
