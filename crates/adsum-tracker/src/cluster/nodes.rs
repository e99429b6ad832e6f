//! The nodes of the cluster, as a node reports them to operators.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

use super::{
    Cluster,
    peer::{Peer, PeerState},
    phase::NodePhase,
};
use crate::{
    layer::Layer,
    replica::{Incarnation, Region},
    time::Time,
};

/// One node of the cluster, itself included, as a node sees it.
///
/// As JSON, `incarnation` is a string, and `silent_for` is in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// The node's name.
    pub name: Arc<str>,
    /// The run of the node. A run that has left stays listed beside a newer one until its presences are gone.
    #[serde(serialize_with = "text")]
    pub incarnation: Incarnation,
    /// The region of the node, if it has one.
    pub region: Option<Region>,
    /// Whether this is the node that answers.
    pub is_self: bool,
    /// Its state, as the answering node sees it.
    pub state: NodeState,
    /// How many published versions are known and not applied yet, over all shards. 0: in sync.
    pub behind: u64,
    /// The time since it was last heard.
    #[serde(serialize_with = "seconds")]
    pub silent_for: Duration,
    /// How many of its presences are kept, hidden ones included.
    pub presences: usize,
}

/// The state of a node, as another one sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeState {
    /// It listens to the others, and doesn't take part yet. Only the answering node itself.
    Starting,
    /// It takes part, and was heard lately.
    Up,
    /// It is silent. Its presences are hidden, and kept for `forget_after`.
    Down,
    /// It has left. Its presences stay until their graces end.
    Departed,
    /// Another node of its name is alive, and it serves only its own clients. Only the answering node itself.
    Duplicate,
}

impl<X: Layer> Cluster<X> {
    /// Returns the nodes that this one knows, itself included, by name.
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
    pub(super) fn state(&self) -> NodeState {
        match self {
            Self::Listening { .. } => NodeState::Starting,
            Self::Twin { .. } => NodeState::Duplicate,
            Self::Alone | Self::Live => NodeState::Up,
            Self::Leaving(_) | Self::Left => NodeState::Departed,
        }
    }
}

impl Peer {
    pub(super) fn node_state(&self) -> NodeState {
        match self.state {
            PeerState::Up => NodeState::Up,
            PeerState::Down(_) => NodeState::Down,
            PeerState::Departed { .. } => NodeState::Departed,
        }
    }

    fn info(&self, now: Time) -> NodeInfo {
        NodeInfo {
            name: self.replica.name.clone(),
            incarnation: self.replica.incarnation,
            region: self.region.clone(),
            is_self: false,
            state: self.node_state(),
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
