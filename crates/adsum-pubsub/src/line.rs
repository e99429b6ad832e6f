//! The line of a large topic: messages that a task delivers one after the other, in pieces.
//!
//! Whoever broadcasts to a small topic delivers by itself, at once. To a hundred thousand subscribers that would
//! hold up all that runs on the same thread, so there a task does it, and lets others run in between. Once a
//! message stands in line, all that follow it do, so that none overtakes.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::{runtime::Handle, task::yield_now};

use crate::{
    Message, SubscriberId, Topic,
    registry::{Block, Registry},
    tasks,
};

/// How many subscribers a topic has at most whose messages are delivered where they are sent.
pub(crate) const INLINE: usize = 1024;
/// How many messages wait in a line. Who sends one more delivers until there is room for it.
const MAX_WAITING: usize = 256;
/// How many blocks of subscribers are delivered to before others run.
const PIECE: usize = 8;

/// A message on its way to the subscribers of a topic.
pub(crate) struct Job {
    pub(crate) message: Arc<Message>,
    pub(crate) from: Option<SubscriberId>,
    /// The number of the first seat that was taken too late for it.
    pub(crate) before: u64,
}

impl Job {
    pub(crate) fn deliver<'b>(&self, blocks: impl IntoIterator<Item = &'b Block>) {
        for seat in blocks.into_iter().flat_map(|block| block.iter()) {
            if self.from != Some(seat.id) && seat.number < self.before {
                seat.subscriber.deliver(&self.message);
            }
        }
    }
}

/// The messages of one topic that stand in line.
#[derive(Default)]
pub(crate) struct Line {
    waiting: Mutex<Waiting>,
    /// The message that is being delivered. Held while a piece of it is.
    turn: Mutex<Option<Turn>>,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// A message waits or is being delivered.
    busy: bool,
}

struct Turn {
    job: Job,
    /// The blocks that are still to come.
    blocks: std::vec::IntoIter<Block>,
}

impl Line {
    pub(crate) fn is_busy(&self) -> bool {
        self.waiting.lock().busy
    }

    /// Adds a message. True where the line was empty: who added it sees that it [moves](Self::move_on).
    pub(crate) fn push(&self, job: Job) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.jobs.push_back(job);
        !std::mem::replace(&mut waiting.busy, true)
    }

    fn next(&self) -> Option<Job> {
        self.waiting.lock().jobs.pop_front()
    }

    /// Called where no message is being delivered: whether none waits either, so that the line is over.
    fn ends(&self) -> bool {
        let mut waiting = self.waiting.lock();
        let is_over = waiting.jobs.is_empty();
        if is_over {
            *waiting = Waiting::default();
        }
        is_over
    }

    /// Has what stands in line delivered: by a task, or here where there is no runtime for one.
    pub(crate) fn move_on(self: Arc<Self>, is_first: bool, registry: &Arc<Registry>, topic: &Topic) {
        let moving = Moving { line: self, registry: registry.clone(), topic: topic.clone() };
        match Handle::try_current() {
            // It ends with the line, and where the runtime ends before, all is delivered as it is dropped.
            Ok(runtime) if is_first => tasks::spawn_short(&runtime, "large topic", Mover(moving).run()),
            Ok(_) => moving.until(Waiting::has_room),
            Err(_) => moving.until(|waiting| !waiting.busy),
        }
    }
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.jobs.len() < MAX_WAITING
    }
}

struct Moving {
    line: Arc<Line>,
    registry: Arc<Registry>,
    topic: Topic,
}

impl Moving {
    fn until(&self, done: impl Fn(&Waiting) -> bool) {
        while !done(&self.line.waiting.lock()) {
            self.step();
        }
    }

    /// Delivers a piece. False where nothing stands in line any more.
    fn step(&self) -> bool {
        let mut turn = self.line.turn.lock();
        if turn.is_none() {
            let Some(job) = self.line.next() else { return false };
            // Who has left since gets nothing, and who came since is kept out by the number of the seat.
            *turn = Some(Turn { job, blocks: self.registry.blocks(&self.topic).into_iter() });
        }
        let Some(Turn { job, blocks }) = turn.as_mut() else { return true };
        let piece: Vec<Block> = blocks.take(PIECE).collect();
        job.deliver(&piece);
        if blocks.len() > 0 {
            return true;
        }
        *turn = None;
        !self.line.ends()
    }
}

/// The task of a line.
struct Mover(Moving);

impl Mover {
    async fn run(self) {
        while self.0.step() {
            yield_now().await;
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.0.until(|waiting| !waiting.busy);
    }
}
