//! The presences that a node holds under one key of a topic, for operators.

use std::{sync::Arc, time::Duration};

use super::{Cluster, NodeState, peer::Peer};
use crate::{
    layer::Layer,
    leave_reason::LeaveReason,
    replica::Replica,
    row::{OwnerId, Row},
    sharding::shard_of,
    time::Time,
};

/// A presence as a node holds it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeldPresence {
    /// The version of it that is held.
    pub row: Arc<Row>,
    /// The node that it was tracked on. `None` if no node answers for it yet, after a failure of this one.
    pub by: Option<PresenceOrigin>,
    /// Whether it is in the topic. If not, it is kept until its node is back, or the others of a region that was lost.
    pub is_shown: bool,
    /// Why it is about to leave, and after which time, if it is.
    pub departing: Option<(LeaveReason, Duration)>,
}

/// The node that a presence was tracked on, as another node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresenceOrigin {
    /// Which run of which node.
    pub replica: Replica,
    /// Whether this is the node that was asked.
    pub is_self: bool,
    /// The state of the node, for the one that was asked.
    pub state: NodeState,
    /// How long ago it was heard for the last time.
    pub silent_for: Duration,
    /// For how long it may stay silent yet before it is down. Zero if it is down, or has departed.
    pub silence_left: Duration,
}

impl<X: Layer> Cluster<X> {
    /// The presences that this node holds under a key, hidden ones included: those of the lowest refs, so that all nodes
    /// tell of the same, at most `most`, and how many more there are. Takes time with the presences of nodes that are down,
    /// of one shard.
    pub fn held(&self, now: Time, topic: &str, key: &str, most: usize) -> (Vec<HeldPresence>, usize) {
        let index = shard_of(topic);
        let shown: Vec<Arc<Row>> = {
            let shard = self.tracker.shard(index);
            let group = shard.topic(topic).and_then(|set| set.group(key));
            group.map_or_else(Vec::new, |group| group.rows().to_vec())
        };
        let hidden = self.peers.values().filter(|peer| !peer.shards[index].shown).flat_map(|peer| {
            let rows = peer.shards[index].rows.values();
            let of_key = rows.filter(|row| row.topic.as_str() == topic && *row.key == *key);
            of_key.map(move |row| (row.clone(), Some(peer)))
        });
        let mut rows: Vec<_> = shown.into_iter().map(|row| (row, None)).chain(hidden).collect();
        rows.sort_unstable_by_key(|(row, hidden_of)| (row.reference, hidden_of.is_some()));
        // Rows of a shard that is about to be hidden may still be shown.
        rows.dedup_by_key(|(row, _)| row.reference);
        let left_out = rows.len().saturating_sub(most);
        rows.truncate(most);
        let held = rows.into_iter().map(|(row, hidden_of)| match hidden_of {
            None => self.shown(now, row, index),
            Some(peer) => peer.hidden(now, &row, index),
        });
        (held.collect(), left_out)
    }

    /// How long a node has been silent, if it is known.
    pub fn silence_of(&self, now: Time, replica: &Replica) -> Option<Duration> {
        Some(now.since(self.peers.get(replica)?.heard_at))
    }

    fn shown(&self, now: Time, row: Arc<Row>, index: usize) -> HeldPresence {
        let reference = row.reference;
        let (by, departing) = if row.owner == OwnerId::REMOTE {
            let peer = self.peers.values().find(|peer| peer.knows(index, reference));
            let departing = peer.and_then(|peer| peer.shards[index].departing.get(&reference).copied());
            (peer.map(|peer| peer.held_by(now)), departing)
        } else {
            (Some(self.held_by_self()), self.own.of(reference))
        };
        let departing = departing.map(|(end, reason)| (reason, end.since(now)));
        HeldPresence { row, by, is_shown: true, departing }
    }

    fn held_by_self(&self) -> PresenceOrigin {
        PresenceOrigin {
            replica: self.me.clone(),
            is_self: true,
            state: self.phase.state(),
            silent_for: Duration::ZERO,
            silence_left: self.options.down_after,
        }
    }
}

impl Peer {
    fn hidden(&self, now: Time, row: &Arc<Row>, index: usize) -> HeldPresence {
        let departing = self.shards[index].departing.get(&row.reference);
        let departing = departing.map(|(end, reason)| (*reason, end.since(now)));
        HeldPresence { row: row.clone(), by: Some(self.held_by(now)), is_shown: false, departing }
    }

    fn held_by(&self, now: Time) -> PresenceOrigin {
        PresenceOrigin {
            replica: self.replica.clone(),
            is_self: false,
            state: self.node_state(),
            silent_for: now.since(self.heard_at),
            silence_left: if self.is_up() { self.deadline.since(now) } else { Duration::ZERO },
        }
    }
}
