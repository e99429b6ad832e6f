//! Topic names and patterns.

use std::{borrow::Borrow, fmt, ops::Deref};

use ecow::EcoString;
use serde::{Deserialize, Serialize};

/// The topic of local broadcasts about other nodes. Not public API.
pub const NODES_TOPIC: &str = "adsum:nodes";
/// The event for a node that counts as dead. The payload is its name.
pub const NODE_DOWN: &str = "down";

/// A topic's name, such as `game:42`.
///
/// Up to 15 bytes are stored inline; clones of a longer name share its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Topic(EcoString);

impl Topic {
    /// The name as text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Topic {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Topic {
    #[inline]
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Topic {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for Topic {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<&String> for Topic {
    fn from(name: &String) -> Self {
        Self(name.into())
    }
}

impl From<&Topic> for Topic {
    fn from(topic: &Topic) -> Self {
        topic.clone()
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Matches topics: one exact name, or, with a `*` at its end, every name with that prefix.
///
/// ```
/// # use adsum_pubsub as adsum;
/// use adsum::Pattern;
///
/// let games = Pattern::new("game:*")?;
/// assert_eq!(games.rest_of("game:42"), Some("42"));
/// assert!(!games.matches("lobby"));
/// # Ok::<(), adsum::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    prefix: Box<str>,
    open: bool,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// There is a `*` before the end. As in Phoenix, it is allowed only at the end.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let (prefix, open) = match pattern.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (pattern, false),
        };
        if prefix.contains('*') {
            return Err(PatternError { pattern: pattern.to_owned() });
        }
        Ok(Self { prefix: prefix.into(), open })
    }

    /// Whether the pattern matches this topic.
    pub fn matches(&self, topic: &str) -> bool {
        self.rest_of(topic).is_some()
    }

    /// Returns the part of the topic that the `*` matches: empty for a pattern without a `*`, `None` if it doesn't
    /// match.
    pub fn rest_of<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let rest = topic.strip_prefix(&*self.prefix)?;
        (self.open || rest.is_empty()).then_some(rest)
    }
}

/// A topic pattern with a `*` elsewhere than at its end.
#[derive(Debug, thiserror::Error)]
#[error("topic pattern {pattern:?} has a `*` before its end; write one such as \"room:*\" or an exact name")]
pub struct PatternError {
    pattern: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_exact_or_open_at_its_end() {
        let lobby = Pattern::new("lobby").unwrap();
        assert!(lobby.matches("lobby"));
        assert!(!lobby.matches("lobby2"));
        assert!(!lobby.matches("lobb"));
        let all = Pattern::new("*").unwrap();
        assert_eq!(all.rest_of("any"), Some("any"));
        assert!(Pattern::new("a*b").is_err());
        assert!(Pattern::new("**").is_err());
    }
}
