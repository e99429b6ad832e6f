//! Incremental validation of UTF-8.

/// Validates a text piece by piece, and keeps an incomplete character between pieces.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    started: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Validates the next piece. Returns false once no later piece can make the text valid.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return true };
            piece = rest;
            self.started[self.len] = byte;
            self.len += 1;
            // An incomplete character is a valid prefix, so at most its fourth byte completes or invalidates it.
            match std::str::from_utf8(&self.started[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(piece) else { return true };
        if error.error_len().is_some() {
            return false;
        }
        let started = &piece[error.valid_up_to()..];
        self.started[..started.len()].copy_from_slice(started);
        self.len = started.len();
        true
    }

    /// Whether the text so far ends with a complete character.
    pub(super) fn is_whole(&self) -> bool {
        self.len == 0
    }
}
