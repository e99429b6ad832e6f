//! Frames of version 2 of the protocol, as a client reads and writes them.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};

/// The payload of a frame.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Json(Value),
    Binary(Bytes),
}

/// A frame from the server.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) join_ref: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) topic: String,
    pub(super) event: String,
    /// Of a reply alone.
    pub(super) status: Option<String>,
    pub(super) body: Body,
}

/// A frame from the client. Its text is both what is sent and what a failed test prints.
pub(super) fn text(
    join_ref: Option<&str>,
    reference: &str,
    topic: &str,
    event: &str,
    payload: &Value,
) -> String {
    json!([join_ref, reference, topic, event, payload]).to_string()
}

/// A binary push from the client.
pub(super) fn binary(join_ref: &str, reference: &str, topic: &str, event: &str, data: &[u8]) -> Vec<u8> {
    let head = [join_ref, reference, topic, event];
    let mut frame = vec![PUSH];
    frame.extend(head.map(|part| u8::try_from(part.len()).expect("a name in a binary frame fits 255 bytes")));
    for part in head {
        frame.extend_from_slice(part.as_bytes());
    }
    frame.extend_from_slice(data);
    frame
}

const PUSH: u8 = 0;
const REPLY: u8 = 1;

/// Reads a text frame. `None` if the server speaks something else than version 2.
pub(super) fn read_text(frame: &[u8]) -> Option<Frame> {
    let (join_ref, reference, topic, event, mut payload): (_, _, String, String, Value) =
        serde_json::from_slice(frame).ok()?;
    let is_reply = event == "phx_reply";
    let status = is_reply.then(|| payload["status"].as_str().unwrap_or_default().to_owned());
    let body = Body::Json(if is_reply { payload["response"].take() } else { payload });
    Some(Frame { join_ref, reference, topic, event, status, body })
}

/// Reads a binary frame.
pub(super) fn read_binary(frame: &Bytes) -> Option<Frame> {
    let kind = *frame.first()?;
    let names = match kind {
        PUSH => 3,
        REPLY => 4,
        _ => 2,
    };
    let mut start = 1 + names;
    let mut parts = Vec::new();
    for length in frame.get(1..start)? {
        let end = start + usize::from(*length);
        parts.push(std::str::from_utf8(frame.get(start..end)?).ok()?.to_owned());
        start = end;
    }
    let body = Body::Binary(frame.slice(start..));
    let mut parts = parts.into_iter();
    let join_ref = if names > 2 { parts.next() } else { None };
    let reference = if kind == REPLY { parts.next() } else { None };
    let (topic, last) = (parts.next()?, parts.next()?);
    let (event, status) = if kind == REPLY { ("phx_reply".to_owned(), Some(last)) } else { (last, None) };
    Some(Frame { join_ref, reference, topic, event, status, body })
}

/// How a failed test prints a binary frame.
pub(super) fn describe_binary(bytes: &[u8]) -> String {
    let mut text = format!("{} bytes:", bytes.len());
    for byte in bytes.iter().take(64) {
        match byte {
            b' '..=b'~' => text.push(char::from(*byte)),
            other => write!(text, "\\x{other:02x}").expect("a string takes all"),
        }
    }
    text
}
