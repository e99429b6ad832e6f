//! Private items that read input from other nodes, for the fuzz targets. Not public API.

use std::fmt;

use bytes::Bytes;

use crate::{envelope, message::Message};

/// Writes the envelopes of a node, and opens those of others.
pub struct Envelopes(envelope::Envelopes);

impl Envelopes {
    /// Those of a node.
    pub fn new(node: &str, secret: Option<&[u8]>) -> Self {
        let mut origin = [0; 16];
        origin[..node.len()].copy_from_slice(node.as_bytes());
        Self(envelope::Envelopes::new("adsum", node, origin, secret))
    }

    /// Writes a message to one node or to all. `None` if it is too long.
    pub fn write(&self, to: Option<&str>, message: &Message) -> Option<Bytes> {
        self.0.write(to, message, 1)
    }

    /// The node that is meant, if there is one, and the message. `None` if it is refused.
    pub fn open(&self, bytes: &[u8]) -> Option<(Option<String>, Message)> {
        let opened = self.0.open(bytes).ok()??;
        let envelope::Content::Message(message) = opened.content else { return None };
        Some((opened.to.map(str::to_owned), message))
    }
}

/// Reads a control message, and writes it again; `None` if it is refused.
pub fn rewrite_control(bytes: &[u8]) -> Option<Vec<u8>> {
    envelope::Control::from_bytes(bytes).map(envelope::Control::to_bytes)
}

impl fmt::Debug for Envelopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelopes").field("node", &self.0.node()).finish_non_exhaustive()
    }
}
