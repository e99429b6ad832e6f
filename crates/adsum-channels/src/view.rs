//! Views: a changing state that is shown to a client.

use std::sync::Arc;

use adsum_pubsub::{Mark, Message, Payload};

/// A state that is shown to a client and kept up to date by broadcasts to the channel's topic.
///
/// [`Socket::show`](crate::Socket::show) sends it. From then on the client's copy converges to the state, but the
/// client doesn't get every change: if it reads too slowly, the queued changes are dropped, and it gets the state again
/// once it has read the rest.
pub trait View: Send + Sync + 'static {
    /// Returns the current state.
    ///
    /// Called in the socket's critical section, at any time and from any thread, while the channel is joined. It must
    /// be quick, and must neither broadcast nor push.
    fn state(&self) -> ViewState;

    /// Returns the part of a change that the last sent state doesn't contain. The change is newer than that state.
    ///
    /// Called once for each such change, in order and under the same conditions as [`state`](Self::state).
    fn news(&self, change: &Message) -> News {
        let _ = change;
        News::All
    }
}

/// The part of a change that a client needs.
#[derive(Clone, Debug)]
pub enum News {
    /// The whole change.
    All,
    /// This message instead: the state contained the rest of the change.
    Part(Arc<Message>),
    /// Nothing: the state contained all of it.
    Nothing,
}

/// A state and its position among its changes.
#[derive(Clone, Debug)]
pub struct ViewState {
    /// The events and payloads that send the state to the client.
    pub messages: Vec<(&'static str, Payload)>,
    /// The mark of the last change that it contains. Broadcasts from this sender are changes of the view; those that
    /// are not newer are not sent to the client.
    pub seen: Mark,
}
