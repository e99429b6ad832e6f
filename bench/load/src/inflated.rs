//! Compressed messages. Clients of a room get the same bytes, so the last ones are kept inflated.

use flate2::{Decompress, FlushDecompress};

use crate::wire::{TEXT, write_plain};

/// The end of a message, which its sender leaves out.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

pub(crate) struct Inflated {
    inflater: Decompress,
    /// The last message as it came, and with its end.
    compressed: Vec<u8>,
    text: Vec<u8>,
    /// As it would have come without compression.
    frame: Vec<u8>,
}

impl Default for Inflated {
    fn default() -> Self {
        Self { inflater: Decompress::new(false), compressed: Vec::new(), text: Vec::new(), frame: Vec::new() }
    }
}

impl Inflated {
    /// Returns a text as a frame and by itself. `None` if it is not sound.
    pub(crate) fn text(&mut self, compressed: &[u8]) -> Option<(&[u8], &str)> {
        if self.compressed.strip_suffix(&TAIL) != Some(compressed) {
            self.compressed.clear();
            self.compressed.extend_from_slice(compressed);
            self.compressed.extend_from_slice(&TAIL);
            self.inflate()?;
        }
        Some((&self.frame, std::str::from_utf8(&self.text).ok()?))
    }

    fn inflate(&mut self) -> Option<()> {
        self.inflater.reset(false);
        self.text.clear();
        let mut used = 0;
        while used < self.compressed.len() || self.text.len() == self.text.capacity() {
            self.text.reserve(4096.max(self.text.len()));
            let input = &self.compressed[used..];
            self.inflater.decompress_vec(input, &mut self.text, FlushDecompress::Sync).ok()?;
            used = self.inflater.total_in() as usize;
        }
        self.frame.clear();
        write_plain(&mut self.frame, TEXT, &self.text);
        Some(())
    }
}
