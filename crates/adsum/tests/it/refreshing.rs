//! Telling all clients that an info has changed.

use std::time::Duration;

use adsum::DEFAULT_FETCH_TTL;
use serde_json::json;

use crate::support::{Does, INTERVAL, Script, diff, meta, scripted, settle};

#[tokio::test(start_paused = true)]
async fn a_refresh_joins_the_same_refs_with_the_new_info() {
    let script = Script::answering(json!({"name": "old"}));
    let (presence, pubsub) = scripted(&script, |builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let (mut one, mut two) = (presence.owner(), presence.owner());
    let first = one.track("t", "a", meta(1)).unwrap().to_string();
    diff(&mut inbox).await;
    let second = two.track("t", "a", meta(2)).unwrap().to_string();
    diff(&mut inbox).await;
    tokio::time::sleep(INTERVAL * 2).await;

    script.asked();
    script.then(Does::Answers(json!({"name": "new"})));
    presence.refresh("t", "a");
    let metas = json!([{"n": 1, "phx_ref": first}, {"n": 2, "phx_ref": second}]);
    let told = json!({"joins": {"a": {"metas": metas, "name": "new"}}, "leaves": {}});
    assert_eq!(diff(&mut inbox).await, told);
    assert_eq!(script.asked(), [["a"]]);
    assert_eq!(*presence.list("t").await["a"].info.clone().unwrap(), json!({"name": "new"}));
    assert!(script.asked().is_empty(), "what the refresh brought is fresh");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_of_nobody_does_nothing_and_one_that_fails_keeps_the_old_info() {
    let script = Script::answering(json!({"name": "old"}));
    let (presence, pubsub) = scripted(&script, |builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    diff(&mut inbox).await;
    tokio::time::sleep(INTERVAL * 2).await;
    presence.refresh("t", "b");
    presence.refresh("u", "a");
    settle().await;
    assert!(inbox.is_empty());

    script.then(Does::Fails);
    presence.refresh("t", "a");
    assert_eq!(diff(&mut inbox).await["joins"]["a"]["name"], "old");
    script.then(Does::Answers(json!({"name": "new"})));
    assert_eq!(*presence.list("t").await["a"].info.clone().unwrap(), json!({"name": "new"}));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_does_not_take_an_answer_to_what_was_asked_before_it() {
    let slow = |name| Does::AnswersAfter(Duration::from_millis(500), json!({"name": name}));
    // Cached or not: the first call returns the info from before the refresh.
    for known in [false, true] {
        let script = Script::answering(json!({"name": "old"}));
        let (presence, pubsub) = scripted(&script, |builder| builder);
        let mut inbox = pubsub.subscribe("t");
        let mut owner = presence.owner();
        if known {
            owner.track("t", "a", meta(1)).unwrap();
            diff(&mut inbox).await;
            tokio::time::sleep(DEFAULT_FETCH_TTL).await;
            script.then(slow("old"));
            let presence = presence.clone();
            tokio::spawn(async move { presence.list("t").await });
        } else {
            script.then(slow("old"));
            owner.track("t", "a", meta(1)).unwrap();
        }
        settle().await;
        script.then(Does::Answers(json!({"name": "new"})));
        presence.refresh("t", "a");
        if !known {
            assert_eq!(diff(&mut inbox).await["joins"]["a"]["name"], "old");
        }
        assert_eq!(diff(&mut inbox).await["joins"]["a"]["name"], "new");
        assert_eq!(*presence.list("t").await["a"].info.clone().unwrap(), json!({"name": "new"}));
    }
}
