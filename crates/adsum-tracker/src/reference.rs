//! Refs: the names of meta versions.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::replica::Incarnation;

/// The unique name of one version of a meta; `phx_ref` on the wire, where it is 16 characters of text.
///
/// Six bytes come from the incarnation that made it, six from a counter. Refs of one replica compare in the
/// order in which they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ref([u8; 12]);

impl Ref {
    /// The length of a ref as text.
    pub const TEXT_LEN: usize = 16;

    /// Whether this is a ref that an incarnation has made. A node whose part in the cluster was restarted goes on making
    /// refs of its first incarnation.
    pub fn is_made_by(self, incarnation: Incarnation) -> bool {
        self.0[..6] == incarnation.random.to_be_bytes()[..6]
    }

    /// Returns the ref as URL-safe base64.
    pub fn text(self) -> [u8; Self::TEXT_LEN] {
        let mut text = [0; Self::TEXT_LEN];
        URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).expect("12 bytes are 16 characters of base64");
        text
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes text into formats for people, and bytes into others.
impl Serialize for Ref {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

/// Reads what [`Serialize`] writes, as text and as bytes.
impl<'de> Deserialize<'de> for Ref {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 12]>::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| D::Error::custom("a ref is 16 characters of base64"))
    }
}

/// Makes the refs of one incarnation.
#[derive(Debug)]
pub(crate) struct RefSource {
    prefix: [u8; 6],
    made: AtomicU64,
}

impl RefSource {
    pub(crate) fn new(incarnation: Incarnation) -> Self {
        let random = incarnation.random.to_be_bytes();
        let prefix = random[..6].try_into().expect("six of eight bytes");
        Self { prefix, made: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> Ref {
        // 48 bits last for nine years at a million refs a second.
        let count = self.made.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut bytes = [0; 12];
        bytes[..6].copy_from_slice(&self.prefix);
        bytes[6..].copy_from_slice(&count[2..]);
        Ref(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_ordered_and_their_text_is_url_safe() {
        let source = RefSource::new(Incarnation { started: 1, random: u64::MAX });
        let (first, second) = (source.next(), source.next());
        assert!(first < second);
        assert_eq!(first.to_string().len(), Ref::TEXT_LEN);
        assert_eq!(first.to_string(), "________AAAAAAAA");
        let text = serde_json::to_string(&second).unwrap();
        assert_eq!(serde_json::from_str::<Ref>(&text).unwrap(), second);
        assert!(serde_json::from_str::<Ref>("\"________AAAA\"").is_err());
    }

    #[test]
    fn a_ref_tells_which_incarnation_made_it() {
        let incarnation = Incarnation { started: 1, random: 77 << 16 };
        let reference = RefSource::new(incarnation).next();
        assert!(reference.is_made_by(incarnation));
        assert!(!reference.is_made_by(Incarnation { started: 1, random: 78 << 16 }));
    }
}
