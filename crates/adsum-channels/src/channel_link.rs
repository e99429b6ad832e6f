//! State shared by a channel's task, its socket and its topic.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use adsum_pubsub::{
    Json, Mark, Message, Payload, Subscriber, Topic,
    log::{cut_name, limited},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    frame::Frame,
    mailbox::{Capacity, EndCause, Mailbox, MailboxError, MailboxMessage},
    options::Options,
    outbound::{HeldChanges, Outbound, OutboundQueue, Renewable, Urgency},
    probe::SocketProbe,
    serializer::{Address, Codec, Unsendable, write_string},
    view::{News, View},
};

/// A join: the destination of its frames, and the mailbox of its task.
pub(crate) struct ChannelLink {
    topic: Topic,
    address: JoinAddress,
    outbound: Arc<Outbound>,
    codec: Arc<Codec>,
    mailbox: Mailbox,
    capacity: Capacity,
    /// The events that go to the channel instead of its client.
    intercepts: &'static [&'static str],
    /// The events that go to neither, if there are any.
    without: OnceLock<Box<[Box<str>]>>,
    /// Whether broadcasts go to the client. Accessed with the outbound lock held, so that a subscription begins and
    /// ends between two frames.
    subscribed: AtomicBool,
    /// The view shown to the client. Accessed with the outbound lock held.
    shown: Mutex<Option<Arc<ShownView>>>,
    /// The changes held back until the channel has pushed its state after the join. Accessed with the outbound lock
    /// held.
    held: Mutex<Option<Box<HeldChanges>>>,
    /// Whether the task that replaces this one must send this one's `phx_close`.
    owes_close: AtomicBool,
    ended: AtomicBool,
    /// Notified once when the task has ended, for the task that replaces it.
    end: Notify,
}

/// The `join_ref` and topic of a join, as JSON text.
#[derive(Clone, Debug)]
pub(crate) struct JoinAddress {
    pub(crate) join_ref: Box<str>,
    pub(crate) topic: Box<str>,
}

impl ChannelLink {
    pub(crate) fn new(
        topic: Topic,
        address: JoinAddress,
        outbound: Arc<Outbound>,
        codec: Arc<Codec>,
        options: &Options,
        intercepts: &'static [&'static str],
    ) -> Self {
        Self {
            topic,
            address,
            outbound,
            codec,
            mailbox: Mailbox::new(),
            capacity: Capacity { messages: options.max_mailbox, bytes: options.max_queue_bytes },
            intercepts,
            without: OnceLock::new(),
            subscribed: AtomicBool::new(false),
            shown: Mutex::new(None),
            held: Mutex::new(None),
            owes_close: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    pub(crate) fn codec(&self) -> &Codec {
        &self.codec
    }

    pub(crate) fn probe(&self) -> SocketProbe {
        SocketProbe::new(&self.outbound)
    }

    /// Whether the channel still accepts events. Returns false before its client can know.
    pub(crate) fn is_open(&self) -> bool {
        self.mailbox.is_open()
    }

    /// Whether the task has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Puts an event of the client into the mailbox, and returns how many messages wait then. Returns the event if
    /// there is no room.
    pub(crate) fn put_event(&self, event: MailboxMessage) -> Result<usize, MailboxMessage> {
        self.mailbox.put_event(event, self.capacity)
    }

    /// Puts an event of the client into the mailbox once there is room, or drops it once the channel has ended.
    pub(crate) fn poll_event(&self, event: &mut Option<MailboxMessage>, cx: &Context<'_>) -> Poll<()> {
        self.mailbox.poll_event(event, self.capacity, cx)
    }

    /// Ends the channel as overloaded.
    pub(crate) fn overload(&self) {
        self.mailbox.overload();
    }

    /// Puts a broadcast into the mailbox, or ends the channel as overloaded.
    fn deliver_broadcast(&self, broadcast: MailboxMessage) {
        // Ignore the error: the channel has ended or overflowed.
        let _ = self.mailbox.deliver(broadcast, self.capacity);
    }

    /// Puts a message into the mailbox, or returns an error.
    pub(crate) fn offer(&self, message: MailboxMessage) -> Result<(), MailboxError> {
        self.mailbox.offer(message, self.capacity)
    }

    /// Tells the channel to end.
    pub(crate) fn end(&self, cause: EndCause) -> Result<(), MailboxError> {
        self.mailbox.end(cause)
    }
}

/// For the channel's own task.
impl ChannelLink {
    /// Runs a section with the outbound lock held.
    pub(crate) fn locked<R>(&self, section: impl FnOnce(&mut OutboundQueue) -> R) -> R {
        self.outbound.locked(section)
    }

    pub(crate) fn push(&self, event: &str, payload: &Payload) -> Result<(), Unsendable> {
        self.outbound.push(self.push_frame(event, payload)?);
        Ok(())
    }

    /// Pushes an event of another topic, without a `join_ref`.
    pub(crate) fn push_to(&self, topic: &str, event: &str, payload: &Payload) -> Result<(), Unsendable> {
        let topic = write_string(topic);
        let to = Address { join_ref: "null", reference: "null", topic: &topic };
        self.outbound.push(self.codec.push(to, event, payload)?);
        Ok(())
    }

    /// Pushes a payload that `make` creates with the outbound lock held.
    pub(crate) fn push_with<E: From<Unsendable>>(
        &self,
        event: &str,
        make: impl FnOnce() -> Result<Payload, E>,
    ) -> Result<(), E> {
        self.locked(|queue| {
            queue.push(self.push_frame_in_lock(event, &make()?)?);
            Ok(())
        })
    }

    /// Sends the state of a view, which replaces the view shown before.
    pub(crate) fn show(self: &Arc<Self>, view: Box<dyn View>) -> Result<(), Unsendable> {
        let shown = Arc::new(ShownView { link: Arc::downgrade(self), view, seen: Mutex::new(None) });
        self.locked(|queue| {
            let frames = shown.frames(self)?;
            // Drops the held changes that the state contains.
            if let Some(held) = &mut *self.held.lock() {
                held.retain(|mark| shown.is_news(mark) != Some(false));
            }
            let before = self.shown.lock().replace(shown);
            queue.push_state(frames);
            // Returned to be dropped outside the locks: a view belongs to the program.
            Ok(before)
        })
        .map(drop)
    }

    fn push_frame(&self, event: &str, payload: &Payload) -> Result<Frame, Unsendable> {
        self.codec.push(self.address(&self.address.join_ref, "null"), event, payload)
    }

    /// As [`push_frame`](Self::push_frame), with the outbound lock held.
    fn push_frame_in_lock(&self, event: &str, payload: &Payload) -> Result<Frame, Unsendable> {
        self.codec.push_in_lock(self.address(&self.address.join_ref, "null"), event, payload)
    }

    pub(crate) fn reply_frame(
        &self,
        reference: &str,
        status: &str,
        response: &Payload,
    ) -> Result<Frame, Unsendable> {
        self.join_reply_frame(&self.address.join_ref, reference, status, response)
    }

    /// Replies to an event later, unless the client has been told that the channel ended.
    pub(crate) fn reply_if_joined(
        &self,
        reference: &str,
        status: &str,
        response: &Payload,
    ) -> Result<(), Unsendable> {
        let frame = self.reply_frame(reference, status, response)?;
        self.locked(|queue| {
            if self.subscribed.load(Ordering::Relaxed) {
                queue.push(frame);
            }
        });
        Ok(())
    }

    /// Makes the reply to a join, with the `join_ref` of the request, which may be `null`.
    pub(crate) fn join_reply_frame(
        &self,
        join_ref: &str,
        reference: &str,
        status: &str,
        response: &Payload,
    ) -> Result<Frame, Unsendable> {
        self.codec.reply(self.address(join_ref, reference), status, response)
    }

    pub(crate) fn close_frame(&self) -> Option<Frame> {
        self.last_frame("phx_close", Json::empty_object())
    }

    pub(crate) fn error_frame(&self, reason: &str) -> Option<Frame> {
        self.last_frame("phx_error", reason_json(reason))
    }

    fn last_frame(&self, event: &str, payload: Json) -> Option<Frame> {
        let join_ref = &self.address.join_ref;
        let frame = self.codec.push(self.address(join_ref, join_ref), event, &Payload::Json(payload));
        frame
            .inspect_err(
                |error| limited!(ERROR, event, %error, "could not encode the last frame of a channel"),
            )
            .ok()
    }

    fn address<'a>(&'a self, join_ref: &'a str, reference: &'a str) -> Address<'a> {
        Address { join_ref, reference, topic: &self.address.topic }
    }

    /// Excludes the channel and its client from broadcasts of these events. Called once, before the subscription
    /// begins.
    pub(crate) fn exclude(&self, events: Vec<Box<str>>) {
        if !events.is_empty() {
            // Called only once, so it isn't set yet.
            let _ = self.without.set(events.into());
        }
    }

    /// Begins the subscription. Changes are held back until `joined` has returned. The parameter proves that the
    /// queue's lock is held.
    pub(crate) fn subscribe(&self, queue: &mut OutboundQueue) {
        // No view was shown yet.
        let _ = self.set_subscribed(true, queue);
        *self.held.lock() = Some(Box::new(queue.hold()));
    }

    /// Sends the held changes.
    pub(crate) fn release_held(&self) {
        if self.held.lock().is_some() {
            self.locked(|queue| {
                let held = self.held.lock().take();
                if let Some(held) = held {
                    queue.release(*held);
                }
            });
        }
    }

    /// Ends the subscription. Returns the shown view, to be dropped outside the lock: a view belongs to the program.
    #[must_use]
    pub(crate) fn unsubscribe(&self, queue: &mut OutboundQueue) -> Option<Arc<ShownView>> {
        let held = self.held.lock().take();
        if let Some(held) = held {
            queue.let_go(*held);
        }
        self.set_subscribed(false, queue)
    }

    fn set_subscribed(&self, subscribed: bool, _: &mut OutboundQueue) -> Option<Arc<ShownView>> {
        self.subscribed.store(subscribed, Ordering::Relaxed);
        // An owed state is dropped with it.
        self.shown.lock().take()
    }

    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    pub(crate) fn owe_close(&self) {
        self.owes_close.store(true, Ordering::Release);
    }

    pub(crate) fn owes_close(&self) -> bool {
        self.owes_close.load(Ordering::Acquire)
    }

    /// Marks the task and its attachments as ended. Returns the messages that were not handled.
    pub(crate) fn set_ended(&self) -> VecDeque<MailboxMessage> {
        let rest = self.mailbox.close();
        self.ended.store(true, Ordering::Release);
        self.end.notify_one();
        rest
    }

    /// Resolves once the task has ended. Only one task may wait.
    pub(crate) async fn ended(&self) {
        if !self.has_ended() {
            self.end.notified().await;
        }
    }
}

/// Broadcasts of the channel's topic go to the client without passing through the channel.
impl Subscriber for ChannelLink {
    fn deliver(&self, message: &Arc<Message>) {
        if let Some(without) = self.without.get()
            && without.iter().any(|event| **event == *message.event())
        {
            return;
        }
        if self.intercepts.contains(&message.event()) {
            self.deliver_broadcast(MailboxMessage::Out(message.clone()));
            return;
        }
        let Some(frame) = self.codec.broadcast(message) else { return };
        self.outbound.locked_for(Urgency::of_broadcast(message.subscribers()), |queue| {
            if !self.subscribed.load(Ordering::Relaxed) {
                return;
            }
            let Some(mark) = message.mark() else { return queue.push(frame) };
            // Cloned out of its lock, since making room in the queue may renew the state.
            let shown = self.shown.lock().clone();
            let Some((is_news, shown)) = shown.and_then(|shown| Some((shown.is_news(mark)?, shown))) else {
                return self.hold_or_push(message, mark, frame, queue);
            };
            if !is_news {
                return;
            }
            let frame = match shown.view.news(message) {
                News::All => Some(frame),
                News::Part(part) => self.codec.broadcast_in_lock(&part),
                News::Nothing => None,
            };
            if let Some(frame) = frame {
                queue.push_change(frame, &(shown as Arc<dyn Renewable>));
            }
        });
    }
}

impl ChannelLink {
    fn hold_or_push(&self, message: &Message, mark: Mark, frame: Frame, queue: &mut OutboundQueue) {
        if !message.is_deferrable() {
            return queue.push(frame);
        }
        let mut waiting = self.held.lock();
        let frame = match &mut *waiting {
            Some(held) => match queue.hold_change(held, mark, frame) {
                Ok(()) => return,
                Err(frame) => frame,
            },
            None => frame,
        };
        // Too many changes to hold back: send them.
        let held = waiting.take();
        drop(waiting);
        if let Some(held) = held {
            queue.release(*held);
        }
        queue.push(frame);
    }

    /// The part of an intercepted broadcast that the shown state doesn't contain. `None` if it contains all of it.
    pub(crate) fn news(&self, message: Arc<Message>) -> Option<Arc<Message>> {
        let Some(mark) = message.mark().filter(|_| message.is_deferrable()) else { return Some(message) };
        self.locked(|_| {
            let Some(shown) = self.shown.lock().clone() else { return Some(message) };
            match shown.is_news(mark) {
                None => Some(message),
                Some(false) => None,
                Some(true) => match shown.view.news(&message) {
                    News::All => Some(message),
                    News::Part(part) => Some(part),
                    News::Nothing => None,
                },
            }
        })
    }
}

/// A view that is shown to a client.
pub(crate) struct ShownView {
    link: Weak<ChannelLink>,
    view: Box<dyn View>,
    /// The last change that the sent state contains.
    seen: Mutex<Option<Mark>>,
}

impl ShownView {
    /// Encodes the current state. Called with the outbound lock held.
    fn frames(&self, link: &ChannelLink) -> Result<Vec<Frame>, Unsendable> {
        let state = self.view.state();
        *self.seen.lock() = Some(state.seen);
        state.messages.iter().map(|(event, payload)| link.push_frame_in_lock(event, payload)).collect()
    }

    /// Whether a broadcast is a change that the client doesn't have yet. `None` if it is no change of this view.
    fn is_news(&self, mark: Mark) -> Option<bool> {
        let seen = (*self.seen.lock())?;
        (mark.sender == seen.sender).then_some(mark.number > seen.number)
    }
}

impl Renewable for ShownView {
    fn renew(&self) -> Vec<Frame> {
        let Some(link) = self.link.upgrade() else { return Vec::new() };
        let is_shown = link.shown.lock().as_ref().is_some_and(|shown| std::ptr::eq(Arc::as_ptr(shown), self));
        if !is_shown {
            return Vec::new();
        }
        self.frames(&link).unwrap_or_else(|error| {
            limited!(ERROR, topic = %cut_name(&link.topic), %error, "could not encode a state; the client keeps an old one");
            Vec::new()
        })
    }
}

/// A subscription to an extra topic, whose messages go to the channel.
pub(crate) struct ExtraSubscription(pub(crate) Arc<ChannelLink>);

impl Subscriber for ExtraSubscription {
    fn deliver(&self, message: &Arc<Message>) {
        self.0.deliver_broadcast(MailboxMessage::Message(message.clone()));
    }
}

/// `{"reason": reason}`.
pub(crate) fn reason_json(reason: &str) -> Json {
    Json::encode(&std::collections::BTreeMap::from([("reason", reason)]))
        .expect("a map of strings can be encoded as JSON")
}
