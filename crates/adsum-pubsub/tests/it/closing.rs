//! The end of a node whose runtime has stopped or ended.

use std::time::Duration;

use adsum_pubsub::PubSub;
use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, timeout},
};

use crate::server::{Kind, Server};

/// A runtime in which a node has started, without an engine. Its driver has not been polled yet.
fn start() -> (Runtime, PubSub) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let pubsub = runtime.block_on(Server::absent(Kind::Nats).node("a"));
    (runtime, pubsub)
}

/// Closes a node in a runtime of its own, and returns how long that took.
fn close(pubsub: &PubSub) -> Duration {
    let paused = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    paused.block_on(async {
        let began = Instant::now();
        timeout(Duration::from_mins(1), pubsub.close()).await.expect("the close ends");
        began.elapsed()
    })
}

#[test]
fn a_node_whose_runtime_ended_at_once_is_closed_without_waiting() {
    let (runtime, pubsub) = start();
    drop(runtime);
    assert_eq!(close(&pubsub), Duration::ZERO);
}

#[test]
fn a_node_whose_runtime_stands_still_is_waited_for_a_bounded_time() {
    let (runtime, pubsub) = start();
    assert_eq!(close(&pubsub), Duration::from_millis(1500));
    drop(runtime);
}
