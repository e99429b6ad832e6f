//! Presences of channels.

use std::{fmt, sync::Arc};

use adsum_channels::{EndReason, News, Socket, SocketExtension, View, ViewState};
use adsum_pubsub::{Json, Message, Topic};
use adsum_tracker::{JoinedRow, Key, LeaveReason, OwnerExit, OwnerId, Ref};
use parking_lot::Mutex;

use crate::{
    OtherPubSub, Presence, PushStateError, TrackError, UpdateError,
    core::{Core, DiffSource},
    encode,
    handler::PresenceHandler,
    layer::PresenceLayer,
    owner::TypedOwner,
    topic_diff::TopicDiff,
    watch::PublishedDiff,
};

/// Presences whose owner is a channel: they leave with it, as [`left`](LeaveReason::Left) if its client left the topic,
/// [`finished`](LeaveReason::Finished) if the channel stopped by itself, [`crashed`](LeaveReason::Crashed) if it failed, and
/// [`gone`](LeaveReason::Gone) if its socket has closed.
///
/// What a handler changes is sent when the handler has returned and its reply is on its way, or, before that,
/// when it pushes the state.
impl<H: PresenceHandler> Presence<H> {
    /// Tracks a channel under its own topic, visible on this node when the call returns.
    ///
    /// # Errors
    /// The channel tracks the key already, the meta is no JSON object, something is over a limit, or the socket
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

    /// Tracks a channel under its own topic, or replaces its meta if that is another one, as [`Owner::set`] does.
    ///
    /// # Errors
    /// As [`track`](Self::track), but for being tracked already.
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

    /// The meta that a channel has tracked under its own topic. `None` if it doesn't track the key.
    pub fn meta(&self, socket: &mut Socket, key: impl Into<Key>) -> Option<H::Meta> {
        let topic = socket.topic().clone();
        self.of(socket).owner.read_meta(&topic, &key.into())
    }

    /// Replaces the meta that a channel has tracked under its own topic.
    ///
    /// # Errors
    /// The channel doesn't track the key, the meta is no JSON object, or it is over the limit.
    pub fn update(
        &self,
        socket: &mut Socket,
        key: impl Into<Key>,
        meta: H::Meta,
    ) -> Result<Ref, UpdateError> {
        self.update_with(socket, key, |_| meta)
    }

    /// Replaces the meta that a channel has tracked under its own topic by what `change` makes of it.
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

    /// Replaces the meta that a channel has tracked under any topic by what `change` makes of it.
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

    /// Removes what a channel has tracked under its own topic. Whether there was something.
    pub fn untrack(&self, socket: &mut Socket, key: &str) -> bool {
        self.untrack_in(socket, socket.topic().clone(), key)
    }

    /// Removes what a channel has tracked under any topic. Whether there was something.
    pub fn untrack_in(&self, socket: &mut Socket, topic: impl Into<Topic>, key: &str) -> bool {
        self.of(socket).change(topic.into(), |owner, topic| owner.untrack(topic, key))
    }

    /// Removes all that a channel has tracked, under any topic.
    pub fn untrack_all(&self, socket: &mut Socket) {
        let tracked = self.of(socket);
        for topic in tracked.owner.end(OwnerExit::Leave(LeaveReason::Left)) {
            tracked.note(topic);
        }
    }

    /// Sends the channel's client who is in its topic, as `presence_state`: once, after the join.
    ///
    /// The state is what the diffs sent so far add up to, and what this channel itself has tracked: so no ref is told
    /// twice. What `fetch` has to say of the keys is asked for first, unless it is held. From then on the client's view
    /// is kept by the topic's `presence_diff`s. A client that reads too slowly for them is sent the state again
    /// instead, once it has read what waits for it.
    ///
    /// With a [`diff_interval`](crate::Builder::diff_interval) of zero what this handler has changed is sent before the
    /// state, as in Phoenix.
    ///
    /// In a topic that is [counted](crate::Builder::counted) it is sent their number instead, as `presence_count`.
    ///
    /// # Errors
    /// As [`Socket::push`], and where the socket belongs to another [`PubSub`](crate::PubSub) than the presence.
    pub async fn push_state(&self, socket: &mut Socket) -> Result<(), PushStateError> {
        self.check_pubsub(socket)?;
        let topic = socket.topic().clone();
        if self.core.is_counted(&topic) {
            self.core.flush(&topic);
        } else {
            self.core.flush_for_state(&topic).await;
            self.core.fetch_for_list(&topic).await;
        }
        let owner = &self.of(socket).owner;
        let own = owner.presences().iter().filter(|(tracked, _)| *tracked == topic);
        let own = Mutex::new(Some(own.map(|(_, key)| key.clone()).collect()));
        let (owner, beyond) = (owner.id(), Mutex::default());
        // Read and queued in one critical section: no diff can come between.
        Ok(socket.show(StateView { core: self.core.clone(), topic, owner, own, beyond })?)
    }

    /// Reads a `presence_diff` of this presence that a channel [intercepts](adsum_channels::Channel::INTERCEPT), without
    /// going through its JSON. `None` for any other message.
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
        let part = message.source::<Part<H::Info>>()?;
        Some(TopicDiff::of(&part.published).without(&part.known))
    }

    fn check_pubsub(&self, socket: &Socket) -> Result<(), OtherPubSub> {
        if self.core.pubsub.is_same(socket.pubsub()) { Ok(()) } else { Err(OtherPubSub) }
    }

    fn of<'s>(&self, socket: &'s mut Socket) -> &'s mut TrackedChannel<H> {
        let is_ours = |tracked: &TrackedChannel<H>| Arc::ptr_eq(&tracked.presence.core, &self.core);
        socket.extension_or_insert_with(is_ours, || TrackedChannel {
            owner: self.core.tracker.owner(),
            presence: self.clone(),
            changed: Vec::new(),
        })
    }
}

/// Who is in a topic, as a client is shown it.
struct StateView<H: PresenceHandler> {
    core: Arc<Core<H>>,
    topic: Topic,
    /// The channel.
    owner: OwnerId,
    /// What it has tracked in the topic, for the first state. Later it may be something else.
    own: Mutex<Option<Vec<Key>>>,
    /// The rows of the channel that its client was shown before a diff has joined them.
    beyond: Mutex<Vec<Ref>>,
}

impl<H: PresenceHandler> View for StateView<H> {
    fn state(&self) -> ViewState {
        let own = self.own.lock().take();
        let (state, beyond) = self.core.shown(&self.topic, self.owner, own);
        *self.beyond.lock() = beyond;
        state
    }

    fn news(&self, change: &Message) -> News {
        let mut beyond = self.beyond.lock();
        if beyond.is_empty() {
            return News::All;
        }
        // Where each change is a diff of its own, a client hears of its own presences twice, as in Phoenix.
        let Some(source) = change.source::<DiffSource<H::Info>>().filter(|_| !self.core.tells_each()) else {
            return News::All;
        };
        let diff = source.published.diff();
        let known: Vec<Ref> =
            diff.joins.iter().map(|joined| joined.reference).filter(|r| beyond.contains(r)).collect();
        let left = |reference: &Ref| diff.leaves.iter().any(|left| left.row.reference == *reference);
        beyond.retain(|reference| !known.contains(reference) && !left(reference));
        beyond.shrink_to_fit();
        match &known[..] {
            [] => News::All,
            known if known.len() == diff.joins.len() && diff.leaves.is_empty() => News::Nothing,
            known => {
                let Some(rest) = source.without(known, change.payload()) else { return News::All };
                let (published, known) = (source.published.clone(), known.to_vec());
                let part = Message::new(change.topic().clone(), change.event(), rest.into())
                    .marked(self.core.mark(published.number()))
                    .with_source(Arc::new(Part { published, known }));
                News::Part(Arc::new(part))
            }
        }
    }
}

/// What a diff for a client was made of that knows some of the rows already.
struct Part<I> {
    published: Arc<PublishedDiff<I>>,
    known: Vec<Ref>,
}

impl<I> DiffSource<I> {
    /// The payload without some of the rows that join.
    fn without(&self, known: &[Ref], payload: &adsum_pubsub::Payload) -> Option<Json> {
        let adsum_pubsub::Payload::Json(json) = payload else { return None };
        let (text, joins) = (json.as_bytes(), &self.published.diff().joins);
        let is_known = |joined: &&JoinedRow| known.contains(&joined.reference);
        let cut: Vec<&Key> = joins.iter().filter(is_known).map(|joined| &joined.row.key).collect();
        let (first, last) = (&self.places.first()?.1, &self.places.last()?.1);
        let mut out = Vec::with_capacity(text.len());
        out.extend_from_slice(&text[..first.start]);
        for (key, place) in &self.places {
            let start = out.len();
            if start > first.start {
                out.push(b',');
            }
            if !cut.contains(&key) {
                out.extend_from_slice(&text[place.clone()]);
                continue;
            }
            let mut rest = joins.iter().filter(|joined| joined.key == *key && !is_known(joined)).peekable();
            if rest.peek().is_some() {
                let info = self.published.info(key).map(|info| &**info);
                encode::join_entry(&mut out, key, rest, info);
            } else {
                out.truncate(start);
            }
        }
        out.extend_from_slice(&text[last.end..]);
        Some(Json::from_encoded(out))
    }
}

/// What hangs on a channel's socket: the owner of its presences.
struct TrackedChannel<H: PresenceHandler> {
    owner: adsum_tracker::RawOwner<PresenceLayer<H>>,
    presence: Presence<H>,
    /// Topics that the running handler has changed.
    changed: Vec<Topic>,
}

impl<H: PresenceHandler> TrackedChannel<H> {
    fn change<T>(
        &mut self,
        topic: Topic,
        change: impl FnOnce(&mut adsum_tracker::RawOwner<PresenceLayer<H>>, &Topic) -> T,
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
        let owner_exit = match (reason, self.presence.core.tracker.owner_exit()) {
            (LeaveReason::Left, _) => OwnerExit::Leave(LeaveReason::Left),
            // Its client comes back, as a rule.
            (LeaveReason::Gone | LeaveReason::Crashed, OwnerExit::Leave(LeaveReason::Gone))
                if !linger.is_zero() =>
            {
                OwnerExit::Depart(reason, linger)
            }
            (_, owner_exit) => owner_exit.because(reason),
        };
        for topic in self.owner.end(owner_exit) {
            self.note(topic);
        }
        self.handler_returned();
    }
}

impl<H: PresenceHandler> Drop for TrackedChannel<H> {
    fn drop(&mut self) {
        // Left over only where the channel was aborted in a handler. The owner's own drop sees to the rest.
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
