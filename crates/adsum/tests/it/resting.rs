//! Nothing is kept of topics and presences that are gone.

use std::time::Duration;

use adsum::{Presence, PresenceHandler, Totals};
use serde_json::json;

use crate::support::{INTERVAL, Script, meta, plain, scripted};

/// Longer than all windows, and than the debt of a topic.
const LATER: Duration = Duration::from_secs(5);

/// Waits until everything is sent.
async fn at_rest<H: PresenceHandler>(presence: &Presence<H>) -> Totals {
    tokio::time::sleep(LATER).await;
    presence.totals()
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_forgotten_with_the_window_of_its_last_diff() {
    let (presence, pubsub) = plain(|builder| builder);
    let inbox = pubsub.subscribe("room:1");
    let mut owner = presence.owner();
    owner.track("room:1", "7", meta(1)).unwrap();
    assert_eq!((presence.totals().presences, presence.totals().topics), (1, 1));
    drop(owner);
    assert_eq!(
        (presence.totals().presences, presence.totals().topics),
        (0, 1),
        "the leave is still to be told"
    );
    tokio::time::sleep(3 * INTERVAL).await;
    assert_eq!(presence.totals(), Totals::default());
    drop(inbox);
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_forgotten_once_it_owes_nothing() {
    let pubsub = adsum::PubSub::local();
    let presence = Presence::builder(pubsub.clone()).start();
    let inboxes: Vec<_> = (0..500).map(|_| pubsub.subscribe("room:1")).collect();
    for n in 0..50 {
        let mut owner = presence.owner();
        owner.track("room:1", "7", meta(n)).unwrap();
    }
    assert_eq!(presence.totals().topics, 1);
    assert_eq!(at_rest(&presence).await, Totals::default());
    drop(inboxes);
}

#[tokio::test(start_paused = true)]
async fn a_counted_topic_is_forgotten_with_its_clients_and_with_its_presences() {
    let (presence, pubsub) = plain(|builder| builder.counted("hall:*"));
    let mut owner = presence.owner();
    let inbox = pubsub.subscribe("hall:1");
    owner.track("hall:1", "7", meta(1)).unwrap();
    tokio::time::sleep(LATER).await;
    owner.untrack("hall:1", "7");
    assert_eq!(at_rest(&presence).await, Totals::default(), "they have been told that nobody is there");

    owner.track("hall:1", "7", meta(1)).unwrap();
    tokio::time::sleep(LATER).await;
    drop(inbox);
    owner.untrack("hall:1", "7");
    assert_eq!(at_rest(&presence).await, Totals::default(), "nobody is left to be told");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_dropped_leaves_nothing_behind() {
    let (presence, _pubsub) = plain(|builder| builder);
    let (one, all) = (presence.watch("room:1"), presence.watch_all());
    assert_eq!((presence.totals().watches, presence.totals().topics), (2, 1));
    let mut owner = presence.owner();
    owner.track("room:1", "7", meta(1)).unwrap();
    drop((one, all));
    assert_eq!(presence.totals().watches, 0);
    drop(owner);
    assert_eq!(at_rest(&presence).await, Totals::default());
}

#[tokio::test(start_paused = true)]
async fn a_topic_whose_fetch_outlives_its_presences_is_forgotten_too() {
    let script = Script::new(crate::support::Does::AnswersAfter(Duration::from_secs(1), json!({})));
    let (presence, pubsub) = scripted(&script, |builder| builder);
    let inbox = pubsub.subscribe("room:1");
    let mut owner = presence.owner();
    owner.track("room:1", "7", meta(1)).unwrap();
    drop(owner);
    let (listed, totals) = tokio::join!(presence.list("room:1"), at_rest(&presence));
    assert!(listed.is_empty());
    assert_eq!(totals, Totals::default());
    presence.refresh("room:1", "7");
    assert_eq!(at_rest(&presence).await, Totals::default());
    drop(inbox);
}
