//! A channel's side of its socket.

use std::{any::Any, any::TypeId, fmt, sync::Arc};

use adsum_pubsub::{Attachment, BroadcastError, IntoPayload, Json, PubSub, SubscriberId, Topic, event};
use ecow::EcoString;

use crate::{
    assigns::Assigns,
    channel_link::{ChannelLink, ExtraSubscription},
    end_reason::EndReason,
    extension::SocketExtension,
    frame::compress_parts,
    probe::SocketProbe,
    push_error::PushError,
    reply::ReplyRef,
    view::View,
};

/// A channel's handle to its socket: sends to the client and to topics. Each channel has its own.
pub struct Socket {
    link: Arc<ChannelLink>,
    assigns: Arc<Assigns>,
    pubsub: PubSub,
    id: SubscriberId,
    channel: TypeId,
    joined: bool,
    /// The ref of the event that is being handled.
    pub(crate) answering: Option<EcoString>,
    /// The attachment to the channel's own topic, once joined.
    attachment: Option<Attachment>,
    extra: Vec<Attachment>,
    extensions: Vec<Box<dyn SocketExtension>>,
}

impl Socket {
    /// The channel's topic.
    pub fn topic(&self) -> &Topic {
        self.link.topic()
    }

    /// The values that were assigned when the socket connected, and those of the channel's route.
    pub fn assigns(&self) -> &Assigns {
        &self.assigns
    }

    /// The `PubSub` of this node.
    pub fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// Identifies this channel as a sender, for [`PubSub::broadcast_from`].
    pub fn subscriber_id(&self) -> SubscriberId {
        self.id
    }

    /// A handle to the client's socket, for operators: what carries it, when it was last heard, and what it sends.
    pub fn probe(&self) -> SocketProbe {
        self.link.probe()
    }

    /// Sends an event to the client of this channel.
    ///
    /// # Errors
    /// Nothing is sent: the event's name begins with `phx_`, the payload can't be encoded, or the client has not joined
    /// yet. A disconnected client is no error; its channel is about to end.
    pub fn push(&mut self, event: &str, payload: impl IntoPayload) -> Result<(), PushError> {
        event::check_push(event)?;
        self.check_joined()?;
        Ok(self.link.push(event, &payload.into_payload()?)?)
    }

    /// Sends an event of another topic to the client of this channel, for clients that listen to topics without joining
    /// them. If the client has joined that topic on this socket, its channel gets the event.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_to(&mut self, topic: &str, event: &str, payload: impl IntoPayload) -> Result<(), PushError> {
        event::check_push(event)?;
        self.check_joined()?;
        Ok(self.link.push_to(topic, event, &payload.into_payload()?)?)
    }

    /// Sends an event whose payload is created in the socket's critical section.
    ///
    /// No frame comes between reading the data in `payload` and its frame: a broadcast that the data doesn't reflect
    /// yet follows the frame, and one that it reflects precedes it, provided that the data changes before it is
    /// broadcast.
    ///
    /// Lock order: the socket, then the locks that `payload` takes. `payload` must be quick, and must neither broadcast
    /// nor push, which would deadlock.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_with<P: IntoPayload>(
        &mut self,
        event: &str,
        payload: impl FnOnce() -> P,
    ) -> Result<(), PushError> {
        event::check_push(event)?;
        self.check_joined()?;
        self.link.push_with(event, || Ok(payload().into_payload()?))
    }

    /// Sends the state of a view, which replaces the view shown before. Broadcast its changes to the channel's topic,
    /// with the [marks](adsum_pubsub::Mark) of the view's sender.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn show(&mut self, view: impl View) -> Result<(), PushError> {
        self.check_joined()?;
        Ok(self.link.show(Box::new(view))?)
    }

    /// Whether messages to this client may be [compressed](crate::SocketBuilder::compress_over).
    pub fn compresses(&self) -> bool {
        self.link.codec().compresses()
    }

    /// Compresses the [shared parts](adsum_pubsub::JsonPart::shared) of a text, if this client accepts compression and
    /// nobody did it before. Call it before the text is sent from a critical section, as by [`show`](Self::show) and
    /// [`push_with`](Self::push_with): there, what isn't compressed yet is sent as it is.
    pub async fn compress_parts(&mut self, text: &Json) {
        if self.link.codec().compresses_len(text.len()) {
            compress_parts(text).await;
        }
    }

    /// Sends an event to all clients that have joined the topic, on all nodes, including this one.
    ///
    /// # Errors
    /// As [`PubSub::broadcast`].
    pub fn broadcast(&self, event: &str, payload: impl IntoPayload) -> Result<(), BroadcastError> {
        self.pubsub.broadcast(self.topic(), event, payload)
    }

    /// Sends an event to all clients that have joined the topic, except this one.
    ///
    /// # Errors
    /// As [`PubSub::broadcast`].
    pub fn broadcast_from(&self, event: &str, payload: impl IntoPayload) -> Result<(), BroadcastError> {
        self.pubsub.broadcast_from(self.id, self.topic(), event, payload)
    }

    /// Returns a handle to reply to the current event later, from any task. The handler then returns
    /// [`Reply::none`](crate::Reply::none). `None` if no event is being handled.
    pub fn reply_ref(&self) -> Option<ReplyRef> {
        let reference = self.answering.clone()?;
        Some(ReplyRef::new(Arc::downgrade(&self.link), reference))
    }

    /// Subscribes the channel to an extra topic, whose messages go to [`handle_message`](crate::Channel::handle_message). If
    /// it is subscribed twice, each message arrives twice.
    pub fn subscribe(&mut self, topic: impl Into<Topic>) {
        let subscription = Arc::new(ExtraSubscription(self.link.clone()));
        self.extra.push(self.pubsub.attach(topic, self.id, subscription));
    }

    /// Ends all subscriptions from [`subscribe`](Self::subscribe) to a topic.
    pub fn unsubscribe(&mut self, topic: &str) {
        self.extra.retain(|attachment| attachment.topic().as_str() != topic);
    }

    /// Returns this channel's extension of type `T` for which `find` returns true.
    pub fn extension<T: SocketExtension>(&mut self, find: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.extensions
            .iter_mut()
            .filter_map(|extension| (extension.as_mut() as &mut dyn Any).downcast_mut())
            .find(|extension| find(extension))
    }

    /// As [`extension`](Self::extension), but adds a new one if none is found.
    pub fn extension_or_insert_with<T: SocketExtension>(
        &mut self,
        find: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> &mut T {
        let picked = self
            .extensions
            .iter()
            .position(|extension| (extension.as_ref() as &dyn Any).downcast_ref().is_some_and(&find));
        let index = picked.unwrap_or_else(|| {
            self.extensions.push(Box::new(make()));
            self.extensions.len() - 1
        });
        (self.extensions[index].as_mut() as &mut dyn Any)
            .downcast_mut()
            .expect("the extension was picked or made as a T")
    }

    fn check_joined(&self) -> Result<(), PushError> {
        if self.joined { Ok(()) } else { Err(PushError::NotJoined) }
    }
}

/// For the channel's task.
impl Socket {
    /// `channel` is the channel's type.
    pub(crate) fn new(
        link: Arc<ChannelLink>,
        channel: TypeId,
        assigns: Arc<Assigns>,
        pubsub: PubSub,
    ) -> Self {
        Self {
            link,
            assigns,
            pubsub,
            id: SubscriberId::unique(),
            channel,
            joined: false,
            answering: None,
            attachment: None,
            extra: Vec::new(),
            extensions: Vec::new(),
        }
    }

    pub(crate) fn channel_type(&self) -> TypeId {
        self.channel
    }

    pub(crate) fn shared_assigns(&self) -> &Arc<Assigns> {
        &self.assigns
    }

    pub(crate) fn link(&self) -> &Arc<ChannelLink> {
        &self.link
    }

    /// Attaches the client to the topic. Called with the outbound lock held.
    pub(crate) fn attach(&mut self) {
        self.joined = true;
        self.attachment = Some(self.pubsub.attach(self.topic(), self.id, self.link.clone()));
    }

    pub(crate) fn detach(&mut self) {
        self.attachment = None;
        self.extra.clear();
    }

    pub(crate) fn handler_returned(&mut self) {
        for extension in &mut self.extensions {
            extension.handler_returned();
        }
    }

    pub(crate) fn channel_ended(&mut self, reason: &EndReason) {
        for extension in &mut self.extensions {
            extension.channel_ended(reason);
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("topic", self.topic())
            .field("assigns", &self.assigns)
            .field("extra", &self.extra)
            .finish_non_exhaustive()
    }
}
