//! Presences of channels.

use std::{fmt, sync::Arc};

use adsum_channels::{EndReason, Socket, SocketExtension};
use adsum_pubsub::{Message, Topic};
use adsum_tracker::{Key, LeaveReason, OwnerExit, RawOwner, Ref};

use crate::{
    diffs::{DiffSource, PartialDiff},
    errors::{OtherPubSub, PushStateError, TrackError, UpdateError},
    handler::PresenceHandler,
    layer::PresenceLayer,
    presence::Presence,
    topic_diff::TopicDiff,
    typed_owner::TypedOwner,
    view::StateView,
};

/// Presences of a channel. They leave with it: as [`left`](LeaveReason::Left) if its client left the topic,
/// [`finished`](LeaveReason::Finished) if the channel stopped by itself, [`crashed`](LeaveReason::Crashed) if it
/// failed, and [`gone`](LeaveReason::Gone) if its socket has closed.
///
/// A handler's changes are sent when the handler has returned and its reply is queued, or before that, when it pushes
/// the state.
impl<H: PresenceHandler> Presence<H> {
    /// Tracks a channel under its own topic, visible on this node when the call returns.
    ///
    /// # Errors
    /// The channel tracks the key already, the meta isn't a JSON object, the presence is over a limit, or the socket
    /// belongs to another [`PubSub`](crate::PubSub) than the presence.
    pub fn track(&self, socket: &mut Socket, key: impl Into<Key>, meta: H::Meta) -> Result<Ref, TrackError> {
        self.track_in(socket, socket.topic().clone(), key, meta)
    }

    /// Tracks a channel under any topic, such as `users:online`.
    ///
    /// # Errors
    /// As [`track`](Self::track).
    pub fn track_in(
        &self,
        socket: &mut Socket,
        topic: impl Into<Topic>,
        key: impl Into<Key>,
        meta: H::Meta,
    ) -> Result<Ref, TrackError> {
        self.check_pubsub(socket)?;
        self.of(socket).change(topic.into(), |owner, topic| owner.track_meta(topic, &key.into(), &meta))
    }

    /// Tracks a channel under its own topic, or replaces its meta if that has changed, as [`Owner::set`] does.
    ///
    /// # Errors
    /// As [`track`](Self::track), except that a tracked key is no error.
    ///
    /// [`Owner::set`]: crate::Owner::set
    pub fn set(
        &self,
        socket: &mut Socket,
        key: impl Into<Key>,
        meta: H::Meta,
    ) -> Result<Option<Ref>, TrackError> {
        self.check_pubsub(socket)?;
        let topic = socket.topic().clone();
        self.of(socket).change(topic, |owner, topic| owner.set_meta(topic, &key.into(), &meta))
    }

    /// Returns the meta that a channel tracks under its own topic. `None` if it doesn't track the key.
    pub fn meta(&self, socket: &mut Socket, key: impl Into<Key>) -> Option<H::Meta> {
        let topic = socket.topic().clone();
        self.of(socket).owner.read_meta(&topic, &key.into())
    }

    /// Replaces the meta that a channel tracks under its own topic.
    ///
    /// # Errors
    /// The channel doesn't track the key, the meta isn't a JSON object, or it is over the limit.
    pub fn update(
        &self,
        socket: &mut Socket,
        key: impl Into<Key>,
        meta: H::Meta,
    ) -> Result<Ref, UpdateError> {
        self.update_with(socket, key, |_| meta)
    }

    /// Replaces the meta that a channel tracks under its own topic by the result of `change`.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_with(
        &self,
        socket: &mut Socket,
        key: impl Into<Key>,
        change: impl FnOnce(H::Meta) -> H::Meta,
    ) -> Result<Ref, UpdateError> {
        self.update_in(socket, socket.topic().clone(), key, change)
    }

    /// Replaces the meta that a channel tracks under any topic by the result of `change`.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_in(
        &self,
        socket: &mut Socket,
        topic: impl Into<Topic>,
        key: impl Into<Key>,
        change: impl FnOnce(H::Meta) -> H::Meta,
    ) -> Result<Ref, UpdateError> {
        self.of(socket).change(topic.into(), |owner, topic| owner.update_meta(topic, &key.into(), change))
    }

    /// Removes a presence of a channel under its own topic. Returns whether there was one.
    pub fn untrack(&self, socket: &mut Socket, key: impl Into<Key>) -> bool {
        self.untrack_in(socket, socket.topic().clone(), key)
    }

    /// Removes a presence of a channel under any topic. Returns whether there was one.
    pub fn untrack_in(&self, socket: &mut Socket, topic: impl Into<Topic>, key: impl Into<Key>) -> bool {
        let key = key.into();
        self.of(socket).change(topic.into(), |owner, topic| owner.untrack(topic, &key))
    }

    /// Removes all presences of a channel, under any topic.
    pub fn untrack_all(&self, socket: &mut Socket) {
        let tracked = self.of(socket);
        for topic in tracked.owner.end(OwnerExit::Leave(LeaveReason::Left)) {
            tracked.note(topic);
        }
    }

    /// Sends the channel's client the presences of its topic, as `presence_state`: once, after the join.
    ///
    /// The state is the sum of the diffs sent so far, and the presences of this channel itself, so no ref is told
    /// twice. Missing infos are fetched first. From then on the topic's `presence_diff`s keep the client's view up to
    /// date. A client that reads too slowly for them gets the state again instead, once it has read what is queued for
    /// it.
    ///
    /// With a [`diff_interval`](crate::Builder::diff_interval) of zero, the changes of this handler are sent before the
    /// state, as in Phoenix.
    ///
    /// In a [counted](crate::Builder::counted) topic the client gets the number of presences instead, as
    /// `presence_count`.
    ///
    /// # Errors
    /// As [`Socket::push`], and if the socket belongs to another [`PubSub`](crate::PubSub) than the presence.
    pub async fn push_state(&self, socket: &mut Socket) -> Result<(), PushStateError> {
        self.check_pubsub(socket)?;
        let topic = socket.topic().clone();
        let is_counted = self.core.policy.is_counted(&topic);
        if is_counted {
            self.core.flush(&topic);
        } else {
            self.core.flush_for_state(&topic).await;
            self.core.fetch_for_list(&topic).await;
        }
        let owner = &self.of(socket).owner;
        let own = owner.presences().iter().filter(|(tracked, _)| *tracked == topic);
        let own = own.map(|(_, key)| key.clone()).collect();
        let view = StateView::new(self.core.clone(), topic, owner.id(), own);
        if socket.compresses() && !is_counted {
            // Outside the critical section. A piece that changes until then is sent as it is.
            socket.compress_parts(&view.shared_state()).await;
        }
        // The state is read and queued in one critical section, so no diff can come in between.
        Ok(socket.show(view)?)
    }

    /// Returns a `presence_diff` of this presence that a channel [intercepts](adsum_channels::Channel::INTERCEPT),
    /// without parsing its JSON. `None` for any other message.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use adsum::{Channel, JoinResult, Joined, Message, NoParams, Presence, Socket, Stop, Topic};
    /// struct Room(Presence);
    ///
    /// impl Channel for Room {
    ///     type App = Presence;
    ///     type Params = NoParams;
    ///     type Info = ();
    ///     const INTERCEPT: &'static [&'static str] = &["presence_diff"];
    ///
    ///     async fn handle_out(&mut self, message: Arc<Message>, socket: &mut Socket) -> Result<(), Stop> {
    ///         if let Some(diff) = self.0.read_diff(&message) {
    ///             socket.push("crowd", diff.joins.len())?;
    ///         }
    ///         Ok(())
    ///     }
    /// #   async fn join(app: &Presence, _: &Topic, _: NoParams, _: &mut Socket) -> JoinResult<Self> {
    /// #       Ok(Joined::new(Self(app.clone())))
    /// #   }
    /// }
    /// ```
    pub fn read_diff(&self, message: &Message) -> Option<TopicDiff<H>> {
        // Another presence may send diffs of the same types.
        message.mark().filter(|mark| self.core.is_ours(*mark))?;
        if let Some(source) = message.source::<DiffSource<H::Info>>() {
            return Some(TopicDiff::of(&source.published));
        }
        let part = message.source::<PartialDiff<H::Info>>()?;
        Some(TopicDiff::of(&part.published).without(&part.known))
    }

    fn check_pubsub(&self, socket: &Socket) -> Result<(), OtherPubSub> {
        if self.core.pubsub.is_same(socket.pubsub()) { Ok(()) } else { Err(OtherPubSub) }
    }

    fn of<'s>(&self, socket: &'s mut Socket) -> &'s mut TrackedChannel<H> {
        let is_ours = |tracked: &TrackedChannel<H>| Arc::ptr_eq(&tracked.presence.core, &self.core);
        // Looked up twice at the first use, and without a handle to the socket later.
        let probe = socket.extension(is_ours).is_none().then(|| socket.probe());
        socket.extension_or_insert_with(is_ours, || {
            let owner = self.core.tracker.owner();
            self.core.holders.begin(owner.id(), probe);
            TrackedChannel { owner, presence: self.clone(), changed: Vec::new() }
        })
    }
}

/// The owner of a channel's presences, an extension of its socket.
struct TrackedChannel<H: PresenceHandler> {
    owner: RawOwner<PresenceLayer<H>>,
    presence: Presence<H>,
    /// The topics that the running handler has changed.
    changed: Vec<Topic>,
}

impl<H: PresenceHandler> TrackedChannel<H> {
    fn change<T>(
        &mut self,
        topic: Topic,
        change: impl FnOnce(&mut RawOwner<PresenceLayer<H>>, &Topic) -> T,
    ) -> T {
        let changed = change(&mut self.owner, &topic);
        self.note(topic);
        changed
    }

    fn note(&mut self, topic: Topic) {
        if !self.changed.contains(&topic) {
            self.changed.push(topic);
        }
    }
}

impl<H: PresenceHandler> SocketExtension for TrackedChannel<H> {
    fn handler_returned(&mut self) {
        for topic in std::mem::take(&mut self.changed) {
            self.presence.core.flush(&topic);
        }
    }

    fn channel_ended(&mut self, reason: &EndReason) {
        let linger = self.presence.core.timing.linger;
        let reason = match reason {
            EndReason::Left => LeaveReason::Left,
            EndReason::Stopped | EndReason::Shutdown => LeaveReason::Finished,
            EndReason::Crashed | EndReason::Overloaded => LeaveReason::Crashed,
            _ => LeaveReason::Gone,
        };
        let exit = match (reason, self.presence.core.tracker.owner_exit()) {
            (LeaveReason::Left, _) => OwnerExit::Leave(LeaveReason::Left),
            // Usually the client comes back.
            (LeaveReason::Gone | LeaveReason::Crashed, OwnerExit::Leave(LeaveReason::Gone))
                if !linger.is_zero() =>
            {
                OwnerExit::Depart(reason, linger)
            }
            (_, exit) => exit.because(reason),
        };
        // Under a grace the owner has another name afterwards.
        self.presence.core.holders.end(self.owner.id());
        for topic in self.owner.end(exit) {
            self.note(topic);
        }
        self.handler_returned();
    }
}

impl<H: PresenceHandler> Drop for TrackedChannel<H> {
    fn drop(&mut self) {
        self.presence.core.holders.forget(self.owner.id());
        // Not empty only if the channel was aborted in a handler. The owner's drop sees to the other topics.
        for topic in &self.changed {
            self.presence.core.backlog.look_at(topic);
        }
    }
}

impl<H: PresenceHandler> fmt::Debug for TrackedChannel<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.owner.fmt(f)
    }
}
