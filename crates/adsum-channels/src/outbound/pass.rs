//! The write pass: sockets that were pushed to are written once, when what runs on their thread has run.
//!
//! Writing is a call into the kernel for each socket, and costs more than all else that is done for a frame. So
//! whoever pushes only takes note of the socket. Sixteen replies to sixteen events that arrived together are one
//! write, and so are the broadcasts of any number of tasks to the same socket. Where nothing else is to be run,
//! the pass comes next, and nothing is late.
//!
//! There are two passes: one for what is meant for a single client, such as a reply, and one for broadcasts, which
//! yields after a few sockets. So a reply doesn't wait until a broadcast was written to hundreds of others.

use std::{cell::RefCell, sync::Arc, vec};

use adsum_pubsub::tasks;
use parking_lot::Mutex;
use tokio::{runtime::Handle, task};

use super::Outbound;

/// How soon a socket is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Before any broadcast is.
    Reply,
    Broadcast,
}

/// The number of sockets that a broadcast is written to before others get their turn.
const SOCKETS_PER_TURN: usize = 16;

thread_local! {
    /// The passes to come for what this thread pushes: of replies, and of broadcasts.
    static NEXT_PASS: RefCell<[Option<Arc<Pass>>; 2]> = const { RefCell::new([None, None]) };
}

/// Has a socket written by the next pass of its urgency. False where there can be none: not in a runtime.
pub(super) fn enrol(outbound: &Arc<Outbound>, urgency: Urgency) -> bool {
    let enrolled = NEXT_PASS.try_with(|next| {
        let kind = usize::from(urgency == Urgency::Broadcast);
        if next.borrow()[kind].as_ref().is_some_and(|pass| pass.add(outbound)) {
            return true;
        }
        let Ok(runtime) = Handle::try_current() else { return false };
        let pass = Arc::new(Pass(Mutex::new(Some(vec![outbound.clone()]))));
        next.borrow_mut()[kind] = Some(pass.clone());
        // Where the runtime ends before it has run, all is written as it is dropped.
        let writer = Writer { pass, sockets: Vec::new().into_iter() };
        tasks::spawn_short(&runtime, "write pass", writer.run(urgency));
        true
    });
    enrolled.unwrap_or(false)
}

/// The sockets to be written; none once they are being written. Each stands here once while its frames wait.
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
        // After all that is ready to run, which may push more.
        task::yield_now().await;
        self.begin();
        let mut written = 0;
        for outbound in self.sockets.by_ref() {
            if urgency == Urgency::Broadcast && written == SOCKETS_PER_TURN {
                task::yield_now().await;
                written = 0;
            }
            outbound.write();
            written += 1;
            task::consume_budget().await;
        }
    }

    /// From here on what is pushed waits for another pass.
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
