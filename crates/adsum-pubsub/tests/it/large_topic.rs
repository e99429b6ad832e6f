//! Topics that are too large for delivery in the sender's task.

use std::{
    collections::HashSet,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use adsum_pubsub::{Attachment, Message, PubSub, Subscriber, SubscriberId};
use tokio::{runtime, task::yield_now};

use crate::Recorder;

const LARGE: usize = 3_000;
/// So large that another worker comes before all is delivered.
const VERY_LARGE: usize = 20_000;
/// For what should happen at once, on any machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Default)]
struct Counter(AtomicUsize);

impl Counter {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for Counter {
    fn deliver(&self, _: &Arc<Message>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn crowd(pubsub: &PubSub, counter: &Arc<Counter>) -> Vec<Attachment> {
    (0..LARGE).map(|_| pubsub.attach("large", SubscriberId::unique(), counter.clone())).collect()
}

fn recorder(pubsub: &PubSub) -> (Arc<Recorder>, Attachment) {
    let recorder = Arc::new(Recorder::default());
    let attachment = pubsub.attach("large", SubscriberId::unique(), recorder.clone());
    (recorder, attachment)
}

async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        yield_now().await;
    }
}

#[tokio::test]
async fn a_large_topic_lets_others_run() {
    let pubsub = PubSub::local();
    let counter = Arc::new(Counter::default());
    let _crowd = crowd(&pubsub, &counter);
    let mut small = pubsub.subscribe("small");
    pubsub.broadcast("large", "e", ()).unwrap();
    pubsub.broadcast("small", "e", ()).unwrap();
    assert!(small.try_recv().is_some(), "a small topic doesn't wait for others");
    assert_eq!(counter.get(), 0);
    let mut seen = vec![0];
    until(|| {
        seen.push(counter.get());
        counter.get() == LARGE
    })
    .await;
    seen.dedup();
    let most = seen.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(most <= 1024, "delivered to {most} without a yield");
}

#[tokio::test]
async fn nothing_overtakes_as_a_topic_shrinks() {
    let pubsub = PubSub::local();
    let counter = Arc::new(Counter::default());
    let mut crowd = crowd(&pubsub, &counter);
    let (last, _last) = recorder(&pubsub);
    pubsub.broadcast("large", "one", ()).unwrap();
    crowd.clear();
    pubsub.broadcast("large", "two", ()).unwrap();
    until(|| last.len() == 2).await;
    pubsub.broadcast("large", "three", ()).unwrap();
    assert_eq!(last.take(), ["one", "two", "three"], "the queue is empty, so the last one came at once");
}

#[tokio::test]
async fn a_subscriber_that_comes_later_gets_nothing_that_was_sent_before() {
    let pubsub = PubSub::local();
    let counter = Arc::new(Counter::default());
    let _crowd = crowd(&pubsub, &counter);
    pubsub.broadcast("large", "before", ()).unwrap();
    let (late, _late) = recorder(&pubsub);
    pubsub.broadcast("large", "after", ()).unwrap();
    until(|| counter.get() == 2 * LARGE && late.len() > 0).await;
    assert_eq!(late.take(), ["after"]);
}

#[tokio::test]
async fn the_sender_is_passed_over() {
    let pubsub = PubSub::local();
    let counter = Arc::new(Counter::default());
    let _crowd = crowd(&pubsub, &counter);
    let (sender, id) = (Arc::new(Recorder::default()), SubscriberId::unique());
    let _sender = pubsub.attach("large", id, sender.clone());
    pubsub.broadcast_from(id, "large", "others", ()).unwrap();
    pubsub.broadcast("large", "all", ()).unwrap();
    until(|| counter.get() == 2 * LARGE && sender.len() > 0).await;
    assert_eq!(sender.take(), ["all"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_that_are_faster_than_the_line_deliver_themselves() {
    const SENT: usize = 600;
    let pubsub = PubSub::local();
    let counter = Arc::new(Counter::default());
    let (first, _first) = recorder(&pubsub);
    let _crowd = crowd(&pubsub, &counter);
    let (last, _last) = recorder(&pubsub);
    let senders = ["a", "b"].map(|sender| {
        let pubsub = pubsub.clone();
        tokio::spawn(async move {
            for n in 0..SENT {
                pubsub.broadcast("large", format!("{sender}{n}"), ()).unwrap();
            }
        })
    });
    for sender in senders {
        sender.await.unwrap();
    }
    assert!(first.len() > SENT, "only {} were delivered, the rest wait", first.len());
    until(|| counter.get() == 2 * SENT * LARGE && last.len() == 2 * SENT).await;
    for events in [first.take(), last.take()] {
        for sender in ["a", "b"] {
            let of_one: Vec<_> = events.iter().filter(|event| event.starts_with(sender)).collect();
            assert_eq!(of_one.len(), SENT);
            assert!(of_one.iter().enumerate().all(|(n, event)| **event == format!("{sender}{n}")));
        }
    }
}

/// Holds each thread that delivers until another one does, once a quarter was delivered: another worker comes only when
/// the first one has yielded.
#[derive(Default)]
struct Meeting {
    count: AtomicUsize,
    is_late: AtomicBool,
    threads: Mutex<HashSet<ThreadId>>,
    met: Condvar,
}

impl Subscriber for Meeting {
    fn deliver(&self, _: &Arc<Message>) {
        let is_early = self.count.fetch_add(1, Ordering::Relaxed) < VERY_LARGE / 4;
        if is_early || self.is_late.load(Ordering::Relaxed) {
            return;
        }
        let mut threads = self.threads.lock().unwrap();
        if threads.insert(thread::current().id()) {
            self.met.notify_all();
        }
        let alone = |threads: &mut HashSet<ThreadId>| threads.len() < 2;
        let (threads, late) = self.met.wait_timeout_while(threads, PATIENCE, alone).unwrap();
        // Then it waits no more, so that the test ends.
        self.is_late.fetch_or(late.timed_out(), Ordering::Relaxed);
        drop(threads);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_workers_deliver_one_message() {
    let pubsub = PubSub::local();
    let meeting = Arc::new(Meeting::default());
    let _crowd: Vec<_> =
        (0..VERY_LARGE).map(|_| pubsub.attach("large", SubscriberId::unique(), meeting.clone())).collect();
    let (last, _last) = recorder(&pubsub);
    for event in ["one", "two"] {
        pubsub.broadcast("large", event, ()).unwrap();
    }
    until(|| last.len() == 2).await;
    assert_eq!(last.take(), ["one", "two"]);
    assert_eq!(meeting.threads.lock().unwrap().len(), 2);
}

/// Counts what came to each of its places, and panics if a message comes before all have the one before it.
struct InOrder {
    place: usize,
    all: Arc<Vec<AtomicUsize>>,
}

impl Subscriber for InOrder {
    fn deliver(&self, message: &Arc<Message>) {
        let number: usize = message.event().parse().unwrap();
        assert_eq!(self.all[self.place].fetch_add(1, Ordering::Relaxed), number);
        // Of those that another worker delivers to: the first, the last, and one in between.
        for place in [0, LARGE / 2, LARGE - 1] {
            assert!(
                self.all[place].load(Ordering::Relaxed) >= number,
                "{number} is before the one before it"
            );
        }
    }
}

#[test]
fn no_message_begins_before_the_one_before_it_has_ended() {
    const SENT: usize = 300;
    for workers in [1, 4] {
        let pubsub = PubSub::local();
        let all: Arc<Vec<_>> = Arc::new((0..LARGE).map(|_| AtomicUsize::new(0)).collect());
        let _crowd: Vec<_> = (0..LARGE)
            .map(|place| {
                let subscriber = Arc::new(InOrder { place, all: all.clone() });
                pubsub.attach("large", SubscriberId::unique(), subscriber)
            })
            .collect();
        let runtime = runtime::Builder::new_multi_thread().worker_threads(workers).build().unwrap();
        let sender = pubsub.clone();
        runtime.block_on(async move {
            tokio::spawn(async move {
                for n in 0..SENT {
                    sender.broadcast("large", n.to_string(), ()).unwrap();
                    if n % 7 == 0 {
                        yield_now().await;
                    }
                }
            })
            .await
            .unwrap();
        });
        // Whatever is still queued is delivered as the runtime ends, by whichever thread ends a task.
        drop(runtime);
        assert!(all.iter().all(|count| count.load(Ordering::Relaxed) == SENT), "with {workers} workers");
    }
}

#[test]
fn a_runtime_that_ends_delivers_what_stands_in_line() {
    let pubsub = PubSub::local();
    let counter = Arc::new(Counter::default());
    let _crowd = crowd(&pubsub, &counter);
    let brief = runtime::Builder::new_current_thread().build().unwrap();
    brief.block_on(async { pubsub.broadcast("large", "e", ()).unwrap() });
    assert_eq!(counter.get(), 0);
    drop(brief);
    assert_eq!(counter.get(), LARGE);
    pubsub.broadcast("large", "e", ()).unwrap();
    assert_eq!(counter.get(), 2 * LARGE, "without a runtime, the sender delivers");
}
