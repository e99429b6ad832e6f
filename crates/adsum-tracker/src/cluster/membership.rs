//! Who is in the cluster: starting, being up, twins, silence.

use std::time::Duration;

use super::{
    Cluster, MAX_STARTED, ClusterMessage, Readiness, Report, Time, Versions,
    leaving::Leaving,
    peer::{Peer, PeerState},
    regions::Region,
};
use crate::{Incarnation, Layer, LeaveReason, Replica, SHARDS};

/// A cluster of more nodes than this is refused: a stranger may invent names.
pub(super) const MAX_PEERS: usize = 1024;

/// Maximum number of departed sets in one message: each has a name and 64 versions.
const SETS_AT_ONCE: usize = 256;

/// What this node is to the others.
#[derive(Debug)]
pub(super) enum NodePhase {
    /// There are no others.
    Alone,
    /// It has said hello, and hears who is there.
    Listening { until: Time },
    /// Another node of its name is alive. It serves its own clients; if it had been up itself, it says goodbye.
    Twin { twin: Replica, silent_at: Time, report_at: Option<Time>, was_live: bool },
    /// It is up.
    Live,
    /// It is saying goodbye.
    Leaving(Leaving),
    /// It has left.
    Left,
}

/// A higher incarnation of this node's own name that others know of. Unless a node of that incarnation turns out to be
/// alive, this node takes a higher one itself.
#[derive(Debug)]
pub(super) struct Outbid {
    highest: Incarnation,
    /// Until then, the other node has time to answer.
    pub(super) at: Time,
}

impl NodePhase {
    /// Whether other nodes are told of changes.
    pub(super) fn is_published(&self) -> bool {
        matches!(self, Self::Live)
    }

    pub(super) fn wake_at(&self, connected: bool) -> Option<Time> {
        match self {
            Self::Listening { until } => connected.then_some(*until),
            Self::Twin { silent_at, report_at, .. } => Some(report_at.unwrap_or(*silent_at).min(*silent_at)),
            Self::Leaving(leaving) => Some(leaving.next()),
            Self::Alone | Self::Live | Self::Left => None,
        }
    }

    pub(super) fn extend_by(&mut self, late: Duration) {
        match self {
            Self::Listening { until } => *until += late,
            Self::Twin { silent_at, .. } => *silent_at += late,
            _ => {}
        }
    }
}

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

    /// Again and again, since it may be lost: who knows this node as the newer one would not hear its twin.
    fn say_goodbye(&mut self, now: Time) {
        self.next_heartbeat = now + self.options.heartbeat;
        self.out.broadcast(ClusterMessage::Goodbye { from: self.me.clone() });
    }

    /// The network is back.
    pub(super) fn rejoin(&mut self, now: Time) {
        match self.phase {
            // What was said while it was away is lost.
            NodePhase::Listening { .. } => self.listen(now),
            NodePhase::Live => self.beat(now),
            _ => {}
        }
    }

    fn beat(&mut self, now: Time) {
        self.next_heartbeat = now + self.options.heartbeat;
        let (from, region, versions) = (self.me.clone(), self.region.clone(), self.versions());
        self.out.broadcast(ClusterMessage::Heartbeat { from, region, versions });
    }

    pub(super) fn go_live(&mut self, now: Time) {
        if let NodePhase::Twin { twin, report_at: None, .. } = &self.phase {
            let twin = twin.clone();
            self.out.report(Report::DuplicateGone(twin));
            self.readiness = Readiness::Waiting;
        }
        self.phase = NodePhase::Live;
        self.take_higher_incarnation();
        // What is in the set already is published as the first batches.
        self.to_publish = u64::MAX;
        self.publish(now);
        self.beat(now);
    }

    /// Does what is due in this phase.
    pub(super) fn keep_phase(&mut self, now: Time) {
        match &mut self.phase {
            NodePhase::Alone | NodePhase::Left => self.next_heartbeat = Time::MAX,
            // Without a way to the others there is nobody to hear.
            NodePhase::Listening { until } if *until <= now && self.disconnected.is_none() => self.go_live(now),
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
                // Two that start together: the higher incarnation yields.
                NodePhase::Listening { .. } if from.incarnation < self.me.incarnation => {
                    self.yield_to(now, from, Some(self.started + self.options.sync_timeout));
                }
                NodePhase::Listening { .. } => self.say_hello(now),
                NodePhase::Live => self.beat(now),
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
        // In as many messages as it takes, of which the first needs no departed set.
        let parts = departed.chunks(SETS_AT_ONCE).map(<[_]>::to_vec);
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
        self.sync(now, from);
    }

    /// Shows what is due of a replica's shards, and asks for what is missing.
    pub(super) fn sync(&mut self, now: Time, of: &Replica) {
        let Some(peer) = self.peers.get_mut(of) else { return };
        for index in 0..SHARDS {
            peer.show_if_due(index, &self.tracker, &mut self.out);
            if peer.shards[index].version < peer.shards[index].known {
                let at = now + self.random.below(super::pulling::JITTER);
                peer.want(at, index);
            }
        }
    }

    /// The peer that a message is from, as one heard just now. None where it isn't to be listened to.
    fn admit(&mut self, now: Time, from: &Replica) -> Option<&mut Peer> {
        if matches!(self.phase, NodePhase::Alone | NodePhase::Left) {
            return None;
        }
        if !self.peers.contains_key(from) {
            if let Some(highest) = self.higher_incarnation(from) {
                self.out.send(from, ClusterMessage::Stale { of: from.clone(), highest });
                return None;
            }
            let mut older = self.take_older(from);
            if self.peers.len() < MAX_PEERS {
                let mut peer = Peer::new(from.clone(), PeerState::Down(now), now);
                // What is shown of the last run stays until it is known what there is now: nobody who is in both is
                // seen to leave.
                if let Some(last) = older.pop_if(|older| older.is_up()) {
                    peer.inherit(last, &self.tracker, &mut self.out);
                }
                self.peers.insert(from.clone(), peer);
            }
            for mut older in older {
                older.forget(&self.tracker, &mut self.out);
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

    /// The highest incarnation known of a node, if it is higher than this one.
    fn higher_incarnation(&self, of: &Replica) -> Option<Incarnation> {
        let of_name = self.peers.keys().filter(|other| other.name == of.name);
        of_name.map(|other| other.incarnation).max().filter(|highest| *highest > of.incarnation)
    }

    /// A newer incarnation replaces an older one at once, unless that has departed: its set is final.
    pub(super) fn replace_older(&mut self, newer: &Replica) {
        for mut older in self.take_older(newer) {
            older.forget(&self.tracker, &mut self.out);
        }
    }

    /// Takes out the older incarnations of a replica's name that haven't departed.
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
        peer.pulls.clear();
        for shard in &mut peer.shards {
            shard.early.clear();
            shard.early_bytes = 0;
        }
        peer.hide(LeaveReason::Unreachable, &self.tracker, &mut self.out);
        self.out.report(Report::Down(replica.clone()));
    }

    /// A node of this node's own name is alive.
    fn on_twin(&mut self, now: Time, twin: &Replica) {
        if *twin == self.me || self.peers.get(twin).is_some_and(Peer::has_departed) {
            return;
        }
        self.need_not_outbid(twin);
        let down_after = self.options.down_after;
        match &mut self.phase {
            NodePhase::Twin { twin: known, silent_at, .. } => {
                known.clone_from(twin);
                *silent_at = now + down_after;
            }
            NodePhase::Listening { .. } => {
                self.yield_to(now, twin.clone(), Some(self.started + self.options.sync_timeout));
            }
            NodePhase::Live if twin.incarnation < self.me.incarnation => {
                self.yield_to(now, twin.clone(), Some(now));
                self.say_goodbye(now);
            }
            // It yields once it hears this node.
            NodePhase::Live if self.next_heartbeat > now + self.options.heartbeat / 4 => self.beat(now),
            _ => {}
        }
    }

    fn yield_to(&mut self, now: Time, twin: Replica, report_at: Option<Time>) {
        let was_live = matches!(self.phase, NodePhase::Live);
        let silent_at = now + self.options.down_after;
        self.outbid = None;
        self.phase = NodePhase::Twin { twin, silent_at, report_at, was_live };
    }

    /// The twin, if that is who left, is out of the way.
    pub(super) fn twin_left(&mut self, now: Time, left: &Replica) {
        if let NodePhase::Twin { twin, .. } = &self.phase
            && twin == left
        {
            self.go_live(now);
        }
    }

    pub(super) fn on_goodbye(&mut self, now: Time, from: &Replica) {
        if from.name == self.me.name {
            self.need_not_outbid(from);
            // Both have yielded to each other. The lower incarnation serves, as where two start together.
            if matches!(self.phase, NodePhase::Twin { .. }) && self.me.incarnation < from.incarnation {
                self.go_live(now);
            }
            return;
        }
        // From a replica that has departed this is a late message: its set is final, and stays until its graces end.
        if self.peers.get(from).is_some_and(|peer| !peer.has_departed())
            && let Some(mut peer) = self.peers.remove(from)
        {
            peer.forget(&self.tracker, &mut self.out);
        }
    }

    /// Another node knows a higher incarnation of this node's name. If that is an earlier run, and the clock was set
    /// back since, this node has to outbid it. If it is alive, it answers the hello, and this node yields.
    pub(super) fn on_stale(&mut self, now: Time, of: &Replica, highest: Incarnation) {
        if *of != self.me || highest <= self.me.incarnation {
            return;
        }
        if let Some(outbid) = &mut self.outbid {
            outbid.highest = outbid.highest.max(highest);
            return;
        }
        let at = match self.phase {
            NodePhase::Listening { until } => until,
            NodePhase::Live => {
                self.out.broadcast(ClusterMessage::Hello { from: self.me.clone() });
                now + 2 * self.options.heartbeat
            }
            _ => return,
        };
        self.outbid = Some(Outbid { highest, at });
    }

    /// A twin is alive: it yields, and the others forget its incarnation.
    fn need_not_outbid(&mut self, twin: &Replica) {
        self.outbid = self.outbid.take().filter(|outbid| outbid.highest > twin.incarnation);
    }

    /// Outbids the higher incarnation that others know of, if there is one.
    fn take_higher_incarnation(&mut self) {
        let Some(Outbid { highest, .. }) = self.outbid.take() else { return };
        self.me.incarnation = if highest.started < MAX_STARTED {
            Incarnation { started: highest.started + 1, random: self.random.next() }
        } else {
            Incarnation { started: MAX_STARTED, random: highest.random.saturating_add(1) }
        };
        // The versions go on, but nobody has the batches under this name.
        for shard in 0..SHARDS {
            self.tracker.shard(shard).log.forget();
        }
        self.served.clear();
    }

    pub(super) fn look_whether_ready(&mut self, now: Time) {
        if self.readiness == Readiness::Synced {
            return;
        }
        let is_due = self.ready_by().is_some_and(|by| by <= now);
        let synced = matches!(self.phase, NodePhase::Live)
            && self.disconnected.is_none()
            && self.ready_from <= now
            && self.peers.values().all(|peer| matches!(peer.state, PeerState::Down(_)) || peer.is_synced());
        if synced || is_due {
            self.readiness = if synced { Readiness::Synced } else { Readiness::Overdue };
            self.out.report(Report::Ready { synced });
            self.drop_orphans();
        }
    }

    /// Takes out the rows that nobody answers for.
    fn drop_orphans(&mut self) {
        for index in 0..SHARDS {
            let orphans = self.tracker.shard(index).take_orphans();
            for slice in orphans.chunks(super::applying::SLICE) {
                let mut set = self.tracker.shard(index);
                for row in slice {
                    set.begin(&row.topic);
                    set.take_out(row, Some(LeaveReason::Unreachable));
                    set.tidy(&row.topic);
                    self.out.changed(&row.topic);
                }
                set.unlock_fair();
            }
        }
    }

    /// When somebody waits to hear whether this node is ready.
    pub(super) fn ready_by(&self) -> Option<Time> {
        (self.readiness == Readiness::Waiting).then(|| self.started + self.options.sync_timeout)
    }
}
