//! Applying another replica's changes to the set.

use std::{
    collections::{BTreeSet, HashMap, btree_map::Entry},
    ops::Bound,
    sync::Arc,
};

use adsum_pubsub::Topic;

use super::{
    effects::Out,
    peer::{Chunk, Peer, PeerShard, PeerState},
};
use crate::{
    layer::Layer,
    leave_reason::LeaveReason,
    meta::Key,
    reference::Ref,
    row::Row,
    shard::Shard,
    sharding::SHARDS,
    time::Time,
    tracker::Tracker,
    wire::{Batch, PresenceRow, RowChange},
};

/// Maximum number of rows shown or hidden under one hold of a shard's lock. Then a waiting thread gets it.
pub(super) const SLICE: usize = 512;
/// Maximum number of rows in one turn. Then a node does other things first.
pub(super) const TURN: usize = 4 * SLICE;

impl Peer {
    /// Applies a batch that follows the version held.
    pub(super) fn apply<X: Layer>(&mut self, now: Time, batch: &Batch, tracker: &Tracker<X>, out: &mut Out) {
        out.counts.batches_in += 1;
        let index = usize::from(batch.shard);
        let until = self.until();
        let shard = &mut self.shards[index];
        let mut set = tracker.shard(index);
        for (topic, changes) in &batch.topics {
            let topic = set.shared_name(topic);
            let mut set = set.change(&topic, shard.is_in_topics());
            if shard.is_in_topics() {
                out.changed(&topic);
            }
            for change in changes {
                match change {
                    RowChange::Join(row) => {
                        let end = shard.join(now, until, &topic, row, &mut set, out);
                        self.ends.extend(end.map(|end| (end, index, row.reference)));
                    }
                    RowChange::Leave { reference, reason, replaces } => {
                        let was_seen = shard.leave(*reference, *reason, &mut set);
                        // If it was seen, it has taken the other's place already.
                        if let Some(replaced) = replaces.filter(|_| !was_seen) {
                            shard.supersede_unseen(&topic, replaced, &mut set, out);
                        }
                    }
                    RowChange::Depart { reference, reason, grace } => {
                        let end = shard.depart(*reference, now + *grace, *reason, &mut set);
                        self.ends.extend(end.map(|end| (end, index, *reference)));
                    }
                }
            }
        }
        shard.version = batch.version;
        tracker.wake_if_logged(&set);
    }

    /// Applies the kept batches that follow the version now held.
    pub(super) fn apply_early<X: Layer>(
        &mut self,
        now: Time,
        index: usize,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) {
        loop {
            let shard = &mut self.shards[index];
            let version = shard.version;
            let Some(first) = shard.early.first_entry().filter(|first| *first.key() <= version + 1) else {
                break;
            };
            let batch = first.remove();
            shard.early_bytes -= batch.bytes();
            if batch.version == version + 1 {
                self.apply(now, &batch, tracker, out);
            }
        }
        self.show_if_due(index);
        let shard = &self.shards[index];
        if shard.version >= shard.known {
            self.pulls.remove(&index);
        }
    }

    /// Applies the joins of a snapshot's chunk, and the updates whose versions before are held. With the last chunk, the rows
    /// that aren't in the snapshot leave.
    pub(super) fn apply_chunk<X: Layer>(
        &mut self,
        now: Time,
        index: usize,
        chunk: Chunk,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) {
        let until = self.until();
        let shard = &mut self.shards[index];
        let Some(incoming) = self.pulls.get_mut(&index).and_then(|pull| pull.incoming.as_mut()) else {
            return;
        };
        let slices =
            chunk.topics.iter().flat_map(|(topic, rows)| rows.chunks(SLICE).map(move |rows| (topic, rows)));
        for (topic, slice) in slices {
            let mut set = tracker.shard(index);
            let topic = set.shared_name(topic);
            let mut change = set.change(&topic, shard.is_in_topics());
            if shard.is_in_topics() {
                out.changed(&topic);
            }
            for row in slice {
                incoming.missing.remove(&row.reference);
                if let Some(previous) = row.previous {
                    incoming.missing.remove(&previous);
                    shard.leave(previous, None, &mut change);
                }
                let end = shard.join(now, until, &topic, row, &mut change, out);
                self.ends.extend(end.map(|end| (end, index, row.reference)));
            }
            drop(change);
            tracker.wake_if_logged(&set);
            set.unlock_fair();
        }
        incoming.next += 1;
        shard.known = shard.known.max(incoming.version);
        if incoming.next < incoming.count {
            return;
        }
        let incoming = self.pulls.remove(&index).and_then(|pull| pull.incoming);
        let Some(incoming) = incoming else { return };
        if out.counts.snapshots_in.len() < 1000 {
            out.counts.snapshots_in.push(now.since(incoming.begun));
        }
        shard.version = incoming.version;
        shard.remove_missing(index, &incoming.missing, tracker, out);
        self.shed(index);
        self.apply_early(now, index, tracker, out);
        let shard = &self.shards[index];
        if shard.version < shard.known {
            self.want(now, index);
        }
    }

    /// Drops everything kept of it.
    pub(super) fn forget<X: Layer>(&mut self, tracker: &Tracker<X>, out: &mut Out) {
        let mut left = usize::MAX;
        self.forget_on(&mut left, tracker, out);
    }

    /// Drops some of what is kept of it, at most as many rows as are `left`. Returns whether nothing remains. If it is heard
    /// again before, it is pulled anew.
    pub(super) fn forget_on<X: Layer>(
        &mut self,
        left: &mut usize,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) -> bool {
        if !self.bury_on(left, tracker, out) {
            return false;
        }
        self.hide();
        self.drop_rows(left, tracker, out)
    }

    /// Goes on to take out and drop rows that are hidden, at most as many as are `left`. Returns whether nothing remains.
    /// That some were hidden for good is noted until no node knows them any more.
    pub(super) fn drop_rows<X: Layer>(
        &mut self,
        left: &mut usize,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) -> bool {
        self.settle_on(left, tracker, out);
        if !self.unsettled.is_empty() {
            return false;
        }
        for shard in &mut self.shards {
            let rows = std::mem::take(&mut shard.rows);
            *shard = PeerShard { rows, ..PeerShard::default() };
            while *left > 0 && shard.rows.pop_first().is_some() {
                *left -= 1;
            }
        }
        *left > 0
    }

    /// Notes that its set is final: rows that aren't about to leave already leave at the end of its grace. Begins with
    /// the first rows; [`depart_on`](Self::depart_on) goes on.
    pub(super) fn depart<X: Layer>(&mut self, mut turn: usize, tracker: &Tracker<X>) {
        self.to_depart = Some((0, None));
        self.depart_on(&mut turn, tracker);
    }

    /// Lets some more rows depart, at most as many as are `left`.
    pub(super) fn depart_on<X: Layer>(&mut self, left: &mut usize, tracker: &Tracker<X>) {
        let Some(until) = self.until() else { return };
        while *left > 0 {
            let Some((index, after)) = self.to_depart.filter(|(index, _)| *index < SHARDS) else {
                self.to_depart = None;
                return;
            };
            let most = (*left).min(SLICE);
            let shard = &mut self.shards[index];
            let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
            let slice: Vec<Ref> =
                shard.rows.range(range).map(|(reference, _)| *reference).take(most).collect();
            *left -= slice.len();
            let mut set = tracker.shard(index);
            for reference in &slice {
                if shard.is_inherited(*reference) {
                    // It isn't of the set that is final, as far as is known, and may be alive: nothing may take its place.
                    self.ends.insert((until, index, *reference));
                    continue;
                }
                let reason =
                    shard.departing.get(reference).map_or(LeaveReason::Draining, |(_, reason)| *reason);
                let end = shard.depart(*reference, until, reason, &mut set);
                self.ends.extend(end.map(|end| (end, index, *reference)));
            }
            set.unlock_fair();
            self.to_depart = Some(match slice.last() {
                Some(last) if slice.len() == most => (index, Some(*last)),
                _ => (index + 1, None),
            });
        }
    }

    /// Takes out rows whose graces have ended, at most as many as are `left`.
    pub(super) fn end_departures<X: Layer>(
        &mut self,
        now: Time,
        left: &mut usize,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) {
        while *left > 0
            && let Some((_, index, reference)) = self.ends.first().copied().filter(|(end, ..)| *end <= now)
        {
            self.ends.pop_first();
            *left -= 1;
            let is_final = self.has_departed();
            let is_over = self.is_over(now);
            let shard = &mut self.shards[index];
            match shard.departing.get(&reference) {
                Some((end, _)) if *end <= now => {}
                // The set that would have told whether it has this row hasn't come.
                None if is_over && shard.is_inherited(reference) => {
                    shard.remove(reference, Some(LeaveReason::Unreachable), &mut tracker.shard(index), out);
                    continue;
                }
                // This end is outdated, or the row has left.
                _ => continue,
            }
            let reason = shard.departing.remove(&reference).map(|(_, reason)| reason);
            let Some(row) = shard.rows.get(&reference) else { continue };
            let mut set = tracker.shard(index);
            if shard.is_in_topics() {
                set.change(&row.topic, true).take_out(row, reason);
                out.changed(&row.topic);
            }
            if is_final && shard.version >= shard.known {
                // No further message about it will come.
                shard.remove_row(reference);
                set.unhide(reference);
            } else {
                set.hide(reference);
            }
        }
    }

    /// Returns the latest time at which the rows of a departed replica leave.
    fn until(&self) -> Option<Time> {
        match self.state {
            PeerState::Departed { until, .. } => Some(until),
            PeerState::Up | PeerState::Down(_) => None,
        }
    }
}

impl PeerShard {
    /// Whether rows of it may be in their topics: it is shown, or not all of it is hidden yet.
    pub(super) fn is_in_topics(&self) -> bool {
        self.shown || self.unsettled.is_some()
    }

    /// Removes the rows that a snapshot doesn't have. They have gone, unless later versions may have taken their places.
    fn remove_missing<X: Layer>(
        &mut self,
        index: usize,
        missing: &BTreeSet<Ref>,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) {
        let mut updated = HashMap::new();
        let mut missing = missing.iter().peekable();
        while missing.peek().is_some() {
            let mut set = tracker.shard(index);
            for reference in missing.by_ref().take(SLICE) {
                let Some(row) = self.rows.get(reference) else { continue };
                let has_gone = !self.may_be_updated(row, &set, &mut updated);
                self.remove(*reference, has_gone.then_some(LeaveReason::Gone), &mut set, out);
            }
            set.unlock_fair();
        }
    }

    /// Whether a row is an earlier version of another one that is held, as far as can be known. Of the keys that were looked
    /// at, `updated` has the latest version that another one is known to have followed.
    ///
    /// Rows of a snapshot may be newer than its version: then the earlier versions come after them, with the batches that
    /// follow.
    fn may_be_updated<X: Layer>(
        &self,
        row: &Row,
        set: &Shard<X>,
        updated: &mut HashMap<(Topic, Key), Option<Ref>>,
    ) -> bool {
        if self.unsettled.is_some() {
            // The other one may not be shown yet.
            return true;
        }
        let latest = updated.entry((row.topic.clone(), row.key.clone())).or_insert_with(|| {
            let rows = set.topic(&row.topic)?.group(&row.key)?.rows().iter();
            rows.filter_map(|row| row.previous().filter(|_| self.rows.contains_key(&row.reference))).max()
        });
        latest.is_some_and(|latest| row.reference <= latest)
    }

    /// Removes a row.
    fn remove<X: Layer>(
        &mut self,
        reference: Ref,
        reason: Option<LeaveReason>,
        set: &mut Shard<X>,
        out: &mut Out,
    ) {
        let Some(topic) = self.rows.get(&reference).map(|row| row.topic.clone()) else { return };
        if self.is_in_topics() {
            out.changed(&topic);
        }
        self.leave(reference, reason, &mut set.change(&topic, self.is_in_topics()));
    }

    /// Adds a row, or notes that a known one departs. Returns when it will end, if that is news.
    fn join<X: Layer>(
        &mut self,
        now: Time,
        until: Option<Time>,
        topic: &Topic,
        new: &PresenceRow,
        set: &mut Shard<X>,
        out: &mut Out,
    ) -> Option<Time> {
        let PresenceRow { ref key, reference, replaces, departing, .. } = *new;
        self.confirm(reference);
        if let Entry::Vacant(vacant) = self.rows.entry(reference) {
            let row = set.orphan(reference).unwrap_or_else(|| Arc::new(new.row(topic)));
            if self.shown {
                set.show(&row, false);
                if let Some(replaced) = replaces {
                    set.supersede(topic, key, replaced);
                }
                out.changed(topic);
            }
            vacant.insert(row);
        }
        let departs = departing.map(|(reason, grace)| (now + grace, reason));
        let (end, reason) = match (departs, until) {
            (Some((end, reason)), Some(until)) => (end.min(until), reason),
            (Some(departs), None) => departs,
            (None, Some(until)) => (until, LeaveReason::Draining),
            (None, None) => return None,
        };
        self.depart(reference, end, reason, set)
    }

    /// Removes a row. Returns whether it was there and shown.
    fn leave<X: Layer>(&mut self, reference: Ref, reason: Option<LeaveReason>, set: &mut Shard<X>) -> bool {
        self.departing.remove(&reference);
        let Some(row) = self.remove_row(reference) else { return false };
        let is_still_unshown = self.unsettled.is_some() && !set.is_shown(&row) && !set.is_hidden(reference);
        if self.is_in_topics() {
            // A version that follows isn't shown in this diff, as all is about to be hidden.
            set.take_out(&row, if self.shown { reason } else { reason.or(Some(LeaveReason::Unreachable)) });
        }
        set.unhide(reference);
        self.shown && !is_still_unshown
    }

    /// Notes when a row leaves. A later notice never lengthens its grace. Returns when it will end, if that is news.
    fn depart<X: Layer>(
        &mut self,
        reference: Ref,
        end: Time,
        reason: LeaveReason,
        set: &mut Shard<X>,
    ) -> Option<Time> {
        let row = self.rows.get(&reference)?;
        if set.is_hidden(reference) {
            return None;
        }
        if self.departing.get(&reference).is_some_and(|(earlier, _)| *earlier <= end) {
            return None;
        }
        self.departing.insert(reference, (end, reason));
        if self.shown {
            set.mark_departing(row);
        }
        Some(end)
    }

    /// Hides a row whose place was taken by one that came and went unseen here.
    fn supersede_unseen<X: Layer>(&self, topic: &Topic, replaced: Ref, set: &mut Shard<X>, out: &mut Out) {
        let key = set.topic(topic).and_then(|set| set.key_of(replaced));
        match key {
            Some(key) => {
                if !self.is_in_topics() {
                    set.entry(topic).begin();
                }
                set.supersede(topic, &key, replaced);
                out.changed(topic);
            }
            None => set.hide(replaced),
        }
    }
}
