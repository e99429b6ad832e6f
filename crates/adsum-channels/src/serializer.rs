//! How frames are written and read.

mod v2;

use std::{borrow::Cow, sync::LazyLock};

use adsum_pubsub::{EncodingId, Json, Message, Payload};
use bytes::Bytes;
use serde_json::value::RawValue;

use crate::frame::Frame;

/// The longest ref, in bytes of its JSON text. Clients count up from 1.
pub(crate) const MAX_REF_BYTES: usize = 64;

/// The serializer that a client has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serializer {
    /// `[join_ref, ref, topic, event, payload]`.
    V2,
}

impl Serializer {
    /// The serializer of a `vsn` parameter; none for a version that isn't spoken here.
    pub(crate) fn of_version(vsn: &str) -> Option<Self> {
        let (major, rest) = vsn.split_once('.')?;
        let numeric = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        (major == "2" && numeric).then_some(Self::V2)
    }

    /// Reads a text frame.
    pub(crate) fn decode(self, text: &[u8]) -> Result<ClientFrame<'_>, BadFrame> {
        match self {
            Self::V2 => v2::decode(text),
        }
    }

    /// An event of a channel to its client.
    pub(crate) fn push(self, to: Address<'_>, event: &str, payload: &Json) -> Frame {
        match self {
            Self::V2 => v2::push(to, event, payload),
        }
    }

    /// An answer to a client's event.
    pub(crate) fn reply(self, to: Address<'_>, status: &str, response: &Json) -> Frame {
        match self {
            Self::V2 => v2::reply(to, status, response),
        }
    }

    /// A broadcast's frame, encoded by the first socket that asks and shared by all others.
    pub(crate) fn broadcast(self, message: &Message) -> Result<Frame, BinaryPayload> {
        static V2: LazyLock<EncodingId> = LazyLock::new(EncodingId::unique);
        let payload = text_payload(message.payload())?;
        let bytes: &Bytes = match self {
            Self::V2 => message.encoded(*V2, |message| v2::broadcast(message, payload).into_bytes()),
        };
        Ok(Frame::whole(bytes.clone()))
    }
}

/// Where a frame to a client belongs. All parts are JSON text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address<'a> {
    pub(crate) join_ref: &'a str,
    pub(crate) reference: &'a str,
    pub(crate) topic: &'a str,
}

/// A client's frame.
#[derive(Debug)]
pub(crate) struct ClientFrame<'f> {
    /// The JSON text of the ref of the join that this frame belongs to, or `null`.
    pub(crate) join_ref: &'f str,
    /// The JSON text of the ref that its reply will carry.
    pub(crate) reference: &'f str,
    /// The topic; none where it isn't a string.
    pub(crate) topic: Option<Cow<'f, str>>,
    /// The topic's JSON text, to be sent back as it came.
    pub(crate) topic_text: &'f str,
    /// The event; where it isn't a string, its JSON text, which no event of the protocol looks like.
    pub(crate) event: Cow<'f, str>,
    pub(crate) payload: &'f RawValue,
}

/// A frame that nobody can make sense of. Its socket is closed, as Phoenix does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("not an array of join_ref, ref, topic, event and payload: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("not UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    #[error("a ref is longer than {MAX_REF_BYTES} bytes")]
    LongRef,
}

/// Bytes where only JSON can be sent.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the payload is binary, and only JSON can be sent to a client")]
pub(crate) struct BinaryPayload;

/// The JSON of a payload that goes to a client. Every payload passes here.
pub(crate) fn text_payload(payload: &Payload) -> Result<&Json, BinaryPayload> {
    match payload {
        Payload::Json(json) => Ok(json),
        Payload::Binary(_) => Err(BinaryPayload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_two_is_spoken() {
        assert_eq!(Serializer::of_version("2.0.0"), Some(Serializer::V2));
        for vsn in ["1.0.0", "9.0.0", "2", "2.", "2.x", "20.0.0", ""] {
            assert_eq!(Serializer::of_version(vsn), None, "{vsn:?}");
        }
    }

    #[test]
    fn a_broadcast_is_encoded_once() {
        let message = Message::new("t\"", "e", Payload::Json(Json::empty_object()));
        let first = Serializer::V2.broadcast(&message).unwrap().into_bytes();
        let second = Serializer::V2.broadcast(&message).unwrap().into_bytes();
        assert_eq!(&first[2..], br#"[null,null,"t\"","e",{}]"#);
        assert_eq!(first.as_ptr(), second.as_ptr());
        let binary = Message::new("t", "e", Payload::Binary(Bytes::from_static(b"x")));
        assert!(Serializer::V2.broadcast(&binary).is_err());
    }
}
