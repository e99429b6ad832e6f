//! Regions: a broken link to a group of nodes is told from nodes that have died.
//!
//! If all nodes of another region fall silent at once, it is the link to them rather than each of them. Their presences
//! stay for `engine_grace` then, as they do while the network of this node itself is away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Cluster, Report, Time, peer::Peer};
use crate::Layer;

/// The name of a group of nodes with one link to the others.
pub type Region = Arc<str>;

/// The links to other regions that are taken for broken.
pub(super) type BrokenLinks = BTreeMap<Region, BrokenLink>;

#[derive(Debug)]
pub(super) struct BrokenLink {
    /// Until then, nobody behind it counts as down.
    until: Time,
    /// Since when a node behind it has been heard again.
    heard_since: Option<Time>,
}

impl BrokenLink {
    pub(super) fn extend_by(&mut self, late: Duration) {
        self.until += late;
        if let Some(since) = &mut self.heard_since {
            *since += late;
        }
    }

    /// When to look whether it is restored, or given up.
    fn look_at(&self, proof: Duration) -> Time {
        self.heard_since.map_or(self.until, |since| since + proof)
    }
}

impl<X: Layer> Cluster<X> {
    /// How long a region must have been silent for that to be its link.
    fn region_silence(&self) -> Duration {
        self.options.heartbeat * 3 / 2
    }

    /// How long one node of a region must have been heard until the others count as down by themselves.
    fn link_proof(&self) -> Duration {
        self.options.heartbeat * 2
    }

    fn peers_up_in<'c>(&'c self, region: &'c Region) -> impl Iterator<Item = &'c Peer> {
        self.peers.values().filter(move |peer| peer.is_up() && peer.region.as_ref() == Some(region))
    }

    fn is_region_silent(&self, now: Time, region: &Region) -> bool {
        let silence = self.region_silence();
        self.peers_up_in(region).all(|peer| peer.heard_at + silence <= now)
    }

    /// Gives the peers whose deadline has come more time, if it is the link to their region that is broken.
    pub(super) fn hold_behind_broken_links(&mut self, now: Time) {
        let elsewhere = |peer: &&Peer| peer.region.is_some() && peer.region != self.region;
        let silent = self.peers.values().filter(|peer| peer.is_silent(now)).filter(elsewhere);
        let regions: BTreeSet<Region> = silent.filter_map(|peer| peer.region.clone()).collect();
        for region in regions {
            self.hold_behind_broken_link(now, region);
        }
        self.look_at_broken_links(now);
    }

    fn hold_behind_broken_link(&mut self, now: Time, region: Region) {
        // While this node's own way to the others is away, that has a grace of its own.
        if self.disconnected.is_some() || !self.is_region_silent(now, &region) {
            return;
        }
        let grace = self.options.engine_grace;
        let until = if let Some(link) = self.broken_links.get_mut(&region) {
            link.heard_since = None;
            link.until
        } else {
            let nodes = self.peers_up_in(&region).count();
            if nodes < 2 || grace.is_zero() {
                return;
            }
            let until = now + grace;
            self.broken_links.insert(region.clone(), BrokenLink { until, heard_since: None });
            self.out.report(Report::LinkBroken { region: region.clone(), nodes });
            until
        };
        let peers = self.peers.values_mut().filter(|peer| peer.is_up());
        for peer in peers.filter(|peer| peer.region.as_ref() == Some(&region)) {
            peer.extend_to(until);
        }
    }

    /// A node of a region has been heard, and has its own deadline again. If the link was broken, the others there have
    /// as long as it takes to prove that it is restored.
    pub(super) fn heard_from_region(&mut self, now: Time, region: Option<&Region>) {
        let proof = self.link_proof();
        let Some(region) = region else { return };
        let Some(link) = self.broken_links.get_mut(region).filter(|link| link.heard_since.is_none()) else {
            return;
        };
        link.heard_since = Some(now);
        let down_after = self.options.down_after;
        let peers = self.peers.values_mut().filter(|peer| peer.is_up());
        for peer in peers.filter(|peer| peer.region.as_ref() == Some(region)) {
            if peer.deadline > peer.heard_at + down_after {
                peer.deadline = now + proof;
            }
        }
    }

    /// Forgets the links that are restored, or whose grace is over.
    fn look_at_broken_links(&mut self, now: Time) {
        let proof = self.link_proof();
        let due = self.broken_links.iter().filter(|(_, link)| link.look_at(proof) <= now);
        let due: Vec<Region> = due.map(|(region, _)| region.clone()).collect();
        for region in due {
            let silent = self.is_region_silent(now, &region);
            let Some(link) = self.broken_links.get_mut(&region) else { continue };
            if silent && link.until > now {
                link.heard_since = None;
                continue;
            }
            self.broken_links.remove(&region);
            if !silent {
                self.out.report(Report::LinkRestored { region });
            }
        }
    }

    pub(super) fn look_at_broken_links_at(&self) -> Option<Time> {
        let proof = self.link_proof();
        self.broken_links.values().map(|link| link.look_at(proof)).min()
    }
}
