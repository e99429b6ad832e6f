//! How large a presence may be.

/// The largest that may be tracked. What is larger is refused with a [`TrackError`](crate::TrackError).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a topic's name. Default 255.
    pub topic_bytes: usize,
    /// Bytes of a key. Default 255.
    pub key_bytes: usize,
    /// Bytes of a meta, encoded as JSON. Default 8 KiB.
    pub meta_bytes: usize,
    /// Presences of one owner. Default 1,000.
    pub presences_per_owner: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { topic_bytes: 255, key_bytes: 255, meta_bytes: 8 * 1024, presences_per_owner: 1000 }
    }
}

/// Something to be tracked is larger than the [`Limits`] allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {is} {unit}, and the limit is {limit}; see `Limits::{option}`")]
pub struct OverLimit {
    what: &'static str,
    unit: &'static str,
    option: &'static str,
    is: usize,
    limit: usize,
}

impl Limits {
    pub(crate) fn check_presence(&self, topic: &str, key: &str, held: usize) -> Result<(), OverLimit> {
        at_most("the topic's name", "bytes", "topic_bytes", topic.len(), self.topic_bytes)?;
        at_most("the key", "bytes", "key_bytes", key.len(), self.key_bytes)?;
        let presences = "presences_per_owner";
        at_most("what the owner would track", "presences", presences, held + 1, self.presences_per_owner)
    }

    pub(crate) fn check_meta(&self, meta: &str) -> Result<(), OverLimit> {
        at_most("the meta", "bytes of JSON", "meta_bytes", meta.len(), self.meta_bytes)
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
