//! Other nodes of this node's own name, and higher incarnations of it.

use super::{
    Cluster,
    peer::Peer,
    phase::{NodePhase, Outbid},
};
use crate::{
    layer::Layer,
    replica::{Incarnation, Replica},
    sharding::SHARDS,
    time::Time,
    wire::{ClusterMessage, MAX_STARTED},
};

impl<X: Layer> Cluster<X> {
    /// Handles a heartbeat from a node of this node's own name.
    pub(super) fn on_twin(&mut self, now: Time, twin: &Replica) {
        if *twin == self.me || self.peers.get(twin).is_some_and(Peer::has_departed) {
            return;
        }
        self.cancel_outbid(twin);
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
            // The twin yields once it hears this node.
            NodePhase::Live => self.beat_in_answer(now),
            _ => {}
        }
    }

    pub(super) fn yield_to(&mut self, now: Time, twin: Replica, report_at: Option<Time>) {
        let was_live = matches!(self.phase, NodePhase::Live);
        let silent_at = now + self.options.down_after;
        self.outbid = None;
        self.phase = NodePhase::Twin { twin, silent_at, report_at, was_live };
    }

    /// Goes live if the replica that left was the twin.
    pub(super) fn twin_left(&mut self, now: Time, left: &Replica) {
        if let NodePhase::Twin { twin, .. } = &self.phase
            && twin == left
        {
            self.go_live(now);
        }
    }

    pub(super) fn on_goodbye(&mut self, now: Time, from: &Replica) {
        if from.name == self.me.name {
            // It answers for itself alone: it may never have been heard where a lower one, which is dead, is the highest.
            self.outbid = self.outbid.take().filter(|outbid| outbid.highest != from.incarnation);
            // Both have yielded to each other. The lower incarnation serves, as if two start together.
            if matches!(self.phase, NodePhase::Twin { .. }) && self.me.incarnation < from.incarnation {
                self.go_live(now);
            }
            return;
        }
        // From a departed replica this is a late message: its set is final, and stays until its graces end.
        if self.peers.get(from).is_some_and(|peer| !peer.has_departed())
            && let Some(mut peer) = self.peers.remove(from)
        {
            peer.forget(&self.tracker, &mut self.out);
        }
    }

    /// Says goodbye, and again at each heartbeat, since it may be lost: a node that knows this incarnation as the newer
    /// one refuses its twin.
    pub(super) fn say_goodbye(&mut self, now: Time) {
        self.next_heartbeat = now + self.options.heartbeat;
        self.out.broadcast(ClusterMessage::Goodbye { from: self.me.clone() });
    }

    /// Handles the news that another node knows a higher incarnation of this node's name. If it is an earlier run, and
    /// the clock was set back since, this node has to outbid it. If it is alive, it answers the hello, and this node
    /// yields.
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
                self.hello_in_answer(now);
                now + 2 * self.options.heartbeat
            }
            _ => return,
        };
        self.outbid = Some(Outbid { highest, at });
    }

    /// Drops the plan to outbid a twin that is alive: it yields, and the others forget its incarnation.
    fn cancel_outbid(&mut self, twin: &Replica) {
        self.outbid = self.outbid.take().filter(|outbid| outbid.highest > twin.incarnation);
    }

    /// Outbids the higher incarnation that others know of, if there is one.
    pub(super) fn take_higher_incarnation(&mut self) {
        let Some(Outbid { highest, .. }) = self.outbid.take() else { return };
        self.me.incarnation = if highest.started < MAX_STARTED {
            Incarnation { started: highest.started + 1, random: self.jitter.next() }
        } else {
            Incarnation { started: MAX_STARTED, random: highest.random.saturating_add(1) }
        };
        // The versions go on, but no node has the batches under this incarnation.
        for shard in 0..SHARDS {
            self.tracker.shard(shard).log.forget();
        }
        self.snapshots.clear();
    }
}
