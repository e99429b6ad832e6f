//! Presences of any task.

use std::fmt;

use adsum_pubsub::Topic;
use adsum_tracker::{Key, LeaveReason, OwnerExit, RawOwner, Ref};

use crate::{
    errors::{TrackError, UpdateError},
    handler::PresenceHandler,
    layer::PresenceLayer,
    presence::Presence,
    typed_owner::TypedOwner,
};

/// Tracks presences for a task, and ends them when it is dropped, however the task ends: by return, panic or abort. The
/// presences leave as [`finished`](LeaveReason::Finished) after [`finish`](Self::finish), as
/// [`crashed`](LeaveReason::Crashed) if a panic drops the owner, and else as [`cancelled`](LeaveReason::Cancelled).
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
    owner: RawOwner<PresenceLayer<H>>,
    presence: Presence<H>,
}

impl<H: PresenceHandler> Presence<H> {
    /// Makes an owner for the calling task. Its presences leave when it is dropped.
    pub fn owner(&self) -> Owner<H> {
        Owner::new(self.clone())
    }
}

impl<H: PresenceHandler> Owner<H> {
    pub(crate) fn new(presence: Presence<H>) -> Self {
        let owner = presence.core.tracker.owner();
        presence.core.holders.begin(owner.id(), None);
        Self { owner, presence }
    }

    /// Adds a presence, visible on this node when the call returns.
    ///
    /// # Errors
    /// This owner tracks the topic and key already, the meta isn't a JSON object, or the presence is over a limit.
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
    /// This owner doesn't track the topic and key, the meta isn't a JSON object, or it is over the limit.
    pub fn update(
        &mut self,
        topic: impl Into<Topic>,
        key: impl Into<Key>,
        meta: H::Meta,
    ) -> Result<Ref, UpdateError> {
        self.update_with(topic, key, |_| meta)
    }

    /// Replaces the meta of a presence by the result of `change`.
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

    /// Adds a presence, or replaces its meta if that has changed: for a program that reports a status as often as it
    /// likes. Returns the ref of the new version, or `None` if the meta is unchanged, and then nothing is sent. Metas
    /// are the same if their encodings are.
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
    /// The value isn't a valid meta, or the presence is over a limit.
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

    /// Returns the meta of a presence of this owner. `None` if it doesn't track the topic and key.
    pub fn meta(&self, topic: impl Into<Topic>, key: impl Into<Key>) -> Option<H::Meta> {
        self.owner.read_meta(&topic.into(), &key.into())
    }

    /// Removes a presence. Returns whether there was one.
    pub fn untrack(&mut self, topic: impl Into<Topic>, key: impl Into<Key>) -> bool {
        let topic = topic.into();
        let was_there = self.owner.untrack(&topic, &key.into());
        self.presence.core.flush(&topic);
        was_there
    }

    /// Removes all presences of this owner.
    pub fn untrack_all(&mut self) {
        for topic in self.owner.end(OwnerExit::Leave(LeaveReason::Left)) {
            self.presence.core.flush(&topic);
        }
    }

    /// Ends the owner of a task whose work is done: its presences leave as [`finished`](LeaveReason::Finished).
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
        core.holders.forget(self.owner.id());
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
