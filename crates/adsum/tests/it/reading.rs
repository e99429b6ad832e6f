//! Reading a topic from a program.

use serde_json::json;

use crate::support::{Script, meta, plain, scripted};

#[tokio::test(start_paused = true)]
async fn a_key_has_all_that_was_tracked_under_it_in_order_with_its_info() {
    let script = Script::answering(json!({"name": "Ann"}));
    let (presence, _) = scripted(&script, |builder| builder);
    let (mut one, mut two) = (presence.owner(), presence.owner());
    let first = one.track("t", "a", meta(1)).unwrap();
    let second = two.track("t", "a", meta(2)).unwrap();
    two.track("t", "b", meta(3)).unwrap();

    let entry = presence.get_by_key("t", "a").await.unwrap();
    assert_eq!(*entry.info.unwrap(), json!({"name": "Ann"}));
    let of_a: Vec<_> = entry.metas.into_iter().map(|tracked| (tracked.reference, tracked.meta)).collect();
    assert_eq!(of_a, [(first, meta(1)), (second, meta(2))]);
    assert!(presence.get_by_key("t", "c").await.is_none());
    assert!(presence.get_by_key("u", "a").await.is_none());

    let list = presence.list("t").await;
    assert_eq!((list.len(), list["a"].metas.len(), list["b"].metas.len()), (2, 2, 1));
    assert!(presence.list("u").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_untracked_presence_is_gone_and_the_rest_stays() {
    let (presence, _) = plain(|builder| builder);
    let mut owner = presence.owner();
    for (topic, key) in [("t", "a"), ("t", "b"), ("u", "a")] {
        owner.track(topic, key, meta(1)).unwrap();
    }
    assert!(owner.untrack("t", "a"));
    assert!(!owner.untrack("t", "a"), "it isn't there any more");
    assert!(!owner.untrack("v", "a"), "it never was");
    assert_eq!((presence.count("t"), presence.count("u")), (1, 1));
    owner.untrack_all();
    assert_eq!((presence.count("t"), presence.count("u")), (0, 0));
    owner.track("t", "a", meta(2)).unwrap();
    assert_eq!(presence.list("t").await["a"].metas[0].meta, meta(2));
}
