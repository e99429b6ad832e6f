use adsum_channels::{Channel, JoinError, Joined, NoParams, Reply, Socket, SocketBuilder, Stop};
use adsum_pubsub::{Payload, PubSub, Topic};
use serde_json::{Map, json};

use super::*;
use crate::{
    handler::NoFetch,
    presence::Presence,
    testing::{TestChannel, TestCluster},
};

struct Room(Presence);

impl Channel for Room {
    type App = Presence;
    type Params = NoParams;
    type Info = ();

    async fn join(app: &Presence, _: &Topic, _: NoParams, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self(app.clone())))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.0.track(socket, "7", Map::new())?;
        Ok(self.0.push_state(socket).await?)
    }

    async fn handle_in(&mut self, _: &str, payload: Payload, _: &mut Socket) -> Result<Reply, Stop> {
        Ok(Reply::ok(payload))
    }
}

/// Watches an owner's socket from a node.
fn open(from: &Presence, node: &str, owner: u64) -> Stream {
    Stream::open(&from.exchange.watches, &from.core, node.to_owned(), owner)
}

/// Two nodes, a client of the second one, and the owner of its presence.
async fn cluster() -> (TestCluster<Presence, NoFetch>, TestChannel, u64) {
    let cluster = TestCluster::start(["a", "b"], |pubsub: PubSub| {
        let presence = Presence::builder(pubsub).start();
        (SocketBuilder::new(presence.clone()).channel::<Room>("room:*"), presence)
    })
    .await;
    let client = cluster["b"].connect("").await.expect("the node lets everybody in");
    let channel = client.join("room:1", json!({})).await.expect("the room does too");
    channel.until_present("7").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let explanation = cluster.presence("a").explain("room:1", "7").await;
    let owner = explanation.presences[0].holder.as_ref().expect("its node has answered").owner;
    (cluster, channel, owner)
}

#[tokio::test(start_paused = true)]
async fn messages_of_another_node_are_seen_for_a_minute() {
    let (cluster, channel, owner) = cluster().await;
    let began = Instant::now();
    let mut stream = open(cluster.presence("a"), "b", owner);
    assert!(matches!(stream.next().await, Some(StreamItem::Begun)));
    channel.push("echo", json!({"password": "hunter2"})).ok::<serde_json::Value>().await;
    for expected in [true, false] {
        let Some(StreamItem::Message { from_client, text, .. }) = stream.next().await else {
            panic!("a message is expected")
        };
        assert_eq!(from_client, expected);
        assert!(
            text.contains("room:1") && text.contains("[FILTERED]") && !text.contains("hunter2"),
            "{text}"
        );
    }
    // The heartbeats of the client come in between.
    loop {
        match stream.next().await {
            Some(StreamItem::End(why)) => break assert_eq!(why, over()),
            Some(_) => {}
            None => panic!("the end is told"),
        }
    }
    assert!((WATCH_TIME..WATCH_TIME + BEGIN_TIME).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watch_says_why_it_does_not_begin() {
    let (cluster, _channel, owner) = cluster().await;
    let presence = cluster.presence("b");
    let open_again = || open(presence, "b", owner);
    let mut watches: Vec<Stream> = (0..MAX_WATCHED).map(|_| open_again()).collect();
    let end = async |stream: &mut Stream| match stream.next().await {
        Some(StreamItem::End(why)) => why,
        item => panic!("{item:?} instead of an end"),
    };
    assert_eq!(end(&mut open_again()).await, "4 sockets of that node are watched already");
    // The one that is refused doesn't end one that runs.
    let running = watches.last_mut().expect("there are some");
    assert!(matches!(running.next().await, Some(StreamItem::Begun)));
    let next = timeout_at(Instant::now() + Duration::from_secs(1), running.next()).await;
    assert!(!matches!(next, Ok(Some(StreamItem::End(_)) | None)), "{next:?}");
    // A watch that is dropped makes room.
    watches.pop();
    assert!(matches!(open_again().next().await, Some(StreamItem::Begun)));

    let mut unknown = open(presence, "b", owner + 1000);
    assert_eq!(end(&mut unknown).await, "its socket is gone");
    let mut nowhere = open(presence, "c", owner);
    assert_eq!(end(&mut nowhere).await, "c did not answer");
}
