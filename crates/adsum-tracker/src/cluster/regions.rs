//! Regions: telling a broken link to a group of nodes from nodes that have died.
//!
//! If all nodes of another region fall silent at once, the link to them is broken rather than each of them. Their
//! presences then stay for `engine_grace`, as they do while this node's own network is away.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Cluster, effects::Report, peer::Peer};
use crate::{layer::Layer, replica::Region, time::Time};

/// The links to other regions that count as broken.
pub(super) type BrokenLinks = BTreeMap<Region, BrokenLink>;

#[derive(Debug)]
pub(super) struct BrokenLink {
    /// Until this time, no node behind the link counts as down.
    until: Time,
    /// When a node behind the link was first heard again.
    heard_since: Option<Time>,
}

impl BrokenLink {
    pub(super) fn extend_by(&mut self, late: Duration) {
        self.until += late;
        if let Some(since) = &mut self.heard_since {
            *since += late;
        }
    }

    /// Returns when to check whether the link is restored, or given up.
    fn look_at(&self, proof: Duration) -> Time {
        self.heard_since.map_or(self.until, |since| since + proof)
    }
}

impl<X: Layer> Cluster<X> {
    /// Returns how long a whole region must be silent for its link to count as broken.
    fn region_silence(&self) -> Duration {
        self.options.heartbeat * 3 / 2
    }

    /// Returns how long after the first node of a region is heard again the others count as down by themselves.
    pub(super) fn link_proof(&self) -> Duration {
        self.options.heartbeat * 2
    }

    pub(super) fn peers_up_in<'c>(&'c self, region: &'c Region) -> impl Iterator<Item = &'c Peer> {
        self.peers.values().filter(move |peer| peer.is_up() && peer.region.as_ref() == Some(region))
    }

    fn is_region_silent(&self, now: Time, region: &Region) -> bool {
        let silence = self.region_silence();
        self.peers_up_in(region).all(|peer| peer.heard_at + silence <= now)
    }

    /// Extends the deadlines of silent peers if the link to their region is broken.
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
        // While this node's own network is away, that outage has a grace of its own.
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

    /// Notes that a node of a region was heard; it has its own deadline again. If the link was broken, the others there
    /// get the time that proves the link restored.
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

    /// Forgets the links that are restored or whose grace is over.
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
            if silent {
                self.lose_region(region);
            } else {
                self.out.report(Report::LinkRestored { region });
            }
        }
    }

    pub(super) fn look_at_broken_links_at(&self) -> Option<Time> {
        let proof = self.link_proof();
        self.broken_links.values().map(|link| link.look_at(proof)).min()
    }
}
