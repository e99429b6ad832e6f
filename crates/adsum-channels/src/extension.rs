//! Extensions of a channel that the channel itself doesn't know.

use std::any::Any;

use crate::end_reason::EndReason;

/// Lives with one channel, and is called when its handlers return and when it ends.
///
/// Presence is built on it: the presences of a channel belong to an extension of its [`Socket`](crate::Socket). An
/// extension is always dropped when its channel ends. If the task is aborted, for example when the runtime shuts down,
/// it is only dropped.
pub trait SocketExtension: Any + Send {
    /// Called after a function of the channel, including `join`, has returned and its reply is queued.
    fn handler_returned(&mut self) {}

    /// Called once the channel has ended: its last frame is queued and its subscription has ended.
    ///
    /// Called once, in the channel's task, before the extension is dropped. Not called if the join fails.
    fn channel_ended(&mut self, reason: &EndReason) {
        let _ = reason;
    }
}
