//! Owners: each ends its presences when it is dropped.

use std::{fmt, sync::Arc};

use adsum_pubsub::Topic;
use smallvec::SmallVec;

use crate::{
    layer::Layer,
    leave_reason::LeaveReason,
    limits::OverLimit,
    meta::{Key, Meta},
    reference::Ref,
    row::OwnerId,
    sharding::shard_of,
    tracker::{OwnerExit, Tracker},
};

/// Tracks presences with encoded metas, and ends them when it is dropped.
///
/// A task keeps its owner in a variable. However the task ends, by return, panic, abort or with its runtime, the owner
/// is dropped and its presences leave.
pub struct RawOwner<X: Layer> {
    tracker: Arc<Tracker<X>>,
    id: OwnerId,
    presences: SmallVec<[(Topic, Key); 1]>,
}

impl<X: Layer> Tracker<X> {
    /// Makes an owner without presences.
    pub fn owner(self: &Arc<Self>) -> RawOwner<X> {
        RawOwner { tracker: self.clone(), id: OwnerId::unique(), presences: SmallVec::new() }
    }
}

impl<X: Layer> RawOwner<X> {
    /// Returns this owner's name, which changes with an [`end`](Self::end) after which presences depart.
    pub fn id(&self) -> OwnerId {
        self.id
    }

    /// Adds a presence, visible on this node when the call returns.
    ///
    /// # Errors
    /// This owner tracks the topic and key already, or the presence is over a limit. Nothing is changed then.
    pub fn track(&mut self, topic: &Topic, key: &Key, meta: Meta) -> Result<Ref, RawTrackError> {
        let Self { tracker, id, presences } = self;
        let counts = tracker.limit_counts();
        counts.note(tracker.limits().check_presence(topic, key, presences.len()))?;
        counts.note(tracker.limits().check_meta(meta.as_str()))?;
        counts.meta_bytes.note(meta.as_str().len());
        counts.of_owner.note(presences.len() + 1);
        let reference = tracker.next_ref();
        let (tracked, of_key) = {
            let mut of_key = 1;
            let mut shard = tracker.lock(topic);
            // A presence that is about to leave makes room for it.
            if let Some(set) = shard.topic(topic)
                && let Some(group) = set.group(key)
                && set.find(*id, key).is_none()
                && set.departing(key).is_none()
            {
                counts.note(tracker.limits().check_presences_of_key(group.rows().len()))?;
                of_key = group.rows().len() + 1;
            }
            (shard.track(*id, topic, key, meta, reference), of_key)
        };
        // Without the lock, since it may write to the log.
        counts.of_key.note(of_key);
        if !tracked {
            return Err(RawTrackError::AlreadyTracked { owner: *id, topic: topic.clone(), key: key.clone() });
        }
        tracker.to_publish(topic);
        presences.push((topic.clone(), key.clone()));
        Ok(reference)
    }

    /// Replaces the meta of a presence by the result of `change`.
    ///
    /// # Errors
    /// This owner doesn't track the topic and key, the new meta is over the limit, or `change` failed.
    pub fn update<E>(
        &mut self,
        topic: &Topic,
        key: &Key,
        change: impl FnOnce(&Meta) -> Result<Meta, E>,
    ) -> Result<Ref, RawUpdateError<E>> {
        let missing =
            || RawUpdateError::NotTracked { owner: self.id, topic: topic.clone(), key: key.clone() };
        // `change` is the program's and may take long, so it runs without the lock. Only this owner, borrowed here, can
        // change the meta meanwhile.
        let old = self.tracker.lock(topic).find(self.id, topic, key).cloned().ok_or_else(missing)?;
        let new = change(&old).map_err(RawUpdateError::Change)?;
        self.tracker.limit_counts().note(self.tracker.limits().check_meta(new.as_str()))?;
        self.tracker.limit_counts().meta_bytes.note(new.as_str().len());
        let reference = self.tracker.next_ref();
        let updated = self.tracker.lock(topic).update(self.id, topic, key, new, reference);
        self.tracker.to_publish(topic);
        if updated { Ok(reference) } else { Err(missing()) }
    }

    /// Adds a presence, or replaces its meta. Returns its new name, or `None` if the meta is unchanged.
    ///
    /// # Errors
    /// The presence is over a limit. Nothing is changed then.
    pub fn set(&mut self, topic: &Topic, key: &Key, meta: Meta) -> Result<Option<Ref>, RawTrackError> {
        match self.meta(topic, key) {
            None => return self.track(topic, key, meta).map(Some),
            Some(old) if old == meta => return Ok(None),
            Some(_) => {}
        }
        self.tracker.limit_counts().note(self.tracker.limits().check_meta(meta.as_str()))?;
        self.tracker.limit_counts().meta_bytes.note(meta.as_str().len());
        let reference = self.tracker.next_ref();
        // Only this owner, borrowed here, can end the presence meanwhile.
        let updated = self.tracker.lock(topic).update(self.id, topic, key, meta, reference);
        self.tracker.to_publish(topic);
        Ok(updated.then_some(reference))
    }

    /// Returns the meta of a presence of this owner.
    pub fn meta(&self, topic: &Topic, key: &str) -> Option<Meta> {
        self.tracker.lock(topic).find(self.id, topic, key).cloned()
    }

    /// Removes a presence. Returns whether there was one.
    pub fn untrack(&mut self, topic: &str, key: &str) -> bool {
        let Some(index) = self.presences.iter().position(|(t, k)| t.as_str() == topic && k.as_str() == key)
        else {
            return false;
        };
        let (topic, key) = self.presences.swap_remove(index);
        let removed = self.tracker.lock(&topic).untrack(self.id, &topic, [&key], LeaveReason::Left);
        self.tracker.to_publish(&topic);
        removed == 1
    }

    /// Ends all presences of this owner, those of a topic as one change. Returns their topics.
    pub fn end(&mut self, exit: OwnerExit) -> Vec<Topic> {
        let mut presences = std::mem::take(&mut self.presences);
        presences.sort();
        let mut topics = Vec::new();
        for of_topic in presences.chunk_by(|(a, _), (b, _)| a == b) {
            let topic = &of_topic[0].0;
            let keys = of_topic.iter().map(|(_, key)| key);
            match exit {
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
        if matches!(exit, OwnerExit::Depart(..)) {
            // Departing presences aren't this owner's any more: it may track the same again.
            self.id = OwnerId::unique();
        }
        topics
    }

    /// Returns the topics and keys that this owner tracks.
    pub fn presences(&self) -> &[(Topic, Key)] {
        &self.presences
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
        f.debug_struct("RawOwner")
            .field("id", &self.id)
            .field("presences", &self.presences)
            .finish_non_exhaustive()
    }
}

/// Why a presence wasn't tracked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawTrackError {
    /// The same owner tracks this topic and key already.
    #[error(
        "already tracked: {owner} is in topic {topic:?} under key {key:?}; update it, or untrack it first"
    )]
    AlreadyTracked {
        /// The owner.
        owner: OwnerId,
        /// The topic.
        topic: Topic,
        /// The key.
        key: Key,
    },
    /// The presence is over a limit.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
}

/// Why a presence wasn't updated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawUpdateError<E> {
    /// The owner doesn't track this topic and key.
    #[error("not tracked: {owner} isn't in topic {topic:?} under key {key:?}; track it first")]
    NotTracked {
        /// The owner.
        owner: OwnerId,
        /// The topic.
        topic: Topic,
        /// The key.
        key: Key,
    },
    /// The new meta is over a limit.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// `change` failed to make the new meta.
    #[error("the new meta can't be made from the old one")]
    Change(#[source] E),
}
