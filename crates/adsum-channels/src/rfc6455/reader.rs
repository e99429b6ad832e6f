//! Decodes a client's frames from chunks of any size.
//!
//! Pass each chunk that was read to [`Reader::feed`], then call [`next`](Reader::next) until it returns `None`. Read
//! chunks into a shared buffer: the reader copies a chunk once, and an idle reader has no buffer.

#[cfg(test)]
mod tests;
mod utf8;

use std::mem;

use bytes::{Buf, Bytes, BytesMut};

use self::utf8::Utf8;
use super::{
    deflate::Inflater,
    error::ProtocolError,
    frame::{MAX_CONTROL_PAYLOAD, Opcode, RSV1},
};

/// A message or control frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A whole text message: valid UTF-8.
    Text(Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// A ping. Answer it with a pong with this payload.
    Ping(Bytes),
    /// A pong, solicited or not, with its payload.
    Pong(Bytes),
    /// The client closes. Nothing is decoded after it.
    Close { code: Option<u16>, reason: String },
}

/// Decodes the bytes of a client.
///
/// It buffers at most one message of the maximum size, and the last chunk. While a compressed message is incomplete, it
/// has an inflater beside it.
#[derive(Debug)]
pub(crate) struct Reader {
    max_message_bytes: usize,
    /// Whether messages may be compressed.
    inflates: bool,
    /// Bytes that are not decoded yet, starting with the payload of `frame`.
    input: BytesMut,
    /// The frame whose payload is incomplete.
    frame: Option<IncomingFrame>,
    /// The message that is incomplete.
    message: Option<PartialMessage>,
    /// The number of frame headers since the last call of `take_frames`.
    frames: u32,
    /// The number of bytes by which compressed messages have grown since the last call of `take_inflated`.
    inflated: u32,
    /// Messages are read past, neither kept nor inflated.
    skips: bool,
    /// Set after a close or an error: nothing more is decoded.
    ended: bool,
}

impl Reader {
    /// Creates a reader that refuses messages of more than `max_message_bytes`, and compressed ones unless `inflates`.
    pub(crate) fn new(max_message_bytes: usize, inflates: bool) -> Self {
        Self {
            max_message_bytes,
            inflates,
            input: BytesMut::new(),
            frame: None,
            message: None,
            frames: 0,
            inflated: 0,
            skips: false,
            ended: false,
        }
    }

    /// From now on, messages are read past, at hardly any cost: each is an empty one.
    pub(crate) fn skip_messages(&mut self) {
        self.skips = true;
        if let Some(message) = &mut self.message {
            *message = PartialMessage::skipped();
        }
        if let Some(frame) = self.frame.as_mut().filter(|frame| !frame.opcode.is_control()) {
            frame.arrived = 0;
        }
    }

    /// Adds bytes from the client. Drops them after a close or an error.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if !self.ended {
            let frame_len = self.frame.map_or(0, |frame| frame.len);
            append(&mut self.input, bytes, frame_len);
        }
    }

    /// Decodes the next message or control frame. Returns `None` if it is incomplete, and after a close or an error.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        if self.ended {
            return Ok(None);
        }
        let next = self.read();
        if matches!(next, Err(_) | Ok(Some(Incoming::Close { .. }))) {
            *self = Self { ended: true, ..Self::new(self.max_message_bytes, false) };
        } else if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        next
    }

    /// Whether a message or a frame is incomplete.
    pub(crate) fn is_amid(&self) -> bool {
        self.frame.is_some() || self.message.is_some() || !self.input.is_empty()
    }

    /// Returns the number of frames that began since the last call.
    pub(crate) fn take_frames(&mut self) -> usize {
        mem::take(&mut self.frames) as usize
    }

    /// Returns by how many bytes the inflated messages are larger than they arrived, since the last call.
    pub(crate) fn take_inflated(&mut self) -> usize {
        mem::take(&mut self.inflated) as usize
    }

    /// The capacity of its buffers.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        self.input.capacity() + self.message.as_ref().map_or(0, PartialMessage::held)
    }

    fn read(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.read_header()? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let arrived = frame.len.min(self.input.len());
            let fresh = &mut self.input[frame.arrived..arrived];
            unmask(fresh, frame.mask, frame.arrived);
            if let Some(message) = self.message.as_mut().filter(|_| !frame.opcode.is_control()) {
                if self.skips || matches!(message.data, Data::Deflated(_)) {
                    let grown = message.inflate(fresh, self.max_message_bytes)?;
                    self.inflated = self.inflated.saturating_add(grown);
                    // Inflated or skipped as they arrive, so the bytes of the frame aren't gathered.
                    self.input.advance(arrived);
                    frame.skip(arrived);
                    if frame.len > 0 {
                        self.frame = Some(frame);
                        return Ok(None);
                    }
                    if frame.fin {
                        let message = self.message.take().expect("it was there just now");
                        return message.finish(self.max_message_bytes).map(Some);
                    }
                    continue;
                }
                message.check(fresh)?;
            }
            frame.arrived = arrived;
            if arrived < frame.len {
                self.frame = Some(frame);
                return Ok(None);
            }
            let payload = self.input.split_to(frame.len);
            match frame.opcode {
                Opcode::Ping => return Ok(Some(Incoming::Ping(payload.freeze()))),
                Opcode::Pong => return Ok(Some(Incoming::Pong(payload.freeze()))),
                Opcode::Close => return read_close(&payload).map(Some),
                Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                    let mut message = self.message.take().expect("a data frame's header opens a message");
                    message.push(payload, self.max_message_bytes);
                    if frame.fin {
                        return message.finish(self.max_message_bytes).map(Some);
                    }
                    self.message = Some(message);
                }
            }
        }
    }

    /// Decodes a header once it is complete. An invalid header is refused at its first invalid byte.
    fn read_header(&mut self) -> Result<Option<IncomingFrame>, ProtocolError> {
        let Some(&first) = self.input.first() else { return Ok(None) };
        let is_deflated = first & RSV1 != 0;
        if first & 0x70 & !RSV1 != 0 || is_deflated && !self.inflates {
            return Err(ProtocolError::ReservedBits);
        }
        let fin = first & 0x80 != 0;
        let bits = first & 0x0f;
        let opcode = Opcode::from_bits(bits).ok_or(ProtocolError::ReservedOpcode(bits))?;
        match (opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(ProtocolError::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(ProtocolError::Unfinished),
            _ if opcode.is_control() && !fin => return Err(ProtocolError::FragmentedControl),
            // Only the first frame of a message says that it is compressed.
            _ if is_deflated && !matches!(opcode, Opcode::Text | Opcode::Binary) => {
                return Err(ProtocolError::ReservedBits);
            }
            _ => {}
        }

        let Some(&second) = self.input.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(ProtocolError::Unmasked);
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL_PAYLOAD {
            return Err(ProtocolError::LongControl);
        }
        let after = &self.input[2..];
        let (len, len_bytes, least) = match short {
            126 => match after.first_chunk() {
                Some(len) => (u64::from(u16::from_be_bytes(*len)), 2, 126),
                None => return Ok(None),
            },
            127 => match after.first_chunk() {
                Some(len) => (u64::from_be_bytes(*len), 8, 0x1_0000),
                None => return Ok(None),
            },
            short => (u64::from(short), 0, 0),
        };
        if len >> 63 != 0 {
            return Err(ProtocolError::LengthTopBit);
        }
        if len < least {
            return Err(ProtocolError::LengthNotMinimal);
        }
        // A compressed message is bounded as it is inflated; of one that is skipped nothing is held.
        let held = match &self.message {
            None => (!is_deflated).then_some(0),
            Some(PartialMessage { data: Data::Plain(data), .. }) => Some(data.len()),
            Some(PartialMessage { data: Data::Deflated(_), .. }) => None,
        };
        let held = held.filter(|_| !self.skips);
        if !opcode.is_control() && held.is_some_and(|held| len > (self.max_message_bytes - held) as u64) {
            return Err(ProtocolError::TooBig { max: self.max_message_bytes });
        }

        let Some(&mask) = after[len_bytes..].first_chunk() else { return Ok(None) };
        self.input.advance(2 + len_bytes + mask.len());
        self.frames += 1;
        if matches!(opcode, Opcode::Text | Opcode::Binary) {
            let text = (opcode == Opcode::Text).then(Utf8::default);
            self.message = Some(if self.skips {
                PartialMessage::skipped()
            } else if is_deflated {
                PartialMessage { text, data: Data::Deflated(Box::new(Inflater::new())) }
            } else {
                PartialMessage { text, data: Data::Plain(BytesMut::new()) }
            });
        }
        Ok(Some(IncomingFrame { opcode, fin, len: len as usize, mask, arrived: 0 }))
    }
}

/// A frame whose header is decoded.
#[derive(Clone, Copy, Debug)]
struct IncomingFrame {
    opcode: Opcode,
    fin: bool,
    /// The length of its payload, or of what is left of it.
    len: usize,
    mask: [u8; 4],
    /// The length of the payload that has arrived, unmasked and checked.
    arrived: usize,
}

impl IncomingFrame {
    /// Shortens the payload by its first bytes.
    fn skip(&mut self, bytes: usize) {
        self.len -= bytes;
        self.mask.rotate_left(bytes % 4);
    }
}

/// A message whose last frame has not arrived.
#[derive(Debug)]
struct PartialMessage {
    /// Validates a text. `None` for a binary message.
    text: Option<Utf8>,
    data: Data,
}

/// The data of a message.
#[derive(Debug)]
enum Data {
    Plain(BytesMut),
    /// Boxed, since most messages aren't compressed.
    Deflated(Box<Inflater>),
}

impl PartialMessage {
    /// A message of which nothing is kept.
    fn skipped() -> Self {
        Self { text: None, data: Data::Plain(BytesMut::new()) }
    }

    fn check(&mut self, fresh: &[u8]) -> Result<(), ProtocolError> {
        check(&mut self.text, fresh)
    }

    /// Adds the payload of a frame of a message that isn't compressed.
    fn push(&mut self, payload: BytesMut, max: usize) {
        match &mut self.data {
            Data::Plain(data) if data.is_empty() => *data = payload,
            Data::Plain(data) => append(data, &payload, max),
            Data::Deflated(_) => debug_assert!(false, "its bytes are taken as they arrive"),
        }
    }

    /// Adds bytes of a compressed message. Returns by how many bytes they have grown.
    fn inflate(&mut self, bytes: &[u8], max: usize) -> Result<u32, ProtocolError> {
        let Data::Deflated(inflater) = &mut self.data else { return Ok(0) };
        let before = inflater.len();
        inflater.push(bytes, max, |inflated| check(&mut self.text, inflated))?;
        let grown = (inflater.len() - before).saturating_sub(bytes.len());
        Ok(u32::try_from(grown).unwrap_or(u32::MAX))
    }

    fn finish(self, max: usize) -> Result<Incoming, ProtocolError> {
        let data = match self.data {
            Data::Plain(data) => data.freeze(),
            Data::Deflated(inflater) => inflater.finish(max)?,
        };
        match self.text {
            None => Ok(Incoming::Binary(data)),
            Some(utf8) if utf8.is_whole() => Ok(Incoming::Text(data)),
            Some(_) => Err(ProtocolError::Utf8),
        }
    }

    /// The capacity of its buffer.
    #[cfg(any(test, fuzzing))]
    fn held(&self) -> usize {
        match &self.data {
            Data::Plain(data) => data.capacity(),
            Data::Deflated(inflater) => inflater.held(),
        }
    }
}

fn check(text: &mut Option<Utf8>, fresh: &[u8]) -> Result<(), ProtocolError> {
    let valid = text.as_mut().is_none_or(|utf8| utf8.push(fresh));
    if valid { Ok(()) } else { Err(ProtocolError::Utf8) }
}

fn read_close(payload: &[u8]) -> Result<Incoming, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        let nothing = Incoming::Close { code: None, reason: String::new() };
        return if payload.is_empty() { Ok(nothing) } else { Err(ProtocolError::HalfCloseCode) };
    };
    let code = u16::from_be_bytes(*code);
    // 1004 to 1006 and 1015 are never sent; the others up to 2999 are unassigned.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::CloseCode(code));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::Utf8)?;
    Ok(Incoming::Close { code: Some(code), reason: reason.to_owned() })
}

/// Unmasks bytes that begin at `offset` of their payload.
fn unmask(piece: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = piece.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(wide.to_ne_bytes()) {
        *byte ^= mask;
    }
}

/// Appends bytes. The capacity grows by doubling, up to `limit`, so an announced length alone allocates nothing.
fn append(buffer: &mut BytesMut, bytes: &[u8], limit: usize) {
    let len = buffer.len() + bytes.len();
    if len > buffer.capacity() {
        let mut grown = BytesMut::with_capacity(len.max(limit.min(2 * len)));
        grown.extend_from_slice(buffer);
        *buffer = grown;
    }
    buffer.extend_from_slice(bytes);
}
