//! The presences of an owner leave, however it ends.

use std::sync::Arc;

use adsum::{Key, Presence};
use serde_json::json;

use crate::support::{
    Does, INTERVAL, Script, diff, diff_now, expect, meta, nothing, plain, scripted, settle,
};

async fn tracking(presence: Presence) {
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn aborted_panicked_and_returned() {
    let (presence, pubsub) = plain(|builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let task = tokio::spawn(tracking(presence.clone()));
    expect(&diff(&mut inbox).await, json!({"a": [1]}), nothing());
    task.abort();
    expect(&diff(&mut inbox).await, nothing(), json!({"a": [1]}));

    let tracks = |panics: bool| {
        let presence = presence.clone();
        async move {
            let mut owner = presence.owner();
            owner.track("t", "a", meta(1)).unwrap();
            tokio::time::sleep(INTERVAL * 2).await;
            assert!(!panics, "as wanted");
        }
    };
    for panics in [true, false] {
        let task = tokio::spawn(tracks(panics));
        expect(&diff(&mut inbox).await, json!({"a": [1]}), nothing());
        assert_eq!(task.await.is_err(), panics);
        expect(&diff(&mut inbox).await, nothing(), json!({"a": [1]}));
    }
    assert_eq!(presence.count("t"), 0);
}

#[test]
fn a_runtime_that_ends_takes_its_owners_along() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (ours, theirs) = (runtime(), runtime());
    let (presence, pubsub) = ours.block_on(async { plain(|builder| builder) });
    let mut inbox = pubsub.subscribe("t");
    theirs.spawn(tracking(presence.clone()));
    expect(&ours.block_on(diff(&mut inbox)), json!({"a": [1]}), nothing());
    drop(theirs);
    assert_eq!(presence.count("t"), 0);
    expect(&ours.block_on(diff(&mut inbox)), nothing(), json!({"a": [1]}));
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_the_presence_and_sends_what_waits() {
    let script = Script::new(Does::Hangs);
    let (presence, pubsub) = scripted(&script, |builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    settle().await;
    assert!(inbox.is_empty(), "its fetch hangs");
    drop(presence);
    drop(owner);
    settle().await;
    expect(&diff(&mut inbox).await, json!({"a": [1]}), nothing());
}

#[tokio::test(start_paused = true)]
async fn a_presence_that_ended_leaves_no_memory_behind() {
    struct Holds {
        _witness: Arc<()>,
    }
    impl adsum::PresenceHandler for Holds {
        type Meta = crate::support::Meta;
        type Info = ();
    }
    let witness = Arc::new(());
    let pubsub = adsum::PubSub::local();
    let presence = Presence::builder(pubsub.clone()).handler(Holds { _witness: witness.clone() }).start();
    let _inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    let watch = presence.watch_all();
    owner.track("t", "a", meta(1)).unwrap();
    drop((watch, owner, presence));
    settle().await;
    assert_eq!(Arc::strong_count(&witness), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_presence_tells_what_a_window_or_a_drop_has_left_behind() {
    let script = Script::new(Does::Hangs);
    let (presence, pubsub) = scripted(&script, |builder| builder);
    let (mut told, mut in_flight) = (pubsub.subscribe("told"), pubsub.subscribe("in flight"));
    let mut owner = presence.owner();
    owner.track("in flight", "a", meta(1)).unwrap();
    settle().await;
    owner.track("in flight", "b", meta(2)).unwrap();
    drop(presence);
    script.then(Does::Answers(json!({})));
    owner.track("told", "a", meta(1)).unwrap();
    expect(&diff(&mut told).await, json!({"a": [1]}), nothing());
    owner.track("told", "b", meta(2)).unwrap();

    // The owner has the last handle.
    drop(owner);
    settle().await;
    expect(&diff_now(&mut told), nothing(), json!({"a": [1]}));
    expect(&diff_now(&mut in_flight), json!({"a": [1]}), nothing());
    expect(&diff_now(&mut in_flight), nothing(), json!({"a": [1]}));
}

#[test]
fn changes_are_told_though_the_runtime_of_the_presence_has_ended() {
    let first = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (presence, pubsub) = first.block_on(async { plain(|builder| builder) });
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    expect(&diff_now(&mut inbox), json!({"a": [1]}), nothing());
    owner.track("t", "b", meta(2)).unwrap();
    drop(first);
    expect(&diff_now(&mut inbox), json!({"b": [2]}), nothing());
    owner.track("t", "c", meta(3)).unwrap();
    owner.untrack("t", "a");
    expect(&diff_now(&mut inbox), json!({"c": [3]}), nothing());
    expect(&diff_now(&mut inbox), nothing(), json!({"a": [1]}));
}

#[tokio::test(start_paused = true)]
async fn a_key_is_an_integer_or_a_text_in_every_call() {
    let (presence, _) = plain(|builder| builder);
    let mut owner = presence.owner();
    // A literal is an `i32`, as everywhere.
    owner.track("t", 7, meta(1)).unwrap();
    owner.update("t", 7, meta(2)).unwrap();
    assert!(owner.untrack("t", 7) && !owner.untrack("t", 7));
    let text = "7".to_owned();
    for key in [Key::from(7_u8), Key::from(7_i128), Key::from(7_usize), Key::from(&text)] {
        owner.track("t", &key, meta(1)).unwrap();
        assert!(owner.untrack("t", &text));
        owner.track("t", key.clone(), meta(1)).unwrap();
        assert!(owner.untrack("t", &key));
        owner.track("t", "Ann Lee".len(), meta(1)).unwrap();
        assert!(owner.untrack("t", text.as_str()));
    }
    assert_eq!(Key::from(u128::MAX).as_str(), u128::MAX.to_string());
    assert_eq!(Key::from(i8::MIN).as_str(), "-128");
    assert_eq!(presence.count("t"), 0);
}
