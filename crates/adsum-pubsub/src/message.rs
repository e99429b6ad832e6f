//! A message, and its encodings.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    ids::{EncodingId, SubscriberId},
    payload::Payload,
    topic::Topic,
};

/// An event with its payload, broadcast to a topic.
///
/// Subscribers share it as an `Arc<Message>`, including its [encodings](Message::encoded).
pub struct Message {
    topic: Topic,
    event: Box<str>,
    payload: Payload,
    mark: Option<Mark>,
    is_deferrable: bool,
    source: Option<Arc<dyn Any + Send + Sync>>,
    encodings: OnceLock<Box<Encoding>>,
    subscribers: AtomicUsize,
}

/// A message's position in its sender's sequence. A subscriber that was given a state uses it to skip the changes that
/// the state contains. It is not sent to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The owner of the sequence.
    pub sender: SubscriberId,
    /// Increases from message to message.
    pub number: u64,
}

impl Message {
    /// Makes a message.
    pub fn new(topic: impl Into<Topic>, event: impl Into<Box<str>>, payload: Payload) -> Self {
        Self {
            topic: topic.into(),
            event: event.into(),
            payload,
            mark: None,
            is_deferrable: false,
            source: None,
            encodings: OnceLock::new(),
            subscribers: AtomicUsize::new(0),
        }
    }

    /// Sets the message's position in its sender's sequence.
    #[must_use]
    pub fn marked(mut self, mark: Mark) -> Self {
        self.mark = Some(mark);
        self
    }

    /// Lets a subscriber hold the message back until it was given the state that the message changes. If the state
    /// contains the change, the message is dropped.
    #[must_use]
    pub fn deferrable(mut self) -> Self {
        self.is_deferrable = true;
        self
    }

    /// Attaches the value that the payload was made from. It is not sent to other nodes.
    #[must_use]
    pub fn with_source(mut self, source: Arc<dyn Any + Send + Sync>) -> Self {
        self.source = Some(source);
        self
    }

    /// The topic it was broadcast to.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The event's name.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The payload.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Its position in its sender's sequence, if it has one.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Whether a subscriber may hold it back until it was given the state that it changes.
    pub fn is_deferrable(&self) -> bool {
        self.is_deferrable
    }

    /// The value that its payload was made from, if that is a `T`.
    pub fn source<T: Any>(&self) -> Option<&T> {
        self.source.as_deref()?.downcast_ref()
    }

    /// The number of this node's subscribers that it is delivered to, as of the start of the delivery.
    pub fn subscribers(&self) -> usize {
        self.subscribers.load(Ordering::Relaxed)
    }

    pub(crate) fn set_subscribers(&self, count: usize) {
        self.subscribers.store(count, Ordering::Relaxed);
    }

    /// Returns the message in an encoding. The first caller encodes it; all others share the result.
    ///
    /// So a broadcast to a thousand sockets encodes one frame for each serializer in use. Concurrent callers wait for
    /// the first one, so `encode` must not block, and must not call this method.
    #[expect(clippy::missing_panics_doc, reason = "the closure is taken at most once, as the loop shows")]
    pub fn encoded(&self, id: EncodingId, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        // A list, since a program has one to three encodings: walking it costs less than a lock and a map.
        let mut encode = Some(encode);
        let mut slot = &self.encodings;
        loop {
            let encoding = slot.get_or_init(|| {
                let encode = encode.take().expect("the walk ends at the slot that this call has filled");
                Box::new(Encoding { id, bytes: encode(self), next: OnceLock::new() })
            });
            if encoding.id == id {
                return &encoding.bytes;
            }
            slot = &encoding.next;
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic)
            .field("event", &self.event)
            .field("payload", &self.payload)
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

struct Encoding {
    id: EncodingId,
    bytes: Bytes,
    next: OnceLock<Box<Encoding>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Json;

    #[test]
    fn each_encoding_is_made_once() {
        let message = Message::new("t", "e", Payload::Json(Json::empty_object()));
        let (a, b) = (EncodingId::unique(), EncodingId::unique());
        let mut made = 0;
        for _ in 0..3 {
            for (id, text) in [(a, "a"), (b, "b")] {
                let bytes = message.encoded(id, |_| {
                    made += 1;
                    Bytes::from_static(text.as_bytes())
                });
                assert_eq!(bytes, text.as_bytes());
            }
        }
        assert_eq!(made, 2);
    }
}
