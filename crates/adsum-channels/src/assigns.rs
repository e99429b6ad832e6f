//! What the program knows of a socket.

use std::sync::Arc;

use adsum_pubsub::Topic;
use http::Extensions;

/// What the program knows of a socket: one value of each type, given when it connected.
///
/// ```
/// # use adsum_channels as adsum;
/// # use adsum::Assigns;
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// let assigns = Assigns::new().with(UserId(7));
/// assert_eq!(assigns.get::<UserId>().map(|id| id.0), Some(7));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Assigns {
    values: Extensions,
    id: Option<Topic>,
    limit_key: Option<Arc<str>>,
}

impl Assigns {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value, in place of one of the same type.
    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.values.insert(value);
        self
    }

    /// Names the socket, such as `user_socket:7`, so that it can be closed from anywhere:
    /// [`PubSub::disconnect`](adsum_pubsub::PubSub::disconnect) closes all sockets of that name, on all nodes, with 1001.
    /// Their clients connect again, and `connect` may refuse them.
    #[must_use]
    pub fn id(mut self, id: impl Into<Topic>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Counts the socket under a key, such as a user's id, of which there may be
    /// [`max_sockets_per_key`](crate::SocketBuilder::max_sockets_per_key).
    #[must_use]
    pub fn limit_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.limit_key = Some(key.into());
        self
    }

    pub(crate) fn key_of_limit(&self) -> Option<&Arc<str>> {
        self.limit_key.as_ref()
    }

    /// These, and those of a route, which take the place of values of the same type.
    pub(crate) fn extended(&self, route: &Self) -> Self {
        let mut values = self.values.clone();
        values.extend(route.values.clone());
        Self { values, id: self.id.clone(), limit_key: self.limit_key.clone() }
    }

    /// The [id](Self::id) of the socket, by which it is told to disconnect.
    pub fn socket_id(&self) -> Option<&Topic> {
        self.id.as_ref()
    }

    /// The value of a type, which has to be there: `socket.assigns().require::<UserId>()?`.
    ///
    /// # Errors
    /// It isn't: `connect` has assigned no value of this type.
    pub fn require<T: Send + Sync + 'static>(&self) -> Result<&T, MissingAssign> {
        self.get().ok_or(MissingAssign { of_type: std::any::type_name::<T>() })
    }

    /// The value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get()
    }
}

/// A value that a channel needs wasn't assigned when its socket connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {of_type} is assigned to the socket; `connect` has to add it, by `Assigns::with`")]
pub struct MissingAssign {
    of_type: &'static str,
}
