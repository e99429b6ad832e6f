//! What nodes say to each other, and its form on the wire.

use std::{sync::Arc, time::Duration};

use adsum_pubsub::{MAX_REGION_BYTES, Topic};
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use super::regions::Region;
use crate::{
    Incarnation, Key, MAX_KEY_BYTES, MAX_META_BYTES, MAX_TOPIC_BYTES, Meta, OwnerId, LeaveReason, Ref, Replica,
    Row, SHARDS, shard_of,
};

/// Grows when nodes of two versions could misunderstand each other. They refuse each other's messages then.
pub const PROTOCOL: u8 = 2;

/// No grace is longer: a presence would stay for as long as nobody takes its place. A longer one of another node is
/// read as this.
pub const MAX_GRACE: Duration = Duration::from_hours(1);
/// No version is higher: at a thousand batches a second, none is in five thousand years.
pub const MAX_VERSION: u64 = 1 << 47;
/// No incarnation has started later, in milliseconds since 1970: the end of the year 9999.
pub const MAX_STARTED: u64 = 253_402_300_799_999;
/// The longest name of a node, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The last published version of each shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions(Box<[u64]>);

impl Versions {
    pub(crate) fn collect(versions: impl Iterator<Item = u64>) -> Self {
        Self(versions.collect())
    }

    pub(crate) fn of(&self, shard: usize) -> u64 {
        self.0[shard]
    }
}

/// What one node says to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClusterMessage {
    /// To all, by a node that starts. It claims nothing, and is answered with [`Welcome`](Self::Welcome).
    Hello {
        /// Who starts.
        from: Replica,
    },
    /// To a node that starts.
    Welcome {
        /// Who answers.
        from: Replica,
        /// Who has said hello.
        to: Replica,
        /// The answerer's region, if it has one.
        region: Option<Region>,
        /// Where the answerer's shards stand.
        versions: Versions,
        /// The sets of departed replicas that the answerer can serve.
        departed: Vec<DepartedSet>,
    },
    /// To all, every so often: a node is there, and this is where its shards stand.
    Heartbeat {
        /// Who is there.
        from: Replica,
        /// Its region, if it has one.
        region: Option<Region>,
        /// Where its shards stand.
        versions: Versions,
    },
    /// To all: changes.
    Batches {
        /// Whose.
        from: Replica,
        /// At most one in sequence of each shard, as a rule.
        batches: Vec<Arc<Batch>>,
    },
    /// To one: asks for what is missing of a shard.
    Pull {
        /// Who asks.
        from: Replica,
        /// Whose shard.
        of: Replica,
        /// Which.
        shard: u8,
        /// The version held.
        have: u64,
        /// Of a snapshot that has begun: its version, and which chunk comes next.
        chunk: Option<(u64, u32)>,
    },
    /// An answer to a pull: batches from the version held on. There may be more after them.
    Run {
        /// Whose.
        of: Replica,
        /// In sequence.
        batches: Vec<Arc<Batch>>,
    },
    /// An answer to a pull: a part of a snapshot.
    Chunk {
        /// Who answers. Only the parts of one node's snapshot make a whole.
        from: Replica,
        /// Whose.
        of: Replica,
        /// Which shard.
        shard: u8,
        /// The version that the whole snapshot stands at: what may have changed while it was read is in the batches
        /// after it.
        version: u64,
        /// Which part.
        index: u32,
        /// How many there are.
        count: u32,
        /// The presences of this part.
        topics: Vec<(Topic, Vec<PresenceRow>)>,
    },
    /// To all, by a node that stops: its set is final, and departs.
    Leaving {
        /// Who stops.
        from: Replica,
        /// Where its shards stand, for good.
        versions: Versions,
        /// How long its presences stay, for others to take their places.
        #[serde(deserialize_with = "grace")]
        grace: Duration,
    },
    /// To one that leaves: its final set is held.
    SetHeld {
        /// Who holds it.
        from: Replica,
        /// Whose set.
        of: Replica,
    },
    /// To one whose name has been seen with a higher incarnation.
    Stale {
        /// Who is too old.
        of: Replica,
        /// The highest incarnation of that name.
        highest: Incarnation,
    },
    /// To all: forget this replica at once, it was started beside another of its name.
    Goodbye {
        /// Who.
        from: Replica,
    },
}

/// The changes of one replica's shard from one version to the next. No ref is named twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Which shard.
    pub shard: u8,
    /// The version that the batch leads to; it follows the one before it.
    pub version: u64,
    /// The changes, by topic.
    pub topics: Vec<(Topic, Vec<RowChange>)>,
}

/// What happened to one ref.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RowChange {
    /// It came.
    Join(PresenceRow),
    /// It went.
    Leave {
        /// Which.
        reference: Ref,
        /// Why; none where an update put another version in its place.
        reason: Option<LeaveReason>,
        /// The departing version that it had taken the place of.
        replaces: Option<Ref>,
    },
    /// It is about to leave.
    Depart {
        /// Which.
        reference: Ref,
        /// Why it will leave.
        reason: LeaveReason,
        /// When.
        #[serde(deserialize_with = "grace")]
        grace: Duration,
    },
}

/// A presence on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PresenceRow {
    /// Its key.
    pub key: Key,
    /// Its name.
    pub reference: Ref,
    /// After an update, the name of the version before.
    pub previous: Option<Ref>,
    /// The departing version that it took the place of.
    pub replaces: Option<Ref>,
    /// If it is about to leave: why, and in what time.
    #[serde(deserialize_with = "departing")]
    pub departing: Option<(LeaveReason, Duration)>,
    /// What was tracked: JSON text of an object.
    meta: Arc<str>,
}

/// The set of a departed replica that a node can serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DepartedSet {
    /// Whose.
    pub replica: Replica,
    /// Where it stands, for good.
    pub versions: Versions,
    /// How long its presences stay yet.
    #[serde(deserialize_with = "grace")]
    pub grace: Duration,
}

fn grace<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(Duration::deserialize(deserializer)?.min(MAX_GRACE))
}

fn departing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(LeaveReason, Duration)>, D::Error> {
    let departing = Option::<(LeaveReason, Duration)>::deserialize(deserializer)?;
    Ok(departing.map(|(reason, grace)| (reason, grace.min(MAX_GRACE))))
}

impl PresenceRow {
    pub(crate) fn new(row: &Row, departing: Option<(LeaveReason, Duration)>) -> Self {
        let (previous, replaces) = (row.previous(), row.replaces());
        let meta = row.meta.as_str().into();
        Self { key: row.key.clone(), reference: row.reference, previous, replaces, departing, meta }
    }

    pub(crate) fn row(&self, topic: &Topic) -> Row {
        let Self { reference, previous, replaces, ref key, ref meta, .. } = *self;
        let meta = Meta::from_encoded(&**meta);
        Row::new(reference, OwnerId::REMOTE, topic.clone(), key.clone(), meta).after(previous, replaces)
    }

    /// About so many bytes on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.meta.len() + 48
    }
}

impl RowChange {
    fn bytes(&self) -> usize {
        match self {
            Self::Join(row) => row.bytes(),
            Self::Leave { .. } | Self::Depart { .. } => 32,
        }
    }
}

impl Batch {
    /// About so many bytes on the wire.
    pub(crate) fn bytes(&self) -> usize {
        let of_topic = |(topic, changes): &(Topic, Vec<RowChange>)| {
            topic.len() + 8 + changes.iter().map(RowChange::bytes).sum::<usize>()
        };
        16 + self.topics.iter().map(of_topic).sum::<usize>()
    }
}

impl ClusterMessage {
    /// The message as bytes.
    ///
    /// # Panics
    /// Never: a message of ours is always encodable.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![PROTOCOL]).expect("a vector takes all, and lengths are known")
    }

    /// Reads a message that came from another node.
    ///
    /// # Errors
    /// It is of another version of the protocol, isn't a message, or breaks a rule that every node keeps.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let (&protocol, rest) = bytes.split_first().ok_or(MessageError::Broken("it is empty"))?;
        if protocol != PROTOCOL {
            return Err(MessageError::Protocol { theirs: protocol });
        }
        let (message, rest): (Self, _) =
            postcard::take_from_bytes(rest).map_err(|_| MessageError::Broken("it can't be read"))?;
        if !rest.is_empty() {
            return Err(MessageError::Broken("something stands after its end"));
        }
        message.check().map_err(MessageError::Broken)?;
        Ok(message)
    }

    /// Rules that the types don't hold: this is the one place that knows what may come from another node.
    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Hello { from } | Self::Goodbye { from } => from.check(),
            Self::Welcome { from, to, region, versions, departed } => {
                from.check()?;
                to.check()?;
                check_region(region.as_ref())?;
                versions.check()?;
                departed.iter().try_for_each(DepartedSet::check)
            }
            Self::Heartbeat { from, region, versions } => {
                from.check()?;
                check_region(region.as_ref())?;
                versions.check()
            }
            Self::Leaving { from, versions, .. } => {
                from.check()?;
                versions.check()
            }
            Self::Batches { from: of, batches } | Self::Run { of, batches } => {
                of.check()?;
                batches.iter().try_for_each(|batch| batch.check())
            }
            Self::Pull { from, of, shard, have, chunk } => {
                from.check()?;
                of.check()?;
                check_shard(*shard)?;
                check_version(*have)?;
                chunk.map_or(Ok(()), |(version, _)| check_version(version))
            }
            Self::Chunk { from, of, shard, version, index, count, topics } => {
                from.check()?;
                of.check()?;
                check_version(*version)?;
                if index >= count {
                    return Err("a snapshot has a chunk beyond its last");
                }
                for (topic, rows) in topics {
                    check_topic(*shard, topic)?;
                    rows.iter().try_for_each(PresenceRow::check)?;
                }
                check_shard(*shard)
            }
            Self::SetHeld { from, of } => {
                from.check()?;
                of.check()
            }
            Self::Stale { of, highest } => {
                of.check()?;
                highest.check()
            }
        }
    }
}

impl Replica {
    fn check(&self) -> Result<(), &'static str> {
        if self.name.len() > MAX_NAME_BYTES {
            return Err("the name of a node is too long");
        }
        self.incarnation.check()
    }
}

impl Incarnation {
    fn check(&self) -> Result<(), &'static str> {
        if self.started <= MAX_STARTED { Ok(()) } else { Err("a node has started later than is possible") }
    }
}

impl Versions {
    fn check(&self) -> Result<(), &'static str> {
        if self.0.len() != SHARDS {
            return Err("the number of shards is another");
        }
        self.0.iter().try_for_each(|version| check_version(*version))
    }
}

impl DepartedSet {
    fn check(&self) -> Result<(), &'static str> {
        self.replica.check()?;
        self.versions.check()
    }
}

impl Batch {
    fn check(&self) -> Result<(), &'static str> {
        check_shard(self.shard)?;
        check_version(self.version)?;
        for (topic, changes) in &self.topics {
            check_topic(self.shard, topic)?;
            for change in changes {
                if let RowChange::Join(row) = change {
                    row.check()?;
                }
            }
        }
        Ok(())
    }
}

impl PresenceRow {
    fn check(&self) -> Result<(), &'static str> {
        if self.key.len() > MAX_KEY_BYTES {
            return Err("a key is longer than any limit allows");
        }
        if self.meta.len() > MAX_META_BYTES {
            return Err("a meta is larger than any limit allows");
        }
        let is_object = self.meta.starts_with('{') && self.meta.ends_with('}');
        if is_object && serde_json::from_str::<IgnoredAny>(&self.meta).is_ok() {
            Ok(())
        } else {
            Err("a meta is no JSON object")
        }
    }
}

fn check_region(region: Option<&Region>) -> Result<(), &'static str> {
    if region.is_none_or(|region| (1..=MAX_REGION_BYTES).contains(&region.len())) {
        Ok(())
    } else {
        Err("the name of a region is empty or too long")
    }
}

fn check_version(version: u64) -> Result<(), &'static str> {
    if version <= MAX_VERSION { Ok(()) } else { Err("a version is higher than is possible") }
}

fn check_shard(shard: u8) -> Result<(), &'static str> {
    if usize::from(shard) < SHARDS { Ok(()) } else { Err("there is no such shard") }
}

fn check_topic(shard: u8, topic: &str) -> Result<(), &'static str> {
    check_shard(shard)?;
    if topic.len() > MAX_TOPIC_BYTES {
        return Err("the name of a topic is longer than any limit allows");
    }
    if shard_of(topic) == usize::from(shard) { Ok(()) } else { Err("a topic belongs to another shard") }
}

/// Why a message of another node was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The sender speaks another version of the protocol between nodes.
    #[error(
        "it is of version {theirs} of the protocol between nodes, and this node speaks {PROTOCOL}; run one version of adsum in a cluster"
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
    use super::*;

    fn batches(shard: usize, topic: &str, meta: &str) -> ClusterMessage {
        let replica = Replica { name: "a".into(), incarnation: Incarnation { started: 1, random: 2 } };
        let reference: Ref = postcard::from_bytes(&[7; 12]).unwrap();
        let row = PresenceRow {
            key: "7".into(),
            reference,
            previous: None,
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
    fn what_breaks_a_rule_is_refused() {
        let refused =
            |message: &ClusterMessage| matches!(ClusterMessage::decode(&message.encode()), Err(MessageError::Broken(_)));
        let shard = shard_of("room");
        for meta in ["", "{", "[]", "{}}", "{\"a\":}", " {}"] {
            assert!(refused(&batches(shard, "room", meta)), "{meta}");
        }
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
