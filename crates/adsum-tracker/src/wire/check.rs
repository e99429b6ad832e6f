//! The rules for messages from other nodes that their types don't enforce.

use adsum_pubsub::MAX_REGION_BYTES;
use serde::de::IgnoredAny;

use super::{Batch, ClusterMessage, DepartedSet, PresenceRow, RowChange, Versions};
use crate::{
    limits::{MAX_KEY_BYTES, MAX_META_BYTES, MAX_TOPIC_BYTES},
    replica::{Incarnation, Region, Replica},
    sharding::{SHARDS, shard_of},
};

/// The highest version: at a thousand batches a second, it takes five thousand years.
pub const MAX_VERSION: u64 = 1 << 47;
/// The latest start of an incarnation, in milliseconds since 1970: the end of the year 9999.
pub const MAX_STARTED: u64 = 253_402_300_799_999;
/// The longest name of a node, in bytes.
const MAX_NAME_BYTES: usize = 255;

impl ClusterMessage {
    /// Checks all rules: nothing behind this checks a message again.
    pub(super) fn check(&self) -> Result<(), &'static str> {
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
                    return Err("the index of a chunk isn't below the number of chunks");
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
        if self.started <= MAX_STARTED { Ok(()) } else { Err("an incarnation started later than allowed") }
    }
}

impl Versions {
    fn check(&self) -> Result<(), &'static str> {
        if self.0.len() != SHARDS {
            return Err("the number of shards differs");
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
        // Versions are followed from one to the one before it, so they must come to an end.
        if self.previous.is_some_and(|previous| previous >= self.reference) {
            return Err("a version follows itself or a later one");
        }
        let is_object = self.meta.starts_with('{') && self.meta.ends_with('}');
        if is_object && serde_json::from_str::<IgnoredAny>(&self.meta).is_ok() {
            Ok(())
        } else {
            Err("a meta isn't a JSON object")
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
    if version <= MAX_VERSION { Ok(()) } else { Err("a version is higher than allowed") }
}

fn check_shard(shard: u8) -> Result<(), &'static str> {
    if usize::from(shard) < SHARDS { Ok(()) } else { Err("a shard doesn't exist") }
}

fn check_topic(shard: u8, topic: &str) -> Result<(), &'static str> {
    check_shard(shard)?;
    if topic.len() > MAX_TOPIC_BYTES {
        return Err("the name of a topic is longer than any limit allows");
    }
    if shard_of(topic) == usize::from(shard) { Ok(()) } else { Err("a topic belongs to another shard") }
}
