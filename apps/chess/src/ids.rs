//! Names of rows, random and made here, so that no database has to give them out.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Ids of users are below this: JavaScript reads numbers up to here exactly.
const USER_IDS: u64 = 1 << 53;

/// The characters of game and offer ids: without those that are easily mistaken for each other.
const LETTERS: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";

/// How many characters such an id has: 60 random bits.
const ID_CHARS: usize = 12;

/// The id of a user: a string on the wire, a number in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub i64);

impl UserId {
    /// A new one.
    pub fn random() -> Self {
        Self((u64::from_le_bytes(random_bytes()) % USER_IDS).cast_signed())
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UserId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom("a user's id is a number in a string"))
    }
}

/// A new id of a game or an offer.
pub(crate) fn random_id() -> String {
    let bytes: [u8; ID_CHARS] = random_bytes();
    bytes.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()])).iter().collect()
}

/// Bytes that nobody can guess.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_strings_that_javascript_reads_exactly() {
        let id = UserId::random();
        assert!((0..1 << 53).contains(&id.0));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{}\"", id.0));
        assert_eq!(serde_json::from_str::<UserId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<UserId>("7").is_err());
        assert!(serde_json::from_str::<UserId>("\"seven\"").is_err());
    }

    #[test]
    fn ids_differ() {
        let (one, other) = (random_id(), random_id());
        assert_eq!(one.len(), ID_CHARS);
        assert_ne!(one, other);
    }
}
