//! A bounded queue of messages that a task reads.

use std::{collections::VecDeque, fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    ids::SubscriberId,
    message::Message,
    registry::{Attachment, Registry},
    subscribers::Subscriber,
    topic::Topic,
};

/// Maximum number of messages in an inbox from [`PubSub::subscribe`](crate::PubSub::subscribe).
pub const DEFAULT_INBOX_CAPACITY: usize = 1024;

/// The messages of any number of topics, in the order in which they came.
///
/// An inbox is one subscriber: [`PubSub::broadcast_from`](crate::PubSub::broadcast_from) with its [`id`](Inbox::id)
/// skips it. If it is full, the oldest messages are dropped, and [`recv`](Inbox::recv) returns how many.
pub struct Inbox {
    registry: Arc<Registry>,
    id: SubscriberId,
    shared: Arc<SharedInbox>,
    attachments: Vec<Attachment>,
}

impl Inbox {
    pub(crate) fn new(registry: Arc<Registry>, capacity: usize) -> Self {
        let queue = InboxMessages { messages: VecDeque::new(), capacity: capacity.max(1), missed: 0 };
        let shared = Arc::new(SharedInbox { queue: Mutex::new(queue), arrived: Notify::new() });
        Self { registry, id: SubscriberId::unique(), shared, attachments: Vec::new() }
    }

    /// Identifies this inbox as a sender.
    pub fn id(&self) -> SubscriberId {
        self.id
    }

    /// Subscribes to one more topic. If it is already subscribed to it, each message arrives twice.
    pub fn subscribe(&mut self, topic: impl Into<Topic>) {
        let attachment = self.registry.attach(topic.into(), self.id, self.shared.clone());
        self.attachments.push(attachment);
    }

    /// Ends all subscriptions to a topic. Messages that have arrived stay, and a concurrent broadcast may still arrive.
    pub fn unsubscribe(&mut self, topic: &str) {
        self.attachments.retain(|attachment| attachment.topic().as_str() != topic);
    }

    /// Waits for the next message.
    ///
    /// Cancel safe: a message is removed only by a call that returns it.
    ///
    /// # Errors
    /// Messages were dropped since the last call because the inbox was full. The next call continues after the gap.
    pub async fn recv(&mut self) -> Result<Arc<Message>, Lagged> {
        loop {
            if let Some(next) = self.try_recv() {
                return next;
            }
            // A message that came since `try_recv` has left a permit, so this returns at once.
            self.shared.arrived.notified().await;
        }
    }

    /// Returns the next message, if there is one now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Option<Result<Arc<Message>, Lagged>> {
        let mut queue = self.shared.queue.lock();
        match std::mem::take(&mut queue.missed) {
            0 => queue.messages.pop_front().map(Ok),
            missed => Some(Err(Lagged { missed })),
        }
    }

    /// The number of messages in the inbox.
    pub fn len(&self) -> usize {
        self.shared.queue.lock().messages.len()
    }

    /// Whether the inbox is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("topics", &self.attachments)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// An inbox was full, and its oldest messages were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the inbox was full, and {missed} of its messages were dropped; read it faster or give it more capacity"
)]
pub struct Lagged {
    /// The number of dropped messages.
    pub missed: u64,
}

struct SharedInbox {
    queue: Mutex<InboxMessages>,
    arrived: Notify,
}

struct InboxMessages {
    messages: VecDeque<Arc<Message>>,
    capacity: usize,
    missed: u64,
}

impl Subscriber for SharedInbox {
    fn deliver(&self, message: &Arc<Message>) {
        let mut queue = self.queue.lock();
        let dropped = (queue.messages.len() == queue.capacity).then(|| queue.messages.pop_front());
        queue.missed += u64::from(dropped.is_some());
        queue.messages.push_back(message.clone());
        drop(queue);
        self.arrived.notify_one();
    }
}
