//! Truncates and rate-limits log lines that clients and failures can cause.

use std::{
    fmt::{self, Write},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Maximum number of lines of one kind within [`WINDOW`].
const LINES: u32 = 20;
/// The time after which lines of a kind are written again.
const WINDOW: Duration = Duration::from_secs(10);
/// Maximum size of an error in a line, in bytes.
const MAX_ERROR_BYTES: usize = 1024;
/// Maximum size of a name in a line, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// Logs a line that clients or failures can cause, unless too many of its kind were logged recently. Each use in the code
/// is a kind of its own. The next logged line of the kind says how many were left out.
#[macro_export]
#[doc(hidden)]
macro_rules! log_limited {
    ($level:ident, $($event:tt)*) => {{
        static LIMIT: $crate::log::Limit = $crate::log::Limit::new();
        if ::tracing::enabled!(::tracing::Level::$level) && let Some(left_out) = LIMIT.allow() {
            let left_out = (left_out > 0).then_some(left_out);
            ::tracing::event!(::tracing::Level::$level, left_out, $($event)*);
        }
    }};
}
pub use crate::log_limited as limited;

/// Counts the written and left-out lines of one kind.
///
/// It uses the system's clock, since all runtimes of a process share it.
#[derive(Debug, Default)]
pub struct Limit(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Limit {
    pub const fn new() -> Self {
        Self(parking_lot::const_mutex(Lines { since: None, written: 0, left_out: 0 }))
    }

    /// Returns `None` if the line must be left out, else how many were left out before it.
    pub fn allow(&self) -> Option<u64> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<u64> {
        let mut lines = self.0.lock();
        if lines.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            lines.since = Some(now);
            lines.written = 0;
        }
        if lines.written == LINES {
            lines.left_out += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.left_out))
    }
}

/// Truncates an error for a log line.
pub fn cut<T: fmt::Display>(error: T) -> Cut<T> {
    Cut { text: error, bytes: MAX_ERROR_BYTES }
}

/// Truncates a name that a client chose, for a log line.
pub fn cut_name<T: fmt::Display>(name: T) -> Cut<T> {
    Cut { text: name, bytes: MAX_NAME_BYTES }
}

/// A truncated text. Characters that start a new line or change the text direction are escaped, so that a client can't
/// forge log lines.
#[derive(Debug)]
pub struct Cut<T> {
    text: T,
    bytes: usize,
}

impl<T: fmt::Display> fmt::Display for Cut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cutter = Cutter { out: f, left: self.bytes, is_full: false };
        let written = write!(cutter, "{}", self.text);
        if cutter.is_full { f.write_char('…') } else { written }
    }
}

struct Cutter<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    left: usize,
    is_full: bool,
}

impl fmt::Write for Cutter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if self.left < char.len_utf8() {
                self.is_full = true;
                // Stops formatting the rest.
                return Err(fmt::Error);
            }
            self.left -= char.len_utf8();
            let turns =
                matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if char.is_control() || turns {
                write!(self.out, "{}", char.escape_default())?;
            } else {
                self.out.write_char(char)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_kind_are_limited_and_those_left_out_are_counted() {
        let (limit, start) = (Limit::new(), Instant::now());
        for round in 0..3 {
            let begin = start + round * WINDOW;
            let before = if round == 0 { 0 } else { 100 };
            assert_eq!(limit.allow_at(begin), Some(before));
            for _ in 1..LINES {
                assert_eq!(limit.allow_at(begin), Some(0));
            }
            for _ in 0..100 {
                assert_eq!(limit.allow_at(begin + WINDOW / 2), None);
            }
        }
    }

    struct Fails;

    impl fmt::Display for Fails {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("begun")?;
            Err(fmt::Error)
        }
    }

    #[test]
    fn texts_of_clients_are_cut_and_begin_no_line() {
        assert_eq!(cut("short é").to_string(), "short é");
        let long = cut("é".repeat(100_000)).to_string();
        assert_eq!(long, "é".repeat(MAX_ERROR_BYTES / 2) + "…");
        let exact = "x".repeat(MAX_NAME_BYTES);
        assert_eq!(cut_name(&exact).to_string(), exact);
        assert_eq!(cut_name("a\n\u{1b}[2J\u{202e}b").to_string(), r"a\n\u{1b}[2J\u{202e}b");
        let mut text = String::new();
        assert!(write!(text, "{}", cut(Fails)).is_err());
        assert_eq!(text, "begun");
    }
}
