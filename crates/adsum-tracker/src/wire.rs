//! The messages between nodes, and their form on the wire.

mod batch;
mod check;

use std::{sync::Arc, time::Duration};

use adsum_pubsub::Topic;
use serde::{Deserialize, Serialize};

pub use self::{
    batch::{Batch, DepartedSet, MAX_GRACE, PresenceRow, RowChange, Versions},
    check::{MAX_STARTED, MAX_VERSION},
};
use crate::replica::{Incarnation, Region, Replica};

/// The version of the protocol. It grows when nodes of two versions could misunderstand each other: they refuse each
/// other's messages then.
pub const PROTOCOL: u8 = 2;

/// A message from one node to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClusterMessage {
    /// To all nodes, from one that starts. It claims nothing, and is answered with [`Welcome`](Self::Welcome).
    Hello {
        /// The node that starts.
        from: Replica,
    },
    /// To a node that starts.
    Welcome {
        /// The node that answers.
        from: Replica,
        /// The node that said hello.
        to: Replica,
        /// The answerer's region, if it has one.
        region: Option<Region>,
        /// The versions of the answerer's shards.
        versions: Versions,
        /// The sets of departed replicas that the answerer can serve.
        departed: Vec<DepartedSet>,
    },
    /// To all nodes, at every heartbeat: this node is up, and its shards have these versions.
    Heartbeat {
        /// The node.
        from: Replica,
        /// Its region, if it has one.
        region: Option<Region>,
        /// The versions of its shards.
        versions: Versions,
    },
    /// To all nodes: changes.
    Batches {
        /// The node whose changes they are.
        from: Replica,
        /// Usually one of each shard.
        batches: Vec<Arc<Batch>>,
    },
    /// To one node: asks for the missing part of a shard.
    Pull {
        /// The node that asks.
        from: Replica,
        /// The replica whose shard it is.
        of: Replica,
        /// The shard.
        shard: u8,
        /// The version that the asking node has.
        have: u64,
        /// If a snapshot has begun: its version, and the index of the next chunk.
        chunk: Option<(u64, u32)>,
    },
    /// Answers a pull with the batches after the version asked from. More may follow them.
    Run {
        /// The replica whose batches they are.
        of: Replica,
        /// In sequence.
        batches: Vec<Arc<Batch>>,
    },
    /// Answers a pull with a part of a snapshot.
    Chunk {
        /// The node that answers. Chunks from different nodes don't fit together.
        from: Replica,
        /// The replica whose shard it is.
        of: Replica,
        /// The shard.
        shard: u8,
        /// The version of the whole snapshot. Changes made while it was read are in the batches after it.
        version: u64,
        /// The index of this chunk.
        index: u32,
        /// The number of chunks.
        count: u32,
        /// The presences of this chunk.
        topics: Vec<(Topic, Vec<PresenceRow>)>,
    },
    /// To all nodes, from one that stops: its set is final, and departs.
    Leaving {
        /// The node that stops.
        from: Replica,
        /// The final versions of its shards.
        versions: Versions,
        /// How long its presences stay, so that others can take their places.
        #[serde(deserialize_with = "batch::grace")]
        grace: Duration,
    },
    /// To a node that leaves: the sender has its final set.
    SetHeld {
        /// The node that has it.
        from: Replica,
        /// The replica whose set it is.
        of: Replica,
    },
    /// To a node whose name was seen with a higher incarnation.
    Stale {
        /// The replica that is too old.
        of: Replica,
        /// The highest incarnation of that name.
        highest: Incarnation,
    },
    /// To all nodes: forget this replica at once. It was started while another of its name was alive.
    Goodbye {
        /// The replica to forget.
        from: Replica,
    },
}

impl ClusterMessage {
    /// Encodes the message.
    ///
    /// # Panics
    /// Never: every message can be encoded.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![PROTOCOL]).expect("a vector takes everything, and lengths are known")
    }

    /// Decodes a message from another node.
    ///
    /// # Errors
    /// The message has another version of the protocol, can't be decoded, or breaks a rule that every node keeps.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let (&protocol, rest) = bytes.split_first().ok_or(MessageError::Broken("the message is empty"))?;
        if protocol != PROTOCOL {
            return Err(MessageError::Protocol { theirs: protocol });
        }
        let (message, rest): (Self, _) = postcard::take_from_bytes(rest)
            .map_err(|_| MessageError::Broken("the message can't be decoded"))?;
        if !rest.is_empty() {
            return Err(MessageError::Broken("the message has bytes after its end"));
        }
        message.check().map_err(MessageError::Broken)?;
        Ok(message)
    }
}

/// Why a message from another node was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The sender speaks another version of the protocol between nodes.
    #[error(
        "the message has version {theirs} of the protocol between nodes, and this node speaks {PROTOCOL}; run one version of adsum in a cluster"
    )]
    Protocol {
        /// The sender's version.
        theirs: u8,
    },
    /// It isn't a message, or breaks a rule.
    #[error("{0}")]
    Broken(&'static str),
}

#[cfg(test)]
mod tests {
    use adsum_pubsub::MAX_REGION_BYTES;

    use super::*;
    use crate::{
        reference::Ref,
        sharding::{SHARDS, shard_of},
    };

    fn batches(shard: usize, topic: &str, meta: &str) -> ClusterMessage {
        following(None, shard, topic, meta)
    }

    fn following(previous: Option<u8>, shard: usize, topic: &str, meta: &str) -> ClusterMessage {
        let replica = Replica { name: "a".into(), incarnation: Incarnation { started: 1, random: 2 } };
        let reference = |byte: u8| postcard::from_bytes::<Ref>(&[byte; 12]).unwrap();
        let row = PresenceRow {
            key: "7".into(),
            reference: reference(7),
            previous: previous.map(reference),
            replaces: None,
            departing: None,
            meta: meta.into(),
        };
        let topics = vec![(topic.into(), vec![RowChange::Join(row)])];
        ClusterMessage::Batches {
            from: replica,
            batches: vec![Arc::new(Batch { shard: shard as u8, version: 1, topics })],
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let message = batches(shard_of("room"), "room", r#"{"n":1}"#);
        assert_eq!(ClusterMessage::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn another_version_of_the_protocol_is_refused_by_both_numbers() {
        let mut bytes = batches(shard_of("room"), "room", "{}").encode();
        bytes[0] = PROTOCOL + 1;
        let error = ClusterMessage::decode(&bytes).unwrap_err();
        assert_eq!(error, MessageError::Protocol { theirs: PROTOCOL + 1 });
        let said = error.to_string();
        assert!(
            said.contains(&(PROTOCOL + 1).to_string()) && said.contains(&format!("speaks {PROTOCOL}")),
            "{said}"
        );
    }

    #[test]
    fn a_message_that_breaks_a_rule_is_refused() {
        let refused = |message: &ClusterMessage| {
            matches!(ClusterMessage::decode(&message.encode()), Err(MessageError::Broken(_)))
        };
        let shard = shard_of("room");
        for meta in ["", "{", "[]", "{}}", "{\"a\":}", " {}"] {
            assert!(refused(&batches(shard, "room", meta)), "{meta}");
        }
        for previous in [7, 8] {
            assert!(refused(&following(Some(previous), shard, "room", "{}")));
        }
        assert!(!refused(&following(Some(6), shard, "room", "{}")));
        assert!(refused(&batches((shard + 1) % SHARDS, "room", "{}")));
        assert!(refused(&batches(SHARDS, "room", "{}")));
        let ClusterMessage::Batches { from, .. } = batches(shard, "room", "{}") else { unreachable!() };
        let few = Versions::collect(0..3);
        let beat = |region: Option<&str>, versions: &Versions| ClusterMessage::Heartbeat {
            from: from.clone(),
            region: region.map(Into::into),
            versions: versions.clone(),
        };
        let all = Versions::collect((0..SHARDS).map(|_| 0));
        assert!(refused(&beat(None, &few)) && !refused(&beat(None, &all)));
        assert!(!refused(&beat(Some(&"x".repeat(MAX_REGION_BYTES)), &all)));
        assert!(
            refused(&beat(Some(&"x".repeat(MAX_REGION_BYTES + 1)), &all)) && refused(&beat(Some(""), &all))
        );
        assert!(refused(&ClusterMessage::Leaving { from, versions: few, grace: Duration::ZERO }));
        let mut bytes = batches(shard, "room", "{}").encode();
        bytes.push(0);
        assert!(matches!(ClusterMessage::decode(&bytes), Err(MessageError::Broken(_))));
        assert!(matches!(ClusterMessage::decode(&[]), Err(MessageError::Broken(_))));
    }
}
