//! The fuzz targets of what reads input from clients, and the parts whose instructions are counted.
//!
//! A target is a function of bytes that panics if a property doesn't hold. It is here, and not beside the other targets,
//! if it needs private items. This module exists only with `--cfg fuzzing`, and is not public API.

mod compressing;
mod connecting;
mod frames;
mod longpoll;
mod sessions;
mod terms;
mod version_1;
mod version_2;

use serde_json::value::RawValue;

pub use self::{
    compressing::compressing,
    connecting::connecting,
    frames::{frames, inflating},
    longpoll::longpoll,
    sessions::sessions,
    terms::terms,
    version_1::version_1,
    version_2::version_2,
};
use crate::{
    frame::{Frame, Outgoing},
    rfc6455::reader::Reader,
    serializer::read_string,
};

/// Decodes a client's frames, and returns the number of messages.
pub fn count_messages(stream: &[u8]) -> usize {
    let mut reader = Reader::new(64 * 1024, false);
    reader.feed(stream);
    std::iter::from_fn(|| reader.next().expect("the frames are valid")).count()
}

/// The text of a frame that the server writes.
fn text(frame: Frame) -> Vec<u8> {
    match message(frame) {
        Outgoing::Text(text) => text.into(),
        other => panic!("a text is written, not {other:?}"),
    }
}

/// The bytes of a binary frame that the server writes.
fn binary(frame: Frame) -> Vec<u8> {
    match message(frame) {
        Outgoing::Binary(bytes) => bytes.into(),
        other => panic!("bytes are written, not {other:?}"),
    }
}

/// The message of a frame that the server writes, whose header must fit it.
fn message(frame: Frame) -> Outgoing {
    let bytes = frame.clone().into_bytes();
    let [_, second, ..] = bytes[..] else { panic!("a frame has a header") };
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
    frame.into_message().expect("it is a message")
}

/// The text of a JSON payload.
fn text_of(payload: &adsum_pubsub::Payload) -> &str {
    match payload {
        adsum_pubsub::Payload::Json(json) => std::str::from_utf8(json.as_bytes()).expect("JSON is UTF-8"),
        adsum_pubsub::Payload::Binary(_) => panic!("a text message has a JSON payload"),
    }
}

/// An event: a JSON string, or else JSON text that stands for itself.
fn event_of(raw: &RawValue) -> String {
    read_string(raw.get()).map_or_else(|| raw.get().to_owned(), Into::into)
}
