//! The values that a program assigns to a socket.

use std::sync::Arc;

use adsum_pubsub::Topic;
use http::Extensions;

/// The values that a program assigns to a socket when it connects: one of each type.
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
    /// Assigns nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value, replacing one of the same type.
    #[must_use]
    pub fn with<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.values.insert(value);
        self
    }

    /// Sets the socket's id, such as `user_socket:7`, so that it can be closed from anywhere:
    /// [`PubSub::disconnect`](adsum_pubsub::PubSub::disconnect) closes all sockets with that id, on all nodes, with
    /// 1001. Their clients reconnect, and `connect` may refuse them.
    #[must_use]
    pub fn id(mut self, id: impl Into<Topic>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Counts the socket under a key, such as a user's id.
    /// [`max_sockets_per_key`](crate::SocketBuilder::max_sockets_per_key) limits the sockets of each key.
    #[must_use]
    pub fn limit_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.limit_key = Some(key.into());
        self
    }

    pub(crate) fn key_of_limit(&self) -> Option<&Arc<str>> {
        self.limit_key.as_ref()
    }

    /// Adds the values of a route, which replace values of the same type.
    pub(crate) fn extended(&self, route: &Self) -> Self {
        let mut values = self.values.clone();
        values.extend(route.values.clone());
        Self { values, id: self.id.clone(), limit_key: self.limit_key.clone() }
    }

    /// The [id](Self::id) of the socket, by which it can be disconnected.
    pub fn socket_id(&self) -> Option<&Topic> {
        self.id.as_ref()
    }

    /// Returns the value of a type, or an error if there is none: `socket.assigns().require::<UserId>()?`.
    ///
    /// # Errors
    /// `connect` has assigned no value of this type.
    pub fn require<T: Send + Sync + 'static>(&self) -> Result<&T, MissingAssign> {
        self.get().ok_or(MissingAssign { of_type: std::any::type_name::<T>() })
    }

    /// Returns the value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get()
    }
}

/// A channel requires a value that wasn't assigned when its socket connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {of_type} is assigned to the socket; add it in `connect` with `Assigns::with`")]
pub struct MissingAssign {
    of_type: &'static str,
}
