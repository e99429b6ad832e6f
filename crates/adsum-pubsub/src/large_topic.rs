//! The queue of a large topic: its messages are delivered one after the other, a few subscribers at a time.
//!
//! A broadcast to a small topic delivers at once, in the task of the sender. With a hundred thousand subscribers that
//! would block the sender's thread for long, so a task of the topic delivers instead, and yields in between. Once a
//! message is queued, all later ones of the topic are queued behind it, so none overtakes another.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::{runtime::Handle, task::yield_now};

use crate::{ids::SubscriberId, message::Message, subscribers::Block, tasks};

/// Maximum number of subscribers for which a message is delivered in the task of its sender.
pub(crate) const INLINE: usize = 1024;
/// Maximum number of messages in a queue. Once the queue is full, the sender itself delivers until there is room.
const MAX_QUEUED: usize = 256;
/// The number of blocks of subscribers to deliver to before other tasks run.
const BLOCKS_PER_TURN: usize = 8;

/// A message on its way to the subscribers of a topic.
pub(crate) struct Job {
    pub(crate) message: Arc<Message>,
    pub(crate) from: Option<SubscriberId>,
    /// The first subscription number that is too late for this message.
    pub(crate) before: u64,
}

impl Job {
    pub(crate) fn deliver<'b>(&self, blocks: impl IntoIterator<Item = &'b Block>) {
        for subscription in blocks.into_iter().flat_map(|block| block.iter()) {
            if self.from != Some(subscription.id) && subscription.number < self.before {
                subscription.subscriber.deliver(&self.message);
            }
        }
    }
}

/// The messages of one large topic that wait to be delivered.
#[derive(Default)]
pub(crate) struct LargeTopicQueue {
    queued: Mutex<QueuedJobs>,
    /// The message that is being delivered. Locked while it is delivered to some blocks.
    in_progress: Mutex<Option<InProgress>>,
}

#[derive(Default)]
struct QueuedJobs {
    jobs: VecDeque<Job>,
    /// Whether a message is queued or being delivered.
    busy: bool,
}

struct InProgress {
    job: Job,
    /// The blocks that the message has not been delivered to yet.
    blocks: std::vec::IntoIter<Block>,
}

impl LargeTopicQueue {
    pub(crate) fn is_busy(&self) -> bool {
        self.queued.lock().busy
    }

    /// Queues a message. Returns whether the queue was idle; whoever pushes must call [`drain`](Self::drain) next.
    pub(crate) fn push(&self, job: Job) -> bool {
        let mut queued = self.queued.lock();
        queued.jobs.push_back(job);
        !std::mem::replace(&mut queued.busy, true)
    }

    fn next(&self) -> Option<Job> {
        self.queued.lock().jobs.pop_front()
    }

    /// Marks the queue as idle if it is empty, and returns whether it is. Called while no message is in progress.
    fn ends(&self) -> bool {
        let mut queued = self.queued.lock();
        let is_empty = queued.jobs.is_empty();
        if is_empty {
            *queued = QueuedJobs::default();
        }
        is_empty
    }

    /// Delivers what is queued: in a task, or in place if there is no runtime. `blocks` returns the topic's current
    /// subscribers.
    pub(crate) fn drain(
        self: Arc<Self>,
        was_idle: bool,
        blocks: impl Fn() -> Vec<Block> + Send + Sync + 'static,
    ) {
        let drainer = Drainer { queue: self, blocks };
        match Handle::try_current() {
            // The task ends when the queue is empty. If the runtime ends first, dropping the task delivers the rest.
            Ok(runtime) if was_idle => tasks::spawn_short(&runtime, "large topic", DrainTask(drainer).run()),
            Ok(_) => drainer.until(QueuedJobs::has_room),
            Err(_) => drainer.until(|queued| !queued.busy),
        }
    }
}

impl QueuedJobs {
    fn has_room(&self) -> bool {
        self.jobs.len() < MAX_QUEUED
    }
}

struct Drainer<B> {
    queue: Arc<LargeTopicQueue>,
    blocks: B,
}

impl<B: Fn() -> Vec<Block>> Drainer<B> {
    fn until(&self, done: impl Fn(&QueuedJobs) -> bool) {
        while !done(&self.queue.queued.lock()) {
            self.step();
        }
    }

    /// Delivers to the next blocks. Returns false if nothing is left to deliver.
    fn step(&self) -> bool {
        let mut in_progress = self.queue.in_progress.lock();
        if in_progress.is_none() {
            let Some(job) = self.queue.next() else { return false };
            // Subscribers that left since the broadcast get nothing; the numbers exclude those that came since.
            *in_progress = Some(InProgress { job, blocks: (self.blocks)().into_iter() });
        }
        let Some(InProgress { job, blocks }) = in_progress.as_mut() else { return true };
        let turn: Vec<Block> = blocks.take(BLOCKS_PER_TURN).collect();
        job.deliver(&turn);
        if blocks.len() > 0 {
            return true;
        }
        *in_progress = None;
        !self.queue.ends()
    }
}

/// The task that drains a queue.
struct DrainTask<B: Fn() -> Vec<Block>>(Drainer<B>);

impl<B: Fn() -> Vec<Block>> DrainTask<B> {
    async fn run(self) {
        // A subscriber that panics ends neither the task nor, as its drop delivers the rest, the process.
        while tasks::guarded("subscriber", || self.0.step()).unwrap_or(true) {
            yield_now().await;
        }
    }
}

impl<B: Fn() -> Vec<Block>> Drop for DrainTask<B> {
    fn drop(&mut self) {
        self.0.until(|queued| !queued.busy);
    }
}
