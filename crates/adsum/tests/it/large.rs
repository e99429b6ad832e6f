//! Topics that are so large that a task delivers their messages.

use std::sync::Arc;

use adsum_pubsub::{Message, Subscriber, SubscriberId};
use serde_json::json;

use crate::{
    channels::{JOIN, started},
    support::meta,
};

struct Deaf;

impl Subscriber for Deaf {
    fn deliver(&self, _: &Arc<Message>) {}
}

#[tokio::test]
async fn a_state_is_not_followed_by_diffs_that_are_older() {
    let (presence, pubsub, mut client) = started().await;
    let _crowd: Vec<_> =
        (0..2_000).map(|_| pubsub.attach("room:a", SubscriberId::unique(), Arc::new(Deaf))).collect();
    client.send(JOIN).await;
    while client.event().await.0 != "presence_state" {}

    let mut owner = presence.owner();
    for _ in 0..100 {
        owner.track("room:a", "ghost", meta(1)).unwrap();
        owner.untrack("room:a", "ghost");
    }
    client.send(r#"["1","2","room:a","state",{}]"#).await;
    while client.event().await.0 != "presence_state" {}
    pubsub.broadcast("room:a", "end", json!({})).unwrap();
    owner.track("room:a", "after", meta(1)).unwrap();
    let mut ended = false;
    loop {
        let (event, payload) = client.event().await;
        match &*event {
            "end" => ended = true,
            "presence_diff" => {
                assert_eq!(
                    payload["joins"]["after"]["metas"][0]["n"], 1,
                    "{payload} is older than the state"
                );
                assert!(ended, "in the order sent");
                break;
            }
            _ => {}
        }
    }
}
