//! Behaviour that is specific to Redis.

use adsum_pubsub::{PubSub, StartError};

use crate::{
    engines::hear,
    server::{File, Kind, SECRET, Server},
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
async fn channels_under_the_namespace_are_enough_and_fewer_commands_are_refused() {
    let commands = ["+@pubsub", "+@connection"];
    let user = |name, channels, more| [&["--user", name, "on", ">p", channels][..], &commands, more].concat();
    let users = [
        user("enough", "&adsum.*", &[]),
        user("elsewhere", "&other.*", &[]),
        user("deaf", "&adsum.*", &["-subscribe"]),
        user("mute", "&adsum.*", &["-publish"]),
    ];
    let server = Server::with(Kind::Redis, &users.concat());
    let node = |name| server.builder(name).user("enough", "p").start();
    let (a, b) = (node("a").await.unwrap(), node("b").await.unwrap());
    let mut inbox = b.subscribe("t");
    hear(&a, &mut inbox).await;

    for user in ["elsewhere", "deaf", "mute"] {
        let error = server.builder("c").user(user, "p").start().await.unwrap_err();
        assert!(matches!(error, StartError::Refused { .. }), "{user}: {error}");
        assert!(error.to_string().to_lowercase().contains("permission"), "{user}: {error}");
    }
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
