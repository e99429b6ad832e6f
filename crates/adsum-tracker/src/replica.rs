//! Replicas (the running nodes' copies of the set) and their regions.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// The name of a group of nodes with one link to the others.
pub type Region = Arc<str>;

/// One run of a node: its start time first, then random bits, compared in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// When the node started, in milliseconds since 1970.
    pub started: u64,
    /// Random, so that two starts within a millisecond differ.
    pub random: u64,
}

/// One running node's copy of the set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// The node's name, unique in the cluster.
    pub name: Arc<str>,
    /// Which of its runs this is.
    pub incarnation: Incarnation,
}

impl Replica {
    /// Makes a new incarnation of a node, from the system's clock and randomness.
    ///
    /// # Panics
    /// The system has no source of randomness.
    pub fn start(name: impl Into<Arc<str>>) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let random = getrandom::u64().expect("the system has a source of randomness");
        let started = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Self { name: name.into(), incarnation: Incarnation { started, random } }
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.started, self.random)
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.incarnation)
    }
}
