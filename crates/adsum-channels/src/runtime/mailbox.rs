//! What waits for a channel.

use std::{any::Any, collections::VecDeque, mem, sync::Arc};

use adsum_pubsub::{Message, Payload};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Something for a channel to handle.
pub(crate) enum Letter {
    /// The client has sent an event.
    Event { reference: Box<str>, event: Box<str>, payload: Payload },
    /// The program has sent a message: the channel's `Info`.
    Info(Box<dyn Any + Send>),
    /// A message of a further topic.
    Message(Arc<Message>),
    /// A broadcast of the channel's own topic that it intercepts.
    Out(Arc<Message>),
    /// The channel has to end.
    End(EndCause),
}

/// Who ends a channel from outside, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndCause {
    /// The client leaves the topic; it gets a reply with this ref.
    Leave { reference: Box<str> },
    /// The socket is at its end.
    Closed,
    /// The socket is at its end, as the server goes.
    Draining,
    /// The client joins the topic again.
    DuplicateJoin,
}

/// A letter that wasn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailboxError {
    Closed,
    Full,
}

/// The letters of one channel. An empty mailbox holds no memory.
pub(crate) struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Notify,
    /// Told once, when the channel has begun to end.
    ending: Notify,
}

#[derive(Default)]
struct Letters {
    queue: VecDeque<Letter>,
    bytes: usize,
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// A letter that must not be lost didn't fit.
    Overflowed,
    Closed,
}

/// How much a mailbox holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) letters: usize,
    pub(crate) bytes: usize,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        Self { letters: Mutex::default(), arrived: Notify::new(), ending: Notify::new() }
    }

    /// Puts a letter that the sender can do without.
    pub(crate) fn offer(&self, letter: Letter, capacity: Capacity) -> Result<(), MailboxError> {
        self.put(letter, capacity, State::Open)
    }

    /// Puts a letter that must not be lost: where it doesn't fit, the channel ends as overloaded.
    pub(crate) fn deliver(&self, letter: Letter, capacity: Capacity) -> Result<(), MailboxError> {
        self.put(letter, capacity, State::Overflowed)
    }

    fn put(&self, letter: Letter, capacity: Capacity, when_full: State) -> Result<(), MailboxError> {
        let mut letters = self.letters.lock();
        if letters.state != State::Open {
            return Err(MailboxError::Closed);
        }
        let bytes = letters.bytes + letter.bytes();
        let full = letters.queue.len() >= capacity.letters || bytes > capacity.bytes;
        if full && when_full == State::Open {
            return Err(MailboxError::Full);
        }
        if full {
            letters.state = State::Overflowed;
            // What waits won't be handled any more; only whoever waits for an answer to a leave still counts.
            letters.queue.retain(|letter| matches!(letter, Letter::End(_)));
        } else {
            letters.bytes = bytes;
            letters.queue.push_back(letter);
        }
        drop(letters);
        self.arrived.notify_one();
        if full {
            self.begin_ending();
            return Err(MailboxError::Full);
        }
        Ok(())
    }

    /// Tells the channel to end. Always taken, unless it has ended: a socket sends at most a few of these.
    pub(crate) fn end(&self, cause: EndCause) -> Result<(), MailboxError> {
        let mut letters = self.letters.lock();
        if letters.state == State::Closed {
            return Err(MailboxError::Closed);
        }
        letters.queue.push_back(Letter::End(cause));
        drop(letters);
        self.arrived.notify_one();
        self.begin_ending();
        Ok(())
    }

    /// From here on the channel's time to end runs.
    pub(crate) fn begin_ending(&self) {
        self.ending.notify_one();
    }

    /// Resolves once the channel has begun to end.
    pub(crate) async fn ending(&self) {
        self.ending.notified().await;
    }

    /// The next letter; none after an overflow.
    pub(crate) async fn next(&self) -> Option<Letter> {
        loop {
            {
                let mut letters = self.letters.lock();
                if letters.state == State::Overflowed {
                    return None;
                }
                if let Some(letter) = letters.queue.pop_front() {
                    letters.bytes -= letter.bytes();
                    if letters.queue.is_empty() {
                        letters.queue = VecDeque::new();
                    }
                    return Some(letter);
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Takes no more letters, and gives those that were not handled.
    pub(crate) fn close(&self) -> VecDeque<Letter> {
        let mut letters = self.letters.lock();
        letters.state = State::Closed;
        mem::take(&mut letters.queue)
    }

    /// Whether the channel has not ended. One that has overflowed is about to.
    pub(crate) fn is_open(&self) -> bool {
        self.letters.lock().state != State::Closed
    }

    /// Whether a letter that must not be lost didn't fit.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.letters.lock().state == State::Overflowed
    }
}

impl Letter {
    /// What the letter holds in memory beside its place in the queue, as far as it is known.
    fn bytes(&self) -> usize {
        match self {
            Self::Event { reference, event, payload } => reference.len() + event.len() + payload.len(),
            Self::Message(message) | Self::Out(message) => message.payload().len(),
            Self::Info(_) | Self::End(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use adsum_pubsub::Json;

    use super::*;

    const ROOMY: Capacity = Capacity { letters: 4, bytes: 1000 };

    fn event(event: &str) -> Letter {
        Letter::Event {
            reference: "1".into(),
            event: event.into(),
            payload: Payload::Json(Json::empty_object()),
        }
    }

    #[tokio::test]
    async fn letters_come_in_order_and_leave_no_memory() {
        let mailbox = Mailbox::new();
        for name in ["a", "b", "c"] {
            mailbox.deliver(event(name), ROOMY).unwrap();
        }
        for name in ["a", "b", "c"] {
            assert!(matches!(mailbox.next().await, Some(Letter::Event { event, .. }) if &*event == name));
        }
        let letters = mailbox.letters.lock();
        assert_eq!((letters.queue.capacity(), letters.bytes), (0, 0));
    }

    #[tokio::test]
    async fn too_many_letters_are_an_overflow_and_a_leave_is_not_lost() {
        let mailbox = Mailbox::new();
        for _ in 0..ROOMY.letters {
            mailbox.deliver(event("e"), ROOMY).unwrap();
        }
        assert_eq!(mailbox.offer(event("e"), ROOMY), Err(MailboxError::Full));
        assert!(mailbox.is_open());
        let leave = EndCause::Leave { reference: "9".into() };
        mailbox.end(leave.clone()).unwrap();
        assert_eq!(mailbox.deliver(event("e"), ROOMY), Err(MailboxError::Full));
        assert_eq!(mailbox.deliver(event("e"), ROOMY), Err(MailboxError::Closed));
        assert!(mailbox.next().await.is_none());
        let rest = mailbox.close();
        assert_eq!(rest.len(), 1);
        assert!(matches!(&rest[0], Letter::End(cause) if *cause == leave));
        assert_eq!(mailbox.end(EndCause::Closed), Err(MailboxError::Closed));
    }

    #[tokio::test]
    async fn bytes_are_bounded_too() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.deliver(event(&"e".repeat(2000)), ROOMY), Err(MailboxError::Full));
        assert!(mailbox.next().await.is_none());
    }
}
