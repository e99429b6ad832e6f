//! The events that may be broadcast.

use adsum_pubsub::{BroadcastError, LocalNetwork, Message, SubscriberId};

#[tokio::test]
async fn an_event_of_the_protocol_is_refused_by_every_broadcast() {
    let network = LocalNetwork::new();
    let (a, b) = (network.node("a"), network.node("b"));
    let (mut at_a, mut at_b) = (a.subscribe("t"), b.subscribe("t"));
    for event in ["phx_close", "phx_error", "presence_state", "presence_diff"] {
        for refused in [
            a.broadcast("t", event, ()),
            a.broadcast_from(SubscriberId::unique(), "t", event, ()),
            a.local_broadcast("t", event, ()),
            a.direct_broadcast("a", "t", event, ()),
            a.direct_broadcast("b", "t", event, ()),
        ] {
            assert!(matches!(refused, Err(BroadcastError::Reserved(_))), "{event}: {refused:?}");
        }
    }
    a.broadcast("t", "disconnect", ()).unwrap();
    for inbox in [&mut at_a, &mut at_b] {
        assert_eq!(inbox.recv().await.unwrap().event(), "disconnect", "the refused event did not arrive");
    }
    // `deliver` sends presence events.
    a.deliver(Message::new("t", "presence_diff", adsum_pubsub::Json::empty_object().into()));
    assert_eq!(at_a.recv().await.unwrap().event(), "presence_diff");
}
