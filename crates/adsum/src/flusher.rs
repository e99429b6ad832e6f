//! The task that sends what can't be sent where a change was made.

use std::sync::Arc;

use adsum_pubsub::tasks::Tasks;
use tokio::{
    task::consume_budget,
    time::{Instant, sleep_until},
};

use crate::{core::Core, flush::FetchingFlush, handler::PresenceHandler};

/// Closes the backlog when it is dropped, and sends everything that waits. The last handle of the presence has one, and
/// so has the flusher itself, whose runtime may end before the presence does.
pub(crate) struct FlusherEnd<H: PresenceHandler>(pub(crate) Arc<Core<H>>);

impl<H: PresenceHandler> Drop for FlusherEnd<H> {
    fn drop(&mut self) {
        let remaining = self.0.backlog.close();
        for taken in remaining.to_fetch {
            // Sends them with the last known infos.
            drop(FetchingFlush::new(self.0.clone(), taken));
        }
        for topic in remaining.topics {
            self.0.close_window(&topic);
        }
    }
}

/// Runs until it is aborted. After a panic it can be run again, as the work is in the backlog.
pub(crate) async fn run<H: PresenceHandler>(core: &Arc<Core<H>>) {
    let backlog = core.backlog.clone();
    // Bounded by the topics: each has one flush at a time, which fetches at most once.
    let mut fetches = Tasks::new("fetch");
    loop {
        let window_ends = async {
            match backlog.next_end() {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = window_ends => {}
            () = backlog.changed() => {}
            Some(()) = fetches.ended() => {}
        }
        backlog.begin_turn();
        while let Some(topic) = backlog.next_in_turn() {
            core.flush(&topic);
            // A thousand topics may change, or end their windows, at once: other tasks get their turn in between.
            consume_budget().await;
        }
        let flushes = backlog.take_to_fetch().into_iter().map(|taken| {
            let topic = taken.topic.clone();
            (topic, FetchingFlush::new(core.clone(), taken))
        });
        // All of them first: what isn't spawned is sent when it is dropped.
        let flushes: Vec<_> = flushes.collect();
        for (topic, flush) in flushes {
            let core = core.clone();
            fetches.spawn(async move {
                flush.run().await;
                core.flush(&topic);
            });
        }
        while let Some(topic) = backlog.next_allowed() {
            core.flush(&topic);
            consume_budget().await;
        }
        let now = Instant::now();
        while let Some(topic) = backlog.take_ended(now) {
            core.close_window(&topic);
            consume_budget().await;
        }
    }
}
