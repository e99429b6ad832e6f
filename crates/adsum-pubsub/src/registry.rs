//! Who is subscribed to what on this node.
//!
//! A topic's subscribers stand in blocks of at most [`BLOCK`], each shared by reference. A broadcast takes the
//! blocks as they are and delivers without their lock; joining copies one block at most and leaving two, and only while
//! a broadcast holds it. So they cost the same with ten subscribers and with a hundred thousand.
//! Maps and blocks that have become far too large are shrunk, at a cost that many removals share.

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
    Adapter, Message, Topic,
    line::{INLINE, Job, Line},
};

/// Called with every message of the topics it is attached to.
pub trait Subscriber: Send + Sync + 'static {
    /// Takes a message, in the task that broadcasts it, or in one of the topic's own where that is large: it must
    /// not block, nor panic, as that would end the broadcast.
    ///
    /// It may attach and detach. It must not broadcast: others would get that message before the one that caused
    /// it, and in a large topic it would wait for itself.
    fn deliver(&self, message: &Arc<Message>);
}

/// Names a subscriber, which may be attached to several topics, or several times to one.
///
/// It is what `broadcast_from` passes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId(u64);

impl SubscriberId {
    /// A new id, unlike all others of this process.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A subscriber's place in a topic; dropped, it leaves the topic.
pub struct Attachment {
    registry: Arc<Registry>,
    topic: Topic,
    seat: u64,
}

impl Attachment {
    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.registry.detach(&self.topic, self.seat);
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("topic", &self.topic).finish_non_exhaustive()
    }
}

const BLOCK: usize = 128;
const SHARDS: usize = 64;

pub(crate) struct Registry {
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<Topic, Subscribers>>]>,
    adapter: Arc<dyn Adapter>,
    next_seat: AtomicU64,
}

impl Registry {
    pub(crate) fn new(adapter: Arc<dyn Adapter>) -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            adapter,
            next_seat: AtomicU64::new(0),
        }
    }

    pub(crate) fn attach(
        self: &Arc<Self>,
        topic: Topic,
        id: SubscriberId,
        subscriber: Arc<dyn Subscriber>,
    ) -> Attachment {
        let seat = {
            let mut topics = self.shard(&topic).lock();
            // Under the lock, so that who comes after a message has a higher number than all who came before it.
            let number = self.next_seat.fetch_add(1, Ordering::Relaxed);
            let subscribers = topics.entry(topic.clone()).or_default();
            if subscribers.len == 0 {
                // Under the lock, so that the adapter hears of a topic's first and last in their true order.
                self.adapter.subscribed(&topic);
            }
            subscribers.push(Seat { number, id, subscriber });
            number
        };
        Attachment { registry: self.clone(), topic, seat }
    }

    fn detach(&self, topic: &Topic, seat: u64) {
        let mut topics = self.shard(topic).lock();
        let Some(subscribers) = topics.get_mut(topic) else { return };
        let left = subscribers.remove(seat);
        if subscribers.len == 0 {
            topics.remove(topic);
            if is_wasteful(topics.capacity(), topics.len()) {
                let room = 2 * topics.len();
                topics.shrink_to(room);
            }
            self.adapter.unsubscribed(topic);
        }
        drop(topics);
        // What a subscriber's own drop does is its affair, but not under our lock.
        drop(left);
    }

    /// Delivers to all subscribers of the message's topic but `from`: before it returns, or where they are many,
    /// in the topic's [line](Line).
    pub(crate) fn dispatch(self: &Arc<Self>, message: &Arc<Message>, from: Option<SubscriberId>) {
        let topic = message.topic();
        let mut topics = self.shard(topic).lock();
        let Some(subscribers) = topics.get_mut(topic) else { return };
        let before = self.next_seat.load(Ordering::Relaxed);
        let job = Job { message: message.clone(), from, before };
        if subscribers.len <= INLINE && !subscribers.line.as_ref().is_some_and(|line| line.is_busy()) {
            let blocks = subscribers.blocks.clone();
            drop(topics);
            job.deliver(&blocks);
        } else {
            let line = subscribers.line.get_or_insert_default().clone();
            let is_first = line.push(job);
            drop(topics);
            line.move_on(is_first, self, topic);
        }
    }

    /// The subscribers of a topic.
    pub(crate) fn blocks(&self, topic: &str) -> Vec<Block> {
        self.shard(topic).lock().get(topic).map_or_else(Vec::new, |subscribers| subscribers.blocks.clone())
    }

    pub(crate) fn count(&self, topic: &str) -> usize {
        self.shard(topic).lock().get(topic).map_or(0, |subscribers| subscribers.len)
    }

    fn shard(&self, topic: &str) -> &Mutex<HashMap<Topic, Subscribers>> {
        &self.shards[self.hasher.hash_one(topic) as usize % SHARDS]
    }
}

/// A subscriber's place.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) number: u64,
    pub(crate) id: SubscriberId,
    pub(crate) subscriber: Arc<dyn Subscriber>,
}

/// Seats that stand together, shared with broadcasts that are under way.
pub(crate) type Block = Arc<Vec<Seat>>;

#[derive(Default)]
struct Subscribers {
    len: usize,
    blocks: Vec<Block>,
    /// Where messages wait once the topic has been large.
    line: Option<Arc<Line>>,
    /// Where each seat stands, of a topic that has filled a block: a single one is searched. All blocks but the
    /// last are full, so a position names a block and a slot.
    positions: Option<HashMap<u64, usize>>,
}

impl Subscribers {
    fn push(&mut self, seat: Seat) {
        if self.len == BLOCK && self.positions.is_none() {
            let numbers = self.blocks.iter().flat_map(|block| block.iter()).map(|seat| seat.number);
            self.positions = Some(numbers.zip(0..).collect());
        }
        if let Some(positions) = &mut self.positions {
            positions.insert(seat.number, self.len);
        }
        if self.len.is_multiple_of(BLOCK) {
            // Most topics have few subscribers, and many programs very many such topics.
            self.blocks.reserve_exact(1 + self.blocks.len());
            self.blocks.push(Arc::new(Vec::with_capacity(1)));
        }
        let last = self.blocks.last_mut().expect("a block was pushed where the last was full");
        Arc::make_mut(last).push(seat);
        self.len += 1;
    }

    fn position(&mut self, seat: u64) -> Option<usize> {
        match &mut self.positions {
            Some(positions) => positions.remove(&seat),
            None => self.blocks.first()?.iter().position(|other| other.number == seat),
        }
    }

    /// Fills the place of the one who leaves with the last of all, so no hole is ever kept.
    fn remove(&mut self, seat: u64) -> Option<Seat> {
        let position = self.position(seat)?;
        self.len -= 1;
        let last = self.blocks.last_mut().expect("a seat with a position stands in a block");
        let last = Arc::make_mut(last);
        let moved = last.pop().expect("an empty block is never kept");
        if last.is_empty() {
            self.blocks.pop();
        } else if is_wasteful(last.capacity(), last.len()) {
            last.shrink_to(2 * last.len());
        }
        if is_wasteful(self.blocks.capacity(), self.blocks.len()) {
            self.blocks.shrink_to(2 * self.blocks.len());
        }
        // Not at the size at which they are made, or a topic about that size would make them again and again.
        self.positions.take_if(|_| self.len < BLOCK / 2);
        if let Some(positions) = &mut self.positions
            && is_wasteful(positions.capacity(), self.len)
        {
            positions.shrink_to(2 * self.len);
        }
        if position == self.len {
            return Some(moved);
        }
        if let Some(positions) = &mut self.positions {
            positions.insert(moved.number, position);
        }
        let block = Arc::make_mut(&mut self.blocks[position / BLOCK]);
        Some(std::mem::replace(&mut block[position % BLOCK], moved))
    }
}

/// Whether a collection has so much more room than it needs that it is worth moving to a smaller one.
fn is_wasteful(capacity: usize, len: usize) -> bool {
    const SPARE: usize = 16;
    capacity > 4 * len.max(SPARE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PubSub;

    struct Deaf;

    impl Subscriber for Deaf {
        fn deliver(&self, _: &Arc<Message>) {}
    }

    fn attach(pubsub: &PubSub, topic: &str) -> Attachment {
        pubsub.attach(topic, SubscriberId::unique(), Arc::new(Deaf))
    }

    #[test]
    fn a_topic_gives_its_memory_back_as_subscribers_leave() {
        let pubsub = PubSub::local();
        let mut attachments: Vec<_> = (0..100 * BLOCK).map(|_| attach(&pubsub, "t")).collect();
        attachments.truncate(3);

        let topics = pubsub.registry.shard("t").lock();
        let subscribers = &topics["t"];
        assert_eq!((subscribers.len, subscribers.blocks.len()), (3, 1));
        assert!(subscribers.positions.is_none());
        // Four times the spare room of a collection is the most that any of them keeps.
        assert!(subscribers.blocks.capacity() <= 64, "{}", subscribers.blocks.capacity());
        assert!(subscribers.blocks[0].capacity() <= 64, "{}", subscribers.blocks[0].capacity());
    }

    #[test]
    fn topics_without_subscribers_leave_nothing_behind() {
        let pubsub = PubSub::local();
        drop((0..20_000).map(|n| attach(&pubsub, &format!("t:{n}"))).collect::<Vec<_>>());

        for shard in &pubsub.registry.shards {
            let topics = shard.lock();
            assert_eq!(topics.len(), 0);
            assert!(topics.capacity() <= 64, "{}", topics.capacity());
        }
    }
}
