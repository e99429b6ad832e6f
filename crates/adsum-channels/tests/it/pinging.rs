//! Pings of silent clients.

use std::{sync::Arc, time::Duration};

use adsum_channels::{
    DEFAULT_MAILBOX_TIMEOUT, DEFAULT_PING_AFTER, DEFAULT_PING_CLOSE, DEFAULT_TIMEOUT, ObservedRoundTrip,
    Observer, SocketBuilder,
};
use futures_util::{StreamExt, future::join_all};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::Client,
    observing::Counted,
    room::{App, User},
    server::{Server, Transport},
};

const SECOND: Duration = Duration::from_secs(1);
/// A ping is sent up to a quarter earlier than the option.
const EARLIEST: Duration = DEFAULT_PING_AFTER.saturating_sub(DEFAULT_PING_AFTER.checked_div(4).unwrap());

async fn start(
    configure: impl FnOnce(SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>>,
) -> (Server, Client) {
    let server = Server::start_with(Transport::Duplex, configure).await;
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    (server, client)
}

/// Expects a ping, which the client answers when it reads again.
async fn expect_ping(client: &mut Client) {
    let message = client.0.next().await.expect("the socket is open").expect("the stream is sound");
    assert!(matches!(message, Message::Ping(_)), "no ping but {message:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_stays_as_long_as_it_answers() {
    let (_server, mut client) = start(|socket| socket).await;
    for _ in 0..5 {
        let silent = Instant::now();
        expect_ping(&mut client).await;
        let after = silent.elapsed();
        assert!(after >= EARLIEST && after <= DEFAULT_PING_AFTER + SECOND / 100, "{after:?}");
    }
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_is_closed_so_long_after_the_ping() {
    let four = 4 * SECOND;
    for (after, close) in [(DEFAULT_PING_AFTER, DEFAULT_PING_CLOSE), (four, four)] {
        let (mut server, mut client) = start(|socket| socket.ping(after, close)).await;
        let silent = Instant::now();
        sleep(after / 2 + close).await;
        server.logged_at_last("ended room:a Closed").await;
        let closed = silent.elapsed();
        assert!(closed >= after * 3 / 4 + close && closed <= after + close + SECOND / 100, "{closed:?}");
        expect_ping(&mut client).await;
        client.expect_close(1002).await;
    }
}

#[tokio::test(start_paused = true)]
async fn any_byte_counts_and_not_the_answer_alone() {
    let (_server, mut client) = start(|socket| socket).await;
    for _ in 0..10 {
        // A client that never reads sends no pong, only a heartbeat: after the ping, and before the close.
        sleep(DEFAULT_PING_AFTER + SECOND).await;
        client.send(r#"[null,"beat","phoenix","heartbeat",{}]"#).await;
    }
    let mut beats = 0;
    while beats < 10 {
        match client.message().await {
            Message::Text(_) => beats += 1,
            Message::Ping(_) => {}
            other => panic!("no answer but {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_heard_often_is_not_pinged() {
    let (_server, mut client) = start(|socket| socket).await;
    for _ in 0..20 {
        assert!(timeout(EARLIEST.saturating_sub(SECOND), client.0.next()).await.is_err(), "no ping comes");
        client.expect_nothing().await;
    }
}

#[tokio::test(start_paused = true)]
async fn sockets_that_open_together_are_not_pinged_together() {
    const SOCKETS: u32 = 200;
    let server = Server::start(Transport::Duplex).await;
    let connect = async |n| server.connect(&format!("vsn=2.0.0&user_id={n}"), &[]).await.expect("a socket");
    let mut clients = join_all((0..SOCKETS).map(connect)).await;
    let opened = Instant::now();
    let pinged = clients.iter_mut().map(async |client| {
        expect_ping(client).await;
        opened.elapsed()
    });
    let mut pinged = join_all(pinged).await;
    pinged.sort();
    assert!(pinged[0] >= EARLIEST && pinged[199] <= DEFAULT_PING_AFTER + SECOND / 100, "{pinged:?}");
    for tenth in pinged.windows(SOCKETS as usize / 10) {
        let within = tenth[tenth.len() - 1].saturating_sub(tenth[0]);
        assert!(within > DEFAULT_PING_AFTER / 4 / 100, "a tenth of them within {within:?}");
    }
}

struct Stopwatch(mpsc::UnboundedSender<Duration>);

impl Observer for Stopwatch {
    fn round_trip(&self, answered: &ObservedRoundTrip<'_>) {
        assert!(answered.assigns.get::<User>().is_some(), "the assigns are the socket's");
        let _ = self.0.send(answered.duration);
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_hears_how_long_a_ping_and_its_answer_took() {
    let (sender, mut told) = mpsc::unbounded_channel();
    let (server, mut client) = start(|socket| socket.observe(Stopwatch(sender))).await;
    for delay in [SECOND, 3 * SECOND] {
        expect_ping(&mut client).await;
        sleep(delay).await;
        client.expect_nothing().await;
        assert_eq!(told.recv().await, Some(delay));
    }
    // A pong with another payload is no answer, but ends the silence.
    expect_ping(&mut client).await;
    client.send_message(Message::Pong("of its own".into())).await;
    client.expect_nothing().await;
    assert!(told.try_recv().is_err());
    Counted(server.pubsub.read_metrics()).assert("adsum_socket_round_trip_seconds", &[], 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_not_asked_to_answer_in_time() {
    let (server, mut client) = start(|socket| socket.timeout(None)).await;
    // Eight times the stream's buffer.
    let large = "x".repeat(1000);
    for _ in 0..500 {
        server.pubsub.broadcast("room:a", "news", json!(large)).unwrap();
    }
    sleep(10 * (DEFAULT_PING_AFTER + DEFAULT_PING_CLOSE)).await;
    for _ in 0..500 {
        assert_eq!(client.frame().await[3], "news");
    }
    expect_ping(&mut client).await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_read_is_not_pinged() {
    let configure = |socket: SocketBuilder<Arc<App>>| {
        socket.max_mailbox(1).mailbox_timeout(10 * DEFAULT_MAILBOX_TIMEOUT).ping(SECOND, SECOND)
    };
    let (mut server, mut client) = start(configure).await;
    client.send(r#"["1","s","room:a","slow",{}]"#).await;
    server.logged_at_last("slow").await;
    for reference in ["2", "3"] {
        client.send(&format!(r#"["1","{reference}","room:a","echo",{{}}]"#)).await;
    }
    assert!(timeout(5 * DEFAULT_MAILBOX_TIMEOUT, client.0.next()).await.is_err(), "nothing comes");
    server.app.gate.add_permits(1);
    for reference in ["s", "2", "3"] {
        assert_eq!(client.frame().await[1], reference);
    }
}

#[tokio::test(start_paused = true)]
async fn without_pings_the_timeout_alone_ends_a_silent_client() {
    let (_server, mut client) = start(SocketBuilder::without_ping).await;
    assert!(timeout(DEFAULT_TIMEOUT.saturating_sub(SECOND), client.0.next()).await.is_err(), "nothing comes");
    client.expect_close(1002).await;
}
