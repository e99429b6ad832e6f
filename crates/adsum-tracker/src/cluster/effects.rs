//! Effects: what the program has to do for the cluster.

use std::sync::Arc;

use adsum_pubsub::Topic;
use indexmap::IndexSet;

use crate::{
    counts::ClusterCounts,
    replica::{Region, Replica},
    wire::{Batch, ClusterMessage},
};

/// Batches share a message up to about this size. No batch is larger than 300 KiB.
pub(super) const MESSAGE_BYTES: usize = 128 * 1024;

/// Something that the program has to do for the cluster.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Send to all other nodes.
    Broadcast(ClusterMessage),
    /// Send to the node of this name.
    Send(Arc<str>, ClusterMessage),
    /// Flush a topic whose presences have changed.
    Changed(Topic),
    /// Report an event of the cluster.
    Report(Report),
}

/// An event of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// This node has a full view of the cluster, or the time for that ran out. In the latter case it is reported again
    /// once the view is full.
    Ready {
        /// Whether all nodes that were heard are synced.
        synced: bool,
    },
    /// Another node of this name is alive: this node serves only its own clients until that one is gone.
    DuplicateNode(Replica),
    /// The other node of this name is gone, and this one takes part in the cluster. [`Ready`](Self::Ready) follows.
    DuplicateGone(Replica),
    /// A node is heard, for the first time or again.
    Up(Replica),
    /// A node is silent; its presences are hidden.
    Down(Replica),
    /// A node has left.
    Departed(Replica),
    /// All nodes of another region have fallen silent at once. The link to them counts as broken, and their presences
    /// stay for `engine_grace`.
    LinkBroken {
        /// The region.
        region: Region,
        /// How many of its nodes were up.
        nodes: usize,
    },
    /// A region whose link was broken is heard again. Its nodes that stay silent go down.
    LinkRestored {
        /// The region.
        region: Region,
    },
    /// This node has left: all others have its final set, or the time for that ran out.
    Left {
        /// How many nodes confirmed that they have it.
        held: usize,
        /// How many nodes were up.
        of: usize,
    },
}

/// The effects of a call, as they are collected.
#[derive(Default)]
pub(super) struct Out {
    effects: Vec<Effect>,
    changed: IndexSet<Topic>,
    pub(super) counts: ClusterCounts,
}

impl Out {
    pub(super) fn report(&mut self, report: Report) {
        self.effects.push(Effect::Report(report));
    }

    pub(super) fn broadcast(&mut self, message: ClusterMessage) {
        self.effects.push(Effect::Broadcast(message));
    }

    pub(super) fn send(&mut self, to: &Replica, message: ClusterMessage) {
        self.effects.push(Effect::Send(to.name.clone(), message));
    }

    pub(super) fn changed(&mut self, topic: &Topic) {
        if !self.changed.contains(topic) {
            self.changed.insert(topic.clone());
        }
    }

    /// Broadcasts batches in as few messages as they fit.
    pub(super) fn batches(&mut self, from: &Replica, batches: Vec<Arc<Batch>>) {
        self.counts.batches_out += batches.len() as u64;
        let (mut bytes, mut together) = (0, Vec::new());
        for batch in batches {
            if bytes > 0 && bytes + batch.bytes() > MESSAGE_BYTES {
                bytes = 0;
                self.broadcast(ClusterMessage::Batches {
                    from: from.clone(),
                    batches: std::mem::take(&mut together),
                });
            }
            bytes += batch.bytes();
            together.push(batch);
        }
        if !together.is_empty() {
            self.broadcast(ClusterMessage::Batches { from: from.clone(), batches: together });
        }
    }

    /// Takes the effects in the order in which they are to be done.
    pub(super) fn take(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.effects);
        effects.extend(std::mem::take(&mut self.changed).into_iter().map(Effect::Changed));
        effects
    }
}
