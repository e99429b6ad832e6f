//! What a presence is made of.

use std::{borrow::Borrow, fmt, ops::Deref};

use adsum_pubsub::Topic;
use ecow::{EcoString, eco_format};
use serde::{Deserialize, Serialize};

use crate::{OwnerId, Ref};

/// Groups the presences of one user: two tabs of user 7 are two presences under the key `"7"`.
///
/// Made from text, or from the integer ids of a database. Up to 15 bytes stand in the value itself; clones of a longer
/// one share its text.
///
/// ```
/// # use adsum_tracker as adsum;
/// use adsum::Key;
/// assert_eq!(Key::from(7_i64), Key::from("7"));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(EcoString);

impl Key {
    /// The key as text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Key {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    #[inline]
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&String> for Key {
    fn from(text: &String) -> Self {
        Self(text.into())
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

/// The ids of a database.
macro_rules! from_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Key {
            fn from(id: $integer) -> Self {
                Self(eco_format!("{id}"))
            }
        }
    )*};
}

from_integers!(i32, i64, u32, u64);

#[cfg(feature = "uuid")]
impl From<uuid::Uuid> for Key {
    fn from(id: uuid::Uuid) -> Self {
        Self(eco_format!("{id}"))
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
    /// Who tracked it; [`OwnerId::REMOTE`] where another node's owner did.
    pub owner: OwnerId,
    /// Where.
    pub topic: Topic,
    /// As whom.
    pub key: Key,
    /// What was tracked.
    pub meta: Meta,
    /// Boxed, as most rows are the first of their presence.
    before: Option<Box<Before>>,
}

/// What stood in the place of a row.
#[derive(Clone, Copy, Debug)]
struct Before {
    previous: Option<Ref>,
    replaces: Option<Ref>,
}

impl Row {
    pub(crate) fn new(reference: Ref, owner: OwnerId, topic: Topic, key: Key, meta: Meta) -> Self {
        Self { reference, owner, topic, key, meta, before: None }
    }

    /// The row with what stood in its place.
    pub(crate) fn after(mut self, previous: Option<Ref>, replaces: Option<Ref>) -> Self {
        if previous.is_some() || replaces.is_some() {
            self.before = Some(Box::new(Before { previous, replaces }));
        }
        self
    }

    /// After an update, the name of the version before.
    pub fn previous(&self) -> Option<Ref> {
        self.before.as_ref()?.previous
    }

    /// A departing version that this presence took the place of. Updates keep it.
    pub fn replaces(&self) -> Option<Ref> {
        self.before.as_ref()?.replaces
    }
}
