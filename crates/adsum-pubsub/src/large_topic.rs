//! The queue of a large topic: its messages are delivered one after the other, a few subscribers at a time.
//!
//! A broadcast to a small topic delivers at once, in the task of the sender. With a hundred thousand subscribers that
//! would block the sender's thread for long, so a task of the topic delivers instead, and yields in between. Once a
//! message is queued, all later ones of the topic are queued behind it, so none overtakes another. If the runtime has
//! several workers, they take turns of one message; the next one begins when all of them have ended.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parking_lot::{Condvar, Mutex};
use tokio::{runtime::Handle, sync::Notify, task::yield_now};

use crate::{
    ids::SubscriberId,
    log::{cut, cut_name, limited},
    message::Message,
    subscribers::Block,
    tasks,
};

/// Maximum number of subscribers for which a message is delivered in the task of its sender.
pub(crate) const INLINE: usize = 1024;
/// Maximum number of messages in a queue. Once the queue is full, the sender itself delivers until there is room.
const MAX_QUEUED: usize = 256;
/// The number of blocks of subscribers to deliver to before other tasks run.
const BLOCKS_PER_TURN: usize = 8;

/// The name under which panics of subscribers are counted.
const SUBSCRIBER: &str = "subscriber";

/// A message on its way to the subscribers of a topic.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) message: Arc<Message>,
    pub(crate) from: Option<SubscriberId>,
    /// The first subscription number that is too late for this message.
    pub(crate) before: u64,
}

impl Job {
    /// Calls the subscribers. One that panics keeps the message from no other, and ends nothing else.
    pub(crate) fn deliver(&self, blocks: Vec<Block>) {
        let mut subscriptions = blocks.iter().flat_map(|block| block.iter());
        // One guard for all of them costs nothing for each. After a panic it goes on with the next.
        let mut deliver = || {
            for subscription in subscriptions.by_ref() {
                if self.from != Some(subscription.id) && subscription.number < self.before {
                    subscription.subscriber.deliver(&self.message);
                }
            }
        };
        while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut deliver)) {
            self.note_panic(&*panic);
        }
        // These may be the last references to subscribers that have left. Ignore the error: the panic is logged.
        let _ = tasks::guarded(SUBSCRIBER, || drop(blocks));
    }

    fn note_panic(&self, panic: &(dyn Any + Send)) {
        tasks::count_panic(SUBSCRIBER);
        limited!(
            ERROR,
            topic = %cut_name(self.message.topic()),
            event = %cut_name(self.message.event()),
            panic = %cut(tasks::panic_text(panic)),
            "a subscriber panicked; the others get the message"
        );
    }
}

/// The messages of one large topic that wait to be delivered.
#[derive(Default)]
pub(crate) struct LargeTopicQueue {
    queued: Mutex<QueuedJobs>,
    in_progress: Mutex<Option<InProgress>>,
    /// A message was delivered to all, for a thread that waits for it.
    delivered: Condvar,
    /// The same, for a task. A message that comes while a task ends starts another, so two may wait: each that is woken
    /// and ends wakes the next.
    next: Notify,
}

#[derive(Default)]
struct QueuedJobs {
    jobs: VecDeque<Job>,
    /// Whether a message is queued or being delivered.
    busy: bool,
}

/// The message that is being delivered.
struct InProgress {
    job: Job,
    /// The blocks that nobody has taken yet.
    blocks: std::vec::IntoIter<Block>,
    /// The turns that were taken and haven't ended.
    turns: usize,
}

/// The next step of a thread that delivers.
enum Next<'q> {
    Deliver(Delivery<'q>),
    /// Nothing is left of a message but what others are delivering, and no other message may begin.
    Wait,
    Rest,
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

    /// Marks the queue as idle if it is empty. Called while no message is in progress.
    fn rest_if_empty(&self) {
        let mut queued = self.queued.lock();
        if queued.jobs.is_empty() {
            *queued = QueuedJobs::default();
        }
    }

    /// Delivers what is queued: in a task, or in place if there is no runtime. `blocks` returns the topic's current
    /// subscribers.
    pub(crate) fn drain(
        self: Arc<Self>,
        was_idle: bool,
        blocks: impl Fn() -> Vec<Block> + Clone + Send + Sync + 'static,
    ) {
        let drainer = Drainer { queue: self, blocks };
        match Handle::try_current() {
            Ok(runtime) if was_idle => {
                tasks::spawn_short(&runtime, NAME, DrainTask::new(drainer).run());
            }
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

#[derive(Clone)]
struct Drainer<B> {
    queue: Arc<LargeTopicQueue>,
    blocks: B,
}

impl<B: Fn() -> Vec<Block>> Drainer<B> {
    fn until(&self, done: impl Fn(&QueuedJobs) -> bool) {
        while !done(&self.queue.queued.lock()) {
            match self.next() {
                Next::Deliver(turn) => turn.deliver(),
                Next::Wait => self.wait(),
                Next::Rest => return,
            }
        }
    }

    /// Begins the next message if none is in progress.
    fn next(&self) -> Next<'_> {
        let mut in_progress = self.queue.in_progress.lock();
        if in_progress.is_none() {
            let Some(job) = self.queue.next() else { return Next::Rest };
            // Subscribers that left since the broadcast get nothing; the numbers exclude those that came since.
            *in_progress = Some(InProgress { job, blocks: (self.blocks)().into_iter(), turns: 0 });
        }
        let Some(InProgress { job, blocks, turns }) = in_progress.as_mut() else { return Next::Rest };
        if blocks.len() == 0 && *turns > 0 {
            return Next::Wait;
        }
        *turns += 1;
        let taken = blocks.take(BLOCKS_PER_TURN).collect();
        let left = blocks.len().div_ceil(BLOCKS_PER_TURN);
        Next::Deliver(Delivery { queue: &self.queue, job: job.clone(), blocks: taken, left })
    }

    /// Blocks while others deliver what is left of a message: for a turn, which doesn't wait for anything.
    fn wait(&self) {
        let mut in_progress = self.queue.in_progress.lock();
        while in_progress.as_ref().is_some_and(|message| message.blocks.len() == 0) {
            self.queue.delivered.wait(&mut in_progress);
        }
    }
}

/// Some blocks that one thread delivers to.
struct Delivery<'q> {
    queue: &'q LargeTopicQueue,
    job: Job,
    blocks: Vec<Block>,
    /// The turns of the message that nobody has taken yet.
    left: usize,
}

impl Delivery<'_> {
    fn deliver(mut self) {
        self.job.deliver(std::mem::take(&mut self.blocks));
    }
}

/// However it ends, the turn is over.
impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        let mut in_progress = self.queue.in_progress.lock();
        let Some(InProgress { blocks, turns, .. }) = &mut *in_progress else { return };
        *turns -= 1;
        if *turns > 0 || blocks.len() > 0 {
            return;
        }
        let ended = in_progress.take();
        self.queue.rest_if_empty();
        drop(in_progress);
        self.queue.delivered.notify_all();
        self.queue.next.notify_one();
        // After the lock, as it may hold the last reference to a value of the program.
        drop(ended);
    }
}

const NAME: &str = "large topic";

/// The task that drains a queue. If the runtime ends first, dropping it delivers the rest.
struct DrainTask<B: Fn() -> Vec<Block>> {
    drainer: Drainer<B>,
    /// Whether it has found the queue empty. Another task delivers later messages.
    is_over: bool,
    /// Each helper has a reference.
    helpers: Arc<()>,
}

impl<B: Fn() -> Vec<Block> + Clone + Send + Sync + 'static> DrainTask<B> {
    fn new(drainer: Drainer<B>) -> Self {
        Self { drainer, is_over: false, helpers: Arc::default() }
    }

    /// Ends when the queue is empty.
    async fn run(mut self) {
        loop {
            match self.drainer.next() {
                Next::Deliver(turn) => {
                    self.start_helpers(turn.left);
                    turn.deliver();
                }
                Next::Wait => {
                    self.drainer.queue.next.notified().await;
                    continue;
                }
                Next::Rest => {
                    self.is_over = true;
                    // Without a waiter it wakes a later task once for nothing.
                    self.drainer.queue.next.notify_one();
                    return;
                }
            }
            yield_now().await;
        }
    }

    /// Has other workers take turns if there are many.
    fn start_helpers(&self, turns: usize) {
        let helping = Arc::strong_count(&self.helpers) - 1;
        for _ in helping..tasks::helpers(turns) {
            let help = help(self.drainer.clone(), self.helpers.clone());
            tasks::spawn_short(&Handle::current(), NAME, help);
        }
    }
}

impl<B: Fn() -> Vec<Block>> Drop for DrainTask<B> {
    fn drop(&mut self) {
        if !self.is_over {
            self.drainer.until(|queued| !queued.busy);
        }
    }
}

/// Takes turns while there are some. The [`DrainTask`] goes on.
async fn help<B: Fn() -> Vec<Block>>(drainer: Drainer<B>, _helping: Arc<()>) {
    loop {
        match drainer.next() {
            Next::Deliver(turn) => turn.deliver(),
            Next::Wait | Next::Rest => return,
        }
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Waker},
        thread,
    };

    use super::*;
    use crate::{
        message::Message,
        payload::Json,
        subscribers::{Subscriber, Subscription},
    };

    struct Counter(AtomicUsize);

    impl Subscriber for Counter {
        fn deliver(&self, _: &Arc<Message>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted_blocks(counter: &Arc<Counter>, count: usize) -> Vec<Block> {
        let subscription = |number| Subscription {
            number,
            id: SubscriberId::unique(),
            subscriber: counter.clone() as Arc<dyn Subscriber>,
        };
        (0..count).map(|number| Arc::new(vec![subscription(number as u64)])).collect()
    }

    fn job() -> Job {
        let message = Arc::new(Message::new("topic", "event", Json::empty_object().into()));
        Job { message, from: None, before: u64::MAX }
    }

    /// A message that comes while a task ends starts another one, so there may be two for a while.
    #[tokio::test(start_paused = true)]
    async fn of_two_tasks_that_wait_for_the_same_turns_none_is_left_behind() {
        let queue = Arc::new(LargeTopicQueue::default());
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let blocks = counted_blocks(&counter, 2 * BLOCKS_PER_TURN);
        let drainer = Drainer { queue: queue.clone(), blocks: move || blocks.clone() };
        queue.push(job());
        let turns = [drainer.next(), drainer.next()];
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..2 {
            tasks.spawn(DrainTask::new(drainer.clone()).run());
        }
        yield_now().await;
        for turn in turns {
            let Next::Deliver(turn) = turn else { panic!("there are two turns") };
            turn.deliver();
        }
        assert_eq!(counter.0.load(Ordering::Relaxed), 2 * BLOCKS_PER_TURN);
        let over = tokio::time::timeout(std::time::Duration::from_secs(1), tasks.join_all()).await;
        assert!(over.is_ok(), "both tasks end");
    }

    /// Another thread pushes as soon as the queue is idle, so some messages come while a task ends.
    #[test]
    fn a_task_that_ends_leaves_later_messages_to_the_next_one() {
        const MESSAGES: usize = 4_000;
        const BLOCKS: usize = 2 * BLOCKS_PER_TURN;
        let queue = Arc::new(LargeTopicQueue::default());
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let blocks = counted_blocks(&counter, BLOCKS);
        let drainer = Drainer { queue: queue.clone(), blocks: move || blocks.clone() };
        let job = job();
        let sender = thread::spawn(move || {
            for n in 0..MESSAGES {
                while queue.is_busy() {
                    thread::yield_now();
                }
                // The task ends a little after the queue is idle.
                (0..n % 64).for_each(|_| std::hint::spin_loop());
                queue.push(job.clone());
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let mut most = 0;
        while counter.0.load(Ordering::Relaxed) < MESSAGES * BLOCKS {
            let mut task = pin!(DrainTask::new(drainer.clone()).run());
            let mut is_over = false;
            while !is_over {
                let before = counter.0.load(Ordering::Relaxed);
                is_over = task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                most = most.max(counter.0.load(Ordering::Relaxed) - before);
            }
        }
        sender.join().unwrap();
        assert_eq!(most, BLOCKS_PER_TURN, "the most subscribers that were delivered to without a yield");
    }
}
