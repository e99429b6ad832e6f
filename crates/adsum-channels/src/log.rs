//! Logging at levels that are known only at run time.

use tracing::Level;

/// Logs an event at a level that is known only at run time.
macro_rules! event_at {
    ($level:expr, $($event:tt)*) => {
        match $level {
            ::tracing::Level::ERROR => ::tracing::error!($($event)*),
            ::tracing::Level::WARN => ::tracing::warn!($($event)*),
            ::tracing::Level::INFO => ::tracing::info!($($event)*),
            ::tracing::Level::DEBUG => ::tracing::debug!($($event)*),
            ::tracing::Level::TRACE => ::tracing::trace!($($event)*),
        }
    };
}
pub(crate) use event_at;

/// Whether events of a level are logged. Only a comparison if they aren't.
pub(crate) fn is_enabled(level: Level) -> bool {
    match level {
        Level::ERROR => tracing::enabled!(Level::ERROR),
        Level::WARN => tracing::enabled!(Level::WARN),
        Level::INFO => tracing::enabled!(Level::INFO),
        Level::DEBUG => tracing::enabled!(Level::DEBUG),
        Level::TRACE => tracing::enabled!(Level::TRACE),
    }
}
