use std::time::Duration;

use adsum_pubsub::{Lagged, PubSub};
use futures_util::FutureExt;
use tokio::time::timeout;

#[tokio::test]
async fn a_slow_reader_loses_the_oldest_and_is_told() {
    let pubsub = PubSub::local();
    let mut inbox = pubsub.inbox(3);
    inbox.subscribe("t");
    for n in 0..5 {
        pubsub.broadcast("t", n.to_string(), ()).unwrap();
    }
    assert_eq!(inbox.len(), 3);
    assert_eq!(inbox.recv().await.unwrap_err(), Lagged { missed: 2 });
    for n in ["2", "3", "4"] {
        assert_eq!(inbox.recv().await.unwrap().event(), n);
    }
    assert!(inbox.try_recv().is_none());

    pubsub.broadcast("t", "5", ()).unwrap();
    assert_eq!(inbox.recv().await.unwrap().event(), "5", "the gap is reported once");
}

#[tokio::test]
async fn an_inbox_has_room_for_one_at_least() {
    let pubsub = PubSub::local();
    let mut inbox = pubsub.inbox(0);
    inbox.subscribe("t");
    pubsub.broadcast("t", "e", ()).unwrap();
    assert_eq!(inbox.recv().await.unwrap().event(), "e");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_reader_is_woken() {
    let pubsub = PubSub::local();
    let mut inbox = pubsub.subscribe("t");
    let read = async { inbox.recv().await.unwrap() };
    // Polled in this order, the reader waits before the message is sent.
    let both = async { tokio::join!(biased; read, async { pubsub.broadcast("t", "one", ()).unwrap() }) };
    let (message, ()) = timeout(Duration::from_secs(5), both).await.expect("the reader was not woken");
    assert_eq!(message.event(), "one");
}

#[tokio::test]
async fn a_cancelled_reader_loses_nothing() {
    let pubsub = PubSub::local();
    let mut inbox = pubsub.subscribe("t");
    let mut cancelled = Box::pin(inbox.recv());
    assert!((&mut cancelled).now_or_never().is_none());
    pubsub.broadcast("t", "one", ()).unwrap();
    drop(cancelled);
    assert_eq!(inbox.recv().now_or_never().unwrap().unwrap().event(), "one");
}

#[test]
fn one_inbox_reads_several_topics_and_leaves_them_one_by_one() {
    let pubsub = PubSub::local();
    let mut inbox = pubsub.inbox(10);
    for topic in ["a", "a", "b"] {
        inbox.subscribe(topic);
    }
    assert_eq!((pubsub.subscribers("a"), pubsub.subscribers("b")), (2, 1));

    inbox.unsubscribe("a");
    inbox.unsubscribe("unknown");
    pubsub.broadcast("a", "to a", ()).unwrap();
    pubsub.broadcast("b", "to b", ()).unwrap();
    assert_eq!(inbox.try_recv().unwrap().unwrap().event(), "to b");
    assert!(inbox.is_empty());

    drop(inbox);
    assert_eq!((pubsub.subscribers("a"), pubsub.subscribers("b")), (0, 0));
}
