//! Tests of the order of write passes.

use std::{
    collections::HashMap,
    io::{self, IoSlice},
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
    thread::{self, ThreadId},
    time::Duration,
};

use parking_lot::Condvar;

use super::*;
use crate::outbound::{
    DirectStream,
    tests::{arrived, connected, frame, queue_to},
};

#[tokio::test]
async fn a_reply_is_written_before_a_broadcast_to_others() {
    let mut listening = Vec::new();
    for _ in 0..100 {
        listening.push(connected().await);
    }
    let (answered, mut client) = connected().await;
    for (outbound, _) in &listening {
        outbound.locked_for(Urgency::Many, |queue| queue.push(frame("all")));
    }
    // Waits until the broadcast is being written.
    while arrived(&mut listening[0].1).is_empty() {
        tokio::task::yield_now().await;
    }
    answered.push(frame("reply"));
    let (last, heard) = listening.last_mut().unwrap();
    last.push(frame("reply"));
    let mut turns = 0;
    while arrived(&mut client) != "reply" {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert_eq!(arrived(heard), "allreply", "what waits already stands before it");
    assert_eq!(arrived(&mut listening[98].1), "", "{turns}");
    while arrived(&mut listening[98].1).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_broadcast_to_few_is_written_before_one_to_many() {
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(connected().await);
    }
    let (player, mut client) = connected().await;
    for (outbound, _) in &crowd {
        outbound.locked_for(Urgency::of_broadcast(129), |queue| queue.push(frame("all")));
    }
    // In one turn with the broadcast to many, and after it; the last of the crowd is in the game too.
    for outbound in [&player, &crowd[199].0] {
        outbound.locked_for(Urgency::of_broadcast(128), |queue| queue.push(frame("few")));
    }
    while arrived(&mut client) != "few" {
        tokio::task::yield_now().await;
    }
    assert_eq!(arrived(&mut crowd[199].1), "allfew", "what waits already stands before it");
    assert_eq!(arrived(&mut crowd[198].1), "");
    while arrived(&mut crowd[198].1).is_empty() {
        tokio::task::yield_now().await;
    }
}

/// A stream that remembers which thread wrote, and after the first turns holds each until another one has.
#[derive(Default)]
struct Meeting {
    threads: Mutex<HashMap<ThreadId, usize>>,
    met: Condvar,
}

impl DirectStream for Meeting {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut threads = self.threads.lock();
        *threads.entry(thread::current().id()).or_default() += 1;
        self.met.notify_all();
        // Another worker comes only when the first one has yielded.
        while threads.len() < 2 && threads.values().sum::<usize>() > 300 {
            let late = self.met.wait_for(&mut threads, Duration::from_mins(1)).timed_out();
            assert!(!late, "one worker writes to all");
        }
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_workers_write_a_long_pass() {
    let meeting = Arc::new(Meeting::default());
    let sockets: Vec<_> = (0..1000).map(|_| queue_to(meeting.clone())).collect();
    let pushed = sockets.clone();
    let broadcast = async move {
        for outbound in &pushed {
            outbound.locked_for(Urgency::Many, |queue| queue.push(frame("all")));
        }
    };
    tokio::spawn(broadcast).await.unwrap();
    while sockets.iter().any(|outbound| !outbound.is_quiet()) {
        task::yield_now().await;
    }
    let threads = meeting.threads.lock();
    assert_eq!((threads.len(), threads.values().sum::<usize>()), (2, 1000), "each once, by both workers");
}

#[test]
fn a_runtime_that_ends_writes_what_is_left() {
    for workers in [1, 3] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).build().unwrap();
        let stream = Arc::new(Counted::default());
        let sockets: Vec<_> = (0..1000).map(|_| queue_to(stream.clone())).collect();
        let pushed = sockets.clone();
        runtime.block_on(async move {
            let broadcast = async move {
                for outbound in &pushed {
                    outbound.locked_for(Urgency::Many, |queue| queue.push(frame("all")));
                }
            };
            tokio::spawn(broadcast).await.unwrap();
        });
        drop(runtime);
        assert!(sockets.iter().all(|outbound| outbound.is_quiet()), "with {workers} workers");
        assert_eq!(stream.0.load(Ordering::Relaxed), 1000);
    }
}

/// A stream that counts its writes.
#[derive(Default)]
struct Counted(AtomicUsize);

impl DirectStream for Counted {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()))
    }
}
