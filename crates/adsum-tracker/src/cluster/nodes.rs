//! What a node knows of each node of the cluster, for operators.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

use super::{
    Cluster, Region, Time,
    membership::NodePhase,
    peer::{Peer, PeerState},
};
use crate::{Incarnation, Layer};

/// What a node knows of one node of the cluster, itself included.
///
/// As JSON, `incarnation` is a text, and `silent_for` is in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// The node's name.
    pub name: Arc<str>,
    /// Which of its runs this is. A run that has left can stand beside a newer one until its presences are gone.
    #[serde(serialize_with = "text")]
    pub incarnation: Incarnation,
    /// The region that it is in, if it has one.
    pub region: Option<Region>,
    /// Whether this is the node that was asked.
    pub is_self: bool,
    /// What it is to the node that was asked.
    pub state: NodeState,
    /// How many published versions are known to exist and aren't held yet, over all shards. 0: it is in sync.
    pub behind: u64,
    /// How long ago it was heard for the last time.
    #[serde(serialize_with = "seconds")]
    pub silent_for: Duration,
    /// How many presences of it are held, hidden ones included.
    pub presences: usize,
}

/// What a node is to the one that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeState {
    /// It listens to the others, and doesn't take part yet. Only of the node that was asked.
    Starting,
    /// It takes part, and was heard lately.
    Up,
    /// It has fallen silent. Its presences are hidden, and kept for `forget_after`.
    Down,
    /// It has left. Its presences stay until their graces end.
    Departed,
    /// Another node of its name is alive, and it serves its own clients only. Only of the node that was asked.
    Duplicate,
}

impl<X: Layer> Cluster<X> {
    /// The nodes that this one knows of, itself included, by name.
    pub fn nodes(&self, now: Time) -> Vec<NodeInfo> {
        let mut nodes: Vec<_> = self.peers.values().map(|peer| peer.info(now)).collect();
        nodes.push(NodeInfo {
            name: self.me.name.clone(),
            incarnation: self.me.incarnation,
            region: self.region.clone(),
            is_self: true,
            state: self.phase.state(),
            behind: 0,
            silent_for: Duration::ZERO,
            presences: self.tracker.shards().map(|shard| shard.own()).sum(),
        });
        nodes.sort_by(|a, b| (&a.name, a.incarnation).cmp(&(&b.name, b.incarnation)));
        nodes
    }
}

impl NodePhase {
    fn state(&self) -> NodeState {
        match self {
            Self::Listening { .. } => NodeState::Starting,
            Self::Twin { .. } => NodeState::Duplicate,
            Self::Alone | Self::Live => NodeState::Up,
            Self::Leaving(_) | Self::Left => NodeState::Departed,
        }
    }
}

impl Peer {
    fn info(&self, now: Time) -> NodeInfo {
        NodeInfo {
            name: self.replica.name.clone(),
            incarnation: self.replica.incarnation,
            region: self.region.clone(),
            is_self: false,
            state: match self.state {
                PeerState::Up => NodeState::Up,
                PeerState::Down(_) => NodeState::Down,
                PeerState::Departed { .. } => NodeState::Departed,
            },
            behind: self.shards.iter().map(|shard| shard.known.saturating_sub(shard.version)).sum(),
            silent_for: now.since(self.heard_at),
            presences: self.rows(),
        }
    }
}

fn text<S: Serializer>(incarnation: &Incarnation, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(incarnation)
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
