//! Behaviour that is specific to Redis.

use adsum_pubsub::{PubSub, StartError};

use crate::{
    engines::hear,
    server::{File, SECRET, Server},
};

/// A broadcast goes to all members of a Redis Cluster, so each node may connect to another one.
#[tokio::test]
async fn members_of_a_redis_cluster_carry_messages_between_nodes() {
    let configs = [File::new(""), File::new("")];
    let [one, other] = configs.each_ref().map(Server::in_redis_cluster);
    // Without slots, and so without keys.
    let (a, beside) = (one.node("a").await, one.node("beside").await);
    let (mut on_a, mut on_beside) = (a.subscribe("t"), beside.subscribe("t"));
    hear(&a, &mut on_beside).await;
    one.meet(&other);
    let b = other.node("b").await;
    let mut on_b = b.subscribe("t");
    hear(&a, &mut on_b).await;
    hear(&b, &mut on_a).await;
}

#[tokio::test]
async fn a_sentinel_is_refused_by_name() {
    let config = File::new("");
    let server = Server::sentinel(&config);
    let refused = PubSub::redis(server.url()).node("a").secret(SECRET).start().await;
    let Err(StartError::Refused { engine: "Redis", reason }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("Sentinel") && reason.contains("primary"), "{reason}");
}
