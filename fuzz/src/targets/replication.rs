//! The messages between nodes about presences. A message that can be read can be written in no more bytes, and is read
//! again the same.

use adsum_tracker::ClusterMessage;

/// Input: a message.
pub(crate) fn run(data: &[u8]) {
    let Ok(message) = ClusterMessage::decode(data) else { return };
    let written = message.encode();
    assert!(written.len() <= data.len());
    assert_eq!(ClusterMessage::decode(&written), Ok(message));
}
