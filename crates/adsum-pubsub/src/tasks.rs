//! Tasks that are named and owned, and whose panics are noticed. For the crates of adsum; not public API.
//!
//! Every `tokio::spawn` of the workspace's libraries is in this file. A panic is logged with the task's name and
//! counted (`adsum_task_panics_total`, labelled `task`). Nothing is spawned while a lock is held: a runtime that is
//! shutting down drops the future inside the call.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::{runtime::Handle, task::JoinSet, time::sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::metrics;

/// The pause before a task that panicked is started again. It doubles with each panic in a row.
pub const RESTART_PAUSE: Duration = Duration::from_millis(50);
/// Maximum pause before a restart. A task that has run for this long starts over with the shortest pause.
pub const MAX_RESTART_PAUSE: Duration = Duration::from_secs(5);

/// A running task. Dropping it aborts the task.
#[derive(Debug)]
#[must_use = "a task is aborted when this is dropped"]
pub struct Task(AbortOnDropHandle<()>);

impl Task {
    /// Waits until the task has ended, whether it returned, panicked or was aborted. Cancel safe.
    pub async fn ended(&mut self) {
        // A panic was logged where it happened.
        let _ = (&mut self.0).await;
    }

    /// Whether the task has ended.
    pub fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    /// Lets the task run without an owner. Only for tasks that are told to end and do so within a bounded time.
    pub fn detach(self) {
        drop(self.0.detach());
    }

    /// Aborts the task, without waiting until it has ended.
    pub fn abort(&self) {
        self.0.abort();
    }
}

/// Any number of tasks with one name and one owner. Dropping it aborts them all.
#[derive(Debug)]
pub struct Tasks {
    name: &'static str,
    tasks: JoinSet<()>,
}

impl Tasks {
    /// Creates an empty set.
    pub fn new(name: &'static str) -> Self {
        Self { name, tasks: JoinSet::new() }
    }

    /// Starts another task.
    ///
    /// # Panics
    /// Called outside of a tokio runtime.
    pub fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let name = self.name;
        self.tasks.spawn(async move {
            let _ = noticed(name, work).await;
        });
    }

    /// Waits until one of the tasks has ended. `None` if there are none. Cancel safe.
    pub async fn ended(&mut self) -> Option<()> {
        self.tasks.join_next().await.map(|_| ())
    }
}

/// The work panicked. The panic's message is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Starts a task.
///
/// # Panics
/// Called outside of a tokio runtime.
pub fn spawn(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(AbortOnDropHandle::new(tokio::spawn(noticed(name, work).map(drop))))
}

/// Starts a task that nobody waits for. Its work is short and ends by itself; if the runtime ends first, its drop
/// completes the work.
pub fn spawn_short(runtime: &Handle, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    drop(runtime.spawn(noticed(name, work).map(drop)));
}

/// The number of turns for which it is worth to wake another worker.
const TURNS_OF_A_HELPER: usize = 2;

/// Returns how many helpers to start for work that takes so many turns, which other workers steal. No more than there are
/// other workers, or the work would get more than its share of a busy one.
///
/// # Panics
/// Called outside of a tokio runtime, for more than a few turns.
pub fn helpers(turns: usize) -> usize {
    let worth = turns / TURNS_OF_A_HELPER;
    if worth == 0 { 0 } else { worth.min(Handle::current().metrics().num_workers() - 1) }
}

/// Tasks that shut down gracefully once their owner drops this. Each has a token that tells it to end.
#[derive(Debug, Default)]
pub struct TaskGroup {
    end: CancellationToken,
}

impl TaskGroup {
    /// Creates an empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task of the group. It must end soon after its token is cancelled.
    ///
    /// # Panics
    /// Called outside of a tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(tokio::spawn(noticed(name, work(self.token())).map(drop)));
    }

    /// Returns a token that is cancelled when the group ends. It is a child token, so waiting on it takes no shared
    /// lock.
    pub fn token(&self) -> CancellationToken {
        self.end.child_token()
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Starts a task in a set whose tasks are awaited or aborted together.
pub fn spawn_in(
    tasks: &mut JoinSet<()>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(noticed(name, work).map(drop));
}

/// Runs `work`, and logs and counts its panic.
// Built from combinators: an async block would reserve space for the work twice.
pub fn noticed<T>(
    name: &'static str,
    work: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Panicked>> {
    AssertUnwindSafe(work).catch_unwind().map(move |result| {
        result.map_err(|panic| {
            note_panic(name, &*panic);
            Panicked
        })
    })
}

/// Runs the future from `start` until it returns. After a panic, pauses, and starts a new one.
pub async fn restarted<F: Future<Output = ()>>(name: &'static str, mut start: impl FnMut() -> F) {
    let mut pause = RESTART_PAUSE;
    loop {
        let began = tokio::time::Instant::now();
        // `start` itself may panic as well.
        let run = async { start().await };
        if noticed(name, run).await.is_ok() {
            return;
        }
        if began.elapsed() >= MAX_RESTART_PAUSE {
            pause = RESTART_PAUSE;
        }
        tracing::warn!(task = name, ?pause, "restarting the task after a panic");
        sleep(pause).await;
        pause = (2 * pause).min(MAX_RESTART_PAUSE);
    }
}

/// Runs `work`, such as the drop of a value from the program, and logs and counts its panic.
pub fn guarded<T>(name: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        note_panic(name, &*panic);
        Panicked
    })
}

/// Counts a panic, for callers that log it themselves.
pub fn count_panic(name: &'static str) {
    metrics::process().add(&metrics::table::TASK_PANICS, &[name], 1);
}

/// Logs and counts a panic that was caught.
pub fn note_panic(name: &'static str, panic: &(dyn Any + Send)) {
    count_panic(name);
    tracing::error!(task = name, panic = panic_text(panic), "a task panicked");
}

/// A panic's message, truncated to 200 characters.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)");
    text.char_indices().nth(200).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_task_and_is_noticed() {
        assert_eq!(noticed("test", async { 1 }).await, Ok(1));
        assert_eq!(noticed("test", async { panic!("on purpose") }).await, Err::<(), _>(Panicked));
        let mut task = spawn("test", async { panic!("on purpose") });
        task.ended().await;
        assert!(task.has_ended());
    }

    #[tokio::test]
    async fn a_dropped_task_is_aborted() {
        let held = Arc::new(());
        let kept = held.clone();
        let task = spawn("test", async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        drop(task);
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_tasks_of_a_group_are_told_to_end_with_it() {
        let group = TaskGroup::new();
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        group.spawn("test", |end| async move {
            end.cancelled().await;
            let _ = ended.send(());
        });
        group.spawn("test", |_| async { panic!("on purpose") });
        drop(group);
        assert_eq!(has_ended.await, Ok(()));
    }

    #[tokio::test]
    async fn a_noticed_future_is_hardly_larger_than_its_work() {
        let work = async {
            let room = [0_u8; 1000];
            tokio::task::yield_now().await;
            room.len()
        };
        let size = size_of_val(&work);
        assert!(size_of_val(&noticed("test", work)) <= size + 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_restarted_until_it_returns_with_longer_and_longer_pauses() {
        let runs = AtomicUsize::new(0);
        let began = tokio::time::Instant::now();
        restarted("test", || {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            async move { assert!(run >= 9, "on purpose") }
        })
        .await;
        assert_eq!(runs.into_inner(), 10);
        // 50 ms doubled up to 3,200 ms, then 5 s twice.
        assert_eq!(began.elapsed(), Duration::from_millis(50 * 127 + 2 * 5000));
    }

    #[test]
    fn the_text_of_a_panic_is_cut() {
        assert_eq!(panic_text(&"short"), "short");
        assert_eq!(panic_text(&"ü".repeat(300)).chars().count(), 200);
        assert_eq!(panic_text(&1), "(no text)");
    }
}
