//! Clients that read too slowly, over a real socket.

use std::{collections::BTreeMap, time::Duration};

use adsum::{NoFetch, Presence, PresenceHandler, PubSub, SocketBuilder};
use serde_json::Value;

use crate::{
    channels::{Client, JOIN, Room, connect, serve_socket},
    support::{Does, Script, meta},
};

/// More than the kernel buffers for a connection, in addition to our own queue.
const MANY: usize = 1_500;
const MAX_QUEUE: usize = 200_000;

/// Folds as phoenix.js does: the refs of each key's metas, in the client's order.
#[derive(Default)]
pub(crate) struct Folded {
    pub(crate) view: BTreeMap<String, Vec<String>>,
    pub(crate) states: usize,
}

impl Folded {
    pub(crate) fn take(&mut self, event: &str, payload: &Value) {
        match event {
            "presence_state" => {
                self.states += 1;
                let state = refs(payload);
                let missing = |from: &BTreeMap<String, Vec<String>>,
                               other: &BTreeMap<String, Vec<String>>| {
                    let known =
                        |key: &String, r| other.get(key).is_some_and(|refs: &Vec<String>| refs.contains(r));
                    from.iter()
                        .map(|(key, refs)| {
                            (key.clone(), refs.iter().filter(|r| !known(key, *r)).cloned().collect())
                        })
                        .filter(|(_, refs): &(String, Vec<String>)| !refs.is_empty())
                        .collect::<BTreeMap<_, _>>()
                };
                let (joins, leaves) = (missing(&state, &self.view), missing(&self.view, &state));
                self.fold(&joins, &leaves);
            }
            "presence_diff" if self.states > 0 => {
                self.fold(&refs(&payload["joins"]), &refs(&payload["leaves"]));
            }
            _ => {}
        }
    }

    fn fold(&mut self, joins: &BTreeMap<String, Vec<String>>, leaves: &BTreeMap<String, Vec<String>>) {
        for (key, joined) in joins {
            let refs = self.view.entry(key.clone()).or_default();
            refs.retain(|r| !joined.contains(r));
            refs.extend(joined.iter().cloned());
        }
        for (key, left) in leaves {
            if let Some(refs) = self.view.get_mut(key) {
                refs.retain(|r| !left.contains(r));
                if refs.is_empty() {
                    self.view.remove(key);
                }
            }
        }
    }
}

fn refs(entries: &Value) -> BTreeMap<String, Vec<String>> {
    let refs = |entry: &Value| {
        let metas = entry["metas"].as_array().unwrap().iter();
        metas.map(|meta| meta["phx_ref"].as_str().unwrap().to_owned()).collect()
    };
    entries.as_object().unwrap().iter().map(|(key, entry)| (key.clone(), refs(entry))).collect()
}

async fn listed<H: PresenceHandler>(presence: &Presence<H>) -> BTreeMap<String, Vec<String>> {
    let refs = |entry: &adsum::Entry<H>| entry.metas.iter().map(|meta| meta.reference.to_string()).collect();
    presence.list("room:a").await.iter().map(|(key, entry)| (key.to_string(), refs(entry))).collect()
}

async fn join<H: PresenceHandler<Meta = crate::support::Meta>>(
    presence: &Presence<H>,
    pubsub: &PubSub,
) -> Client {
    let socket = SocketBuilder::new(presence.clone()).max_queue_bytes(MAX_QUEUE).channel::<Room<H>>("room:*");
    let mut client = connect(serve_socket(socket, pubsub).await).await;
    client.send(JOIN).await;
    client
}

async fn next(client: &mut Client, folded: &mut Folded) -> (String, Value) {
    let (event, payload) = client.event().await;
    folded.take(&event, &payload);
    (event, payload)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_again_is_right_and_others_see_no_delay() {
    let pubsub = PubSub::local();
    let presence: Presence<NoFetch> = Presence::builder(pubsub.clone()).diff_interval(Duration::ZERO).start();
    let (mut slow, mut fast) = (join(&presence, &pubsub).await, join(&presence, &pubsub).await);
    let (mut seen, mut known) = (Folded::default(), Folded::default());
    while seen.states == 0 {
        next(&mut slow, &mut seen).await;
    }
    while known.view.get("me").is_none_or(|refs| refs.len() < 2) {
        next(&mut fast, &mut known).await;
    }

    let long = "x".repeat(8_000);
    let mut owner = presence.owner();
    for n in 0..MANY {
        let key = format!("k{}", n % 7);
        // A key joins, is updated, leaves and joins again, so that a state of another time would be noticed.
        match n / 7 % 3 {
            0 => drop(owner.track("room:a", key, meta(&*long)).unwrap()),
            1 => drop(owner.update("room:a", key, meta(&*long)).unwrap()),
            _ => assert!(owner.untrack("room:a", &key)),
        }
        let expected = listed(&presence).await;
        while known.view != expected {
            next(&mut fast, &mut known).await;
        }
    }
    assert_eq!(known.states, 1);

    let expected = listed(&presence).await;
    while seen.view != expected {
        next(&mut slow, &mut seen).await;
    }
    assert!(seen.states > 1, "the diffs would have taken more room than there is");
    owner.untrack("room:a", "k0");
    owner.track("room:a", "last", meta(1)).unwrap();
    let expected = listed(&presence).await;
    for (client, folded) in [(&mut slow, &mut seen), (&mut fast, &mut known)] {
        while folded.view != expected {
            next(client, folded).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_state_is_followed_by_the_keys_refreshed_lately() {
    let pubsub = PubSub::local();
    let script = Script::answering(serde_json::json!({"name": "old"}));
    let presence =
        Presence::builder(pubsub.clone()).handler(script.clone()).diff_interval(Duration::ZERO).start();
    let mut slow = join(&presence, &pubsub).await;
    let mut seen = Folded::default();
    while seen.states == 0 {
        next(&mut slow, &mut seen).await;
    }
    let mut watch = pubsub.subscribe("room:a");
    let long = "x".repeat(8_000);
    let mut owner = presence.owner();
    owner.track("room:a", "k", meta(&*long)).unwrap();
    for n in 0..MANY {
        if n == MANY / 2 {
            script.then(Does::Answers(serde_json::json!({"name": "new"})));
            presence.refresh("room:a", "me");
            while crate::support::diff(&mut watch).await["joins"]["me"]["name"] != "new" {}
        }
        owner.update("room:a", "k", meta(&*long)).unwrap();
    }
    let expected = listed(&presence).await;
    let mut renewed = false;
    while seen.view != expected || !renewed {
        let (event, payload) = next(&mut slow, &mut seen).await;
        if event == "presence_state" && payload["me"]["name"] == "new" {
            let (event, diff) = next(&mut slow, &mut seen).await;
            assert_eq!(event, "presence_diff");
            assert_eq!(diff["joins"]["me"], payload["me"]);
            renewed = true;
        }
    }
}
