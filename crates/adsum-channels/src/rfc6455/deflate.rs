//! Compresses messages and decompresses those of clients, as RFC 7692 has it, without takeover of a context.
//!
//! A piece of a message is compressed from nothing and flushed to a byte boundary, so pieces can be put one after
//! another, together with stored blocks, which contain bytes as they are. A message is then ended by [`STORED_END`] or
//! by dropping [`FLUSH`]; see [`Splice`](crate::frame). No block is marked as the last one (BFINAL): an inflater that is
//! kept between messages would stop at it.
//!
//! The library is `miniz_oxide`: it has no unsafe code, and it reads the bytes of strangers. `bench/README.md` says what
//! was measured.

use bytes::Bytes;
use miniz_oxide::{
    deflate::{
        CompressionLevel,
        core::{CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params},
    },
    inflate::{
        TINFLStatus,
        core::{
            DecompressorOxide, decompress,
            inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
        },
    },
};
use parking_lot::Mutex;

use super::error::ProtocolError;

/// The end of a flushed piece: an empty stored block, without the bits of its header that belong to the byte before.
pub(crate) const FLUSH: [u8; 4] = [0, 0, 0xff, 0xff];
/// Ends a message whose last block is a stored one: the receiver appends [`FLUSH`], and both are an empty block.
pub(crate) const STORED_END: u8 = 0;
/// Maximum number of bytes in a stored block.
pub(crate) const MAX_STORED: usize = 0xffff;
/// An empty last block. An inflater accepts it only between two blocks.
const LAST: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// Maximum number of idle compressors, and of idle inflaters: as many as may run at once on a large machine. They are
/// about 300 KB and 11 KB.
const MAX_IDLE: usize = 16;
/// The least room for inflated bytes.
const LEAST_ROOM: usize = 64;

/// Compressors, which take longer to make than to reset.
static COMPRESSORS: Mutex<Vec<Box<CompressorOxide>>> = Mutex::new(Vec::new());
/// Inflaters. One is in use while a client's message is incomplete, and none belongs to an idle socket.
static INFLATERS: Mutex<Vec<Box<DecompressorOxide>>> = Mutex::new(Vec::new());

/// The header of a stored block of `len` bytes, which begins at a byte boundary.
pub(crate) fn stored_header(len: u16) -> [u8; 5] {
    let ([a, b], [c, d]) = (len.to_le_bytes(), (!len).to_le_bytes());
    [0, a, b, c, d]
}

/// Appends the compressed form of a piece, which ends with [`FLUSH`]. The piece may be in several parts.
pub(crate) fn deflate<'p>(parts: impl IntoIterator<Item = &'p [u8]>, out: &mut Vec<u8>) {
    let idle = COMPRESSORS.lock().pop();
    let mut compressor = idle.unwrap_or_else(|| {
        // The fastest level: a piece of 10 KB takes a third of the time of level 6, for 7 % more bytes. Without a header.
        let flags = create_comp_flags_from_zip_params(CompressionLevel::BestSpeed as i32, 0, 0);
        Box::new(CompressorOxide::new(flags))
    });
    let mut take = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        true
    };
    for part in parts {
        compress_to_output(&mut compressor, part, TDEFLFlush::None, &mut take);
    }
    compress_to_output(&mut compressor, &[], TDEFLFlush::Sync, &mut take);
    debug_assert!(out.ends_with(&FLUSH), "a piece ends at a byte boundary");
    compressor.reset();
    put_back(&COMPRESSORS, compressor);
}

fn put_back<T>(idle: &Mutex<Vec<T>>, used: T) {
    let mut idle = idle.lock();
    if idle.len() < MAX_IDLE {
        idle.push(used);
    }
}

/// Inflates one message, piece by piece, into a buffer that never exceeds its bound.
pub(crate) struct Inflater {
    /// `None` only while it is dropped.
    state: Option<Box<DecompressorOxide>>,
    /// The inflated bytes, and then room for more. It is also the window.
    room: Vec<u8>,
    len: usize,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        let state = INFLATERS.lock().pop().unwrap_or_default();
        Self { state: Some(state), room: Vec::new(), len: 0 }
    }

    /// The number of inflated bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The capacity of its buffer.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        self.room.capacity()
    }

    /// Inflates the next bytes of the message, and passes what they make to `check`.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        max: usize,
        check: impl FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        self.inflate(bytes, max, check).map(drop)
    }

    /// Ends the message, which must end where a block ends.
    pub(crate) fn finish(mut self, max: usize) -> Result<Bytes, ProtocolError> {
        // All bytes of a message that ends where it should were inflated before.
        let nothing = |_: &[u8]| Err(ProtocolError::Inflate);
        if !self.inflate(&[&FLUSH[..], &LAST].concat(), max, nothing)? {
            return Err(ProtocolError::Inflate);
        }
        let mut message = std::mem::take(&mut self.room);
        message.truncate(self.len);
        Ok(message.into())
    }

    /// Returns whether the bytes end with a last block.
    fn inflate(
        &mut self,
        mut bytes: &[u8],
        max: usize,
        mut check: impl FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<bool, ProtocolError> {
        const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let Self { state, room, len } = self;
        let state = state.as_mut().expect("it is only taken by the drop");
        while !bytes.is_empty() || *len == room.len() {
            if *len == room.len() {
                // One byte over the maximum tells that there are more.
                let wanted = (2 * room.len()).max(4 * bytes.len()).max(LEAST_ROOM);
                let grown = wanted.min(max.saturating_add(1));
                room.reserve_exact(grown - *len);
                room.resize(grown, 0);
            }
            let (status, consumed, inflated) = decompress(state, bytes, room, *len, FLAGS);
            bytes = &bytes[consumed..];
            let from = *len;
            *len += inflated;
            if inflated > 0 {
                check(&room[from..(*len).min(max)])?;
            }
            if *len > max {
                return Err(ProtocolError::TooBig { max });
            }
            match status {
                TINFLStatus::NeedsMoreInput => return Ok(false),
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::Done => {
                    // The sender has marked a block as the last one. More may follow.
                    state.init();
                    if bytes.is_empty() {
                        return Ok(true);
                    }
                }
                _ => return Err(ProtocolError::Inflate),
            }
        }
        Ok(false)
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        if let Some(mut state) = self.state.take() {
            state.init();
            put_back(&INFLATERS, state);
        }
    }
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("len", &self.len).finish_non_exhaustive()
    }
}
