//! The write pass: sockets that were pushed to are written once, after the ready tasks of their thread have run.
//!
//! A write is a system call per socket, and costs more than everything else for a frame. So a push only enrols the
//! socket. Sixteen replies to sixteen events that arrived together are one write, and so are the broadcasts of any
//! number of tasks to the same socket. If no other task is ready, the pass runs next, so there is no delay.
//!
//! There are three passes: one for frames to a single client, such as a reply; one for broadcasts to few sockets; and
//! one for broadcasts to many. The last two yield after some sockets. So a reply doesn't wait until a broadcast was
//! written to hundreds of other sockets, nor does a game of two wait for a room of thousands.

#[cfg(test)]
mod tests;

use std::{cell::RefCell, mem, sync::Arc, vec};

use adsum_pubsub::tasks;
use parking_lot::Mutex;
use tokio::{runtime::Handle, task};

use super::Outbound;

/// When a socket must be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Before any broadcast.
    Reply,
    /// A broadcast to few sockets.
    Few,
    /// A broadcast to many.
    Many,
}

/// The largest number of sockets that is few.
const FEW: usize = 128;

impl Urgency {
    /// The urgency of a broadcast to this number of sockets.
    pub(crate) fn of_broadcast(sockets: usize) -> Self {
        if sockets <= FEW { Self::Few } else { Self::Many }
    }

    /// The number of sockets to write before other tasks run.
    fn sockets_per_turn(self) -> usize {
        match self {
            Self::Reply => usize::MAX,
            Self::Few => 64,
            Self::Many => 16,
        }
    }
}

thread_local! {
    /// The next pass of each urgency for pushes on this thread.
    static NEXT_PASS: RefCell<[Option<Arc<Pass>>; 3]> = const { RefCell::new([None, None, None]) };
}

/// Enrols a socket in the next pass of its urgency. Returns false outside a runtime, where there is none.
pub(super) fn enrol(outbound: &Arc<Outbound>, urgency: Urgency) -> bool {
    let enrolled = NEXT_PASS.try_with(|next| {
        let kind = urgency as usize;
        if next.borrow()[kind].as_ref().is_some_and(|pass| pass.add(outbound)) {
            return true;
        }
        let Ok(runtime) = Handle::try_current() else { return false };
        let pass = Arc::new(Pass(Mutex::new(PassSockets::Enrolling(vec![outbound.clone()]))));
        next.borrow_mut()[kind] = Some(pass.clone());
        let writer = Writer::new(pass, urgency);
        tasks::spawn_short(&runtime, NAME, writer.begin());
        true
    });
    enrolled.unwrap_or(false)
}

const NAME: &str = "write pass";

/// The sockets of a pass. Each is in it once while its frames are queued.
struct Pass(Mutex<PassSockets>);

enum PassSockets {
    /// More may be added.
    Enrolling(Vec<Arc<Outbound>>),
    /// The pass runs. Later pushes enrol in another pass.
    Left(vec::IntoIter<Arc<Outbound>>),
}

impl Pass {
    fn add(&self, outbound: &Arc<Outbound>) -> bool {
        match &mut *self.0.lock() {
            PassSockets::Enrolling(sockets) => sockets.push(outbound.clone()),
            PassSockets::Left(_) => return false,
        }
        true
    }

    /// Takes the next sockets. From the first call on, none is added.
    fn take(&self, count: usize) -> vec::IntoIter<Arc<Outbound>> {
        let mut sockets = self.0.lock();
        if let PassSockets::Enrolling(enrolled) = &mut *sockets {
            *sockets = PassSockets::Left(mem::take(enrolled).into_iter());
        }
        match &mut *sockets {
            PassSockets::Left(left) if left.len() > count => left.take(count).collect::<Vec<_>>().into_iter(),
            PassSockets::Left(left) => mem::take(left),
            PassSockets::Enrolling(_) => vec::IntoIter::default(),
        }
    }

    fn len(&self) -> usize {
        match &*self.0.lock() {
            PassSockets::Enrolling(sockets) => sockets.len(),
            PassSockets::Left(left) => left.len(),
        }
    }
}

/// Writes the sockets of a pass, a turn at a time. If the runtime has several worker threads, a long pass has
/// several writers, which take turns from the same sockets.
///
/// If the runtime ends first, dropping a writer writes everything.
struct Writer {
    pass: Arc<Pass>,
    urgency: Urgency,
    /// The sockets of the current turn that are not written yet.
    turn: vec::IntoIter<Arc<Outbound>>,
}

impl Writer {
    fn new(pass: Arc<Pass>, urgency: Urgency) -> Self {
        Self { pass, urgency, turn: vec::IntoIter::default() }
    }

    async fn begin(self) {
        // Runs after all ready tasks, which may push more.
        task::yield_now().await;
        self.start_helpers();
        self.run().await;
    }

    /// Has other workers write, too, if there is much to write.
    fn start_helpers(&self) {
        for _ in 0..tasks::helpers(self.pass.len() / self.urgency.sockets_per_turn()) {
            let helper = Self::new(self.pass.clone(), self.urgency);
            tasks::spawn_short(&Handle::current(), NAME, helper.run());
        }
    }

    async fn run(mut self) {
        let per_turn = self.urgency.sockets_per_turn();
        self.turn = self.pass.take(per_turn);
        while self.turn.len() > 0 {
            for outbound in self.turn.by_ref() {
                outbound.write();
                task::consume_budget().await;
            }
            self.turn = self.pass.take(per_turn);
            if self.turn.len() > 0 {
                task::yield_now().await;
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let left = self.pass.take(usize::MAX);
        self.turn.by_ref().chain(left).for_each(|outbound| outbound.write());
    }
}
