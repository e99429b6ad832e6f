//! The return of a region: its nodes are shown together, so that a client sees one change instead of one for each node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Cluster, peer::Peer};
use crate::{
    layer::Layer,
    replica::{Region, Replica},
    sharding::SHARDS,
    time::Time,
};

/// The regions whose nodes went down with the link to them.
pub(super) type LostRegions = BTreeMap<Region, LostRegion>;

#[derive(Debug)]
pub(super) struct LostRegion {
    /// The names of the nodes that haven't come back.
    away: BTreeSet<Arc<str>>,
    /// When those that have are shown, whoever is missing. `None` before one is heard.
    show_at: Option<Time>,
}

impl<X: Layer> Cluster<X> {
    /// Notes that all nodes of a region go down with the link to it.
    pub(super) fn lose_region(&mut self, region: Region) {
        let away = self.peers_up_in(&region).map(|peer| peer.replica.name.clone()).collect();
        self.lost_regions.insert(region, LostRegion { away, show_at: None });
    }

    /// Notes that a node was heard, and whether it is back. One of a lost region isn't shown before the others.
    pub(super) fn wait_for_region(&mut self, now: Time, from: &Replica, is_back: bool) {
        let show_at = now + self.link_proof();
        let Some(peer) = self.peers.get_mut(from) else { return };
        let lost = peer.region.as_ref().and_then(|region| self.lost_regions.get_mut(region));
        let Some(lost) = lost else {
            peer.waits_for_region = false;
            return;
        };
        if is_back {
            peer.waits_for_region = true;
            lost.away.remove(&from.name);
            lost.show_at.get_or_insert(show_at);
        }
    }

    /// Begins to show the nodes of the regions that are back.
    pub(super) fn show_returned_regions(&mut self, now: Time) {
        let peers = &mut self.peers;
        self.lost_regions.retain(|region, lost| {
            let is_in = |peer: &Peer| peer.region.as_ref() == Some(region);
            if !lost.is_back(now, peers.values().filter(|peer| is_in(peer))) {
                // Nothing is awaited any more once all its nodes are forgotten.
                return peers.values().any(is_in);
            }
            for peer in peers.values_mut().filter(|peer| is_in(peer)) {
                peer.waits_for_region = false;
                (0..SHARDS).for_each(|index| peer.show_if_due(index));
            }
            false
        });
    }

    pub(super) fn show_returned_regions_at(&self) -> Option<Time> {
        self.lost_regions.values().filter_map(|lost| lost.show_at).min()
    }
}

impl LostRegion {
    fn is_back<'p>(&self, now: Time, mut peers: impl Iterator<Item = &'p Peer>) -> bool {
        let Some(show_at) = self.show_at else { return false };
        show_at <= now
            || self.away.is_empty() && peers.all(|peer| !peer.waits_for_region || peer.may_be_shown())
    }
}
