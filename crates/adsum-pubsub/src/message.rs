//! A message, and its encodings.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;

use crate::{Payload, SubscriberId, Topic};

/// One event with its payload, broadcast to a topic.
///
/// Subscribers share it as an `Arc<Message>`, and with it what [`encoded`](Message::encoded) keeps.
pub struct Message {
    topic: Topic,
    event: Box<str>,
    payload: Payload,
    mark: Option<Mark>,
    is_deferrable: bool,
    source: Option<Arc<dyn Any + Send + Sync>>,
    encodings: OnceLock<Box<Encoding>>,
}

/// A message's place in a sequence that its sender keeps, for subscribers who may know better already: one that
/// was given a state passes over the changes that the state contains. It stays on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Who keeps the sequence.
    pub sender: SubscriberId,
    /// Grows from message to message.
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
        }
    }

    /// The message with a place in its sender's sequence.
    #[must_use]
    pub fn marked(mut self, mark: Mark) -> Self {
        self.mark = Some(mark);
        self
    }

    /// Lets a subscriber wait with the message until it was given the state that it changes: if the state contains it,
    /// it isn't needed any more.
    #[must_use]
    pub fn deferrable(mut self) -> Self {
        self.is_deferrable = true;
        self
    }

    /// The message with the value that its payload was made of. It stays on its node.
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

    /// What it carries.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Its place in its sender's sequence, if there is one.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Whether it may wait until its subscriber was given the state that it changes.
    pub fn is_deferrable(&self) -> bool {
        self.is_deferrable
    }

    /// What its payload was made of, if that is a `T`.
    pub fn source<T: Any>(&self) -> Option<&T> {
        self.source.as_deref()?.downcast_ref()
    }

    /// The message in an encoding, made by the first subscriber who asks and shared with all others.
    ///
    /// This is how a broadcast to a thousand sockets encodes one frame for each serializer in use. Who asks
    /// while another encodes waits for it, so `encode` must not block, nor ask this message for an encoding.
    #[expect(clippy::missing_panics_doc, reason = "the closure is taken at most once, as the loop shows")]
    pub fn encoded(&self, id: EncodingId, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        // A list, since a program has one to three encodings: a walk costs less than a lock and a map.
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

/// Names a way to encode messages, such as one serializer's frames for one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodingId(u32);

impl EncodingId {
    /// A new id, unlike all others of this process.
    ///
    /// Make one for each kind of encoding, in a static say, not one for each socket: nothing would be shared.
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Json;

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
