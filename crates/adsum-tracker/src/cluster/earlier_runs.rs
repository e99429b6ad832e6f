//! The rows of a node's earlier runs. Those that are shown stay until it is known whether the new run has them.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    effects::Out,
    peer::{Departing, Peer, PeerShard, PeerState, Rows},
};
use crate::{layer::Layer, reference::Ref, row::Row, tracker::Tracker};

impl Peer {
    /// Takes over an earlier run of this node. Rows shown of it stay until a shard of this run is complete; then those
    /// that aren't in it leave.
    pub(super) fn inherit(&mut self, mut earlier: Self) {
        for (index, (shard, of_earlier)) in self.shards.iter_mut().zip(&mut earlier.shards).enumerate() {
            if std::mem::take(&mut of_earlier.shown) {
                shard.rows = std::mem::take(&mut of_earlier.rows);
                shard.departing = std::mem::take(&mut of_earlier.departing);
                shard.confirmed = Some(Box::default());
                shard.unsettled = of_earlier.unsettled.take();
                shard.shown = true;
                self.unsettled.extend(earlier.unsettled.take(&index));
            }
        }
        self.ends = std::mem::take(&mut earlier.ends);
        self.bury(earlier);
    }

    /// Takes over the rows that a run that has departed had itself taken over from an earlier one, and that its set, which
    /// hasn't come yet, may not have: this run may be the earlier one, under a higher incarnation.
    pub(super) fn inherit_from_departed(&mut self, departed: &mut Self) {
        for (index, (shard, departed)) in self.shards.iter_mut().zip(&mut departed.shards).enumerate() {
            if !departed.shown {
                continue;
            }
            let Some(confirmed) = departed.confirmed.take() else { continue };
            let (mut rows, departing) = departed.split_off(&confirmed);
            departed.confirmed = Some(confirmed);
            shard.rows.append(&mut rows);
            self.ends.extend(departing.iter().map(|(reference, (end, _))| (*end, index, *reference)));
            shard.departing.extend(departing);
            if departed.unsettled.is_some() {
                shard.unsettled = Some(Box::default());
                self.unsettled.insert(index);
            }
            shard.shown = true;
            shard.confirmed.get_or_insert_default();
        }
    }

    /// Lets the rows of an earlier run leave that this one doesn't have, as all that this one has are known. If any of
    /// them is in its topic, that takes several turns.
    pub(super) fn shed(&mut self, index: usize) {
        let shard = &mut self.shards[index];
        let Some(confirmed) = shard.confirmed.take() else { return };
        if confirmed.len() < shard.rows.len() {
            let (rows, _) = shard.split_off(&confirmed);
            let is_in_topics = shard.is_in_topics();
            self.bury_rows(index, rows, is_in_topics);
        }
    }

    /// Drops an earlier run, in turns.
    pub(super) fn bury(&mut self, mut earlier: Self) {
        let remains = earlier.remains.take();
        for peer in remains.into_iter().map(|remains| *remains).chain([earlier]) {
            for (index, shard) in peer.shards.into_iter().enumerate() {
                let is_in_topics = shard.is_in_topics();
                self.bury_rows(index, shard.rows, is_in_topics);
            }
        }
    }

    fn bury_rows(&mut self, index: usize, mut rows: Rows, is_in_topics: bool) {
        if rows.is_empty() {
            return;
        }
        let (replica, at) = (&self.replica, self.heard_at);
        let new = || Box::new(Self::new(replica.clone(), PeerState::Down(at), at));
        let remains = self.remains.get_or_insert_with(new);
        remains.shards[index].rows.append(&mut rows);
        if is_in_topics {
            remains.unsettle(index);
        }
    }

    /// Goes on to drop rows of earlier runs, at most as many as are `left`. Returns whether nothing remains of them.
    pub(super) fn bury_on<X: Layer>(
        &mut self,
        left: &mut usize,
        tracker: &Tracker<X>,
        out: &mut Out,
    ) -> bool {
        let Some(remains) = &mut self.remains else { return true };
        let is_over = remains.drop_rows(left, tracker, out);
        if is_over {
            self.remains = None;
        }
        is_over
    }

    /// Whether rows of it are being taken out of their topics.
    pub(super) fn is_being_hidden(&self) -> bool {
        let is_being_hidden = |index: &usize| !self.shards[*index].shown;
        self.unsettled.iter().any(is_being_hidden)
            || self.remains.as_ref().is_some_and(|remains| remains.is_being_hidden())
    }
}

impl PeerShard {
    /// Whether a row is that of an earlier run, and isn't known to be in this one.
    pub(super) fn is_inherited(&self, reference: Ref) -> bool {
        let is_known = self.confirmed.as_ref().is_none_or(|confirmed| confirmed.contains(&reference));
        !is_known && self.rows.contains_key(&reference)
    }

    /// The rows that this run is known to have.
    pub(super) fn of_this_run(&self) -> BTreeSet<Ref> {
        match &self.confirmed {
            Some(confirmed) => confirmed.iter().copied().collect(),
            None => self.rows.keys().copied().collect(),
        }
    }

    /// Notes that this run has a row.
    pub(super) fn confirm(&mut self, reference: Ref) {
        if let Some(confirmed) = &mut self.confirmed {
            confirmed.insert(reference);
        }
    }

    pub(super) fn remove_row(&mut self, reference: Ref) -> Option<Arc<Row>> {
        if let Some(confirmed) = &mut self.confirmed {
            confirmed.remove(&reference);
        }
        self.rows.remove(&reference)
    }

    /// Takes out the rows that aren't confirmed, and what is noted of them.
    fn split_off(&mut self, confirmed: &HashSet<Ref>) -> (Rows, Departing) {
        let mut rows = std::mem::take(&mut self.rows);
        self.rows = confirmed.iter().filter_map(|reference| rows.remove_entry(reference)).collect();
        let departing = self.departing.extract_if(|reference, _| !confirmed.contains(reference)).collect();
        (rows, departing)
    }
}
