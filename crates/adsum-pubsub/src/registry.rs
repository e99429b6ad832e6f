//! The topics of this node and their subscribers.

use std::{
    collections::{HashMap, hash_map::RandomState},
    fmt,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    adapter::{Adapter, Deliver},
    ids::SubscriberId,
    large_topic::{INLINE, Job, LargeTopicQueue},
    message::Message,
    metrics::{Metrics, Readings, Source, table},
    subscribers::{Block, Subscriber, Subscribers, Subscription, is_wasteful},
    topic::Topic,
};

/// A subscriber's attachment to a topic. Dropping it detaches the subscriber.
pub struct Attachment {
    registry: Arc<Registry>,
    topic: Topic,
    subscription: u64,
}

impl Attachment {
    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.registry.detach(&self.topic, self.subscription);
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("topic", &self.topic).finish_non_exhaustive()
    }
}

const SHARDS: usize = 64;

pub(crate) struct Registry {
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<Topic, TopicEntry>>]>,
    adapter: Arc<dyn Adapter>,
    next_subscription: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct TopicEntry {
    subscribers: Subscribers,
    /// The queue of messages, once the topic has been large.
    queue: Option<Arc<LargeTopicQueue>>,
}

impl Registry {
    pub(crate) fn new(adapter: Arc<dyn Adapter>, metrics: Arc<Metrics>) -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            adapter,
            next_subscription: AtomicU64::new(0),
            metrics,
        }
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(crate) fn attach(
        self: &Arc<Self>,
        topic: Topic,
        id: SubscriberId,
        subscriber: Arc<dyn Subscriber>,
    ) -> Attachment {
        let subscription = {
            let mut topics = self.shard(&topic).lock();
            // Under the lock, so that a subscription made after a message has a higher number than all those before it.
            let number = self.next_subscription.fetch_add(1, Ordering::Relaxed);
            let subscribers = &mut topics.entry(topic.clone()).or_default().subscribers;
            if subscribers.len() == 0 {
                // Under the lock, so that the adapter sees first and last subscribers in their true order.
                self.adapter.subscribed(&topic);
            }
            subscribers.push(Subscription { number, id, subscriber });
            number
        };
        Attachment { registry: self.clone(), topic, subscription }
    }

    fn detach(&self, topic: &Topic, subscription: u64) {
        let mut topics = self.shard(topic).lock();
        let Some(entry) = topics.get_mut(topic) else { return };
        let left = entry.subscribers.remove(subscription);
        if entry.subscribers.len() == 0 {
            topics.remove(topic);
            if is_wasteful(topics.capacity(), topics.len()) {
                let room = 2 * topics.len();
                topics.shrink_to(room);
            }
            self.adapter.unsubscribed(topic);
        }
        drop(topics);
        // Run the subscriber's `Drop` outside the lock.
        drop(left);
    }

    /// Delivers to all subscribers of the message's topic but `from`: before it returns, or, if they are many, through
    /// the topic's [queue](LargeTopicQueue).
    pub(crate) fn dispatch(self: &Arc<Self>, message: &Arc<Message>, from: Option<SubscriberId>) {
        let topic = message.topic();
        let mut topics = self.shard(topic).lock();
        let Some(entry) = topics.get_mut(topic) else { return };
        let before = self.next_subscription.load(Ordering::Relaxed);
        message.set_subscribers(entry.subscribers.len());
        let job = Job { message: message.clone(), from, before };
        if entry.subscribers.len() <= INLINE && !entry.queue.as_ref().is_some_and(|queue| queue.is_busy()) {
            let blocks = entry.subscribers.blocks().clone();
            drop(topics);
            job.deliver(blocks);
        } else {
            let queue = entry.queue.get_or_insert_default().clone();
            let was_idle = queue.push(job);
            drop(topics);
            let (registry, topic) = (self.clone(), topic.clone());
            queue.drain(was_idle, move || registry.blocks(&topic));
        }
    }

    /// The subscribers of a topic.
    fn blocks(&self, topic: &str) -> Vec<Block> {
        self.shard(topic).lock().get(topic).map_or_else(Vec::new, |entry| entry.subscribers.blocks().clone())
    }

    pub(crate) fn count(&self, topic: &str) -> usize {
        self.shard(topic).lock().get(topic).map_or(0, |entry| entry.subscribers.len())
    }

    fn shard(&self, topic: &str) -> &Mutex<HashMap<Topic, TopicEntry>> {
        &self.shards[self.hasher.hash_one(topic) as usize % SHARDS]
    }
}

impl Source for Registry {
    fn read(&self, readings: &mut Readings) {
        let topics = self.shards.iter().map(|shard| shard.lock().len()).sum();
        readings.add_count(&table::TOPICS, &[], topics);
    }
}

impl Deliver for Registry {
    fn deliver(self: Arc<Self>, message: &Arc<Message>) {
        self.dispatch(message, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::PubSub;

    struct Deaf;

    impl Subscriber for Deaf {
        fn deliver(&self, _: &Arc<Message>) {}
    }

    #[test]
    fn topics_without_subscribers_leave_nothing_behind() {
        let pubsub = PubSub::local();
        let attach = |topic: String| pubsub.attach(topic, SubscriberId::unique(), Arc::new(Deaf));
        drop((0..20_000).map(|n| attach(format!("t:{n}"))).collect::<Vec<_>>());

        for shard in &pubsub.registry.shards {
            let topics = shard.lock();
            assert_eq!(topics.len(), 0);
            assert!(topics.capacity() <= 64, "{}", topics.capacity());
        }
    }
}
