//! Messages from the rest of the program.

use adsum_channels::{Json, SendError};

use crate::{
    room::Info,
    server::{Server, Transport},
};

async fn a_sender_reaches_its_channel_until_that_ends(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    let sender = server.app.senders.lock()["room:a"].clone();
    sender.send(Info::Say("hello".into())).unwrap();
    client.expect(r#"["1",null,"room:a","said",{"text":"hello"}]"#).await;
    sender.send(Info::Stop).unwrap();
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    assert_eq!(sender.send(Info::Stop), Err(SendError::Closed));
    assert!(sender.is_closed());
}

async fn a_channel_broadcasts_what_the_program_sends_it(transport: Transport) {
    let server = Server::start(transport).await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    other.join("room:a", "7").await;
    client.join("room:a", "1").await;
    server.app.senders.lock()["room:a"].send(Info::Shout("hello".into())).unwrap();
    for client in [&mut client, &mut other] {
        client.expect(r#"[null,null,"room:a","said",{"text":"hello"}]"#).await;
    }
}

async fn a_full_mailbox_is_the_senders_error(transport: Transport) {
    let mut server = Server::start_with(transport, |socket| socket.max_mailbox(2)).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send(r#"["1","2","room:a","hang",{}]"#).await;
    server.logged_at_last("hangs").await;
    let sender = server.app.senders.lock()["room:a"].clone();
    sender.send(Info::Stop).unwrap();
    sender.send(Info::Stop).unwrap();
    assert_eq!(sender.send(Info::Stop), Err(SendError::Full));
    client.expect_nothing().await;
}

async fn further_topics_come_to_the_channel(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send(r#"["1","2","room:a","subscribe","users:7"]"#).await;
    client.expect(r#"["1","2","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    server.pubsub.broadcast("users:7", "renamed", Json::empty_object()).unwrap();
    client.expect(r#"["1",null,"room:a","news",{"of":"users:7","event":"renamed"}]"#).await;
    client.send(r#"["1","3","room:a","unsubscribe","users:7"]"#).await;
    client.expect(r#"["1","3","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    server.pubsub.broadcast("users:7", "renamed", Json::empty_object()).unwrap();
    client.expect_nothing().await;
    client.send(r#"["1","4","room:a","subscribe","users:7"]"#).await;
    client.expect(r#"["1","4","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.send(r#"["1","5","room:a","stop",{}]"#).await;
    client.expect(r#"["1","1","room:a","phx_close",{}]"#).await;
    server.pubsub.broadcast("users:7", "renamed", Json::empty_object()).unwrap();
    client.expect_nothing().await;
}

over_both!(
    a_sender_reaches_its_channel_until_that_ends,
    a_channel_broadcasts_what_the_program_sends_it,
    a_full_mailbox_is_the_senders_error,
    further_topics_come_to_the_channel,
);
