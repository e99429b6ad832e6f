//! The members of the cluster: starting, heartbeats, silence.

use super::{
    Cluster,
    effects::Report,
    peer::{MAX_PEERS, Peer, PeerState},
    phase::NodePhase,
    pulling::JITTER,
    readiness::Readiness,
};
use crate::{
    layer::Layer,
    replica::{Incarnation, Region, Replica},
    sharding::SHARDS,
    time::Time,
    wire::{ClusterMessage, Versions},
};

/// Maximum number of departed sets in one message: each has a name and 64 versions.
const SETS_PER_MESSAGE: usize = 256;

impl<X: Layer> Cluster<X> {
    /// Says hello, and listens for two heartbeats before the first of its own.
    pub(super) fn listen(&mut self, now: Time) {
        self.phase = NodePhase::Listening { until: now + 2 * self.options.heartbeat };
        self.say_hello(now);
    }

    fn say_hello(&mut self, now: Time) {
        self.next_heartbeat = now + self.options.heartbeat;
        self.out.broadcast(ClusterMessage::Hello { from: self.me.clone() });
    }

    /// Announces this node again after an outage of the network.
    pub(super) fn rejoin(&mut self, now: Time) {
        match self.phase {
            // Messages sent during the outage are lost.
            NodePhase::Listening { .. } => self.listen(now),
            NodePhase::Live => self.beat(now),
            _ => {}
        }
    }

    pub(super) fn beat_in_answer(&mut self, now: Time) {
        if self.may_answer_all(now) {
            self.beat(now);
        }
    }

    pub(super) fn hello_in_answer(&mut self, now: Time) {
        if self.may_answer_all(now) {
            self.out.broadcast(ClusterMessage::Hello { from: self.me.clone() });
        }
    }

    /// Whether this node may answer a message by one to all, as it has not for a quarter of a heartbeat. All may answer
    /// that one in turn: among nodes of one name, answers to answers would grow without end.
    fn may_answer_all(&mut self, now: Time) -> bool {
        let may = self.may_answer_all <= now;
        if may {
            self.may_answer_all = now + self.options.heartbeat / 4;
        }
        may
    }

    pub(super) fn beat(&mut self, now: Time) {
        self.next_heartbeat = now + self.options.heartbeat;
        let (from, region, versions) = (self.me.clone(), self.region.clone(), self.versions());
        self.out.broadcast(ClusterMessage::Heartbeat { from, region, versions });
    }

    pub(super) fn go_live(&mut self, now: Time) {
        if let NodePhase::Twin { twin, report_at: None, .. } = &self.phase {
            let twin = twin.clone();
            self.out.report(Report::DuplicateGone(twin));
            self.readiness = Readiness::Pending;
        }
        self.phase = NodePhase::Live;
        self.take_higher_incarnation();
        // The first batches are what the set has already.
        self.to_publish = u64::MAX;
        self.publish(now);
        self.beat(now);
    }

    /// Does what is due in this phase.
    pub(super) fn keep_phase(&mut self, now: Time) {
        match &mut self.phase {
            NodePhase::Alone | NodePhase::Left => self.next_heartbeat = Time::MAX,
            // While the network is away, no other node can be heard.
            NodePhase::Listening { until } if *until <= now && self.disconnected.is_none() => {
                self.go_live(now);
            }
            NodePhase::Listening { .. } if self.next_heartbeat <= now => self.say_hello(now),
            NodePhase::Twin { silent_at, .. } if *silent_at <= now => self.go_live(now),
            &mut NodePhase::Twin { ref twin, ref mut report_at, was_live, .. } => {
                if report_at.is_some_and(|at| at <= now) {
                    *report_at = None;
                    let twin = twin.clone();
                    self.out.report(Report::DuplicateNode(twin));
                }
                if self.next_heartbeat <= now {
                    if was_live { self.say_goodbye(now) } else { self.say_hello(now) }
                }
            }
            NodePhase::Live if self.outbid.as_ref().is_some_and(|outbid| outbid.at <= now) => {
                self.take_higher_incarnation();
                self.beat(now);
            }
            NodePhase::Live if self.next_heartbeat <= now => self.beat(now),
            NodePhase::Leaving(_) => self.keep_leaving(now),
            NodePhase::Listening { .. } | NodePhase::Live => {}
        }
    }

    pub(super) fn on_hello(&mut self, now: Time, from: Replica) {
        if from == self.me || matches!(self.phase, NodePhase::Alone) {
            return;
        }
        if from.name == self.me.name {
            match self.phase {
                // Two start together: the higher incarnation yields.
                NodePhase::Listening { .. } if from.incarnation < self.me.incarnation => {
                    self.yield_to(now, from, Some(self.started + self.options.sync_timeout));
                }
                NodePhase::Listening { .. } => self.hello_in_answer(now),
                NodePhase::Live => self.beat_in_answer(now),
                _ => {}
            }
            return;
        }
        if !matches!(self.phase, NodePhase::Live) {
            return;
        }
        if let Some(highest) = self.higher_incarnation(&from) {
            self.out.send(&from, ClusterMessage::Stale { of: from.clone(), highest });
        }
        let departed = self.departed_sets(now);
        let versions = self.versions();
        // As many messages as needed, and one if there are no departed sets.
        let parts = departed.chunks(SETS_PER_MESSAGE).map(<[_]>::to_vec);
        for departed in parts.chain(departed.is_empty().then(Vec::new)) {
            let (me, region, versions) = (self.me.clone(), self.region.clone(), versions.clone());
            let to = from.clone();
            self.out.send(&from, ClusterMessage::Welcome { from: me, to, region, versions, departed });
        }
    }

    pub(super) fn on_heartbeat(
        &mut self,
        now: Time,
        from: &Replica,
        region: Option<Region>,
        versions: &Versions,
    ) {
        if from.name == self.me.name {
            self.on_twin(now, from);
            return;
        }
        let Some(peer) = self.admit(now, from) else { return };
        let was_up = peer.is_up();
        peer.state = PeerState::Up;
        peer.region.clone_from(&region);
        for index in 0..SHARDS {
            let shard = &mut peer.shards[index];
            shard.known = shard.known.max(versions.of(index));
            if !was_up {
                shard.show_at = versions.of(index);
            }
        }
        if !was_up {
            self.out.report(Report::Up(from.clone()));
        }
        self.heard_from_region(now, region.as_ref());
        self.wait_for_region(now, from, !was_up);
        self.sync(now, from);
    }

    /// Begins to show the shards of a replica that may be shown, and to pull what is missing.
    pub(super) fn sync(&mut self, now: Time, of: &Replica) {
        let Some(peer) = self.peers.get_mut(of) else { return };
        for index in 0..SHARDS {
            peer.show_if_due(index);
            if peer.shards[index].version < peer.shards[index].known {
                let at = now + self.jitter.below(JITTER);
                peer.want(at, index);
            }
        }
    }

    /// Returns the peer that a message is from, and notes that it was heard. `None` if its messages aren't taken.
    fn admit(&mut self, now: Time, from: &Replica) -> Option<&mut Peer> {
        if matches!(self.phase, NodePhase::Alone | NodePhase::Left) {
            return None;
        }
        if !self.peers.contains_key(from) {
            if let Some(highest) = self.higher_incarnation(from) {
                self.out.send(from, ClusterMessage::Stale { of: from.clone(), highest });
                return None;
            }
            // Rows that are being taken out of their topics may be those of the new run, too. Its next heartbeat is taken.
            let mut earlier = self.peers.values().filter(|other| other.replica.name == from.name);
            if earlier.any(Peer::is_being_hidden) {
                return None;
            }
            let mut older = self.take_older(from);
            if self.peers.len() < MAX_PEERS {
                let mut peer = Peer::new(from.clone(), PeerState::Down(now), now);
                // Rows shown of the last run stay until the rows of this run are known, so that a presence in both
                // isn't seen to leave.
                if let Some(last) = older.pop_if(|older| older.is_up()) {
                    peer.inherit(last);
                }
                let of_name = self.peers.values_mut().filter(|other| other.replica.name == from.name);
                for departed in of_name.filter(|other| other.has_departed()) {
                    peer.inherit_from_departed(departed);
                }
                for older in older {
                    peer.bury(older);
                }
                self.peers.insert(from.clone(), peer);
            }
        }
        let connected = self.disconnected.is_none();
        let peer = self.peers.get_mut(from)?;
        if peer.has_departed() {
            return None;
        }
        peer.heard(now, self.options.down_after, connected);
        Some(peer)
    }

    /// Returns the highest incarnation known of a node, if it is higher than this one.
    fn higher_incarnation(&self, of: &Replica) -> Option<Incarnation> {
        let of_name = self.peers.keys().filter(|other| other.name == of.name);
        of_name.map(|other| other.incarnation).max().filter(|highest| *highest > of.incarnation)
    }

    /// Forgets the older incarnations of a replica, unless they have departed: their sets are final.
    pub(super) fn replace_older(&mut self, newer: &Replica) {
        for mut older in self.take_older(newer) {
            older.forget(&self.tracker, &mut self.out);
        }
    }

    /// Takes out the older incarnations of a replica that haven't departed.
    fn take_older(&mut self, newer: &Replica) -> Vec<Peer> {
        let is_older = |replica: &Replica, peer: &Peer| {
            replica.name == newer.name && replica.incarnation < newer.incarnation && !peer.has_departed()
        };
        let older: Vec<Replica> = self
            .peers
            .iter()
            .filter(|(replica, peer)| is_older(replica, peer))
            .map(|(replica, _)| replica.clone())
            .collect();
        older.iter().filter_map(|replica| self.peers.remove(replica)).collect()
    }

    pub(super) fn go_down(&mut self, now: Time, replica: &Replica) {
        let Some(peer) = self.peers.get_mut(replica) else { return };
        peer.state = PeerState::Down(now);
        peer.waits_for_region = false;
        peer.pulls.clear();
        for shard in &mut peer.shards {
            shard.early.clear();
            shard.early_bytes = 0;
        }
        peer.hide();
        self.out.report(Report::Down(replica.clone()));
    }
}
