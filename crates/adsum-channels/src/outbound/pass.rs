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

use std::{cell::RefCell, sync::Arc, vec};

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
        let pass = Arc::new(Pass(Mutex::new(Some(vec![outbound.clone()]))));
        next.borrow_mut()[kind] = Some(pass.clone());
        // If the runtime ends before the pass has run, dropping it writes everything.
        let writer = Writer { pass, sockets: Vec::new().into_iter() };
        tasks::spawn_short(&runtime, "write pass", writer.run(urgency));
        true
    });
    enrolled.unwrap_or(false)
}

/// The sockets to write; `None` once the pass runs. Each socket is in it once while its frames are queued.
struct Pass(Mutex<Option<Vec<Arc<Outbound>>>>);

impl Pass {
    fn add(&self, outbound: &Arc<Outbound>) -> bool {
        let mut sockets = self.0.lock();
        sockets.as_mut().map(|sockets| sockets.push(outbound.clone())).is_some()
    }
}

struct Writer {
    pass: Arc<Pass>,
    sockets: vec::IntoIter<Arc<Outbound>>,
}

impl Writer {
    async fn run(mut self, urgency: Urgency) {
        // Runs after all ready tasks, which may push more.
        task::yield_now().await;
        self.begin();
        let mut written = 0;
        for outbound in self.sockets.by_ref() {
            if written == urgency.sockets_per_turn() {
                task::yield_now().await;
                written = 0;
            }
            outbound.write();
            written += 1;
            task::consume_budget().await;
        }
    }

    /// Takes the sockets. Later pushes enrol in another pass.
    fn begin(&mut self) {
        if let Some(sockets) = self.pass.0.lock().take() {
            self.sockets = sockets.into_iter();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.begin();
        self.sockets.by_ref().for_each(|outbound| outbound.write());
    }
}
