//! UTF-8 checked as it arrives, however it is cut.

/// Checks a text piece by piece, and keeps what a piece ended in the middle of.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    started: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Takes the next piece. False as soon as no further piece could make the text valid.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return true };
            piece = rest;
            self.started[self.len] = byte;
            self.len += 1;
            // A started character is a valid beginning, so its fourth byte at the latest ends it or fails.
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

    /// Whether the text so far ends with a whole character.
    pub(super) fn is_whole(&self) -> bool {
        self.len == 0
    }
}
