//! Messages that the server compresses. Whatever their parts, and whichever of them are shared or were compressed before,
//! they are never larger than the message, and a client reads the message from them.

use adsum_pubsub::{Json, JsonPart};
use bytes::Bytes;

use crate::{
    frame::{Frame, Head},
    fuzzing::message,
};

/// Input: messages, each in parts. A part is how often it is repeated, whether it is shared, its length, and the text.
pub fn compressing(data: &[u8]) {
    let mut rest = data;
    let mut shared: Vec<JsonPart> = Vec::new();
    while let Some((&[count, mode], after)) = rest.split_first_chunk() {
        rest = after;
        let mut parts = Vec::new();
        for _ in 0..count % 8 {
            let Some((&[times, kind, len], after)) = rest.split_first_chunk() else { break };
            let (text, after) = after.split_at(after.len().min(len.into()));
            rest = after;
            let text = Bytes::from(text.repeat(1 + usize::from(times)));
            parts.push(match kind % 4 {
                0 => text.into(),
                1 | 2 => JsonPart::shared(text),
                // One of a message before.
                _ => shared.get(usize::from(kind / 4)).cloned().unwrap_or_else(|| text.into()),
            });
        }
        check(&parts, mode);
        shared.extend(parts);
    }
}

fn check(parts: &[JsonPart], mode: u8) {
    let mut head = Head::with_capacity(1);
    head.raw("[");
    let tail = if mode & 2 == 0 { Bytes::from_static(b"]") } else { Bytes::new() };
    let frame = Frame::spliced(head, &Json::from_encoded_parts(parts.iter().cloned()), tail);
    let compressed = if mode & 1 == 0 { frame.compressed() } else { frame.with_compressed_parts() };
    let Some(compressed) = compressed else { return };
    assert!(compressed.len() < frame.len());
    assert_eq!(message(compressed), message(frame));
}
