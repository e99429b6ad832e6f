//! Leaving the cluster: presences stay for a grace, so that others can take their places.

use std::{collections::HashSet, time::Duration};

use super::{
    Cluster,
    effects::Report,
    peer::{MAX_PEERS, Peer, PeerState},
    phase::{Leaving, NodePhase},
};
use crate::{
    layer::Layer,
    replica::Replica,
    sharding::SHARDS,
    time::Time,
    wire::{ClusterMessage, DepartedSet, Versions},
};

/// How often the final versions are sent.
const LEAVING_INTERVAL: Duration = Duration::from_millis(100);
/// How long they are sent, unless all nodes have the final set earlier.
const LEAVING_TIME: Duration = Duration::from_secs(1);

impl<X: Layer> Cluster<X> {
    /// Leaves the cluster: this node's set is final, and leaves when the grace is over. [`Report::Left`] follows once
    /// all nodes that are up have the set, or after a second.
    pub fn leave(&mut self, now: Time, grace: Duration) {
        self.look(now);
        let was_live = matches!(self.phase, NodePhase::Live);
        self.next_heartbeat = Time::MAX;
        if !was_live {
            self.phase = NodePhase::Left;
            self.out.report(Report::Left { held: 0, of: 0 });
            return;
        }
        // Publish everything now.
        self.may_publish = now;
        self.to_publish = u64::MAX;
        self.publish(now);
        let to = self.peers.values().filter(|peer| peer.is_up()).map(|peer| peer.replica.clone()).collect();
        self.phase = NodePhase::Leaving(Leaving {
            versions: self.versions(),
            grace,
            to,
            held: HashSet::new(),
            again_at: now,
            until: now + LEAVING_TIME,
        });
        self.keep_leaving(now);
        self.look(now);
    }

    pub(super) fn keep_leaving(&mut self, now: Time) {
        let NodePhase::Leaving(leaving) = &mut self.phase else { return };
        if leaving.again_at <= now {
            leaving.again_at = now + LEAVING_INTERVAL;
            let (versions, grace) = (leaving.versions.clone(), leaving.grace);
            self.out.broadcast(ClusterMessage::Leaving { from: self.me.clone(), versions, grace });
        }
        self.look_whether_left(now);
    }

    fn look_whether_left(&mut self, now: Time) {
        if let NodePhase::Leaving(leaving) = &self.phase
            && (leaving.held.len() == leaving.to.len() || leaving.until <= now)
        {
            let (held, of) = (leaving.held.len(), leaving.to.len());
            self.phase = NodePhase::Left;
            self.out.report(Report::Left { held, of });
        }
    }

    pub(super) fn on_set_held(&mut self, now: Time, from: Replica, of: &Replica) {
        if let NodePhase::Leaving(leaving) = &mut self.phase
            && *of == self.me
            && leaving.to.contains(&from)
        {
            leaving.held.insert(from);
        }
        self.look_whether_left(now);
    }

    pub(super) fn on_leaving(&mut self, now: Time, from: &Replica, versions: Versions, grace: Duration) {
        if *from == self.me || matches!(self.phase, NodePhase::Alone | NodePhase::Left) {
            return;
        }
        let is_news = self.note_departed(now, from, &versions, grace, None);
        if is_news {
            self.out.report(Report::Departed(from.clone()));
        }
        if let Some(peer) = self.peers.get(from)
            && peer.is_complete()
        {
            self.out.send(from, ClusterMessage::SetHeld { from: self.me.clone(), of: from.clone() });
        }
        self.twin_left(now, from);
    }

    /// Notes the departed sets that another node has.
    pub(super) fn on_departed_sets(&mut self, now: Time, holder: &Replica, sets: Vec<DepartedSet>) {
        for DepartedSet { replica, versions, grace } in sets {
            if replica != self.me {
                self.note_departed(now, &replica, &versions, grace, Some(holder));
            }
        }
    }

    /// Notes that a replica's set is final. Returns whether that is news.
    fn note_departed(
        &mut self,
        now: Time,
        replica: &Replica,
        versions: &Versions,
        grace: Duration,
        holder: Option<&Replica>,
    ) -> bool {
        // If all its earlier messages were lost, this is the first that is heard of it.
        self.replace_older(replica);
        let until = now + grace;
        let others = || self.peers.values().filter(|peer| peer.is_up()).map(|peer| peer.replica.clone());
        let holders: Vec<Replica> = match holder {
            Some(holder) => vec![holder.clone()],
            None => others().filter(|other| other != replica).collect(),
        };
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(replica) {
            return false;
        }
        let peer = self
            .peers
            .entry(replica.clone())
            .or_insert_with(|| Peer::new(replica.clone(), PeerState::Down(now), now));
        let is_news = !peer.has_departed();
        if is_news {
            peer.state = PeerState::Departed { since: now, until };
            peer.depart(self.turn, &self.tracker);
            for index in 0..SHARDS {
                let shard = &mut peer.shards[index];
                shard.known = versions.of(index);
                shard.show_at = versions.of(index);
            }
        }
        for holder in holders {
            if !peer.holders.contains(&holder) {
                peer.holders.push(holder);
            }
        }
        self.sync(now, replica);
        is_news
    }

    /// Returns the departed sets that this node has completely and whose graces aren't over.
    pub(super) fn departed_sets(&self, now: Time) -> Vec<DepartedSet> {
        let set = |peer: &Peer| {
            let grace = peer.grace(now).filter(|_| peer.is_complete())?;
            Some(DepartedSet { replica: peer.replica.clone(), versions: peer.versions(), grace })
        };
        self.peers.values().filter_map(set).collect()
    }
}
