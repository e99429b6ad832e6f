//! Frames: of WebSocket, and the V2 JSON messages in them.

use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) const TEXT: u8 = 1;
/// A text that is compressed.
pub(crate) const DEFLATED_TEXT: u8 = 0x41;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

// In place of a length: it follows, in two or eight bytes.
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;

/// Appends a frame as clients send it.
pub(crate) fn write_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_head(out, opcode, payload.len(), 0x80);
    // A mask of zeros is allowed, and leaves the payload as it is.
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Appends a frame as servers send it.
pub(crate) fn write_plain(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_head(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

fn write_head(out: &mut Vec<u8>, opcode: u8, length: usize, mask: u8) {
    out.push(0x80 | opcode);
    match length {
        0..126 => out.push(mask | length as u8),
        126..65536 => {
            out.push(mask | LENGTH_16);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask | LENGTH_64);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// A frame of a server: its opcode, with a bit if it is compressed, its payload, and the bytes of all.
pub(crate) type Incoming<'a> = (u8, &'a [u8], usize);

/// The frame at the begin of the bytes, if it is there as a whole.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Incoming<'_>>, &'static str> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0xb0 != 0x80 {
        return Err("a fragment, or reserved bits, from the server");
    }
    let (head, length) = match (second, rest) {
        (LENGTH_16, &[a, b, ..]) => (4, u16::from_be_bytes([a, b]) as usize),
        (LENGTH_64, _) if rest.len() >= 8 => {
            let (length, _) = rest.split_first_chunk().expect("there are eight");
            (10, u64::from_be_bytes(*length) as usize)
        }
        (LENGTH_16 | LENGTH_64, _) => return Ok(None),
        (128.., _) => return Err("a masked frame from the server"),
        (length, _) => (2, length as usize),
    };
    let end = head + length;
    Ok(bytes.get(head..end).map(|payload| (first & 0x4f, payload, end)))
}

/// `join_ref`, `ref`, topic, event and payload.
pub(crate) type ServerFrame<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a str, &'a RawValue);

#[derive(Deserialize)]
pub(crate) struct Reply<'a> {
    pub(crate) status: &'a str,
    #[serde(borrow)]
    pub(crate) response: &'a RawValue,
}

/// Numbers that a client sent, and gets back.
#[derive(Deserialize)]
pub(crate) struct Numbered {
    pub(crate) n: u64,
    pub(crate) t: u64,
}

#[derive(Deserialize)]
pub(crate) struct Count {
    pub(crate) presences: u64,
    pub(crate) keys: u64,
}
