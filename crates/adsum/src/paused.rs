//! Paused time and real time.

use std::{hint, time::Duration};

use tokio::time::Instant;

/// Whether tokio's time is paused, so that sleeping costs nothing. tokio has no query for it, so this checks whether
/// its clock moves.
pub(crate) fn is_paused() -> bool {
    let (tokio, real) = (Instant::now(), std::time::Instant::now());
    while real.elapsed() < Duration::from_micros(20) {
        hint::spin_loop();
    }
    Instant::now() == tokio
}

/// Returns how long a test waits until an event counts as not happening: a second of paused time, the default maximum
/// delay of a diff, or as long as Phoenix's `refute_push` waits.
pub(crate) fn quiet() -> Duration {
    if is_paused() { Duration::from_secs(1) } else { Duration::from_millis(100) }
}
