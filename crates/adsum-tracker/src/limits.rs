//! How large a presence may be.

use adsum_pubsub::{
    MAX_MESSAGE_BYTES,
    bounds::{OptionsError, within},
};

/// The longest topic, in bytes, that nodes accept from each other.
pub const MAX_TOPIC_BYTES: usize = 4096;
/// The longest key, in bytes, that nodes accept from each other.
pub const MAX_KEY_BYTES: usize = 4096;
/// The largest meta, in bytes of JSON, that nodes accept from each other. A batch closes at 256 KiB, so it fits a
/// message with one more change in it.
pub const MAX_META_BYTES: usize = 128 * 1024;

/// The size at which an open window closes early, so that a batch fits a message.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;
/// Maximum size of a change beside its texts: refs, lengths, a grace.
pub(crate) const CHANGE_BYTES: usize = 80;

const _: () = assert!(
    BATCH_BYTES + MAX_TOPIC_BYTES + MAX_KEY_BYTES + MAX_META_BYTES + 2 * CHANGE_BYTES + 1024
        <= MAX_MESSAGE_BYTES,
    "a batch fits a message"
);

/// Maximum bytes of a text, and maximum number of presences, on a node without others.
const MAX_BYTES: usize = 16 * 1024 * 1024;
const MAX_PRESENCES: usize = 10_000_000;

/// How large a presence may be, and how many there may be. A presence over a limit is refused with a
/// [`RawTrackError`](crate::RawTrackError).
///
/// The limits hold for what is tracked on this node. Nodes accept from each other whatever fits a message
/// ([`MAX_TOPIC_BYTES`], [`MAX_KEY_BYTES`], [`MAX_META_BYTES`]), so that nodes with different limits, as during a
/// deploy, see the same presences. On a node that has others, limits can't be above these.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a topic's name. Default 255.
    pub topic_bytes: usize,
    /// Bytes of a key. Default 255.
    pub key_bytes: usize,
    /// Bytes of a meta, encoded as JSON. Default 8 KiB.
    pub meta_bytes: usize,
    /// Presences of one owner. Default 1,000.
    pub presences_per_owner: usize,
    /// Presences of one key in one topic, those on other nodes included: how often one user, or all users of a shared
    /// key such as `guest`, may be there. Default 100,000.
    pub presences_per_key: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            topic_bytes: 255,
            key_bytes: 255,
            meta_bytes: 8 * 1024,
            presences_per_owner: 1000,
            presences_per_key: 100_000,
        }
    }
}

impl Limits {
    /// Sets [`topic_bytes`](Self#structfield.topic_bytes).
    #[must_use]
    pub fn topic_bytes(mut self, topic_bytes: usize) -> Self {
        self.topic_bytes = topic_bytes;
        self
    }

    /// Sets [`key_bytes`](Self#structfield.key_bytes).
    #[must_use]
    pub fn key_bytes(mut self, key_bytes: usize) -> Self {
        self.key_bytes = key_bytes;
        self
    }

    /// Sets [`meta_bytes`](Self#structfield.meta_bytes).
    #[must_use]
    pub fn meta_bytes(mut self, meta_bytes: usize) -> Self {
        self.meta_bytes = meta_bytes;
        self
    }

    /// Sets [`presences_per_owner`](Self#structfield.presences_per_owner).
    #[must_use]
    pub fn presences_per_owner(mut self, presences_per_owner: usize) -> Self {
        self.presences_per_owner = presences_per_owner;
        self
    }

    /// Sets [`presences_per_key`](Self#structfield.presences_per_key).
    #[must_use]
    pub fn presences_per_key(mut self, presences_per_key: usize) -> Self {
        self.presences_per_key = presences_per_key;
        self
    }

    /// Checks the limits of a node against what can be kept and, if the node has others (`networked`), against what
    /// a message between nodes may carry.
    ///
    /// # Errors
    /// A limit is zero or too high.
    pub fn check(&self, networked: bool) -> Result<(), OptionsError> {
        let most = |between_nodes| if networked { between_nodes } else { MAX_BYTES };
        within("Limits::topic_bytes", self.topic_bytes, 1, most(MAX_TOPIC_BYTES))?;
        within("Limits::key_bytes", self.key_bytes, 1, most(MAX_KEY_BYTES))?;
        within("Limits::meta_bytes", self.meta_bytes, 2, most(MAX_META_BYTES))?;
        within("Limits::presences_per_owner", self.presences_per_owner, 1, MAX_PRESENCES)?;
        within("Limits::presences_per_key", self.presences_per_key, 1, MAX_PRESENCES)
    }

    /// Checks a key, for example one that a client chose.
    ///
    /// # Errors
    /// The key is longer than [`key_bytes`](Self::key_bytes).
    pub fn check_key(&self, key: &str) -> Result<(), OverLimit> {
        at_most("the key", "bytes", "key_bytes", key.len(), self.key_bytes)
    }

    pub(crate) fn check_presence(&self, topic: &str, key: &str, held: usize) -> Result<(), OverLimit> {
        at_most("the topic's name", "bytes", "topic_bytes", topic.len(), self.topic_bytes)?;
        self.check_key(key)?;
        let presences = "presences_per_owner";
        at_most("the owner's total", "presences", presences, held + 1, self.presences_per_owner)
    }

    pub(crate) fn check_meta(&self, meta: &str) -> Result<(), OverLimit> {
        at_most("the meta", "bytes of JSON", "meta_bytes", meta.len(), self.meta_bytes)
    }

    /// Checks the number of presences of a key. `held`: those that it has in the topic already.
    pub(crate) fn check_presences_of_key(&self, held: usize) -> Result<(), OverLimit> {
        let presences = "presences_per_key";
        at_most("the key's total in the topic", "presences", presences, held + 1, self.presences_per_key)
    }
}

/// A presence is over one of the [`Limits`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {is} {unit}, and the limit is {limit}; see `Limits::{option}`")]
pub struct OverLimit {
    what: &'static str,
    unit: &'static str,
    option: &'static str,
    is: usize,
    limit: usize,
}

impl OverLimit {
    /// The name of the limit in [`Limits`].
    pub fn option(&self) -> &'static str {
        self.option
    }
}

fn at_most(
    what: &'static str,
    unit: &'static str,
    option: &'static str,
    is: usize,
    limit: usize,
) -> Result<(), OverLimit> {
    if is > limit { Err(OverLimit { what, unit, option, is, limit }) } else { Ok(()) }
}
