//! Messages to a client: a small head of its own around a payload that other messages may share.

mod compression;

pub(crate) use self::compression::compress_parts;

use std::io::IoSlice;

use adsum_pubsub::{Compressed, Json};
use bytes::{Buf, Bytes};

use crate::rfc6455::frame::{self, Opcode, RSV1};

/// A message to a client, with the header of its WebSocket frame, in consecutive parts.
#[derive(Clone, Debug)]
pub struct Frame {
    head: Bytes,
    /// `None` if the head is the whole frame.
    rest: Option<Box<Rest>>,
}

/// The next action of a transport for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Send a text message.
    Text(Bytes),
    /// Send a binary message. A transport that carries only text skips it.
    Binary(Bytes),
    /// Send nothing. The client, which was not [ready](crate::Client::is_ready), may be read again.
    Nothing,
    /// Close, with this WebSocket close code if the transport has one, and then call [`end`](crate::Client::end).
    /// Nothing follows.
    Close(u16),
}

/// The payload and the tail of a long frame.
#[derive(Clone, Debug)]
struct Rest {
    payload: Shared,
    tail: Bytes,
}

/// A payload that other frames may share, in one part or in several.
#[derive(Clone, Debug)]
pub(crate) enum Shared {
    Bytes(Bytes),
    Json(Json),
    /// Compressed.
    Blocks(Box<[Bytes]>),
}

/// Maximum size of a payload that is copied: writing one part costs less than writing three.
const COPIED: usize = 1024;

impl Frame {
    /// Creates a text message. It must be UTF-8.
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self::spliced(Head::with_capacity(0), text.into(), Bytes::new())
    }

    /// Creates a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::spliced_binary(Head::with_capacity(0), bytes.into())
    }

    /// Creates a text message from the head, the payload and the tail.
    pub(crate) fn spliced<P: PayloadParts>(head: Head, payload: P, tail: Bytes) -> Self {
        Self::assembled(Opcode::Text, head, payload, tail)
    }

    /// Creates a binary message from the head and the payload.
    pub(crate) fn spliced_binary(head: Head, payload: Bytes) -> Self {
        Self::assembled(Opcode::Binary, head, payload, Bytes::new())
    }

    fn assembled<P: PayloadParts>(opcode: Opcode, mut head: Head, payload: P, tail: Bytes) -> Self {
        let rest = payload.len() + tail.len();
        let len = head.len() + rest;
        let first = opcode.whole();
        if rest <= COPIED {
            head.0.reserve_exact(rest);
            payload.parts().iter().chain([&tail]).for_each(|part| head.0.extend_from_slice(part));
            return Self::whole(head.finish(first, len));
        }
        Self { head: head.finish(first, len), rest: Some(Box::new(Rest { payload: payload.into(), tail })) }
    }

    /// Wraps a complete frame, such as a broadcast's, which all sockets share.
    pub(crate) fn whole(frame: Bytes) -> Self {
        Self { head: frame, rest: None }
    }

    /// The number of bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.payload.len() + rest.tail.len());
        self.head.len() + rest
    }

    /// The number of bytes that only this frame owns, and the buffers that other frames may share.
    pub(crate) fn buffers(&self) -> (usize, impl Iterator<Item = &Bytes>) {
        let own = if self.rest.is_some() { self.head.len() } else { 0 };
        (own, self.parts().skip(usize::from(own > 0)).filter(|part| !part.is_empty()))
    }

    fn parts(&self) -> impl Iterator<Item = &Bytes> {
        let rest = self.rest.iter().flat_map(|rest| rest.payload.parts().iter().chain([&rest.tail]));
        std::iter::once(&self.head).chain(rest)
    }

    /// The message without its WebSocket header. `None` if it is not a message but, for example, a close.
    pub(crate) fn into_message(self) -> Option<Outgoing> {
        const TEXT: u8 = Opcode::Text.whole();
        const BINARY: u8 = Opcode::Binary.whole();
        let bytes = self.into_bytes();
        let mut message = bytes.slice(bytes.len().min(frame::header_len(*bytes.get(1)?))..);
        if bytes[0] & RSV1 != 0 {
            message = compression::inflated(&message)?;
        }
        match bytes[0] & !RSV1 {
            TEXT => Some(Outgoing::Text(message)),
            BINARY => Some(Outgoing::Binary(message)),
            _ => None,
        }
    }

    /// The rest of the frame after its first `skip` bytes, without empty parts.
    pub(crate) fn slices(&self, skip: usize) -> impl Iterator<Item = IoSlice<'_>> {
        let mut skip = skip;
        self.parts().filter_map(move |part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            let rest = &part[skipped..];
            (!rest.is_empty()).then(|| IoSlice::new(rest))
        })
    }

    /// Joins the parts of the frame.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.rest.is_none() {
            return self.head;
        }
        let mut bytes = Vec::with_capacity(self.len());
        self.parts().for_each(|part| bytes.extend_from_slice(part));
        bytes.into()
    }
}

/// A payload that is shared only if it isn't copied.
pub(crate) trait PayloadParts: Into<Shared> {
    fn len(&self) -> usize;
    fn parts(&self) -> &[Bytes];
}

impl PayloadParts for Bytes {
    fn len(&self) -> usize {
        self.len()
    }

    fn parts(&self) -> &[Bytes] {
        std::slice::from_ref(self)
    }
}

impl PayloadParts for &Json {
    fn len(&self) -> usize {
        Json::len(self)
    }

    fn parts(&self) -> &[Bytes] {
        Json::parts(self)
    }
}

impl Shared {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Json(json) => json.len(),
            Self::Blocks(blocks) => blocks.iter().map(Bytes::len).sum(),
        }
    }

    fn parts(&self) -> &[Bytes] {
        match self {
            Self::Bytes(bytes) => std::slice::from_ref(bytes),
            Self::Json(json) => json.parts(),
            Self::Blocks(blocks) => blocks,
        }
    }

    /// The parts, each with the place of its compressed form if other messages share it.
    fn parts_and_slots(&self) -> impl Iterator<Item = (&Bytes, Option<&Compressed>)> {
        let compressed = match self {
            Self::Json(json) => json.compressed_parts(),
            Self::Bytes(_) | Self::Blocks(_) => &[],
        };
        self.parts().iter().zip(compressed.iter().map(Option::as_ref).chain(std::iter::repeat(None)))
    }
}

impl From<Bytes> for Shared {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&Json> for Shared {
    fn from(json: &Json) -> Self {
        Self::Json(json.clone())
    }
}

/// The bytes before a payload. The frame's header is written in front of it once the length is known.
pub(crate) struct Head(Vec<u8>);

impl Head {
    /// Maximum length of a header.
    const ROOM: usize = 10;

    /// A head of about this length.
    pub(crate) fn with_capacity(len: usize) -> Self {
        Self::before(len, 0)
    }

    /// A head of about this length before so many bytes. If they will be copied, there is room for them: if the lengths
    /// are exact, the frame is a single allocation.
    pub(crate) fn before(len: usize, rest: usize) -> Self {
        let copied = if rest <= COPIED { rest } else { 0 };
        let mut bytes = Vec::with_capacity(Self::ROOM + len + copied);
        bytes.resize(Self::ROOM, 0);
        Self(bytes)
    }

    /// Adds a byte.
    pub(crate) fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    /// Adds text without quoting it.
    pub(crate) fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// Adds a JSON string.
    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        serde_json::to_writer(&mut self.0, text).expect("encoding a string into memory never fails");
        self
    }

    fn len(&self) -> usize {
        self.0.len() - Self::ROOM
    }

    /// Writes the header of a frame with this first byte in front of the bytes.
    fn finish(mut self, first: u8, payload_len: usize) -> Bytes {
        let header = frame::header(first, payload_len);
        let start = Self::ROOM - header.len();
        self.0[start..Self::ROOM].copy_from_slice(&header);
        let mut bytes = Bytes::from(self.0);
        bytes.advance(start);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &str) -> Frame {
        let mut head = Head::with_capacity(4);
        head.raw("[").string("a\"b").raw(",");
        Frame::spliced(head, Bytes::copy_from_slice(payload.as_bytes()), Bytes::from_static(b"]"))
    }

    #[test]
    fn the_parts_are_one_text_frame() {
        assert_eq!(&frame("{}").into_bytes()[..], b"\x81\x0b[\"a\\\"b\",{}]");
        assert_eq!(frame("{}").len(), 13);
    }

    #[test]
    fn a_long_payload_is_shared() {
        let payload = Bytes::from("x".repeat(2000));
        let frame = Frame::text(payload.clone());
        assert!(frame.slices(0).any(|part| part.as_ptr() == payload.as_ptr()));
        assert_eq!(frame.into_message(), Some(Outgoing::Text(payload)));
    }

    #[test]
    fn parts_of_a_payload_are_shared_each_by_itself() {
        let parts = ["[", "1", &"2".repeat(2000), "]"].map(|part| Bytes::copy_from_slice(part.as_bytes()));
        let json = Json::from_encoded_parts(parts.clone());
        let frame = Frame::spliced(Head::with_capacity(0), &json, Bytes::from_static(b"]"));
        let (own, shared) = frame.buffers();
        assert_eq!(own, 4);
        let addresses = |part: &Bytes| part.as_ptr();
        assert!(shared.map(addresses).take(4).eq(parts.iter().map(addresses)));
        let whole = frame.clone().into_bytes();
        assert_eq!((frame.len(), whole.len()), (4 + 2003 + 1, 4 + 2003 + 1));
        for skip in 0..=whole.len() {
            let rest: Vec<u8> = frame.slices(skip).flat_map(|part| part.to_vec()).collect();
            assert_eq!(rest, whole[skip..]);
        }
        assert!(size_of::<Frame>() <= 40);
    }

    #[test]
    fn a_message_is_had_without_its_header() {
        for len in [0, 5, 125, 126, 65535, 65536] {
            let text = Bytes::from("a".repeat(len));
            assert_eq!(Frame::text(text.clone()).into_message(), Some(Outgoing::Text(text.clone())));
            assert_eq!(Frame::binary(text.clone()).into_message(), Some(Outgoing::Binary(text)));
        }
        assert_eq!(Frame::whole(frame::close(1000, "")).into_message(), None);
    }

    #[test]
    fn a_partial_write_goes_on_where_it_stopped() {
        for len in [2, 2000] {
            let frame = frame(&"x".repeat(len));
            let whole = frame.clone().into_bytes();
            for skip in 0..=whole.len() {
                let rest: Vec<u8> = frame.slices(skip).flat_map(|part| part.to_vec()).collect();
                assert_eq!(rest, whole[skip..]);
                assert!(frame.slices(skip).all(|part| !part.is_empty()));
            }
        }
    }
}
