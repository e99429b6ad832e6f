//! Encoding and decoding of messages.

mod v1;
mod v2;
mod v2_binary;

use std::{borrow::Cow, fmt, sync::Arc};

use adsum_pubsub::{
    EncodingId, Message, Payload,
    log::{cut_name, limited},
};
use bytes::Bytes;

pub use self::{v1::V1, v2::V2};
use crate::frame::Frame;

/// Decodes messages from clients and encodes messages to them, in one version of the protocol.
///
/// Versions 1 and 2 are built in: [`V1`] and [`V2`]. Add your own with
/// [`SocketBuilder::serializer`](crate::SocketBuilder::serializer), and configure phoenix.js with its options `vsn`,
/// `encode` and `decode`.
///
/// Refs and topics are passed as JSON text, `"3"` with its quotes or `null`, so that they return to the client
/// unchanged. [`read_string`] and [`write_string`] convert them. With any serializer, a ref of more than 64 bytes
/// closes the socket with 1011.
///
/// # Extending a version
///
/// A serializer that wraps a built-in one only implements the difference. A binary payload is broadcast under the name
/// of its event, also between nodes. So a version whose binary messages have another name, such as that of the user's
/// event, puts both into the event's name:
///
/// ```
/// # use adsum_channels as adsum;
/// use adsum::{
///     Address, BadMessage, ClientMessage, Frame, Message, Payload, Serializer, SocketBuilder, Unsendable, V2, Wire,
/// };
///
/// /// Version 2, and broadcasts of bytes as kind 4: `4 | topic event | names | data`.
/// struct UserEvents;
///
/// impl Serializer for UserEvents {
///     fn decode<'m>(&self, message: Wire<'m>) -> Result<ClientMessage<'m>, BadMessage> {
///         V2.decode(message)
///     }
///
///     fn push(&self, to: Address<'_>, event: &str, payload: &Payload) -> Result<Frame, Unsendable> {
///         V2.push(to, event, payload)
///     }
///
///     fn reply(&self, to: Address<'_>, status: &str, response: &Payload) -> Result<Frame, Unsendable> {
///         V2.reply(to, status, response)
///     }
///
///     fn broadcast(&self, message: &Message) -> Result<Frame, Unsendable> {
///         match (message.event().strip_prefix("user:"), message.payload()) {
///             (Some(event), Payload::Binary(data)) => {
///                 let len = |name: &str| u8::try_from(name.len()).map_err(|_| Unsendable::Other("too long".into()));
///                 let lens = [4, len(message.topic())?, len(event)?];
///                 let parts = [&lens[..], message.topic().as_bytes(), event.as_bytes(), data];
///                 Ok(Frame::binary(parts.concat()))
///             }
///             _ => V2.broadcast(message),
///         }
///     }
/// }
///
/// let socket = SocketBuilder::new(()).serializer(2, 0, UserEvents);
/// ```
pub trait Serializer: Send + Sync + 'static {
    /// Decodes a client's message.
    ///
    /// # Errors
    /// The message is malformed. The socket is closed with 1011, as in Phoenix.
    fn decode<'m>(&self, message: Wire<'m>) -> Result<ClientMessage<'m>, BadMessage>;

    /// Encodes an event of a channel for its client.
    ///
    /// # Errors
    /// The version can't encode it.
    fn push(&self, to: Address<'_>, event: &str, payload: &Payload) -> Result<Frame, Unsendable>;

    /// Encodes the reply to a client's event.
    ///
    /// # Errors
    /// The version can't encode it.
    fn reply(&self, to: Address<'_>, status: &str, response: &Payload) -> Result<Frame, Unsendable>;

    /// Encodes a broadcast, once for all sockets of the version.
    ///
    /// # Errors
    /// The version can't encode it.
    fn broadcast(&self, message: &Message) -> Result<Frame, Unsendable>;
}

/// An encoded message of a client.
#[derive(Clone, Copy, Debug)]
pub enum Wire<'m> {
    /// Text. The serializer checks whether it is UTF-8.
    Text(&'m [u8]),
    /// Bytes.
    Binary(&'m [u8]),
}

/// The address of a message to a client. All parts are JSON text.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// The ref of the join, or `null`.
    pub join_ref: &'a str,
    /// The ref of the message that this replies to, or `null`.
    pub reference: &'a str,
    /// The topic.
    pub topic: &'a str,
}

/// A client's message.
#[derive(Debug)]
pub struct ClientMessage<'m> {
    /// The JSON text of the ref of the message's join, or `null`.
    pub join_ref: Cow<'m, str>,
    /// The JSON text of the ref for the reply, or `null`.
    pub reference: Cow<'m, str>,
    /// The topic's JSON text. A topic that isn't a string is unmatched.
    pub topic: Cow<'m, str>,
    /// The event.
    pub event: Cow<'m, str>,
    /// The payload.
    pub payload: Payload,
}

/// A malformed message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadMessage {
    /// It isn't JSON, or its parts are missing or of the wrong type.
    #[error("not a message of this version of the protocol")]
    Json(#[from] serde_json::Error),
    /// Text that isn't UTF-8.
    #[error("not UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    /// Anything else.
    #[error("{0}")]
    Other(Cow<'static, str>),
}

/// A message that a version of the protocol can't encode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// The payload is binary, and the version carries JSON only.
    #[error("the payload is binary, which version {version} of the protocol can't carry")]
    Binary {
        /// The version.
        version: &'static str,
    },
    /// A name is too long for a binary frame, where its length is one byte.
    #[error("the {name} is {len} bytes long; the maximum in a binary frame is 255")]
    TooLong {
        /// The kind of name, such as `topic`.
        name: &'static str,
        /// Its length.
        len: usize,
    },
    /// Anything else.
    #[error("{0}")]
    Other(Cow<'static, str>),
}

/// Parses a JSON text as a string. `None` if it is anything else.
pub fn read_string(text: &str) -> Option<Cow<'_, str>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    // Without an escape the text between the quotes is the string.
    if inner.contains('\\') { serde_json::from_str(text).ok().map(Cow::Owned) } else { Some(inner.into()) }
}

/// Encodes a string as JSON text.
pub fn write_string(string: &str) -> String {
    serde_json::to_string(string).expect("a string can be encoded as JSON")
}

/// A serializer and its version, and whether its messages are compressed.
pub(crate) struct Codec {
    major: u64,
    minor: u64,
    /// Identifies its encoding of broadcasts.
    id: EncodingId,
    serializer: Arc<dyn Serializer>,
    compression: Option<Compression>,
}

/// The codec of clients that agreed on compression. It is shared by all of them, so a socket keeps nothing for it.
struct Compression {
    /// Identifies the compressed encoding of broadcasts.
    id: EncodingId,
    /// The largest payload that isn't compressed.
    over: usize,
}

/// Maximum size of a message that is compressed while its client's queue is locked. It takes some 0.05 ms.
const COMPRESSED_IN_LOCK: usize = 8 * 1024;

impl Codec {
    pub(crate) fn new(major: u64, minor: u64, serializer: impl Serializer) -> Arc<Self> {
        let serializer = Arc::new(serializer);
        Arc::new(Self { major, minor, id: EncodingId::unique(), serializer, compression: None })
    }

    /// The codec of the same version that compresses payloads of more than `over` bytes.
    pub(crate) fn compressing(&self, over: usize) -> Arc<Self> {
        let Self { major, minor, id, ref serializer, .. } = *self;
        let compression = Some(Compression { id: EncodingId::unique(), over });
        Arc::new(Self { major, minor, id, serializer: serializer.clone(), compression })
    }

    /// Whether it is the same version as another codec.
    pub(crate) fn is_version_of(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// Whether its clients agreed on compression.
    pub(crate) fn compresses(&self) -> bool {
        self.compression.is_some()
    }

    /// Whether a payload of this length is compressed.
    pub(crate) fn compresses_len(&self, len: usize) -> bool {
        self.compression.as_ref().is_some_and(|compression| len > compression.over)
    }

    /// Whether it is the version of a `vsn` parameter, such as `2.0.0`. The last number is ignored.
    pub(crate) fn speaks(&self, vsn: &str) -> bool {
        let mut numbers = vsn.split('.').map(|number| number.parse::<u64>().ok());
        let asked = [numbers.next(), numbers.next(), numbers.next()].map(Option::flatten);
        matches!(asked, [Some(major), Some(minor), Some(_)] if (major, minor) == (self.major, self.minor))
            && numbers.next().is_none()
    }

    pub(crate) fn decode<'m>(&self, message: Wire<'m>) -> Result<ClientMessage<'m>, BadMessage> {
        self.serializer.decode(message)
    }

    /// The frame of an event for one client.
    pub(crate) fn push(&self, to: Address<'_>, event: &str, payload: &Payload) -> Result<Frame, Unsendable> {
        let frame = self.serializer.push(to, event, payload)?;
        Ok(self.compress(frame, payload))
    }

    /// As [`push`](Self::push), while the client's queue is locked: of a large payload, only those parts are compressed
    /// that were compressed before.
    pub(crate) fn push_in_lock(
        &self,
        to: Address<'_>,
        event: &str,
        payload: &Payload,
    ) -> Result<Frame, Unsendable> {
        let frame = self.serializer.push(to, event, payload)?;
        Ok(self.compress_in_lock(frame, payload))
    }

    /// The frame of the reply to a client's event.
    pub(crate) fn reply(
        &self,
        to: Address<'_>,
        status: &str,
        response: &Payload,
    ) -> Result<Frame, Unsendable> {
        let frame = self.serializer.reply(to, status, response)?;
        Ok(self.compress(frame, response))
    }

    /// The frame of a broadcast, encoded at the first call and then shared. `None` if it can't be encoded.
    pub(crate) fn broadcast(&self, message: &Message) -> Option<Frame> {
        if let Some(compression) = self.compression.as_ref().filter(|c| message.payload().len() > c.over) {
            let compressed = message.encoded(compression.id, |message| {
                let frame = self.serializer.broadcast(message).ok().and_then(|frame| frame.compressed());
                // No frame is empty, so this means `None`: it is sent as it is.
                frame.map_or_else(Bytes::new, Frame::into_bytes)
            });
            if !compressed.is_empty() {
                return Some(Frame::whole(compressed.clone()));
            }
        }
        let bytes = message.encoded(self.id, |message| {
            self.encode_broadcast(message).map_or_else(Bytes::new, Frame::into_bytes)
        });
        (!bytes.is_empty()).then(|| Frame::whole(bytes.clone()))
    }

    /// The frame of a broadcast that only one client gets, while its queue is locked. `None` if it can't be encoded.
    pub(crate) fn broadcast_in_lock(&self, message: &Message) -> Option<Frame> {
        let frame = self.encode_broadcast(message)?;
        Some(self.compress_in_lock(frame, message.payload()))
    }

    fn encode_broadcast(&self, message: &Message) -> Option<Frame> {
        self.serializer
            .broadcast(message)
            .inspect_err(|error| {
                let (topic, event) = (cut_name(message.topic()), cut_name(message.event()));
                limited!(WARN, %topic, %event, %error, "could not send a broadcast to clients of this version");
            })
            .ok()
    }

    fn compress(&self, frame: Frame, payload: &Payload) -> Frame {
        if self.compresses_len(payload.len()) { frame.compressed().unwrap_or(frame) } else { frame }
    }

    fn compress_in_lock(&self, frame: Frame, payload: &Payload) -> Frame {
        if !self.compresses_len(payload.len()) {
            return frame;
        }
        let compressed = if frame.len() <= COMPRESSED_IN_LOCK {
            frame.compressed()
        } else {
            frame.with_compressed_parts()
        };
        compressed.unwrap_or(frame)
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.compresses() { ", compressing" } else { "" };
        write!(f, "Codec({}.{}{suffix})", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use adsum_pubsub::Json;

    use super::*;

    #[test]
    fn versions_are_matched_but_for_their_last_number() {
        let two = Codec::new(2, 0, V2);
        assert!(two.speaks("2.0.0"));
        assert!(two.speaks("2.0.7"));
        for vsn in ["1.0.0", "9.0.0", "2", "2.0", "2.", "2.x.0", "2.1.0", "20.0.0", "2.0.0.0", ""] {
            assert!(!two.speaks(vsn), "{vsn:?}");
        }
    }

    #[test]
    fn a_broadcast_is_encoded_once_for_each_version() {
        let (one, two) = (Codec::new(1, 0, V1), Codec::new(2, 0, V2));
        let message = Message::new("t\"", "e", Payload::Json(Json::empty_object()));
        let first = two.broadcast(&message).unwrap().into_bytes();
        let other = one.broadcast(&message).unwrap().into_bytes();
        let second = two.broadcast(&message).unwrap().into_bytes();
        assert_eq!(&first[2..], br#"[null,null,"t\"","e",{}]"#);
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_ne!(first.as_ptr(), other.as_ptr());
        let binary = Message::new("t", "e", Payload::Binary(Bytes::from_static(b"x")));
        assert!(one.broadcast(&binary).is_none());
        assert!(two.broadcast(&binary).is_some());
    }

    #[test]
    fn strings_are_read_and_written_as_json() {
        assert_eq!(read_string(r#""a\u0062""#).as_deref(), Some("ab"));
        assert_eq!(read_string(&write_string("a\"\n")).as_deref(), Some("a\"\n"));
        for text in ["null", "3", "\"", "[]", r#""\ud800""#] {
            assert_eq!(read_string(text), None, "{text}");
        }
    }
}
