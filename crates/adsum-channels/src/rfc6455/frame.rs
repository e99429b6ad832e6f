//! Encodes frames. A server's frames have no mask, so sockets share one encoding.

use std::ops::Deref;

use bytes::{BufMut, Bytes, BytesMut};

/// Maximum size of the payload of a ping, a pong or a close.
pub(crate) const MAX_CONTROL_PAYLOAD: usize = 125;

/// Marks the first frame of a compressed message.
pub(crate) const RSV1: u8 = 0x40;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    /// The opcode of these four bits, unless they are reserved.
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// The first byte of a frame that is a whole message.
    pub(crate) const fn whole(self) -> u8 {
        0x80 | self as u8
    }

    /// Whether the frame is a control frame, not part of a message.
    pub(crate) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The header of an unfragmented frame: two to ten bytes, stored inline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    bytes: [u8; 10],
    len: u8,
}

impl Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Makes the header with this first byte for a payload of `payload_len` bytes.
pub(crate) fn header(first: u8, payload_len: usize) -> Header {
    let mut bytes = [0; 10];
    bytes[0] = first;
    let len = if payload_len <= 125 {
        bytes[1] = payload_len as u8;
        2
    } else if let Ok(short) = u16::try_from(payload_len) {
        bytes[1] = 126;
        bytes[2..4].copy_from_slice(&short.to_be_bytes());
        4
    } else {
        bytes[1] = 127;
        bytes[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
        10
    };
    Header { bytes, len }
}

/// The length of a header without a mask, by its second byte.
pub(crate) fn header_len(second_byte: u8) -> usize {
    match second_byte {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// Makes a ping. The answer has the same payload.
pub(crate) fn ping(payload: [u8; 4]) -> Bytes {
    frame(Opcode::Ping, &payload)
}

/// Makes the answer to a ping, with the ping's payload.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    debug_assert!(payload.len() <= MAX_CONTROL_PAYLOAD, "a ping's payload is short");
    frame(Opcode::Pong, payload)
}

/// Makes a close frame. A reason longer than 123 bytes is truncated between two characters.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let code = code.to_be_bytes();
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - code.len())];
    assemble(Opcode::Close, &code, reason.as_bytes())
}

fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    assemble(opcode, payload, &[])
}

fn assemble(opcode: Opcode, first: &[u8], second: &[u8]) -> Bytes {
    let payload_len = first.len() + second.len();
    let header = header(opcode.whole(), payload_len);
    let mut frame = BytesMut::with_capacity(header.len() + payload_len);
    frame.put_slice(&header);
    frame.put_slice(first);
    frame.put_slice(second);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_written_in_the_fewest_bytes() {
        assert_eq!(*header(Opcode::Text.whole(), 0), [0x81, 0]);
        assert_eq!(*header(Opcode::Text.whole(), 125), [0x81, 125]);
        assert_eq!(*header(Opcode::Binary.whole(), 126), [0x82, 126, 0, 126]);
        assert_eq!(*header(Opcode::Binary.whole(), 65_535), [0x82, 126, 0xff, 0xff]);
        assert_eq!(*header(Opcode::Text.whole(), 65_536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn frames_are_whole_and_unmasked() {
        assert_eq!(&frame(Opcode::Text, b"Hello")[..], b"\x81\x05Hello");
        assert_eq!(&frame(Opcode::Binary, &[0xff])[..], b"\x82\x01\xff");
        assert_eq!(&pong(b"Hello")[..], b"\x8a\x05Hello");
        assert_eq!(&ping(*b"abcd")[..], b"\x89\x04abcd");
        let long = frame(Opcode::Text, &[b'a'; 300]);
        assert_eq!((&long[..4], long.len()), (&[0x81, 126, 1, 44][..], 304));
    }

    #[test]
    fn a_close_carries_its_code_and_reason() {
        assert_eq!(&close(1000, "")[..], b"\x88\x02\x03\xe8");
        assert_eq!(&close(1012, "drain")[..], b"\x88\x07\x03\xf4drain");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let fits = "a".repeat(123);
        assert_eq!(&close(1000, &fits)[4..], fits.as_bytes());
        // The two bytes of the é would be the 123rd and 124th.
        let cut = close(1000, &format!("{}é and more", "a".repeat(122)));
        assert_eq!(cut[1], 124);
        assert_eq!(&cut[4..], "a".repeat(122).as_bytes());
    }

    #[test]
    fn every_opcode_is_known_by_its_bits() {
        let known: Vec<u8> = (0..16).filter(|&bits| Opcode::from_bits(bits).is_some()).collect();
        assert_eq!(known, [0, 1, 2, 8, 9, 10]);
        for bits in known {
            let opcode = Opcode::from_bits(bits).unwrap();
            assert_eq!((opcode as u8, opcode.is_control()), (bits, bits >= 8));
        }
    }
}
