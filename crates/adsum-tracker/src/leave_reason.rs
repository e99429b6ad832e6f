//! Why a presence left.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a presence left.
///
/// This list grows. A node reads a reason that it doesn't know as [`Gone`](Self::Gone).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaveReason {
    /// It was untracked, or its client left the topic.
    Left,
    /// The connection behind it is gone.
    Gone,
    /// Its node is silent. The presence comes back if the node does.
    Unreachable,
    /// Its node was stopped, and no other presence took its place.
    Draining,
    /// Its owner reported that its work is done, or its channel stopped normally.
    Finished,
    /// Its owner panicked, or its channel failed.
    Crashed,
    /// Its owner was dropped before it had finished: the task was aborted, returned early, or ended with its runtime.
    Cancelled,
}

impl LeaveReason {
    /// All reasons. Nodes send the position in this list, so append new ones.
    pub const ALL: [Self; 7] = [
        Self::Left,
        Self::Gone,
        Self::Unreachable,
        Self::Draining,
        Self::Finished,
        Self::Crashed,
        Self::Cancelled,
    ];

    /// Returns the name that clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Gone => "gone",
            Self::Unreachable => "unreachable",
            Self::Draining => "draining",
            Self::Finished => "finished",
            Self::Crashed => "crashed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Writes the name into text formats, and the number between nodes.
impl Serialize for LeaveReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(self.as_str())
        } else {
            serializer.serialize_u8(*self as u8)
        }
    }
}

impl<'de> Deserialize<'de> for LeaveReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let known = if deserializer.is_human_readable() {
            let name = String::deserialize(deserializer)?;
            Self::ALL.into_iter().find(|reason| reason.as_str() == name)
        } else {
            Self::ALL.get(usize::from(u8::deserialize(deserializer)?)).copied()
        };
        Ok(known.unwrap_or(Self::Gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_as_it_was_written_and_an_unknown_one_as_gone() {
        for (number, reason) in LeaveReason::ALL.into_iter().enumerate() {
            let written = postcard::to_allocvec(&reason).unwrap();
            assert_eq!(written, [number as u8]);
            assert_eq!(postcard::from_bytes(&written), Ok(reason));
            let text = serde_json::to_string(&reason).unwrap();
            assert_eq!(text, format!("\"{reason}\""));
            assert_eq!(serde_json::from_str::<LeaveReason>(&text).unwrap(), reason);
        }
        assert_eq!(postcard::from_bytes(&[LeaveReason::ALL.len() as u8]), Ok(LeaveReason::Gone));
        assert_eq!(serde_json::from_str::<LeaveReason>("\"evaporated\"").unwrap(), LeaveReason::Gone);
    }
}
