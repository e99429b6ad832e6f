//! Owners: whose end ends presences.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use adsum_pubsub::Topic;
use smallvec::SmallVec;

use crate::{Key, Layer, Meta, OverLimit, OwnerExit, LeaveReason, Ref, Tracker, shard_of};

/// Names an owner within its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(u64);

impl OwnerId {
    /// Stands for all owners of other nodes.
    pub const REMOTE: Self = Self(0);

    /// A new id, unlike all others of this process.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "owner-{}", self.0)
    }
}

/// Tracks presences, and ends them with itself.
///
/// A task keeps its owner in a variable: however the task ends, by return, panic, abort or with its runtime,
/// the owner is dropped and its presences leave.
pub struct RawOwner<X: Layer> {
    tracker: Arc<Tracker<X>>,
    id: OwnerId,
    held: SmallVec<[(Topic, Key); 1]>,
}

impl<X: Layer> RawOwner<X> {
    pub(crate) fn new(tracker: Arc<Tracker<X>>) -> Self {
        Self { tracker, id: OwnerId::unique(), held: SmallVec::new() }
    }

    /// This owner's name. After an [`end`](Self::end) with presences that stay for a while it has another.
    pub fn id(&self) -> OwnerId {
        self.id
    }

    /// Adds a presence, visible on this node when the call returns.
    ///
    /// # Errors
    /// This owner tracks the topic and key already, or something is over a limit. Nothing is changed then.
    pub fn track(&mut self, topic: &Topic, key: &Key, meta: Meta) -> Result<Ref, TrackError> {
        let Self { tracker, id, held } = self;
        tracker.limits().check_presence(topic, key, held.len())?;
        tracker.limits().check_meta(meta.as_str())?;
        let reference = tracker.next_ref();
        let tracked = {
            let mut shard = tracker.lock(topic);
            // One that is about to leave makes room for it.
            if let Some(set) = shard.topic(topic)
                && let Some(group) = set.group(key)
                && set.find(*id, key).is_none()
                && set.departing(key).is_none()
            {
                tracker.limits().check_presences_of_key(group.rows().len())?;
            }
            shard.track(*id, topic, key, meta, reference)
        };
        if !tracked {
            return Err(TrackError::AlreadyTracked { owner: *id, topic: topic.clone(), key: key.clone() });
        }
        tracker.to_publish(topic);
        held.push((topic.clone(), key.clone()));
        Ok(reference)
    }

    /// Replaces the meta of a presence by what `change` makes of it.
    ///
    /// # Errors
    /// This owner doesn't track the topic and key, the new meta is over the limit, or `change` failed.
    pub fn update<E>(
        &mut self,
        topic: &Topic,
        key: &Key,
        change: impl FnOnce(&Meta) -> Result<Meta, E>,
    ) -> Result<Ref, UpdateError<E>> {
        let missing = || UpdateError::NotTracked { owner: self.id, topic: topic.clone(), key: key.clone() };
        // `change` is the program's and may take its time: it runs without the lock. Only this owner, borrowed
        // here, can change the meta meanwhile.
        let old = self.tracker.lock(topic).find(self.id, topic, key).cloned().ok_or_else(missing)?;
        let new = change(&old).map_err(UpdateError::Change)?;
        self.tracker.limits().check_meta(new.as_str())?;
        let reference = self.tracker.next_ref();
        let updated = self.tracker.lock(topic).update(self.id, topic, key, new, reference);
        self.tracker.to_publish(topic);
        if updated { Ok(reference) } else { Err(missing()) }
    }

    /// Adds a presence, or replaces its meta. Returns its new name; `None` if the meta is what it was.
    ///
    /// # Errors
    /// Something is over a limit. Nothing is changed then.
    pub fn set(&mut self, topic: &Topic, key: &Key, meta: Meta) -> Result<Option<Ref>, TrackError> {
        match self.meta(topic, key) {
            None => return self.track(topic, key, meta).map(Some),
            Some(old) if old == meta => return Ok(None),
            Some(_) => {}
        }
        self.tracker.limits().check_meta(meta.as_str())?;
        let reference = self.tracker.next_ref();
        // Only this owner, borrowed here, can end the presence meanwhile.
        let updated = self.tracker.lock(topic).update(self.id, topic, key, meta, reference);
        self.tracker.to_publish(topic);
        Ok(updated.then_some(reference))
    }

    /// The meta of a presence of this owner.
    pub fn meta(&self, topic: &Topic, key: &str) -> Option<Meta> {
        self.tracker.lock(topic).find(self.id, topic, key).cloned()
    }

    /// Removes a presence. Whether there was one.
    pub fn untrack(&mut self, topic: &str, key: &str) -> bool {
        let Some(index) = self.held.iter().position(|(t, k)| t.as_str() == topic && k.as_str() == key) else {
            return false;
        };
        let (topic, key) = self.held.swap_remove(index);
        let removed = self.tracker.lock(&topic).untrack(self.id, &topic, [&key], LeaveReason::Left);
        self.tracker.to_publish(&topic);
        removed == 1
    }

    /// Ends all presences of this owner, those of a topic as one change, and returns the topics that it was in.
    pub fn end(&mut self, owner_exit: OwnerExit) -> Vec<Topic> {
        let mut held = std::mem::take(&mut self.held);
        held.sort();
        let mut topics = Vec::new();
        for of_topic in held.chunk_by(|(a, _), (b, _)| a == b) {
            let topic = &of_topic[0].0;
            let keys = of_topic.iter().map(|(_, key)| key);
            match owner_exit {
                OwnerExit::Leave(reason) => {
                    self.tracker.lock(topic).untrack(self.id, topic, keys, reason);
                    self.tracker.to_publish(topic);
                }
                OwnerExit::Depart(reason, grace) => {
                    self.tracker.lock(topic).depart(self.id, topic, keys, reason, grace);
                    self.tracker.wake_for(shard_of(topic));
                }
            }
            topics.push(topic.clone());
        }
        if matches!(owner_exit, OwnerExit::Depart(..)) {
            // What departs isn't this owner's any more: it may track the same again.
            self.id = OwnerId::unique();
        }
        topics
    }

    /// What this owner tracks.
    pub fn presences(&self) -> &[(Topic, Key)] {
        &self.held
    }
}

impl<X: Layer> Drop for RawOwner<X> {
    fn drop(&mut self) {
        for topic in self.end(self.tracker.owner_exit()) {
            self.tracker.owner_dropped(&topic);
        }
    }
}

impl<X: Layer> fmt::Debug for RawOwner<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawOwner").field("id", &self.id).field("presences", &self.held).finish_non_exhaustive()
    }
}

/// Why something wasn't tracked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    /// The same owner tracks this topic and key already.
    #[error(
        "already tracked: {owner} is in topic {topic:?} under key {key:?}; update it, or untrack it first"
    )]
    AlreadyTracked {
        /// Who tracks it.
        owner: OwnerId,
        /// Where.
        topic: Topic,
        /// As whom.
        key: Key,
    },
    /// It is larger than allowed.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// Why something wasn't updated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError<E> {
    /// The owner doesn't track this topic and key.
    #[error("not tracked: {owner} isn't in topic {topic:?} under key {key:?}; track it first")]
    NotTracked {
        /// Who doesn't track it.
        owner: OwnerId,
        /// Where.
        topic: Topic,
        /// As whom.
        key: Key,
    },
    /// The new meta is larger than allowed.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The new meta couldn't be made from the old one.
    #[error("the new meta can't be made")]
    Change(#[source] E),
}
