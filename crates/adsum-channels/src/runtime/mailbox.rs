//! What waits for a channel.

use std::{
    any::Any,
    collections::VecDeque,
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

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
    /// What they cost in memory.
    cost: usize,
    state: State,
    /// The client's transport, which waits until there is room for its next event.
    waiting: Option<Waker>,
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
        // Dropped here, outside of the lock, if it isn't taken: it may be a value of the program's.
        self.put(letter, capacity).map_err(|(error, _letter)| error)
    }

    /// Puts an event of the client, or gives it back if there is no room.
    pub(crate) fn put_event(&self, event: Letter, capacity: Capacity) -> Result<(), Letter> {
        match self.put(event, capacity) {
            Err((MailboxError::Full, event)) => Err(event),
            // A channel that ends at this moment has told its client so; one that overflows will.
            _ => Ok(()),
        }
    }

    /// Puts an event of the client once there is room, or once the channel has ended. Only the client's transport may
    /// wait.
    pub(crate) fn poll_event(
        &self,
        event: &mut Option<Letter>,
        capacity: Capacity,
        cx: &Context<'_>,
    ) -> Poll<()> {
        // Registered before it is tried, so that room that is made meanwhile wakes.
        self.letters.lock().waiting = Some(cx.waker().clone());
        if let Some(letter) = event.take()
            && let Err(letter) = self.put_event(letter, capacity)
        {
            *event = Some(letter);
            return Poll::Pending;
        }
        self.letters.lock().waiting = None;
        Poll::Ready(())
    }

    /// Puts a broadcast, which must not be lost: where it doesn't fit, the channel ends as overloaded. Only its bytes
    /// count, for one handler may send any number before another channel gets its turn.
    pub(crate) fn deliver(&self, broadcast: Letter, capacity: Capacity) -> Result<(), MailboxError> {
        let result = self.put(broadcast, Capacity { letters: usize::MAX, ..capacity });
        result.map_err(|(error, _)| {
            if error == MailboxError::Full {
                self.overload();
            }
            error
        })
    }

    fn put(&self, letter: Letter, capacity: Capacity) -> Result<(), (MailboxError, Letter)> {
        let mut letters = self.letters.lock();
        if letters.state != State::Open {
            return Err((MailboxError::Closed, letter));
        }
        let cost = letters.cost + letter.cost();
        // One that finds nothing waiting is always taken: its size is no sign of a slow channel.
        let full = letters.queue.len() >= capacity.letters || cost > capacity.bytes;
        if full && !letters.queue.is_empty() {
            return Err((MailboxError::Full, letter));
        }
        letters.cost = cost;
        letters.queue.push_back(letter);
        drop(letters);
        self.arrived.notify_one();
        Ok(())
    }

    /// Has the channel end as overloaded: what must not be lost doesn't fit.
    pub(crate) fn overload(&self) {
        let mut letters = self.letters.lock();
        if letters.state != State::Open {
            return;
        }
        letters.state = State::Overflowed;
        // What waits won't be handled any more; only whoever waits for an answer to a leave still counts.
        let (ends, lost): (VecDeque<_>, VecDeque<_>) =
            mem::take(&mut letters.queue).into_iter().partition(|letter| matches!(letter, Letter::End(_)));
        letters.queue = ends;
        let waiting = letters.waiting.take();
        drop(letters);
        self.arrived.notify_one();
        self.begin_ending();
        waiting.into_iter().for_each(Waker::wake);
        drop(lost);
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
            if let Some(next) = self.take() {
                return next;
            }
            self.arrived.notified().await;
        }
    }

    /// The next letter, if there is one; none of it after an overflow.
    #[expect(clippy::option_option, reason = "to wait, or to go on with what `next` returns")]
    fn take(&self) -> Option<Option<Letter>> {
        let mut letters = self.letters.lock();
        if letters.state == State::Overflowed {
            return Some(None);
        }
        let letter = letters.queue.pop_front()?;
        letters.cost -= letter.cost();
        if letters.queue.is_empty() {
            letters.queue = VecDeque::new();
        }
        let waiting = letters.waiting.take();
        drop(letters);
        waiting.into_iter().for_each(Waker::wake);
        Some(Some(letter))
    }

    /// Takes no more letters, and gives those that were not handled.
    pub(crate) fn close(&self) -> VecDeque<Letter> {
        let mut letters = self.letters.lock();
        letters.state = State::Closed;
        let rest = mem::take(&mut letters.queue);
        let waiting = letters.waiting.take();
        drop(letters);
        waiting.into_iter().for_each(Waker::wake);
        rest
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
    /// What the letter costs in memory, its place in the queue included, as far as it is known.
    fn cost(&self) -> usize {
        let beside = match self {
            Self::Event { reference, event, payload } => reference.len() + event.len() + payload.len(),
            Self::Message(message) | Self::Out(message) => message.payload().len(),
            // It may always wait, so it must not take the room of others.
            Self::End(_) => return 0,
            Self::Info(_) => 0,
        };
        mem::size_of::<Self>() + beside
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
            assert!(mailbox.put_event(event(name), ROOMY).is_ok());
        }
        for name in ["a", "b", "c"] {
            assert!(matches!(mailbox.next().await, Some(Letter::Event { event, .. }) if &*event == name));
        }
        let letters = mailbox.letters.lock();
        assert_eq!((letters.queue.capacity(), letters.cost), (0, 0));
    }

    fn broadcast(bytes: usize) -> Letter {
        let payload = Payload::Binary(vec![0; bytes].into());
        Letter::Out(Arc::new(Message::new("room:a", "e", payload)))
    }

    #[tokio::test]
    async fn too_many_events_wait_outside_and_a_leave_is_not_lost_by_an_overload() {
        let mailbox = Mailbox::new();
        for _ in 0..ROOMY.letters {
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
        assert!(matches!(&rest[0], Letter::End(cause) if *cause == leave));
        assert_eq!(mailbox.end(EndCause::Closed), Err(MailboxError::Closed));
    }

    #[tokio::test]
    async fn the_transport_waits_for_room_and_goes_on_once_there_is_some() {
        let mailbox = Mailbox::new();
        for _ in 0..ROOMY.letters {
            assert!(mailbox.put_event(event("e"), ROOMY).is_ok());
        }
        let mut waits = Some(event("waits"));
        let mut put = std::pin::pin!(std::future::poll_fn(|cx| mailbox.poll_event(&mut waits, ROOMY, cx)));
        assert!(futures_util::poll!(&mut put).is_pending());
        tokio::join!(put, async { assert!(mailbox.next().await.is_some()) });
        for _ in 1..ROOMY.letters {
            mailbox.next().await;
        }
        assert!(matches!(mailbox.next().await, Some(Letter::Event { event, .. }) if &*event == "waits"));
        assert!(mailbox.letters.lock().waiting.is_none());
    }

    #[tokio::test]
    async fn the_transport_goes_on_when_the_channel_ends() {
        for end in [Mailbox::overload, |mailbox: &Mailbox| drop(mailbox.close())] {
            let mailbox = Mailbox::new();
            for _ in 0..ROOMY.letters {
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
        let capacity = Capacity { letters: 1, bytes: 100_000 };
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

    /// Looks into the mailbox as it goes, as a value of a program's may by a sender that it holds.
    struct Curious(Arc<Mailbox>);

    impl Drop for Curious {
        fn drop(&mut self) {
            self.0.is_open();
        }
    }

    #[test]
    fn values_of_the_program_are_dropped_outside_of_the_lock() {
        let mailbox = Arc::new(Mailbox::new());
        let info = || Letter::Info(Box::new(Curious(mailbox.clone())));
        let one = Capacity { letters: 1, bytes: 1000 };
        mailbox.offer(info(), one).unwrap();
        assert_eq!(mailbox.offer(info(), one), Err(MailboxError::Full));
        mailbox.overload();
        assert_eq!(mailbox.offer(info(), one), Err(MailboxError::Closed));
        assert!(mailbox.has_overflowed());
    }
}
