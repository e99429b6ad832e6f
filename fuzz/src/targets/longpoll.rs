//! The body of a post. Its messages are no more than the body holds and no more than a hundred, and a body
//! written from them is read the same.

use adsum_channels::fuzzing::{Sent, longpoll_batch};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

const MAX_BATCH: usize = 100;

/// Input: a body.
pub(crate) fn run(data: &[u8]) {
    let Some(batch) = longpoll_batch(&Bytes::copy_from_slice(data)) else { return };
    assert!(batch.len() <= MAX_BATCH);
    let lines = batch.iter().map(|sent| match sent {
        Sent::Text(text) => {
            assert!(text.starts_with(b"[") || text.starts_with(b"{"));
            text.to_vec()
        }
        Sent::Binary(bytes) => STANDARD.encode(bytes).into_bytes(),
        other => panic!("no message of a body is {other:?}"),
    });
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().map(Vec::len).sum::<usize>() <= data.len());
    assert_eq!(longpoll_batch(&lines.join(&b'\n').into()), Some(batch));
}
