//! What a client is shown of something that changes.

use std::sync::Arc;

use adsum_pubsub::{Mark, Message, Payload};

/// A state that a client is shown, and that broadcasts to the channel's topic then keep up to date.
///
/// [`Socket::show`](crate::Socket::show) sends it. From then on it is a promise to the client that its copy will be
/// right, not that it hears of every change: where the client reads too slowly, the changes that wait for it are
/// dropped, and once it has read the rest it is sent the state again.
pub trait View: Send + Sync + 'static {
    /// The state as it is now.
    ///
    /// Called in the socket's critical section, at any time and from any thread, for as long as the channel is
    /// joined. It must be quick, and must neither broadcast nor push.
    fn state(&self) -> ViewState;

    /// What a client that was sent the state last read is to hear of a change that is newer.
    ///
    /// Called once for each such change, in their order and under the same terms as [`state`](Self::state).
    fn news(&self, change: &Message) -> News {
        let _ = change;
        News::All
    }
}

/// What a client is to hear of a change.
#[derive(Clone, Debug)]
pub enum News {
    /// The change as it is.
    All,
    /// This message in its place: the state showed the rest of the change.
    Part(Arc<Message>),
    /// Nothing: the state showed all of it.
    Nothing,
}

/// A state, and where it stands among its changes.
#[derive(Clone, Debug)]
pub struct ViewState {
    /// What brings the state to the client: events with their payloads.
    pub messages: Vec<(&'static str, Payload)>,
    /// The mark of the last change that it contains. Broadcasts of this sender are its changes; those that are
    /// not newer are not sent to the client any more.
    pub seen: Mark,
}
