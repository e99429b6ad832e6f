use std::sync::Arc;

use adsum_pubsub::{Attachment, Message, PubSub, Subscriber, SubscriberId};
use parking_lot::Mutex;
use proptest::{prelude::*, sample::Index};

use crate::{Panics, Recorder, counters::panics};

#[test]
fn an_attachment_ends_with_its_drop() {
    let pubsub = PubSub::local();
    let recorder = Arc::new(Recorder::default());
    let attach = || pubsub.attach("t", SubscriberId::unique(), recorder.clone());
    let (first, second) = (attach(), attach());
    assert_eq!((first.topic().as_str(), pubsub.subscribers("t")), ("t", 2));
    pubsub.broadcast("t", "one", ()).unwrap();
    assert_eq!(recorder.take(), ["one", "one"]);

    drop(first);
    pubsub.broadcast("t", "two", ()).unwrap();
    assert_eq!(recorder.take(), ["two"]);
    drop(second);
    pubsub.broadcast("t", "three", ()).unwrap();
    assert_eq!(recorder.take(), [""; 0]);
    assert_eq!(Arc::strong_count(&recorder), 1, "no reference to a subscriber that left is kept");
}

#[test]
fn a_subscriber_that_panics_keeps_the_message_from_no_other() {
    let pubsub = PubSub::local();
    let before = panics(&pubsub);
    let recorder = Arc::new(Recorder::default());
    let attach = |subscriber| pubsub.attach("t", SubscriberId::unique(), subscriber);
    let _attached: [Attachment; 5] = [
        attach(recorder.clone()),
        attach(Arc::new(Panics)),
        attach(recorder.clone()),
        attach(Arc::new(Panics)),
        attach(recorder.clone()),
    ];
    pubsub.broadcast("t", "one", ()).unwrap();
    pubsub.broadcast("t", "two", ()).unwrap();
    assert_eq!(recorder.take(), ["one", "one", "one", "two", "two", "two"]);
    assert!(panics(&pubsub) >= before + 4);
}

#[derive(Clone, Debug)]
enum Step {
    /// This many subscribers join.
    Attach(usize),
    /// This many subscribers leave, starting at this position.
    Detach(usize, Index),
    Broadcast,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..200_usize).prop_map(Step::Attach),
        3 => (1..200_usize, any::<Index>()).prop_map(|(n, at)| Step::Detach(n, at)),
        1 => Just(Step::Broadcast),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exactly_the_attached_are_called_once_each(steps in steps()) {
        let pubsub = PubSub::local();
        let mut attached: Vec<(SubscriberId, Arc<Recorder>, Attachment)> = Vec::new();
        let mut left: Vec<Arc<Recorder>> = Vec::new();
        for step in steps.into_iter().chain([Step::Broadcast]) {
            match step {
                Step::Attach(n) => attached.extend((0..n).map(|_| {
                    let (id, recorder) = (SubscriberId::unique(), Arc::new(Recorder::default()));
                    let attachment = pubsub.attach("t", id, recorder.clone());
                    (id, recorder, attachment)
                })),
                Step::Detach(n, at) => {
                    for _ in 0..n.min(attached.len()) {
                        let (_, recorder, _) = attached.swap_remove(at.index(attached.len()));
                        left.push(recorder);
                    }
                }
                Step::Broadcast => {
                    let from = attached.first().map_or_else(SubscriberId::unique, |(id, ..)| *id);
                    pubsub.broadcast("t", "all", ()).unwrap();
                    pubsub.broadcast_from(from, "t", "others", ()).unwrap();
                    for (id, recorder, _) in &attached {
                        let expected: &[&str] = if *id == from { &["all"] } else { &["all", "others"] };
                        prop_assert_eq!(recorder.take(), expected);
                    }
                }
            }
            prop_assert_eq!(pubsub.subscribers("t"), attached.len());
        }
        prop_assert!(left.iter().all(|recorder| recorder.take().is_empty()));
    }
}

/// When called, makes another subscriber join and leave, and counts what the topic copies for it.
struct Churner {
    pubsub: PubSub,
    seats: Arc<Recorder>,
    copied: Mutex<Option<[usize; 2]>>,
}

impl Subscriber for Churner {
    fn deliver(&self, _: &Arc<Message>) {
        // A broadcast is in progress and holds the blocks, so a change now has to copy them.
        let before = Arc::strong_count(&self.seats);
        let attachment = self.pubsub.attach("t", SubscriberId::unique(), Arc::new(Recorder::default()));
        let joined = Arc::strong_count(&self.seats);
        drop(attachment);
        let left = Arc::strong_count(&self.seats);
        *self.copied.lock() = Some([joined - before, left - before]);
    }
}

/// The number of subscriptions copied when one joined and left a topic of `size` subscribers during a broadcast.
fn copied(size: usize) -> [usize; 2] {
    let pubsub = PubSub::local();
    let seats = Arc::new(Recorder::default());
    let churner =
        Arc::new(Churner { pubsub: pubsub.clone(), seats: seats.clone(), copied: Mutex::default() });
    let _churner = pubsub.attach("t", SubscriberId::unique(), churner.clone());
    let _seats: Vec<Attachment> =
        (1..size).map(|_| pubsub.attach("t", SubscriberId::unique(), seats.clone())).collect();
    pubsub.broadcast("t", "e", ()).unwrap();
    let copied = churner.copied.lock().take();
    copied.unwrap()
}

#[test]
fn joining_and_leaving_cost_the_same_in_a_large_topic() {
    // Sizes that differ by a multiple of any likely block, so that the last block is filled alike.
    let small = copied(4_096 + 100);
    let large = copied(10 * 4_096 + 100);
    assert_eq!(small, large);
    assert!(small[0] > 0, "a change during a broadcast copies something, or nothing was counted");
    assert!(small[0] < 1_000, "{small:?}");
}
