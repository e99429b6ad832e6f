//! Topics whose clients get only the number of presences.

use std::time::Duration;

use adsum::{Inbox, Presence, PubSub};
use serde_json::{Value, json};

use crate::support::{Script, meta, plain};

const SECOND: Duration = Duration::from_secs(1);

async fn count(inbox: &mut Inbox) -> Value {
    let message = tokio::time::timeout(Duration::from_mins(1), inbox.recv()).await.expect("a count comes");
    let message = message.unwrap();
    assert_eq!(message.event(), "presence_count");
    message.payload().decode().unwrap()
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_how_many_are_there_once_an_interval() {
    let (presence, pubsub) = plain(|builder| builder.counted("hall:*"));
    let mut inbox = pubsub.subscribe("hall:1");
    let mut owners: Vec<_> = (0..100).map(|_| presence.owner()).collect();
    let began = tokio::time::Instant::now();
    for (n, owner) in owners.iter_mut().enumerate() {
        owner.track("hall:1", (n % 60).to_string(), meta(1)).unwrap();
    }
    assert_eq!(count(&mut inbox).await, json!({"presences": 1, "keys": 1}), "the first change at once");
    assert_eq!(count(&mut inbox).await, json!({"presences": 100, "keys": 60}), "all others together");
    assert_eq!(began.elapsed(), SECOND);

    // Changes that net to nothing aren't sent.
    let mut passing = presence.owner();
    passing.track("hall:1", "passing", meta(1)).unwrap();
    drop(passing);
    tokio::time::sleep(3 * SECOND).await;
    assert!(inbox.is_empty());

    drop(owners);
    let first = count(&mut inbox).await;
    let last = if first["presences"] == 0 { first } else { count(&mut inbox).await };
    assert_eq!(last, json!({"presences": 0, "keys": 0}), "that all have gone is told too");
    tokio::time::sleep(3 * SECOND).await;
    assert!(inbox.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pages_show_all_keys_in_order_with_their_infos() {
    let script = Script::answering(json!({"name": "x"}));
    let presence = Presence::builder(PubSub::local()).handler(script.clone()).counted("hall:*").start();
    let mut owner = presence.owner();
    for n in 0..25 {
        owner.track("hall:1", format!("{n:02}"), meta(n)).unwrap();
    }
    assert!(script.asked().is_empty(), "nobody is listed yet");
    let mut keys = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = presence.page("hall:1", after.as_deref(), 10).await;
        assert!(page.len() <= 10);
        for (key, entry) in &page {
            assert_eq!(entry.info.as_deref(), Some(&json!({"name": "x"})));
            keys.push(key.to_string());
        }
        let Some((last, _)) = page.last() else { break };
        after = Some(last.to_string());
    }
    assert_eq!(keys, (0..25).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    assert_eq!(
        script.asked().iter().map(Vec::len).collect::<Vec<_>>(),
        [10, 10, 5],
        "a page asks for its own"
    );
    assert!(presence.page("hall:2", None, 10).await.is_empty());
}
