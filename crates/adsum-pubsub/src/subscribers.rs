//! The subscribers of one topic on this node.
//!
//! They are kept in blocks of at most [`BLOCK`], each shared by reference. A broadcast takes references to the blocks
//! and delivers without a lock. While a broadcast holds a block, a subscriber that joins copies at most one block, and
//! one that leaves at most two. So both cost the same with ten subscribers and with a hundred thousand. Maps and blocks
//! that have become far too large are shrunk, at a cost that many removals share.

use std::{collections::HashMap, sync::Arc};

use crate::{ids::SubscriberId, message::Message};

/// Called with every message of the topics that it is attached to.
pub trait Subscriber: Send + Sync + 'static {
    /// Takes a message. It is called in the task that broadcasts, or, if the topic is large, in a task of the topic. It
    /// must not block. Its panic is logged and counted; the other subscribers get the message, and the broadcast returns
    /// as ever.
    ///
    /// It may attach and detach. It must not broadcast: other subscribers would get that message before the one that
    /// caused it, and in a large topic it would deadlock.
    fn deliver(&self, message: &Arc<Message>);
}

const BLOCK: usize = 128;

/// A subscriber in a topic.
#[derive(Clone)]
pub(crate) struct Subscription {
    pub(crate) number: u64,
    pub(crate) id: SubscriberId,
    pub(crate) subscriber: Arc<dyn Subscriber>,
}

/// Subscriptions that are shared with the broadcasts in progress.
pub(crate) type Block = Arc<Vec<Subscription>>;

#[derive(Default)]
pub(crate) struct Subscribers {
    len: usize,
    blocks: Vec<Block>,
    /// The position of each subscription, by its number, once the topic has filled a block: a single block is searched
    /// instead. All blocks but the last are full, so a position names a block and a slot.
    positions: Option<HashMap<u64, usize>>,
}

impl Subscribers {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn blocks(&self) -> &Vec<Block> {
        &self.blocks
    }

    pub(crate) fn push(&mut self, subscription: Subscription) {
        if self.len == BLOCK && self.positions.is_none() {
            let numbers = self.blocks.iter().flat_map(|block| block.iter()).map(|other| other.number);
            self.positions = Some(numbers.zip(0..).collect());
        }
        if let Some(positions) = &mut self.positions {
            positions.insert(subscription.number, self.len);
        }
        if self.len.is_multiple_of(BLOCK) {
            // Most topics have few subscribers, and many programs have very many such topics.
            self.blocks.reserve_exact(1 + self.blocks.len());
            self.blocks.push(Arc::new(Vec::with_capacity(1)));
        }
        let last = self.blocks.last_mut().expect("a block is pushed if the last one is full");
        Arc::make_mut(last).push(subscription);
        self.len += 1;
    }

    fn position(&mut self, number: u64) -> Option<usize> {
        match &mut self.positions {
            Some(positions) => positions.remove(&number),
            None => self.blocks.first()?.iter().position(|other| other.number == number),
        }
    }

    /// Removes a subscription and moves the last one to its position, so no gap is left.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Subscription> {
        let position = self.position(number)?;
        self.len -= 1;
        let last = self.blocks.last_mut().expect("a subscription with a position is in a block");
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
        // Lower than the size at which the map is made, or a topic around that size would rebuild it again and again.
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

/// Whether a collection has so much spare capacity that shrinking it is worth the copy.
pub(crate) fn is_wasteful(capacity: usize, len: usize) -> bool {
    const SPARE: usize = 16;
    capacity > 4 * len.max(SPARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Deaf;

    impl Subscriber for Deaf {
        fn deliver(&self, _: &Arc<Message>) {}
    }

    #[test]
    fn a_topic_gives_its_memory_back_as_subscribers_leave() {
        let mut subscribers = Subscribers::default();
        let numbers = 0..100 * BLOCK as u64;
        for number in numbers.clone() {
            subscribers.push(Subscription { number, id: SubscriberId::unique(), subscriber: Arc::new(Deaf) });
        }
        for number in numbers.skip(3) {
            assert_eq!(subscribers.remove(number).map(|left| left.number), Some(number));
        }

        assert_eq!((subscribers.len, subscribers.blocks.len()), (3, 1));
        assert!(subscribers.positions.is_none());
        // No collection keeps more than four times its spare capacity.
        assert!(subscribers.blocks.capacity() <= 64, "{}", subscribers.blocks.capacity());
        assert!(subscribers.blocks[0].capacity() <= 64, "{}", subscribers.blocks[0].capacity());
    }
}
