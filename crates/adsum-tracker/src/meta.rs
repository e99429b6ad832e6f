//! The key and the meta of a presence.

use std::{borrow::Borrow, fmt, ops::Deref};

use ecow::{EcoString, eco_format};
use serde::{Deserialize, Serialize};

/// Groups the presences of one user: two tabs of user 7 are two presences under the key `"7"`.
///
/// Made from text, or from the integer ids of a database. A key of up to 15 bytes is stored inline; clones of a longer
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
    /// Returns the key as text.
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

/// Keys from integer ids, such as those of a database.
macro_rules! from_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Key {
            fn from(id: $integer) -> Self {
                Self(eco_format!("{id}"))
            }
        }
    )*};
}

from_integers!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

/// In lower case, with hyphens:
///
/// ```
/// # use adsum_tracker::Key;
/// let id = uuid::Uuid::from_u128(0xa1a2a3a4_b1b2_c1c2_d1d2_d3d4d5d6d7d8);
/// assert_eq!(Key::from(id), Key::from("a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d8"));
/// ```
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

/// A presence's meta: the text of a small JSON object, without the fields that adsum adds (`phx_ref` and others).
#[derive(Clone, PartialEq, Eq)]
pub struct Meta(Box<str>);

impl Meta {
    /// Takes text that is encoded already. It isn't checked: it must be one JSON object.
    pub fn from_encoded(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
