//! Presences of any task.

use std::fmt;

use adsum_channels::PushError;
use adsum_pubsub::Topic;
use adsum_tracker::{Key, LeaveReason, OverLimit, OwnerExit, Ref};

use crate::{
    MetaError, Presence,
    encode::{decode_meta, encode_meta},
    handler::PresenceHandler,
    layer::PresenceLayer,
};

/// Tracks presences for a task, and ends them with itself: however the task ends, by return, panic or abort,
/// its owner is dropped. The presences leave for the reason that they see in it: [`finished`](LeaveReason::Finished) after
/// [`finish`](Self::finish), [`crashed`](LeaveReason::Crashed) if it is dropped by a panic, else
/// [`cancelled`](LeaveReason::Cancelled).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # use adsum::{Presence, PubSub};
/// let presence = Presence::builder(PubSub::local()).start();
/// let worker = presence.clone();
/// let task = tokio::spawn(async move {
///     let mut owner = worker.owner();
///     owner.track("workers", "indexer", serde_json::Map::new()).unwrap();
///     std::future::pending::<()>().await // the task's work
/// });
/// # tokio::task::yield_now().await;
/// assert_eq!(presence.count("workers"), 1);
///
/// task.abort();
/// # let _ = task.await;
/// assert_eq!(presence.count("workers"), 0);
/// # }
/// ```
pub struct Owner<H: PresenceHandler> {
    owner: adsum_tracker::RawOwner<PresenceLayer<H>>,
    presence: Presence<H>,
}

impl<H: PresenceHandler> Owner<H> {
    pub(crate) fn new(presence: Presence<H>) -> Self {
        Self { owner: presence.core.tracker.owner(), presence }
    }

    /// Adds a presence, visible on this node when the call returns.
    ///
    /// # Errors
    /// This owner tracks the topic and key already, the meta is no JSON object, or something is over a limit.
    pub fn track(
        &mut self,
        topic: impl Into<Topic>,
        key: impl Into<Key>,
        meta: H::Meta,
    ) -> Result<Ref, TrackError> {
        let topic = topic.into();
        let tracked = self.owner.track_meta(&topic, &key.into(), &meta)?;
        self.presence.core.flush(&topic);
        Ok(tracked)
    }

    /// Replaces the meta of a presence.
    ///
    /// # Errors
    /// This owner doesn't track the topic and key, the meta is no JSON object, or it is over the limit.
    pub fn update(
        &mut self,
        topic: impl Into<Topic>,
        key: impl Into<Key>,
        meta: H::Meta,
    ) -> Result<Ref, UpdateError> {
        self.update_with(topic, key, |_| meta)
    }

    /// Replaces the meta of a presence by what `change` makes of the old one.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_with(
        &mut self,
        topic: impl Into<Topic>,
        key: impl Into<Key>,
        change: impl FnOnce(H::Meta) -> H::Meta,
    ) -> Result<Ref, UpdateError> {
        let topic = topic.into();
        let updated = self.owner.update_meta(&topic, &key.into(), change)?;
        self.presence.core.flush(&topic);
        Ok(updated)
    }

    /// Adds a presence, or replaces its meta if it is there with another one: for a program that says how things are,
    /// as often as it likes. Returns the ref of the new version; `None` if the meta is as it was, and nobody is told
    /// anything. Metas are the same if they are encoded alike.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use adsum::{NoFetch, Presence, PubSub};
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Job {
    ///     done: u8,
    /// }
    /// # let jobs = Presence::builder(PubSub::local()).meta::<Job>().start();
    /// let mut owner = jobs.owner();
    /// assert!(owner.set("jobs", 7, Job { done: 0 })?.is_some());
    /// assert!(owner.set("jobs", 7, Job { done: 0 })?.is_none());
    /// assert!(owner.set("jobs", 7, Job { done: 50 })?.is_some());
    /// assert_eq!(owner.meta("jobs", 7).map(|job| job.done), Some(50));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The meta can't be one, or something is over a limit.
    pub fn set(
        &mut self,
        topic: impl Into<Topic>,
        key: impl Into<Key>,
        meta: H::Meta,
    ) -> Result<Option<Ref>, TrackError> {
        let topic = topic.into();
        let set = self.owner.set_meta(&topic, &key.into(), &meta)?;
        self.presence.core.flush(&topic);
        Ok(set)
    }

    /// The meta of a presence of this owner. `None` if it doesn't track the topic and key.
    pub fn meta(&self, topic: impl Into<Topic>, key: impl Into<Key>) -> Option<H::Meta> {
        self.owner.read_meta(&topic.into(), &key.into())
    }

    /// Removes a presence. Whether there was one.
    pub fn untrack(&mut self, topic: impl Into<Topic>, key: &str) -> bool {
        let topic = topic.into();
        let was_there = self.owner.untrack(&topic, key);
        self.presence.core.flush(&topic);
        was_there
    }

    /// Removes all presences of this owner.
    pub fn untrack_all(&mut self) {
        for topic in self.owner.end(OwnerExit::Leave(LeaveReason::Left)) {
            self.presence.core.flush(&topic);
        }
    }

    /// Ends the owner of a task that has done its work: its presences leave as [`finished`](LeaveReason::Finished).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use adsum::{Presence, PubSub};
    /// # async fn work() -> Result<(), std::io::Error> { Ok(()) }
    /// # let jobs = Presence::builder(PubSub::local()).start();
    /// let mut owner = jobs.owner();
    /// owner.track("jobs", 7, serde_json::Map::new())?;
    /// work().await?; // an error returns here, and the job is seen as cancelled
    /// owner.finish();
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish(mut self) {
        for topic in self.owner.end(OwnerExit::Leave(LeaveReason::Finished)) {
            self.presence.core.flush(&topic);
        }
    }
}

impl<H: PresenceHandler> Drop for Owner<H> {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() { LeaveReason::Crashed } else { LeaveReason::Cancelled };
        let core = &self.presence.core;
        for topic in self.owner.end(core.tracker.owner_exit().because(reason)) {
            core.backlog.look_at(&topic);
        }
    }
}

impl<H: PresenceHandler> fmt::Debug for Owner<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.owner.fmt(f)
    }
}

/// Typed metas on the set's owner. What it changes is yet to be flushed.
pub(crate) trait TypedOwner<H: PresenceHandler> {
    fn track_meta(&mut self, topic: &Topic, key: &Key, meta: &H::Meta) -> Result<Ref, TrackError>;

    fn set_meta(&mut self, topic: &Topic, key: &Key, meta: &H::Meta) -> Result<Option<Ref>, TrackError>;

    fn read_meta(&self, topic: &Topic, key: &Key) -> Option<H::Meta>;

    fn update_meta(
        &mut self,
        topic: &Topic,
        key: &Key,
        change: impl FnOnce(H::Meta) -> H::Meta,
    ) -> Result<Ref, UpdateError>;
}

impl<H: PresenceHandler> TypedOwner<H> for adsum_tracker::RawOwner<PresenceLayer<H>> {
    fn track_meta(&mut self, topic: &Topic, key: &Key, meta: &H::Meta) -> Result<Ref, TrackError> {
        Ok(self.track(topic, key, encode_meta(meta)?)?)
    }

    fn set_meta(&mut self, topic: &Topic, key: &Key, meta: &H::Meta) -> Result<Option<Ref>, TrackError> {
        Ok(self.set(topic, key, encode_meta(meta)?)?)
    }

    fn read_meta(&self, topic: &Topic, key: &Key) -> Option<H::Meta> {
        self.meta(topic, key).and_then(|meta| decode_meta(&meta))
    }

    fn update_meta(
        &mut self,
        topic: &Topic,
        key: &Key,
        change: impl FnOnce(H::Meta) -> H::Meta,
    ) -> Result<Ref, UpdateError> {
        Ok(self.update(topic, key, |old| encode_meta(&change(serde_json::from_str(old.as_str())?)))?)
    }
}

/// Why something wasn't tracked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackError {
    /// The same owner or channel tracks this topic and key already.
    #[error(
        "already tracked: topic {topic:?}, key {key:?}; update it, untrack it first, or `set` it, which does either"
    )]
    AlreadyTracked {
        /// The topic.
        topic: Topic,
        /// The key.
        key: Key,
    },
    /// It is larger than allowed.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Its meta can't be a meta.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The socket belongs to another `PubSub` than the presence.
    #[error(transparent)]
    OtherPubSub(#[from] OtherPubSub),
}

/// A socket and a [`Presence`] belong to two different [`PubSub`](crate::PubSub)s, so that no diff would ever reach
/// the socket's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the presence and the socket belong to two different PubSubs, so no change would ever be sent to the client; \
     give the router that of the presence: `socket.into_router(&presence)`"
)]
#[non_exhaustive]
pub struct OtherPubSub;

/// Why a state wasn't pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushStateError {
    /// It can't be pushed.
    #[error(transparent)]
    Push(#[from] PushError),
    /// The socket belongs to another `PubSub` than the presence.
    #[error(transparent)]
    OtherPubSub(#[from] OtherPubSub),
}

/// Why something wasn't updated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The owner or channel doesn't track this topic and key.
    #[error("not tracked: topic {topic:?}, key {key:?}; track it first, or `set` it, which does either")]
    NotTracked {
        /// The topic.
        topic: Topic,
        /// The key.
        key: Key,
    },
    /// The new meta is larger than allowed.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The new meta can't be a meta.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl From<adsum_tracker::TrackError> for TrackError {
    fn from(error: adsum_tracker::TrackError) -> Self {
        match error {
            adsum_tracker::TrackError::AlreadyTracked { topic, key, .. } => {
                Self::AlreadyTracked { topic, key }
            }
            adsum_tracker::TrackError::OverLimit(over) => Self::OverLimit(over),
        }
    }
}

impl From<adsum_tracker::UpdateError<MetaError>> for UpdateError {
    fn from(error: adsum_tracker::UpdateError<MetaError>) -> Self {
        match error {
            adsum_tracker::UpdateError::NotTracked { topic, key, .. } => Self::NotTracked { topic, key },
            adsum_tracker::UpdateError::OverLimit(over) => Self::OverLimit(over),
            adsum_tracker::UpdateError::Change(meta) => Self::Meta(meta),
        }
    }
}
