//! The JSON of a diff.

use std::time::Duration;

use adsum::{MetaError, NoFetch, Presence, PubSub, TrackError, UpdateError};
use serde_json::{Value, json};

use crate::support::{Script, diff, diff_now, meta, plain, scripted};

#[tokio::test(start_paused = true)]
async fn metas_carry_refs_and_leaves_their_reason() {
    let (presence, pubsub) = plain(|builder| builder.diff_interval(Duration::ZERO));
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    let first = owner.track("t", "a", meta(1)).unwrap().to_string();
    let second = owner.update_with("t", "a", |mut old| {
        old.insert("more".into(), true.into());
        old
    });
    let second = second.unwrap().to_string();
    assert_eq!(
        diff_now(&mut inbox),
        json!({"joins": {"a": {"metas": [{"n": 1, "phx_ref": first}]}}, "leaves": {}})
    );
    let new = json!({"n": 1, "more": true, "phx_ref": second, "phx_ref_prev": first});
    assert_eq!(
        diff_now(&mut inbox),
        json!({"joins": {"a": {"metas": [new]}}, "leaves": {"a": {"metas": [{"n": 1, "phx_ref": first}]}}})
    );
    owner.untrack("t", "a");
    let mut left = new;
    left["phx_reason"] = "left".into();
    assert_eq!(diff_now(&mut inbox), json!({"joins": {}, "leaves": {"a": {"metas": [left]}}}));
    owner.track("t", "a", meta(1)).unwrap();
    diff_now(&mut inbox);
    drop(owner);
    assert_eq!(diff(&mut inbox).await["leaves"]["a"]["metas"][0]["phx_reason"], "cancelled");
}

#[tokio::test(start_paused = true)]
async fn infos_stand_beside_metas_and_our_fields_are_ours() {
    let script = Script::answering(json!({"user": {"name": "Ann \"A\""}, "metas": "not yours"}));
    let (presence, pubsub) = scripted(&script, |builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    let key = "a \"quoted\" \u{1f600} \\ \u{1} key";
    for field in ["phx_ref", "phx_ref_prev", "phx_reason"] {
        let forged = serde_json::from_value(json!({field: "x", "n": 1})).unwrap();
        let refused = owner.track("t", key, forged).unwrap_err();
        assert!(matches!(&refused, TrackError::Meta(MetaError::Reserved(of)) if *of == field), "{refused}");
    }
    let phx_ref = owner.track("t", key, meta(1)).unwrap().to_string();
    let entry = json!({"metas": [{"n": 1, "phx_ref": phx_ref}], "user": {"name": "Ann \"A\""}});
    assert_eq!(diff(&mut inbox).await["joins"], json!({key: entry}));
}

#[tokio::test(start_paused = true)]
async fn an_empty_meta_has_its_ref_alone() {
    let (presence, pubsub) = plain(|builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    let phx_ref = owner.track("t", "a", serde_json::Map::new()).unwrap().to_string();
    assert_eq!(diff_now(&mut inbox)["joins"]["a"], json!({"metas": [{"phx_ref": phx_ref}]}));
}

#[tokio::test(start_paused = true)]
async fn only_an_object_is_a_meta_or_an_info() {
    let presence = Presence::builder(PubSub::local()).handler(NoFetch::<Value>::default()).start();
    let mut owner = presence.owner();
    for meta in [json!(null), json!(1), json!("x"), json!([{}])] {
        let refused = owner.track("t", "a", meta.clone());
        assert!(matches!(refused, Err(TrackError::Meta(MetaError::NotAnObject(_)))), "{meta}: {refused:?}");
    }
    owner.track("t", "a", json!({"fine": 1})).unwrap();
    assert!(matches!(owner.update("t", "a", json!(2)), Err(UpdateError::Meta(MetaError::NotAnObject(_)))));
    assert_eq!(presence.list("t").await["a"].metas[0].meta, json!({"fine": 1}));

    let script = Script::answering(json!([1, 2]));
    let (presence, pubsub) = scripted(&script, |builder| builder);
    let mut inbox = pubsub.subscribe("t");
    let mut owner = presence.owner();
    let phx_ref = owner.track("t", "a", meta(1)).unwrap().to_string();
    assert_eq!(diff(&mut inbox).await["joins"], json!({"a": {"metas": [{"n": 1, "phx_ref": phx_ref}]}}));
}

#[tokio::test(start_paused = true)]
async fn errors_name_what_was_tracked_and_change_nothing() {
    let (presence, _) = plain(|builder| builder);
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    let twice = owner.track("t", "a", meta(2)).unwrap_err().to_string();
    assert!(
        twice.contains("already tracked") && twice.contains("\"t\"") && twice.contains("\"a\""),
        "{twice}"
    );
    let missing = owner.update("t", "b", meta(2)).unwrap_err().to_string();
    assert!(missing.contains("not tracked") && missing.contains("\"b\""), "{missing}");
    let large = owner.track("t", "c", meta("x".repeat(10_000))).unwrap_err().to_string();
    assert!(large.contains("meta_bytes"), "{large}");
    assert!(owner.track("t".repeat(256), "a", meta(1)).is_err());
    assert!(owner.track("t", "k".repeat(256).as_str(), meta(1)).is_err());
    assert_eq!(presence.count("t"), 1);
}

/// Serializes what a program reads.
#[tokio::test(start_paused = true)]
async fn a_list_serializes_as_the_state() {
    let script = Script::answering(json!({"user": {"name": "Ann"}}));
    let (presence, _pubsub) = scripted(&script, |builder| builder);
    let mut owner = presence.owner();
    let first = owner.track("t", 7, meta(1)).unwrap().to_string();
    let mut other = presence.owner();
    other.track("t", 7, meta(2)).unwrap();
    let updated = other.update("t", 7, meta(3)).unwrap();
    let list = presence.list("t").await;
    let metas = json!([
        {"n": 1, "phx_ref": first},
        {"n": 3, "phx_ref": updated, "phx_ref_prev": list["7"].metas[1].previous},
    ]);
    assert_eq!(serde_json::to_value(&list).unwrap(), json!({"7": {"metas": metas, "user": {"name": "Ann"}}}));
    assert_eq!(serde_json::to_value(list["7"].clone()).unwrap()["metas"], metas);

    let (without_fetch, _pubsub) = plain(|builder| builder);
    without_fetch.owner().set("t", 7, meta(1)).unwrap();
    assert_eq!(serde_json::to_value(without_fetch.list("t").await).unwrap(), json!({}), "its owner is gone");
    let mut owner = without_fetch.owner();
    let set = owner.set("t", 7, meta(1)).unwrap();
    assert_eq!(owner.set("t", 7, meta(1)).unwrap(), None);
    let state = serde_json::to_value(without_fetch.list("t").await).unwrap();
    assert_eq!(state, json!({"7": {"metas": [{"n": 1, "phx_ref": set}]}}));
}

#[tokio::test(start_paused = true)]
async fn an_encoded_state_is_an_answer_of_axums() {
    use axum::response::IntoResponse;
    let response = adsum::Json::from_encoded(r#"{"a":1}"#).into_response();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(axum::body::to_bytes(response.into_body(), 100).await.unwrap(), r#"{"a":1}"#);
}

#[tokio::test(start_paused = true)]
async fn errors_say_what_is_tracked_and_can_be_told_apart() {
    let (presence, _) = plain(|builder| builder);
    let mut owner = presence.owner();
    owner.track("t", "a", meta(1)).unwrap();
    let twice = owner.track("t", "a", meta(1)).unwrap_err();
    assert!(matches!(&twice, TrackError::AlreadyTracked { topic, key } if **topic == *"t" && **key == *"a"));
    let missing = owner.update("t", "b", meta(1)).unwrap_err();
    assert!(matches!(&missing, UpdateError::NotTracked { key, .. } if **key == *"b"), "{missing}");
    let long = owner.track("t", "x".repeat(300), meta(1)).unwrap_err();
    assert!(matches!(long, TrackError::OverLimit(_)), "{long}");
}
