//! Clocks of a game: what is left, and when a flag falls. All times are the database's, in milliseconds.

use crate::protocol::{Clocks, Color};

/// Two clocks, of which one runs or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    /// The clocks as they were at `turn_at`.
    pub(crate) white_ms: i64,
    pub(crate) black_ms: i64,
    /// Since when the clock of the side to move runs.
    pub(crate) turn_at: i64,
}

impl Clock {
    /// Both full, White's running.
    pub(crate) fn start(initial_ms: u64, now: i64) -> Self {
        let initial_ms = initial_ms.cast_signed();
        Self { white_ms: initial_ms, black_ms: initial_ms, turn_at: now }
    }

    /// The time left on a clock at `now`; it may be below zero for the one that runs. Time that runs backwards costs nobody
    /// anything.
    pub(crate) fn left(&self, color: Color, running: Option<Color>, now: i64) -> i64 {
        let shown = match color {
            Color::White => self.white_ms,
            Color::Black => self.black_ms,
        };
        if running == Some(color) { shown - (now - self.turn_at).max(0) } else { shown }
    }

    /// When the flag of the side to move falls.
    pub(crate) fn deadline(&self, to_move: Color) -> i64 {
        self.turn_at + self.left(to_move, None, self.turn_at)
    }

    /// The clocks once `mover` has moved at `now`.
    pub(crate) fn moved(&self, mover: Color, increment_ms: u64, now: i64) -> Self {
        let left = self.left(mover, Some(mover), now) + increment_ms.cast_signed();
        self.with(mover, left, now.max(self.turn_at))
    }

    /// The clocks as they stand at `now`, at which they stop.
    pub(crate) fn stopped(&self, running: Color, now: i64) -> Self {
        self.with(running, self.left(running, Some(running), now).max(0), now.max(self.turn_at))
    }

    /// As they are shown at `now`.
    pub(crate) fn shown(&self, running: Option<Color>, now: i64) -> Clocks {
        let shown = |color| self.left(color, running, now).max(0).cast_unsigned();
        Clocks { white_ms: shown(Color::White), black_ms: shown(Color::Black), running }
    }

    fn with(self, color: Color, left: i64, turn_at: i64) -> Self {
        match color {
            Color::White => Self { white_ms: left, turn_at, ..self },
            Color::Black => Self { black_ms: left, turn_at, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_to_move_loses_time_and_a_move_adds_to_it() {
        let clock = Clock::start(60_000, 1_000);
        assert_eq!(clock.deadline(Color::White), 61_000);
        assert_eq!(clock.left(Color::White, Some(Color::White), 11_000), 50_000);
        assert_eq!(clock.left(Color::Black, Some(Color::White), 11_000), 60_000);
        let clock = clock.moved(Color::White, 2_000, 11_000);
        assert_eq!(clock, Clock { white_ms: 52_000, black_ms: 60_000, turn_at: 11_000 });
        assert_eq!(clock.deadline(Color::Black), 71_000);
        assert_eq!(clock.left(Color::White, Some(Color::Black), 1_000_000), 52_000);
    }

    #[test]
    fn time_that_runs_backwards_costs_nothing() {
        let clock = Clock::start(60_000, 100_000);
        assert_eq!(clock.left(Color::White, Some(Color::White), 50_000), 60_000);
        let moved = clock.moved(Color::White, 0, 50_000);
        assert_eq!(moved, Clock { white_ms: 60_000, black_ms: 60_000, turn_at: 100_000 });
    }

    #[test]
    fn nothing_below_zero_is_shown() {
        let clock = Clock::start(1_000, 0);
        assert_eq!(clock.left(Color::White, Some(Color::White), 5_000), -4_000);
        let running = Some(Color::White);
        assert_eq!(clock.shown(running, 5_000), Clocks { white_ms: 0, black_ms: 1_000, running });
        assert_eq!(clock.stopped(Color::White, 5_000).white_ms, 0);
    }
}
