//! One version of a presence, and its owner's name.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use adsum_pubsub::Topic;

use crate::{
    meta::{Key, Meta},
    reference::Ref,
};

/// Names an owner within its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(u64);

impl OwnerId {
    /// Stands for all owners on other nodes.
    pub const REMOTE: Self = Self(0);

    /// Returns the id as a number, which is 0 for owners on other nodes.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Returns the id that has a [number](Self::number).
    pub fn numbered(number: u64) -> Self {
        Self(number)
    }

    /// Returns a new id, unlike all others of this process.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "owner-{}", self.0)
    }
}

/// One version of a presence. A row never changes: an update puts another in its place.
#[derive(Debug)]
pub struct Row {
    /// The version's name.
    pub reference: Ref,
    /// The owner that tracked it; [`OwnerId::REMOTE`] if it is on another node.
    pub owner: OwnerId,
    /// The topic.
    pub topic: Topic,
    /// The key.
    pub key: Key,
    /// The meta that was tracked.
    pub meta: Meta,
    /// Boxed, as most rows are the first of their presence.
    before: Option<Box<Before>>,
}

/// The versions whose place a row took.
#[derive(Clone, Copy, Debug)]
struct Before {
    previous: Option<Ref>,
    replaces: Option<Ref>,
}

impl Row {
    pub(crate) fn new(reference: Ref, owner: OwnerId, topic: Topic, key: Key, meta: Meta) -> Self {
        Self { reference, owner, topic, key, meta, before: None }
    }

    /// Notes the versions whose place the row took.
    pub(crate) fn after(mut self, previous: Option<Ref>, replaces: Option<Ref>) -> Self {
        if previous.is_some() || replaces.is_some() {
            self.before = Some(Box::new(Before { previous, replaces }));
        }
        self
    }

    /// After an update, returns the name of the version before.
    pub fn previous(&self) -> Option<Ref> {
        self.before.as_ref()?.previous
    }

    /// Returns the departing version whose place this presence took. Updates keep it.
    pub fn replaces(&self) -> Option<Ref> {
        self.before.as_ref()?.replaces
    }
}
