//! Limits, and their effects.

use std::{sync::Arc, time::Duration};

use adsum_channels::{Channel, JoinError, Joined, NoParams, PubSub, Socket, SocketBuilder, Topic};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    room::App,
    server::{Server, Transport},
};

/// A channel with a shutdown grace that is out of bounds.
struct Endless;

impl Channel for Endless {
    type App = ();
    type Params = NoParams;
    type Info = ();
    const SHUTDOWN_GRACE: Option<Duration> = Some(Duration::MAX);

    async fn join(_: &(), _: &Topic, _: NoParams, _: &mut Socket) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self))
    }
}

#[test]
fn options_out_of_bounds_are_refused_at_the_start() {
    let endless = || SocketBuilder::new(()).timeout(Duration::MAX);
    let error = endless().check().unwrap_err();
    assert_eq!(error.option(), "timeout");
    let panic = std::panic::catch_unwind(|| endless().into_acceptor(PubSub::local())).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>(), Some(&error.to_string()));
    let panic = std::panic::catch_unwind(|| endless().into_router::<()>(PubSub::local())).unwrap_err();
    assert_eq!(panic.downcast_ref::<String>(), Some(&error.to_string()));
    assert_eq!(SocketBuilder::new(()).timeout(None).check(), Ok(()));

    let error = SocketBuilder::new(()).channel::<Endless>("room:*").check().unwrap_err().to_string();
    assert!(error.starts_with("`SHUTDOWN_GRACE` is ") && error.contains("Endless"), "{error}");
    assert!(error.ends_with("it must be at most 86400s"), "{error}");
}

async fn a_socket_has_so_many_channels(transport: Transport) {
    let server = Server::start_with(transport, |socket| socket.max_channels(2)).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.join("room:b", "2").await;
    client.send(r#"["3","3","room:c","phx_join",{}]"#).await;
    client
        .expect(
            r#"["3","3","room:c","phx_reply",{"response":{"reason":"too many channels joined"},"status":"error"}]"#,
        )
        .await;
    client.send(r#"["4","4","room:b","phx_join",{}]"#).await;
    client.expect(r#"["4","4","room:b","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["2","2","room:b","phx_close",{}]"#).await;
}

/// The same number as in Phoenix.
async fn by_default_a_socket_has_100_channels(transport: Transport) {
    let server = Server::start(transport).await;
    let mut client = server.client().await;
    for n in 1..=100 {
        client.join(&format!("room:{n}"), &n.to_string()).await;
    }
    client.send(r#"["101","101","room:101","phx_join",{}]"#).await;
    client
        .expect(
            r#"["101","101","room:101","phx_reply",{"response":{"reason":"too many channels joined"},"status":"error"}]"#,
        )
        .await;
}

async fn joins_of_a_hung_topic_do_not_pile_up(transport: Transport) {
    let server = Server::start_with(transport, |socket| socket.max_channels(2)).await;
    let mut client = server.client().await;
    for n in 1..=5 {
        client.send(&format!(r#"["{n}","{n}","room:hangs","phx_join",{{}}]"#)).await;
    }
    client
        .expect(
            r#"["5","5","room:hangs","phx_reply",{"response":{"reason":"too many channels joined"},"status":"error"}]"#,
        )
        .await;
}

async fn a_flooded_channel_is_ended_and_others_go_on(transport: Transport) {
    let at_once = |socket: SocketBuilder<Arc<App>>| socket.max_mailbox(10).mailbox_timeout(Duration::ZERO);
    let mut server = Server::start_with(transport, at_once).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.join("room:b", "2").await;
    client.send(r#"["1","h","room:a","slow",{}]"#).await;
    server.logged_at_last("slow").await;
    for _ in 0..11 {
        client.send(r#"["1","3","room:a","echo",{}]"#).await;
    }
    // Handled after the flood was read, so that the channel's mailbox is full.
    client.send(r#"["2","4","room:b","echo",{}]"#).await;
    client.expect(r#"["2","4","room:b","phx_reply",{"response":{},"status":"ok"}]"#).await;
    server.app.gate.add_permits(1);
    client.expect(r#"["1","h","room:a","phx_reply",{"response":{},"status":"ok"}]"#).await;
    client.expect(r#"["1","1","room:a","phx_error",{"reason":"overloaded"}]"#).await;
    server.logged_at_last("terminate room:a Overloaded").await;
    client.expect_nothing().await;
}

async fn a_flooded_channel_that_hangs_is_cut_off(transport: Transport) {
    let grace = std::time::Duration::from_millis(50);
    let configure = |socket: SocketBuilder<Arc<App>>| {
        socket.max_mailbox(10).mailbox_timeout(Duration::ZERO).shutdown_grace(grace)
    };
    let mut server = Server::start_with(transport, configure).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.send(r#"["1","2","room:a","hang",{}]"#).await;
    server.logged_at_last("hangs").await;
    for _ in 0..11 {
        client.send(r#"["1","3","room:a","echo",{}]"#).await;
    }
    client.expect(r#"["1","1","room:a","phx_error",{"reason":"overloaded"}]"#).await;
    server.logged("ended room:a Overloaded").await;
}

async fn a_client_that_does_not_read_is_closed_and_others_go_on(transport: Transport) {
    let mut server = Server::start_with(transport, |socket| {
        socket.max_queue_bytes(500_000).shutdown_grace(Duration::from_mins(1))
    })
    .await;
    let (mut slow, mut fast) = (server.client().await, server.client().await);
    slow.join("room:a", "1").await;
    fast.join("room:a", "1").await;
    let large = "x".repeat(200_000);
    // More than the kernel buffers for a connection, in addition to our own queue.
    for n in 0..100 {
        fast.send(&format!(r#"["1","2","room:a","shout",[{n},"{large}"]]"#)).await;
        assert_eq!(fast.frame().await[4][0], n);
    }
    let mut next = 0;
    loop {
        match slow.message().await {
            Message::Text(text) => {
                let start = format!(r#"[null,null,"room:a","shout",[{next},"#);
                assert!(text.starts_with(&start), "no frame is missing before the close");
                next += 1;
            }
            Message::Close(Some(close)) => {
                assert_eq!(u16::from(close.code), 1013);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(next < 100);
    server.logged_at_last("terminate room:a Closed").await;
    fast.expect_nothing().await;
}

async fn a_slow_client_within_bounds_gets_everything(transport: Transport) {
    let server = Server::start_with(transport, |socket| socket.max_queue_bytes(64 * 1024 * 1024)).await;
    let (mut slow, mut fast) = (server.client().await, server.client().await);
    slow.join("room:a", "1").await;
    fast.join("room:a", "1").await;
    let large = "x".repeat(200_000);
    for n in 0..100 {
        fast.send(&format!(r#"["1","2","room:a","shout",[{n},"{large}"]]"#)).await;
        assert_eq!(fast.frame().await[4][0], n);
    }
    for n in 0..100 {
        assert_eq!(slow.frame().await[4][0], n);
    }
    slow.expect_nothing().await;
}

async fn a_join_that_takes_too_long_is_given_up(transport: Transport) {
    let server = Server::start_with(transport, |socket| socket.join_timeout(Duration::from_millis(50))).await;
    let mut client = server.client().await;
    client.send(r#"["1","1","room:hangs","phx_join",{}]"#).await;
    let timeout =
        r#"["1","1","room:hangs","phx_reply",{"response":{"reason":"join timeout"},"status":"error"}]"#;
    client.expect(timeout).await;
    client.join("room:a", "2").await;
}

mod unread {
    use super::a_client_that_does_not_read_is_closed_and_others_go_on;

    over_both!(a_client_that_does_not_read_is_closed_and_others_go_on);
}

over_all!(
    a_join_that_takes_too_long_is_given_up,
    a_socket_has_so_many_channels,
    by_default_a_socket_has_100_channels,
    joins_of_a_hung_topic_do_not_pile_up,
    a_flooded_channel_is_ended_and_others_go_on,
    a_flooded_channel_that_hangs_is_cut_off,
    a_slow_client_within_bounds_gets_everything,
);
