//! The contents of messages: versions, batches of changes, and presences.

use std::{sync::Arc, time::Duration};

use adsum_pubsub::Topic;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    leave_reason::LeaveReason,
    meta::{Key, Meta},
    reference::Ref,
    replica::Replica,
    row::{OwnerId, Row},
};

/// The longest grace, since a presence stays that long unless another takes its place. A longer one from another node
/// is cut to this.
pub const MAX_GRACE: Duration = Duration::from_hours(1);

/// The last published version of each shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions(pub(super) Box<[u64]>);

impl Versions {
    pub(crate) fn collect(versions: impl Iterator<Item = u64>) -> Self {
        Self(versions.collect())
    }

    pub(crate) fn of(&self, shard: usize) -> u64 {
        self.0[shard]
    }
}

/// The changes of one replica's shard from one version to the next. No ref is named twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The shard.
    pub shard: u8,
    /// The version that the batch leads to; it follows the one before it.
    pub version: u64,
    /// The changes, by topic.
    pub topics: Vec<(Topic, Vec<RowChange>)>,
}

/// A change of one ref.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RowChange {
    /// It joined.
    Join(PresenceRow),
    /// It left.
    Leave {
        /// The ref.
        reference: Ref,
        /// Why it left. `None` if an update put another version in its place.
        reason: Option<LeaveReason>,
        /// The departing version whose place it had taken.
        replaces: Option<Ref>,
    },
    /// It is about to leave.
    Depart {
        /// The ref.
        reference: Ref,
        /// Why it will leave.
        reason: LeaveReason,
        /// The time until it leaves.
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
    /// After an update, the name of the version before, which is lower.
    pub previous: Option<Ref>,
    /// The departing version whose place it took.
    pub replaces: Option<Ref>,
    /// If it is about to leave: the reason, and the time until then.
    #[serde(deserialize_with = "departing")]
    pub departing: Option<(LeaveReason, Duration)>,
    /// The meta that was tracked: JSON text of an object.
    pub(super) meta: Arc<str>,
}

/// The set of a departed replica that a node can serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DepartedSet {
    /// The replica.
    pub replica: Replica,
    /// Its final versions.
    pub versions: Versions,
    /// How much longer its presences stay.
    #[serde(deserialize_with = "grace")]
    pub grace: Duration,
}

pub(super) fn grace<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(Duration::deserialize(deserializer)?.min(MAX_GRACE))
}

fn departing<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<(LeaveReason, Duration)>, D::Error> {
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

    /// Returns the approximate size on the wire.
    fn bytes(&self) -> usize {
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
    /// Returns the approximate size on the wire.
    pub(crate) fn bytes(&self) -> usize {
        let of_topic = |(topic, changes): &(Topic, Vec<RowChange>)| {
            topic.len() + 8 + changes.iter().map(RowChange::bytes).sum::<usize>()
        };
        16 + self.topics.iter().map(of_topic).sum::<usize>()
    }
}
