//! The body of a post. Its messages are no more than the body holds and no more than a hundred, and a body
//! written from them is read the same.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::longpoll::{PostedMessage, batch};

const MAX_BATCH: usize = 100;

/// Input: a body.
pub fn longpoll(data: &[u8]) {
    let Ok(messages) = batch(&Bytes::copy_from_slice(data)) else { return };
    assert!(messages.len() <= MAX_BATCH);
    let lines = messages.iter().map(|message| match message {
        PostedMessage::Text(text) => {
            assert!(text.starts_with(b"[") || text.starts_with(b"{"));
            text.to_vec()
        }
        PostedMessage::Binary(bytes) => STANDARD.encode(bytes).into_bytes(),
    });
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().map(Vec::len).sum::<usize>() <= data.len());
    assert_eq!(batch(&lines.join(&b'\n').into()).as_deref(), Ok(&*messages));
}
