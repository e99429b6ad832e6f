//! Frames of WebSocket as bytes.

use tokio::io::{AsyncRead, AsyncReadExt};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame with this first byte.
pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    announced(first, payload.as_ref().len(), payload)
}

/// A frame whose header announces `len` bytes, with only these so far.
pub(crate) fn announced(first: u8, len: usize, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut frame = vec![first];
    match (len, u16::try_from(len)) {
        (..=125, _) => frame.push(0x80 | len as u8),
        (_, Ok(short)) => {
            frame.push(0xfe);
            frame.extend(short.to_be_bytes());
        }
        _ => {
            frame.push(0xff);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(masked(payload.as_ref(), 0));
    frame
}

/// A server's frame with this first byte.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(first, payload);
    let mask_at = frame.len() - payload.len() - MASK.len();
    frame[1] &= 0x7f;
    frame.truncate(mask_at);
    frame.extend(payload);
    frame
}

/// Bytes of a payload, starting at `offset`.
pub(crate) fn masked(payload: &[u8], offset: usize) -> Vec<u8> {
    let mut mask = MASK;
    mask.rotate_left(offset % 4);
    let mut masked = payload.to_vec();
    let (words, rest) = masked.as_chunks_mut();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    masked
}

/// A final frame of a message.
pub(crate) fn last(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x80 | opcode, payload)
}

/// A frame whose message continues.
pub(crate) fn open(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(opcode, payload)
}

/// A close with a code.
pub(crate) fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    last(0x8, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// The first byte and the payload of the next frame, whose payload only a client masks. `None` at the end of the stream.
pub(crate) async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    is_masked: bool,
) -> Option<(u8, Vec<u8>)> {
    let mut first = [0];
    if stream.read(&mut first).await.expect("the stream isn't reset") == 0 {
        return None;
    }
    let second = stream.read_u8().await.unwrap();
    assert_eq!(second & 0x80 != 0, is_masked);
    let len = match second & 0x7f {
        126 => stream.read_u16().await.unwrap().into(),
        127 => stream.read_u64().await.unwrap(),
        len => len.into(),
    };
    let mut mask = [0; 4];
    if is_masked {
        stream.read_exact(&mut mask).await.unwrap();
    }
    let mut payload = vec![0; len as usize];
    stream.read_exact(&mut payload).await.unwrap();
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((first[0], payload))
}
