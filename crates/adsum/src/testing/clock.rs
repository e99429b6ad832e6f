//! Paused time and real time.

use std::{hint, time::Duration};

use tokio::time::Instant;

/// Whether tokio's time is paused, so that sleeping costs nothing. tokio doesn't say, so this looks whether its clock
/// moves.
pub(super) fn is_paused() -> bool {
    let (tokio, real) = (Instant::now(), std::time::Instant::now());
    while real.elapsed() < Duration::from_micros(20) {
        hint::spin_loop();
    }
    Instant::now() == tokio
}

/// For how long nothing has to happen until it counts as not happening: a second of paused time, which is how long
/// diffs wait at most by default, or as long as Phoenix's `refute_push` waits.
pub(super) fn quiet() -> Duration {
    if is_paused() { Duration::from_secs(1) } else { Duration::from_millis(100) }
}
