//! The reader of WebSocket frames. It makes the same of a stream however it is cut, holds little more than one
//! message, and reads back what is written anew from what it has read.

use crate::rfc6455::{
    deflate::{FLUSH, deflate},
    frame::RSV1,
    reader::{Incoming, Reader},
};

/// Whatever the largest message: a header and a control frame stand beside it, and the least room for inflated bytes.
const BESIDE: usize = 14 + 125 + 64;

/// Input: the largest message, two lengths of pieces, the stream.
pub fn frames(data: &[u8]) {
    run(data, false);
}

/// The same with compressed messages.
pub fn inflating(data: &[u8]) {
    run(data, true);
}

fn run(data: &[u8], inflates: bool) {
    let Some((&[low, high, first, second], stream)) = data.split_first_chunk() else { return };
    let max = usize::from(u16::from_le_bytes([low, high]));
    let (sent, code) = read((max, inflates), &[stream]);
    let cut = cut(stream, [first, second].map(|len| usize::from(len) + 1));
    assert_eq!(read((max, inflates), &cut), (sent.clone(), code), "cut otherwise, it is read otherwise");
    assert!(code.is_none_or(|code| [1002, 1007, 1009].contains(&code)));

    for sent in &sent {
        match sent {
            Incoming::Text(text) => {
                assert!(text.len() <= max);
                assert!(std::str::from_utf8(text).is_ok(), "text is UTF-8");
            }
            Incoming::Binary(bytes) => assert!(bytes.len() <= max),
            Incoming::Ping(payload) => assert!(payload.len() <= 125),
            Incoming::Pong(_) | Incoming::Close { .. } => {}
        }
    }
    for is_compressed in [false, inflates] {
        let anew: Vec<u8> = sent.iter().flat_map(|sent| write(sent, first, is_compressed)).collect();
        let read = read((max, inflates), &[&anew]);
        assert_eq!(read, (sent.clone(), None), "written anew, it is read otherwise");
    }
}

/// The messages that are read, and the code that ends them.
fn read((max, inflates): (usize, bool), pieces: &[&[u8]]) -> (Vec<Incoming>, Option<u16>) {
    let mut reader = Reader::new(max, inflates);
    let mut all = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next() {
                Ok(Some(sent)) => all.push(sent),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.held(), 0, "nothing is kept for a stream that has failed");
                    return (all, Some(error.close_code()));
                }
            }
        }
        assert!(reader.held() <= 2 * max + BESIDE + piece.len(), "too much is held");
    }
    (all, None)
}

fn cut(mut stream: &[u8], lens: [usize; 2]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for len in lens.into_iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (piece, rest) = stream.split_at(len.min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

/// A client's frame, a message of data in two fragments.
fn write(sent: &Incoming, cut: u8, is_compressed: bool) -> Vec<u8> {
    let close;
    let mut compressed = Vec::new();
    let (opcode, payload): (u8, &[u8]) = match sent {
        Incoming::Text(text) => (0x1, text),
        Incoming::Binary(bytes) => (0x2, bytes),
        Incoming::Ping(payload) => return frame(0x89, payload),
        Incoming::Pong(payload) => return frame(0x8a, payload),
        Incoming::Close { code, reason } => {
            close = [&code.map_or(Vec::new(), |code| code.to_be_bytes().into()), reason.as_bytes()].concat();
            return frame(0x88, &close);
        }
    };
    let (opcode, payload) = if is_compressed {
        deflate([payload], &mut compressed);
        compressed.truncate(compressed.len() - FLUSH.len());
        (RSV1 | opcode, &compressed[..])
    } else {
        (opcode, payload)
    };
    let (first, second) = payload.split_at(payload.len().min(cut.into()));
    [frame(opcode, first), frame(0x80, second)].concat()
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0xa5, 0x00, 0xff, 0x5a];
    let mut frame = vec![first];
    match u16::try_from(payload.len()).expect("no message here is longer") {
        len @ ..=125 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0xfe);
            frame.extend(len.to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
