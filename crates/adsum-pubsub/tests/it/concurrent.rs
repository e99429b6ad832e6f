use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use adsum_pubsub::{Message, PubSub, Subscriber, SubscriberId};
use parking_lot::Mutex;

use crate::Recorder;

#[test]
fn those_who_stay_miss_nothing_while_others_come_and_go() {
    const STABLE: usize = 300;
    const ROUNDS: usize = 300;
    let pubsub = PubSub::local();
    let stable: Vec<_> = (0..STABLE)
        .map(|_| {
            let recorder = Arc::new(Recorder::default());
            // A subscriber that leaves at once, so that the stable ones are moved.
            let gap = pubsub.attach("t", SubscriberId::unique(), Arc::new(Recorder::default()));
            let attachment = pubsub.attach("t", SubscriberId::unique(), recorder.clone());
            (recorder, attachment, gap)
        })
        .collect();
    let (recorders, (_attachments, gaps)): (Vec<_>, (Vec<_>, Vec<_>)) =
        stable.into_iter().map(|(recorder, attachment, gap)| (recorder, (attachment, gap))).unzip();

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let churn = || {
            while !done.load(Ordering::Relaxed) {
                let mut passing: Vec<_> = (0..50).map(|_| pubsub.subscribe("t")).collect();
                passing.swap_remove(10);
            }
        };
        scope.spawn(churn);
        scope.spawn(churn);
        scope.spawn(|| drop(gaps));
        for n in 0..ROUNDS {
            pubsub.broadcast("t", n.to_string(), ()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let expected: Vec<String> = (0..ROUNDS).map(|n| n.to_string()).collect();
    for recorder in recorders {
        assert_eq!(recorder.take(), expected);
    }
    assert_eq!(pubsub.subscribers("t"), STABLE);
}

/// Leaves its topic on its first message.
struct Once {
    recorder: Recorder,
    attachment: Mutex<Option<adsum_pubsub::Attachment>>,
}

impl Subscriber for Once {
    fn deliver(&self, message: &Arc<Message>) {
        self.recorder.deliver(message);
        let attachment = self.attachment.lock().take();
        drop(attachment);
    }
}

#[test]
fn a_subscriber_may_leave_while_it_is_called() {
    let pubsub = PubSub::local();
    let once = Arc::new(Once { recorder: Recorder::default(), attachment: Mutex::default() });
    *once.attachment.lock() = Some(pubsub.attach("t", SubscriberId::unique(), once.clone()));
    pubsub.broadcast("t", "one", ()).unwrap();
    pubsub.broadcast("t", "two", ()).unwrap();
    assert_eq!(once.recorder.take(), ["one"]);
    assert_eq!(Arc::strong_count(&once), 1);
}
