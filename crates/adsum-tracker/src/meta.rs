//! What a presence is made of.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{OwnerId, Ref};

/// Groups the presences of one user: two tabs of user 7 are two presences under the key `"7"`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Key {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// A presence's meta: the text of a small JSON object, without the fields that are ours (`phx_ref` and such).
#[derive(Clone, PartialEq, Eq)]
pub struct Meta(Box<str>);

impl Meta {
    /// Takes over text that was encoded elsewhere. The text isn't looked at: it must be one JSON object.
    pub fn from_encoded(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of a presence. A row never changes: an update puts another in its place.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub reference: Ref,
    /// After an update, the name of the version before.
    pub previous: Option<Ref>,
    /// A departing version that this presence took the place of. Updates keep it.
    pub replaces: Option<Ref>,
    /// Who tracked it; [`OwnerId::REMOTE`] where another node's owner did.
    pub owner: OwnerId,
    /// What was tracked.
    pub meta: Meta,
}
