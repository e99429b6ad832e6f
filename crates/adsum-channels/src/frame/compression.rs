//! Compressed messages: shared parts are compressed once, with the parts of one client around them as they are.

use std::mem;

use adsum_pubsub::{Compressed, Json};
use bytes::Bytes;
use tokio::task::yield_now;

use super::{COPIED, Frame, Head, Rest, Shared};
use crate::rfc6455::{
    deflate::{FLUSH, Inflater, MAX_STORED, STORED_END, deflate, stored_header},
    frame::{self, RSV1},
};

impl Frame {
    /// Compresses the message. Parts that other messages share are compressed once, whichever message is first. `None`
    /// if the message wouldn't become smaller.
    pub(crate) fn compressed(&self) -> Option<Self> {
        if self.shared_parts().next().is_none() {
            return self.compressed_at_once();
        }
        for (text, compressed) in self.shared_parts() {
            compress_part(text, compressed);
        }
        self.with_compressed_parts()
    }

    /// Uses what was compressed for other messages, and leaves the other parts as they are. `None` if the message
    /// wouldn't become smaller.
    pub(crate) fn with_compressed_parts(&self) -> Option<Self> {
        self.shared_parts().find(|(_, compressed)| compressed.get().is_some())?;
        let rest = self.rest.as_deref()?;
        let mut blocks = Blocks::new();
        blocks.store(self.head.slice(self.header_len()..));
        for (text, compressed) in rest.payload.parts_and_slots() {
            match compressed.and_then(Compressed::get) {
                Some(compressed) => blocks.share(compressed.clone()),
                None => blocks.store(text.clone()),
            }
        }
        blocks.store(rest.tail.clone());
        blocks.into_frame(self.head[0]).filter(|compressed| compressed.len() < self.len())
    }

    fn compressed_at_once(&self) -> Option<Self> {
        let mut head = Head::with_capacity(self.len() / 2);
        let parts: Vec<_> = self.slices(self.header_len()).collect();
        deflate(parts.iter().map(|part| &**part), &mut head.0);
        head.0.truncate(head.0.len() - FLUSH.len());
        let len = head.len();
        let compressed = Self::whole(head.finish(self.head[0] | RSV1, len));
        (compressed.len() < self.len()).then_some(compressed)
    }

    /// The parts that other messages share, and the places of their compressed forms.
    fn shared_parts(&self) -> impl Iterator<Item = (&Bytes, &Compressed)> {
        let parts = self.rest.iter().flat_map(|rest| rest.payload.parts_and_slots());
        parts.filter_map(|(text, compressed)| Some((text, compressed?)))
    }

    /// The length of the frame's header, before the message.
    fn header_len(&self) -> usize {
        frame::header_len(self.head[1])
    }
}

/// The size of the parts that are compressed before other tasks run: some 0.3 ms.
const COMPRESSED_PER_TURN: usize = 64 * 1024;

/// Compresses the parts of a text that messages share, unless that was done before.
pub(crate) async fn compress_parts(text: &Json) {
    let mut done = 0;
    for (part, compressed) in text.parts().iter().zip(text.compressed_parts()) {
        let Some(compressed) = compressed.as_ref().filter(|compressed| compressed.get().is_none()) else {
            continue;
        };
        compress_part(part, compressed);
        done += part.len();
        if done > COMPRESSED_PER_TURN {
            yield_now().await;
            done = 0;
        }
    }
}

fn compress_part(text: &Bytes, compressed: &Compressed) {
    compressed.get_or_init(|| {
        let mut out = Vec::with_capacity(text.len() / 4 + 64);
        deflate([&text[..]], &mut out);
        // It is kept for as long as the text.
        out.shrink_to_fit();
        out.into()
    });
}

/// Inflates a message that this module has compressed. `None` if it isn't sound.
pub(super) fn inflated(message: &[u8]) -> Option<Bytes> {
    let mut inflater = Inflater::new();
    inflater.push(message, usize::MAX, |_| Ok(())).ok()?;
    inflater.finish(usize::MAX).ok()
}

/// The blocks of a compressed message, in their order.
struct Blocks {
    /// The blocks before the first shared part, once there is one.
    head: Option<Head>,
    parts: Vec<Bytes>,
    /// The blocks of this message since the last shared part; before the first one, with room for the frame's header.
    own: Vec<u8>,
    /// Bytes that aren't in a block yet.
    stored: Vec<Bytes>,
    /// Whether the last block is one of a shared part.
    ends_flushed: bool,
}

impl Blocks {
    fn new() -> Self {
        let own = Head::with_capacity(256).0;
        Self { head: None, parts: Vec::new(), own, stored: Vec::new(), ends_flushed: false }
    }

    /// Adds bytes as they are.
    fn store(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.stored.push(bytes);
        }
    }

    /// Adds a part that was compressed.
    fn share(&mut self, compressed: Bytes) {
        self.end_stored();
        self.place(compressed);
        self.ends_flushed = true;
    }

    /// Puts the stored bytes into blocks: a few are copied, and many are shared.
    fn end_stored(&mut self) {
        let stored = mem::take(&mut self.stored);
        let len: usize = stored.iter().map(Bytes::len).sum();
        if len == 0 {
            return;
        }
        self.ends_flushed = false;
        if len <= COPIED {
            self.own.extend_from_slice(&stored_header(len as u16));
            for bytes in &stored {
                self.own.extend_from_slice(bytes);
            }
            return;
        }
        for mut bytes in stored {
            while !bytes.is_empty() {
                let block = bytes.split_to(bytes.len().min(MAX_STORED));
                self.own.extend_from_slice(&stored_header(block.len() as u16));
                self.place(block);
            }
        }
    }

    fn place(&mut self, part: Bytes) {
        let own = mem::take(&mut self.own);
        if self.head.is_none() {
            self.head = Some(Head(own));
        } else if !own.is_empty() {
            self.parts.push(own.into());
        }
        self.parts.push(part);
    }

    /// Makes the frame, with the opcode of the first byte of another frame.
    fn into_frame(mut self, first: u8) -> Option<Frame> {
        self.end_stored();
        if !self.ends_flushed {
            self.own.push(STORED_END);
        } else if let Some(last) = self.parts.last_mut() {
            last.truncate(last.len() - FLUSH.len());
        }
        let rest = Rest { payload: Shared::Blocks(self.parts.into()), tail: self.own.into() };
        let head = self.head?;
        let len = head.len() + rest.payload.len() + rest.tail.len();
        Some(Frame { head: head.finish(first | RSV1, len), rest: Some(Box::new(rest)) })
    }
}

#[cfg(test)]
mod tests;
