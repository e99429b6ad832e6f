//! Why somebody is shown as online, and why somebody isn't any more.

use std::time::Duration;

use adsum::{
    Assigns, Channel, Explanation, JoinError, Joined, LeaveReason, NoParams, NodeState, Payload, Presence,
    PubSub, Reply, Socket, SocketBuilder, Stop, Topic,
    testing::{TestChannel, TestCluster, TestServer},
};
use serde_json::json;

use crate::support::{meta, settle};

const SECOND: Duration = Duration::from_secs(1);

struct Room(Presence);

impl Channel for Room {
    type App = Presence;
    type Params = NoParams;
    type Info = ();

    async fn join(app: &Presence, _: &Topic, _: NoParams, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self(app.clone())))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.0.track(socket, "7", meta(1))?;
        Ok(self.0.push_state(socket).await?)
    }

    async fn handle_in(&mut self, event: &str, _: Payload, _: &mut Socket) -> Result<Reply, Stop> {
        Err(Stop::unhandled(event))
    }
}

fn program(
    linger: Duration,
) -> impl Fn(PubSub) -> (SocketBuilder<Presence>, Presence) + Send + Sync + 'static {
    move |pubsub| {
        let presence = Presence::builder(pubsub).linger(linger).start();
        let socket = SocketBuilder::new(presence.clone())
            .connect(async |_, _| Ok(Assigns::new().id("users:7")))
            .channel::<Room>("room:*");
        (socket, presence)
    }
}

async fn cluster(linger: Duration) -> TestCluster<Presence, adsum::NoFetch> {
    TestCluster::start(["web-1", "web-2"], program(linger)).await
}

async fn join(server: &TestServer) -> TestChannel {
    let channel = server.connect("").await.unwrap().join("room:1", json!({})).await.unwrap();
    channel.until_present("7").await;
    // The other node hears of it in a batch.
    tokio::time::sleep(SECOND).await;
    channel
}

async fn explain(cluster: &TestCluster<Presence, adsum::NoFetch>, node: &str) -> Explanation {
    cluster.presence(node).explain("room:1", "7").await
}

#[track_caller]
fn says(explanation: &Explanation, part: &str) {
    let text = explanation.to_string();
    assert!(text.contains(part), "{part:?} isn't in:\n{text}");
}

#[tokio::test(start_paused = true)]
async fn a_presence_is_explained_alike_from_any_node() {
    let cluster = cluster(Duration::ZERO).await;
    let _channel = join(&cluster["web-2"]).await;
    tokio::time::sleep(8 * SECOND).await;
    for node in ["web-1", "web-2"] {
        let explanation = explain(&cluster, node).await;
        assert!(explanation.is_present());
        assert_eq!(explanation.unanswered().count(), 0);
        let [presence] = &explanation.presences[..] else { panic!("one presence: {explanation}") };
        let mut shown_by = presence.shown_by.clone();
        shown_by.sort();
        assert_eq!(shown_by, ["web-1", "web-2"]);
        let holding = presence.node.as_ref().unwrap();
        assert_eq!((&*holding.name, holding.state, holding.answered), ("web-2", Some(NodeState::Up), true));
        let holder = presence.holder.as_ref().unwrap();
        assert!(holder.held_for.is_some_and(|time| time >= 7 * SECOND), "{holder:?}");
        let socket = holder.socket.as_ref().unwrap();
        assert_eq!((socket.id.as_deref(), &*socket.transport, &socket.end), (Some("users:7"), "test", &None));
        assert_eq!(socket.silence_limit, Some(60 * SECOND));
        // It joined, and has said nothing since.
        assert!((7 * SECOND..10 * SECOND).contains(&socket.silent_for), "{socket:?}");
        says(&explanation, "A channel on web-2 has held it for");
        says(&explanation, "Its client has been silent for");
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_is_in_doubt_first_and_unreachable_then() {
    let mut cluster = cluster(Duration::ZERO).await;
    let _channel = join(&cluster["web-2"]).await;
    cluster.kill("web-2");
    tokio::time::sleep(SECOND).await;
    let explanation = explain(&cluster, "web-1").await;
    assert!(explanation.is_present());
    assert_eq!(explanation.unanswered().collect::<Vec<_>>(), ["web-2"]);
    assert_eq!(explanation.presences[0].holder, None);
    says(&explanation, "did not answer: it may have been killed, or is cut off.");
    says(&explanation, "web-2 did not answer within 1 s.");

    tokio::time::sleep(5 * SECOND).await;
    let explanation = explain(&cluster, "web-1").await;
    assert!(!explanation.is_present());
    assert_eq!(explanation.presences[0].hidden_by, ["web-1"]);
    assert_eq!(explanation.leaves[0].reason, LeaveReason::Unreachable);
    assert_eq!(explanation.leaves[0].node.as_deref(), Some("web-2"));
    says(&explanation, "ago: unreachable: web-2 silent for 3 s.");
    says(&explanation, "counts as down: it was killed, or is cut off.");
}

#[tokio::test(start_paused = true)]
async fn one_who_lingers_is_there_for_a_while_and_gone_then() {
    let cluster = cluster(30 * SECOND).await;
    let channel = join(&cluster["web-2"]).await;
    channel.client().close().await;
    tokio::time::sleep(10 * SECOND).await;
    let explanation = explain(&cluster, "web-1").await;
    assert!(explanation.is_present());
    let departing = explanation.presences[0].departing.unwrap();
    assert_eq!(departing.reason, LeaveReason::Gone);
    assert!((19 * SECOND..=20 * SECOND).contains(&departing.remaining), "{departing:?}");
    says(&explanation, "It lingers for another 20 s, so that its client can come back");
    says(&explanation, "of socket users:7 by test");

    tokio::time::sleep(25 * SECOND).await;
    let explanation = explain(&cluster, "web-1").await;
    assert!(explanation.presences.is_empty());
    assert_eq!(explanation.leaves[0].reason, LeaveReason::Gone);
    says(&explanation, "gone: its socket");
    says(&explanation, "users:7");
}

#[tokio::test(start_paused = true)]
async fn one_whose_channel_crashed_was_thrown_out() {
    let cluster = cluster(Duration::ZERO).await;
    let channel = join(&cluster["web-2"]).await;
    let _ = channel.push("unheard of", json!({}));
    channel.expect_end().await;
    tokio::time::sleep(SECOND).await;
    let explanation = explain(&cluster, "web-1").await;
    assert!(!explanation.is_present());
    let leave = &explanation.leaves[0];
    assert_eq!((leave.reason, leave.node.as_deref()), (LeaveReason::Crashed, Some("web-2")));
    assert_eq!(leave.told_by, ["web-1", "web-2"]);
    assert!(leave.holder.as_ref().is_some_and(|holder| holder.socket.is_some()), "{leave:?}");
    says(&explanation, "crashed: its channel or task failed on web-2");
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_is_said_to_have_been_stopped() {
    let mut cluster = cluster(Duration::ZERO).await;
    let _channel = join(&cluster["web-2"]).await;
    cluster.drain("web-2").await;
    let explanation = explain(&cluster, "web-1").await;
    assert!(explanation.is_present());
    says(&explanation, "Its node was stopped. It lingers for another");
    tokio::time::sleep(15 * SECOND).await;
    let explanation = explain(&cluster, "web-1").await;
    assert_eq!(explanation.leaves[0].reason, LeaveReason::Draining);
    says(&explanation, "draining: web-2 was stopped, and nobody took its place.");
}

#[tokio::test(start_paused = true)]
async fn leaves_in_topics_without_diffs_are_remembered_and_take_no_place_of_others() {
    let presence = Presence::builder(PubSub::local())
        .counted("hall:*")
        .without_diffs("users:*")
        .leave_memory(10, 60 * SECOND)
        .start();
    let passes = async |topic: &str, key: &str| {
        let mut owner = presence.owner();
        owner.track(topic, key, meta(1)).unwrap();
        owner.update(topic, key, meta(2)).unwrap();
        owner.finish();
        settle().await;
    };
    let leaves = async |topic: &str, key: &str| {
        let explanation = presence.explain(topic, key).await;
        explanation.leaves.iter().map(|leave| leave.reason).collect::<Vec<_>>()
    };
    passes("room:1", "7").await;
    passes("users:1", "7").await;
    assert_eq!(leaves("users:1", "7").await, [LeaveReason::Finished]);
    for n in 0..20 {
        passes("hall:1", &n.to_string()).await;
    }
    assert_eq!(leaves("hall:1", "9").await, []);
    assert_eq!(leaves("hall:1", "10").await, [LeaveReason::Finished], "the last ten");
    assert_eq!(leaves("room:1", "7").await, [LeaveReason::Finished]);
    says(&presence.explain("hall:1", "19").await, "finished: its channel or task ended in good order");

    // A crowd that goes at once.
    let mut owner = presence.owner();
    for n in 0..50 {
        owner.track("hall:2", n.to_string(), meta(1)).unwrap();
    }
    owner.finish();
    settle().await;
    let mut remembered = 0;
    for n in 0..50 {
        remembered += leaves("hall:2", &n.to_string()).await.len();
    }
    assert_eq!(remembered, 10);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_knows_is_said_to_be_unknown() {
    let presence = Presence::builder(PubSub::local()).leave_memory(10, 60 * SECOND).start();
    let explanation = presence.explain("room:1", "8").await;
    assert!(!explanation.is_present() && explanation.presences.is_empty());
    says(&explanation, "no leave of it is remembered. A node remembers the last 10 leaves, for 60 s.");

    let mut owner = presence.owner();
    owner.track("room:1", "8", meta(1)).unwrap();
    says(&presence.explain("room:1", "8").await, "A task on");
    // An update is no leave.
    owner.update("room:1", "8", meta(2)).unwrap();
    assert_eq!(presence.explain("room:1", "8").await.leaves, []);
    drop(owner);
    settle().await;
    let explanation = presence.explain("room:1", "8").await;
    assert_eq!(explanation.leaves[0].reason, LeaveReason::Cancelled);
    let json = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["leaves"][0]["reason"], "cancelled");
    assert!(json["leaves"][0]["ago"].is_number(), "{json}");
}
