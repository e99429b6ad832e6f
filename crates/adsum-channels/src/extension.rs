//! What hangs on a channel without the channel knowing it.

use std::any::Any;

use crate::EndReason;

/// Lives with one channel, and hears when its handlers return and when it ends.
///
/// Presence is built on it: what a channel tracks hangs on its [`Socket`](crate::Socket) and ends with it.
/// However the channel ends, an extension is dropped; where the task is aborted, such as by the end of the
/// runtime, that is all.
pub trait SocketExtension: Any + Send {
    /// A function of the channel has returned, and what it replied is queued; that of a join too.
    fn handler_returned(&mut self) {}

    /// The channel has ended: its last frame is queued and its subscription is over.
    ///
    /// Called once, in the channel's task, before the extension is dropped. Not called for a join that fails.
    fn channel_ended(&mut self, reason: &EndReason) {
        let _ = reason;
    }
}
