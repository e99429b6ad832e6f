//! The mailbox of a channel.

use std::{
    any::Any,
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use adsum_pubsub::{Message, Payload};
use ecow::EcoString;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A message for a channel to handle.
pub(crate) enum MailboxMessage {
    /// The client has sent an event. Its names are short as a rule, so they need no allocation.
    Event { reference: EcoString, event: EcoString, payload: Payload },
    /// The program has sent a message: the channel's `Info`.
    Info(Box<dyn Any + Send>),
    /// A message of an extra topic.
    Message(Arc<Message>),
    /// A broadcast of the channel's own topic that it intercepts.
    Out(Arc<Message>),
    /// The channel must end.
    End(EndCause),
}

/// Why a channel is ended from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndCause {
    /// The client leaves the topic, and gets a reply with this ref.
    Leave { reference: Box<str> },
    /// The socket closes.
    Closed,
    /// The socket closes because the server is drained.
    Draining,
    /// The client joins the topic again.
    DuplicateJoin,
}

/// Why a mailbox didn't accept a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailboxError {
    Closed,
    Full,
}

/// The messages of a channel. An empty mailbox uses no memory.
pub(crate) struct Mailbox {
    messages: Mutex<MailboxContents>,
    arrived: Notify,
    /// Notified once the channel begins to end.
    ending: Notify,
}

#[derive(Default)]
struct MailboxContents {
    queue: VecDeque<MailboxMessage>,
    /// The memory of the messages.
    cost: usize,
    state: MailboxState,
    /// The client's transport, if it waits for room for its next event.
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum MailboxState {
    #[default]
    Open,
    /// A message that must not be lost didn't fit.
    Overflowed,
    Closed,
}

/// The bounds of a mailbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        Self { messages: Mutex::default(), arrived: Notify::new(), ending: Notify::new() }
    }

    /// Puts a message, or returns an error.
    pub(crate) fn offer(&self, message: MailboxMessage, capacity: Capacity) -> Result<(), MailboxError> {
        // A refused message is dropped here, outside the lock: it may be a value of the program.
        self.put(message, capacity).map(drop).map_err(|(error, _refused)| error)
    }

    /// Puts an event of the client, and returns how many messages wait then. Returns the event if there is no room.
    pub(crate) fn put_event(
        &self,
        event: MailboxMessage,
        capacity: Capacity,
    ) -> Result<usize, MailboxMessage> {
        match self.put(event, capacity) {
            Err((MailboxError::Full, event)) => Err(event),
            // A channel that has ended has told its client so, and one that has overflowed will.
            Err((MailboxError::Closed, _)) => Ok(0),
            Ok(waiting) => Ok(waiting),
        }
    }

    /// Puts an event of the client once there is room, or drops it once the channel has ended. Only the client's
    /// transport may wait.
    pub(crate) fn poll_event(
        &self,
        event: &mut Option<MailboxMessage>,
        capacity: Capacity,
        cx: &Context<'_>,
    ) -> Poll<()> {
        // Registered before trying, so that no wakeup is missed.
        self.messages.lock().waiting = Some(cx.waker().clone());
        if let Some(message) = event.take()
            && let Err(message) = self.put_event(message, capacity)
        {
            *event = Some(message);
            return Poll::Pending;
        }
        self.messages.lock().waiting = None;
        Poll::Ready(())
    }

    /// Puts a broadcast, or ends the channel as overloaded if it doesn't fit. Only bytes are limited, since one handler
    /// may send any number of broadcasts before another channel runs.
    pub(crate) fn deliver(&self, broadcast: MailboxMessage, capacity: Capacity) -> Result<(), MailboxError> {
        let result = self.put(broadcast, Capacity { messages: usize::MAX, ..capacity });
        result.map(drop).map_err(|(error, _)| {
            if error == MailboxError::Full {
                self.overload();
            }
            error
        })
    }

    fn put(
        &self,
        message: MailboxMessage,
        capacity: Capacity,
    ) -> Result<usize, (MailboxError, MailboxMessage)> {
        let mut messages = self.messages.lock();
        if messages.state != MailboxState::Open {
            return Err((MailboxError::Closed, message));
        }
        let cost = messages.cost + message.cost();
        // An empty mailbox accepts a message of any size: the size doesn't mean that the channel is slow.
        let full = messages.queue.len() >= capacity.messages || cost > capacity.bytes;
        if full && !messages.queue.is_empty() {
            return Err((MailboxError::Full, message));
        }
        messages.cost = cost;
        messages.queue.push_back(message);
        let waiting = messages.queue.len();
        drop(messages);
        self.arrived.notify_one();
        Ok(waiting)
    }

    /// Ends the channel as overloaded, since a message that must not be lost doesn't fit.
    pub(crate) fn overload(&self) {
        let mut messages = self.messages.lock();
        if messages.state != MailboxState::Open {
            return;
        }
        messages.state = MailboxState::Overflowed;
        // Queued messages won't be handled any more, except that a leave still gets its reply.
        let (ends, lost): (VecDeque<_>, VecDeque<_>) = mem::take(&mut messages.queue)
            .into_iter()
            .partition(|message| matches!(message, MailboxMessage::End(_)));
        messages.queue = ends;
        let waiting = messages.waiting.take();
        drop(messages);
        self.arrived.notify_one();
        self.begin_ending();
        waiting.into_iter().for_each(Waker::wake);
        drop(lost);
    }

    /// Tells the channel to end. Always accepted unless it has ended: a socket sends at most a few of these.
    pub(crate) fn end(&self, cause: EndCause) -> Result<(), MailboxError> {
        let mut messages = self.messages.lock();
        if messages.state == MailboxState::Closed {
            return Err(MailboxError::Closed);
        }
        messages.queue.push_back(MailboxMessage::End(cause));
        drop(messages);
        self.arrived.notify_one();
        self.begin_ending();
        Ok(())
    }

    /// Starts the channel's shutdown grace.
    pub(crate) fn begin_ending(&self) {
        self.ending.notify_one();
    }

    /// Resolves once the channel has begun to end.
    pub(crate) async fn ending(&self) {
        self.ending.notified().await;
    }

    /// Waits for the next message. Returns `None` after an overflow.
    pub(crate) async fn next(&self) -> Option<MailboxMessage> {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes the next message, if there is one. Returns `Some(None)` after an overflow.
    #[expect(
        clippy::option_option,
        reason = "the outer one is `None` to wait, the inner one is what `next` returns"
    )]
    fn take(&self) -> Option<Option<MailboxMessage>> {
        let mut messages = self.messages.lock();
        if messages.state == MailboxState::Overflowed {
            return Some(None);
        }
        let message = messages.queue.pop_front()?;
        messages.cost -= message.cost();
        if messages.queue.is_empty() {
            messages.queue = VecDeque::new();
        }
        let waiting = messages.waiting.take();
        drop(messages);
        waiting.into_iter().for_each(Waker::wake);
        Some(Some(message))
    }

    /// Closes the mailbox, and returns the messages that were not handled.
    pub(crate) fn close(&self) -> VecDeque<MailboxMessage> {
        let mut messages = self.messages.lock();
        messages.state = MailboxState::Closed;
        let rest = mem::take(&mut messages.queue);
        let waiting = messages.waiting.take();
        drop(messages);
        waiting.into_iter().for_each(Waker::wake);
        rest
    }

    /// Whether the channel has not ended yet. After an overflow it is about to end.
    pub(crate) fn is_open(&self) -> bool {
        self.messages.lock().state != MailboxState::Closed
    }

    /// Whether a message that must not be lost didn't fit.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.messages.lock().state == MailboxState::Overflowed
    }
}

impl MailboxMessage {
    /// The message's memory, including its entry in the queue, as far as it is known.
    fn cost(&self) -> usize {
        let heap = match self {
            Self::Event { reference, event, payload } => reference.len() + event.len() + payload.len(),
            Self::Message(message) | Self::Out(message) => message.payload().len(),
            // Always accepted, so it must not take the room of others.
            Self::End(_) => return 0,
            Self::Info(_) => 0,
        };
        mem::size_of::<Self>() + heap
    }
}

#[cfg(test)]
mod tests {
    use adsum_pubsub::Json;

    use super::*;

    const ROOMY: Capacity = Capacity { messages: 4, bytes: 1000 };

    fn event(event: &str) -> MailboxMessage {
        MailboxMessage::Event {
            reference: "1".into(),
            event: event.into(),
            payload: Payload::Json(Json::empty_object()),
        }
    }

    #[tokio::test]
    async fn letters_come_in_order_and_leave_no_memory() {
        let mailbox = Mailbox::new();
        for name in ["a", "b", "c"] {
            assert!(mailbox.put_event(event(name), ROOMY).is_ok());
        }
        for name in ["a", "b", "c"] {
            assert!(
                matches!(mailbox.next().await, Some(MailboxMessage::Event { event, .. }) if &*event == name)
            );
        }
        let messages = mailbox.messages.lock();
        assert_eq!((messages.queue.capacity(), messages.cost), (0, 0));
    }

    fn broadcast(bytes: usize) -> MailboxMessage {
        let payload = Payload::Binary(vec![0; bytes].into());
        MailboxMessage::Out(Arc::new(Message::new("room:a", "e", payload)))
    }

    #[tokio::test]
    async fn too_many_events_wait_outside_and_a_leave_is_not_lost_by_an_overload() {
        let mailbox = Mailbox::new();
        for _ in 0..ROOMY.messages {
            assert!(mailbox.put_event(event("e"), ROOMY).is_ok());
        }
        assert_eq!(mailbox.offer(event("e"), ROOMY), Err(MailboxError::Full));
        assert!(mailbox.put_event(event("e"), ROOMY).is_err());
        assert!(mailbox.is_open() && !mailbox.has_overflowed());
        let leave = EndCause::Leave { reference: "9".into() };
        mailbox.end(leave.clone()).unwrap();
        mailbox.overload();
        assert_eq!(mailbox.offer(event("e"), ROOMY), Err(MailboxError::Closed));
        assert!(mailbox.next().await.is_none());
        let rest = mailbox.close();
        assert_eq!(rest.len(), 1);
        assert!(matches!(&rest[0], MailboxMessage::End(cause) if *cause == leave));
        assert_eq!(mailbox.end(EndCause::Closed), Err(MailboxError::Closed));
    }

    #[tokio::test]
    async fn the_transport_waits_for_room_and_goes_on_once_there_is_some() {
        let mailbox = Mailbox::new();
        for _ in 0..ROOMY.messages {
            assert!(mailbox.put_event(event("e"), ROOMY).is_ok());
        }
        let mut waits = Some(event("waits"));
        let mut put = std::pin::pin!(std::future::poll_fn(|cx| mailbox.poll_event(&mut waits, ROOMY, cx)));
        assert!(futures_util::poll!(&mut put).is_pending());
        tokio::join!(put, async { assert!(mailbox.next().await.is_some()) });
        for _ in 1..ROOMY.messages {
            mailbox.next().await;
        }
        assert!(
            matches!(mailbox.next().await, Some(MailboxMessage::Event { event, .. }) if &*event == "waits")
        );
        assert!(mailbox.messages.lock().waiting.is_none());
    }

    #[tokio::test]
    async fn the_transport_goes_on_when_the_channel_ends() {
        for end in [Mailbox::overload, |mailbox: &Mailbox| drop(mailbox.close())] {
            let mailbox = Mailbox::new();
            for _ in 0..ROOMY.messages {
                assert!(mailbox.put_event(event("e"), ROOMY).is_ok());
            }
            let mut waits = Some(event("waits"));
            let mut put =
                std::pin::pin!(std::future::poll_fn(|cx| mailbox.poll_event(&mut waits, ROOMY, cx)));
            assert!(futures_util::poll!(&mut put).is_pending());
            tokio::join!(put, async { end(&mailbox) });
        }
    }

    #[tokio::test]
    async fn broadcasts_are_bounded_by_their_bytes_alone() {
        let capacity = Capacity { messages: 1, bytes: 100_000 };
        let mailbox = Mailbox::new();
        for _ in 0..1000 {
            mailbox.deliver(broadcast(1), capacity).unwrap();
        }
        assert_eq!(mailbox.deliver(broadcast(100_000), capacity), Err(MailboxError::Full));
        assert!(mailbox.has_overflowed());
        assert_eq!(mailbox.deliver(broadcast(1), capacity), Err(MailboxError::Closed));
        assert!(mailbox.next().await.is_none());
    }

    #[tokio::test]
    async fn bytes_are_bounded_too_but_one_event_of_any_size_finds_room() {
        let mailbox = Mailbox::new();
        assert!(mailbox.put_event(event(&"e".repeat(2000)), ROOMY).is_ok());
        assert!(mailbox.put_event(event("e"), ROOMY).is_err());
        assert!(mailbox.next().await.is_some());
        assert!(mailbox.put_event(event("e"), ROOMY).is_ok());
    }

    /// Locks the mailbox when it is dropped, as a value that contains a sender may do.
    struct Curious(Arc<Mailbox>);

    impl Drop for Curious {
        fn drop(&mut self) {
            self.0.is_open();
        }
    }

    #[test]
    fn values_of_the_program_are_dropped_outside_of_the_lock() {
        let mailbox = Arc::new(Mailbox::new());
        let info = || MailboxMessage::Info(Box::new(Curious(mailbox.clone())));
        let one = Capacity { messages: 1, bytes: 1000 };
        mailbox.offer(info(), one).unwrap();
        assert_eq!(mailbox.offer(info(), one), Err(MailboxError::Full));
        mailbox.overload();
        assert_eq!(mailbox.offer(info(), one), Err(MailboxError::Closed));
        assert!(mailbox.has_overflowed());
    }
}
