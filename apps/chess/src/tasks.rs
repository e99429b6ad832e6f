//! Tasks that run as long as the node does.

use std::{future::Future, time::Duration};

use tokio::{task::JoinSet, time::sleep};

/// The pause before a task that panicked is started again.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts what `make` makes, and starts it again should it end, by a panic for instance.
pub(crate) fn keep<F: Future<Output = ()> + Send + 'static>(
    tasks: &mut JoinSet<()>,
    name: &'static str,
    mut make: impl FnMut() -> F + Send + 'static,
) {
    tasks.spawn(async move {
        loop {
            let mut run = JoinSet::new();
            run.spawn(make());
            // Dropped with this task, `run` ends the one in it.
            match run.join_next().await {
                Some(Err(error)) if error.is_panic() => {
                    tracing::error!(task = name, %error, "a task panicked; starting it again");
                }
                _ => tracing::debug!(task = name, "a task ended; starting it again"),
            }
            sleep(PAUSE).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_and_ends_with_its_owner() {
        let runs = AtomicUsize::new(0);
        let (begins, mut begun) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        keep(&mut tasks, "test", move || {
            let (run, begins) = (runs.fetch_add(1, Ordering::Relaxed), begins.clone());
            async move {
                begins.send(run).unwrap();
                assert!(run >= 2, "on purpose");
                std::future::pending::<()>().await;
            }
        });
        for run in 0..3 {
            assert_eq!(begun.recv().await, Some(run));
        }
        tasks.shutdown().await;
        assert_eq!(begun.recv().await, None);
    }
}
