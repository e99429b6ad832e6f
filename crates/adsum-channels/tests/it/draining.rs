//! Graceful drain of a server that shuts down.

use std::time::Duration;

use adsum_channels::{Drain, Sockets};
use tokio::time::Instant;

use crate::{
    client::Client,
    server::{Server, Transport},
};

/// Connects a client and waits until its socket is open, slightly after the upgrade response.
async fn open(server: &Server) -> Client {
    let mut client = server.client().await;
    client.expect_nothing().await;
    client
}

async fn sockets_are_closed_with_1012_and_new_ones_refused(transport: Transport) {
    let sockets = Sockets::new();
    let mut server = Server::start_with(transport, |socket| socket.sockets(&sockets)).await;
    let (mut one, mut two) = (open(&server).await, open(&server).await);
    one.join("room:a", "1").await;
    assert_eq!(sockets.len(), 2);
    let drained = tokio::spawn({
        let sockets = sockets.clone();
        async move { sockets.drain(Drain::default()).await }
    });
    // Neither phx_close nor phx_error comes before.
    one.expect_close(1012).await;
    two.expect_close(1012).await;
    drop((one, two));
    assert_eq!(drained.await.unwrap(), 0);
    assert_eq!(server.connect("vsn=2.0.0&user_id=u", &[]).await.map(drop), Err((503, Vec::new())));
    server.logged_at_last("terminate room:a Draining").await;
    server.logged("ended room:a Draining").await;
}

async fn batches_follow_each_other_at_the_interval(transport: Transport) {
    let sockets = Sockets::new();
    let server = Server::start_with(transport, |socket| socket.sockets(&sockets)).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(open(&server).await);
    }
    let start = Instant::now();
    let drain = Drain::default().batch(2).interval(Duration::from_millis(100));
    let drained = tokio::spawn({
        let sockets = sockets.clone();
        async move { sockets.drain(drain).await }
    });
    for mut client in clients {
        client.expect_close(1012).await;
    }
    assert_eq!(drained.await.unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(100), "the second batch waits");
}

#[tokio::test(start_paused = true)]
async fn a_drain_goes_on_whatever_it_is_told() {
    let sockets = Sockets::new();
    let server = Server::start_with(Transport::Duplex, |socket| socket.sockets(&sockets)).await;
    let clients = [open(&server).await, open(&server).await];
    let odd = Drain::default().batch(0).interval(Duration::ZERO).timeout(Duration::MAX);
    assert_eq!(odd.check().unwrap_err().option(), "batch");
    assert_eq!(odd.clone().batch(1).check().unwrap_err().option(), "timeout");
    assert_eq!(Drain::default().interval(Duration::MAX).check().unwrap_err().option(), "interval");
    assert_eq!(Drain::default().check(), Ok(()));
    let (left, ()) = tokio::join!(sockets.drain(odd), async {
        for mut client in clients {
            client.expect_close(1012).await;
        }
    });
    assert_eq!(left, 0);
}

async fn a_client_that_does_not_answer_its_close_does_not_stretch_the_drain(transport: Transport) {
    let day = Duration::from_hours(24);
    let sockets = Sockets::new();
    let mut server =
        Server::start_with(transport, |socket| socket.sockets(&sockets).shutdown_grace(day)).await;
    // It reads nothing more, so it doesn't answer either.
    let mut asleep = open(&server).await;
    asleep.join("room:a", "1").await;
    let drained = sockets.drain(Drain::default().timeout(day));
    let left = tokio::time::timeout(Duration::from_secs(20), drained).await.expect("the drain ends");
    assert_eq!(left, 0);
    server.logged_at_last("ended room:a Draining").await;
    asleep.expect_close(1012).await;
}

#[tokio::test(start_paused = true)]
async fn two_drains_at_once_end_both() {
    let sockets = Sockets::new();
    let server = Server::start_with(Transport::Duplex, |socket| socket.sockets(&sockets)).await;
    let mut client = open(&server).await;
    let drain = Drain::default().timeout(Duration::from_hours(1));
    let start = Instant::now();
    let (one, other, ()) = tokio::join!(sockets.drain(drain.clone()), sockets.drain(drain), async {
        client.expect_close(1012).await;
        drop(client);
    });
    assert_eq!((one, other), (0, 0));
    assert!(start.elapsed() < Duration::from_secs(30), "both end with the last socket");
}

async fn a_join_while_draining_closes_its_socket(transport: Transport) {
    let sockets = Sockets::new();
    let server = Server::start_with(transport, |socket| socket.sockets(&sockets)).await;
    let (mut first, mut second) = (open(&server).await, open(&server).await);
    let drain = Drain::default().batch(1).interval(Duration::from_hours(1)).timeout(Duration::from_hours(1));
    let drained = tokio::spawn({
        let sockets = sockets.clone();
        async move { sockets.drain(drain).await }
    });
    // One of the two sockets waits for its batch, and is closed earlier by its join.
    let frame = r#"["1","1","room:a","phx_join",{}]"#;
    tokio::select! {
        message = first.message() => {
            assert!(message.is_close());
            second.send(frame).await;
            second.expect_close(1012).await;
        }
        message = second.message() => {
            assert!(message.is_close());
            first.send(frame).await;
            first.expect_close(1012).await;
        }
    }
    drained.abort();
}

over_all!(
    sockets_are_closed_with_1012_and_new_ones_refused,
    batches_follow_each_other_at_the_interval,
    a_client_that_does_not_answer_its_close_does_not_stretch_the_drain,
    a_join_while_draining_closes_its_socket,
);
