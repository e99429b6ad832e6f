//! One file for each target.

pub(crate) mod clusters;
pub(crate) mod connecting;
pub(crate) mod envelopes;
pub(crate) mod filters;
pub(crate) mod frames;
pub(crate) mod longpoll;
pub(crate) mod metas;
pub(crate) mod patterns;
pub(crate) mod replication;
pub(crate) mod sessions;
pub(crate) mod terms;
pub(crate) mod tokens;
pub(crate) mod version_1;
pub(crate) mod version_2;

use adsum_channels::{Frame, Payload, fuzzing::frame_bytes, read_string};
use serde_json::value::RawValue;

/// The opcode's byte and the payload of a frame that the server writes, which has to be whole and unmasked.
pub(crate) fn message_of(frame: Frame) -> (u8, Vec<u8>) {
    let bytes = frame_bytes(frame);
    let [first, second, ..] = bytes[..] else { panic!("a frame has a header") };
    let (len, header) = match second {
        126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
        127 => (
            usize::try_from(u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes")))
                .expect("it is in memory"),
            10,
        ),
        short => (short.into(), 2),
    };
    assert_eq!(bytes.len(), header + len);
    (first, bytes[header..].to_vec())
}

/// The text of a JSON payload.
pub(crate) fn text_of(payload: &Payload) -> &str {
    match payload {
        Payload::Json(json) => std::str::from_utf8(json.as_bytes()).expect("JSON is UTF-8"),
        Payload::Binary(_) => panic!("a text message has a JSON payload"),
    }
}

/// An event: a JSON string, or else JSON text that stands for itself.
pub(crate) fn event_of(raw: &RawValue) -> String {
    read_string(raw.get()).map_or_else(|| raw.get().to_owned(), Into::into)
}
