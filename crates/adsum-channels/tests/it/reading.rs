//! Pausing and limiting reads of a client.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use adsum_channels::{
    Acceptor, Client as Accepted, DEFAULT_MAILBOX_TIMEOUT, DEFAULT_MESSAGE_TIMEOUT, Outgoing, SocketBuilder,
    Wire,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    task::yield_now,
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::Client,
    room::App,
    server::{Server, Transport},
};

const NEVER: Duration = Duration::from_hours(1);

/// Sends all frames in as few writes as possible, and returns the refs of as many replies.
async fn burst(client: Client, frames: Vec<String>) -> Vec<String> {
    let number = frames.len();
    let (mut sink, mut stream) = client.0.split();
    let send = async {
        for frame in frames {
            sink.feed(Message::text(frame)).await.unwrap();
        }
        sink.flush().await.unwrap();
    };
    let hear = async {
        let mut refs = Vec::new();
        while refs.len() < number {
            let next = timeout(Duration::from_mins(1), stream.next()).await.expect("all are answered");
            let frame: Value = serde_json::from_str(next.unwrap().unwrap().to_text().unwrap()).unwrap();
            assert_eq!(frame[4]["status"], "ok", "{frame}");
            refs.push(frame[1].as_str().unwrap().to_owned());
        }
        refs
    };
    tokio::join!(send, hear).1
}

async fn a_burst_in_one_write_is_answered_in_full(transport: Transport) {
    let server = Server::start(transport).await;
    for number in [1_025, 20_000] {
        let mut client = server.client().await;
        client.join("room:a", "1").await;
        let frame = |n| format!(r#"["1","{n}","room:a","echo",{{}}]"#);
        let refs = burst(client, (0..number).map(frame).collect()).await;
        assert!(refs.into_iter().eq((0..number).map(|n| n.to_string())), "in order");
    }
}

/// The channel and the socket share a thread, so without waiting the socket would overflow the mailbox.
#[tokio::test(start_paused = true)]
async fn a_burst_is_answered_on_one_thread() {
    a_burst_in_one_write_is_answered_in_full(Transport::Duplex).await;
}

#[tokio::test(start_paused = true)]
async fn broadcasts_of_one_handler_do_not_end_the_channels_that_intercept_them() {
    let server = Server::start(Transport::Duplex).await;
    let mut clients = [server.client().await, server.client().await];
    for client in &mut clients {
        client.join("room:a", "1").await;
    }
    clients[0].send(r#"["1","2","room:a","storm",5000]"#).await;
    for client in &mut clients {
        let mut next = 0;
        while next < 5000 {
            let frame = client.frame().await;
            if frame[3] == "as_it_is" {
                assert_eq!(frame[4], next);
                next += 1;
            }
        }
        client.expect_nothing().await;
    }
}

/// A client of a room whose handler waits for the gate, and whose mailbox has room for one more event.
async fn full(mut server: Server) -> (Server, Client) {
    let mut client = server.client().await;
    client.join("room:a", "1").await;
    client.join("room:b", "2").await;
    client.send(r#"["1","s","room:a","slow",{}]"#).await;
    server.logged_at_last("slow").await;
    for n in 0..2 {
        client.send(&format!(r#"["1","{n}","room:a","echo",{{}}]"#)).await;
    }
    (server, client)
}

fn small(socket: SocketBuilder<Arc<App>>) -> SocketBuilder<Arc<App>> {
    socket.max_mailbox(2).shutdown_grace(Duration::from_millis(50))
}

const REPLY_OF_B: &str = r#"["2","b","room:b","phx_reply",{"response":{},"status":"ok"}]"#;

#[tokio::test(start_paused = true)]
async fn a_channel_without_room_stops_the_reading_for_a_while_and_is_ended_then() {
    let (mut server, mut client) = full(Server::start_with(Transport::Duplex, small).await).await;
    let start = Instant::now();
    client.send(r#"["1","2","room:a","echo",{}]"#).await;
    client.send(r#"["2","b","room:b","echo",{}]"#).await;
    client.expect(REPLY_OF_B).await;
    assert_eq!(start.elapsed(), DEFAULT_MAILBOX_TIMEOUT);
    client.expect(r#"["1","1","room:a","phx_error",{"reason":"overloaded"}]"#).await;
    server.logged_at_last("ended room:a Overloaded").await;
}

#[tokio::test(start_paused = true)]
async fn once_a_channel_has_room_the_reading_goes_on() {
    let (server, mut client) = full(Server::start_with(Transport::Duplex, small).await).await;
    client.send(r#"["1","2","room:a","echo",{}]"#).await;
    client.send(r#"["2","b","room:b","echo",{}]"#).await;
    let almost = DEFAULT_MAILBOX_TIMEOUT.saturating_sub(Duration::from_millis(10));
    assert!(timeout(almost, client.frame()).await.is_err(), "nothing is read");
    server.app.gate.add_permits(1);
    let mut of_a = Vec::new();
    for _ in 0..5 {
        let frame = client.frame().await;
        assert_eq!(frame[4]["status"], "ok");
        if frame[2] == "room:a" {
            of_a.push(frame[1].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(of_a, ["s", "0", "1", "2"]);
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nothing_is_read_is_not_the_client_s_silence() {
    let silence = Duration::from_secs(2);
    let configure = |socket: SocketBuilder<Arc<App>>| small(socket).mailbox_timeout(NEVER).timeout(silence);
    let (server, mut client) = full(Server::start_with(Transport::Duplex, configure).await).await;
    client.send(r#"["1","2","room:a","echo",{}]"#).await;
    assert!(timeout(NEVER / 2, client.0.next()).await.is_err(), "the socket is open");
    let start = Instant::now();
    server.app.gate.add_permits(1);
    for reference in ["s", "0", "1", "2"] {
        assert_eq!(client.frame().await[1], reference);
    }
    client.expect_close(1002).await;
    assert_eq!(start.elapsed(), silence);
}

async fn a_client_that_hangs_up_while_it_is_not_read_is_gone(transport: Transport) {
    let configure = |socket: SocketBuilder<Arc<App>>| small(socket).mailbox_timeout(NEVER).timeout(None);
    let (mut server, mut client) = full(Server::start_with(transport, configure).await).await;
    client.send(r#"["1","2","room:a","echo",{}]"#).await;
    // More than is read ahead, on a stream that reports a hang-up only by reading.
    if transport == Transport::Tcp {
        client.send(&format!(r#"["1","3","room:a","echo","{}"]"#, "x".repeat(100_000))).await;
    }
    drop(client);
    server.logged_at_last("ended room:a Closed").await;
}

/// Everything that was sent while reading was paused is read afterwards, whatever the stream's readiness was.
async fn messages_sent_meanwhile_are_read_afterwards(transport: Transport) {
    let configure = |socket: SocketBuilder<Arc<App>>| small(socket).mailbox_timeout(NEVER);
    let (server, mut client) = full(Server::start_with(transport, configure).await).await;
    let large = "x".repeat(20_000);
    for n in 2..5 {
        client.send(&format!(r#"["1","{n}","room:a","echo","{large}"]"#)).await;
    }
    server.app.gate.add_permits(1);
    for reference in ["s", "0", "1", "2", "3", "4"] {
        assert_eq!(client.frame().await[1], reference);
    }
    client.expect_nothing().await;
}

/// The stream of a client that always has bytes to read, until it has sent enough.
struct Endless {
    unsent: Vec<u8>,
    sent: usize,
    /// How often another task has run, and how often it had at the last read.
    turns: Arc<AtomicUsize>,
    seen: usize,
    sent_since: usize,
    /// The maximum number of bytes read without a run of the other task.
    most: Arc<AtomicUsize>,
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sent >= 4 << 20 {
            return Poll::Ready(Ok(()));
        }
        let turns = self.turns.load(Ordering::Relaxed);
        if turns != self.seen {
            (self.seen, self.sent_since) = (turns, 0);
        }
        // After the head come empty frames of a message that doesn't end.
        let len = buffer.remaining().min(8 * 1024);
        while self.unsent.len() < len {
            self.unsent.extend([0, 0x80, 0, 0, 0, 0]);
        }
        buffer.put_slice(&self.unsent[..len]);
        self.unsent.drain(..len);
        self.sent += len;
        self.sent_since += len;
        self.most.fetch_max(self.sent_since, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The socket's task yields, however fast a client sends.
#[tokio::test]
async fn a_client_whose_bytes_never_run_dry_leaves_the_others_their_turns() {
    let configure = |socket: SocketBuilder<Arc<App>>| socket.max_message_rate(None).max_byte_rate(None);
    let server = Server::start_with(Transport::Duplex, configure).await;
    let (turns, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let head = "GET /socket/websocket?vsn=2.0.0&user_id=u HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let first_frame = [1, 0x80, 0, 0, 0, 0];
    let endless = Endless {
        unsent: [head.as_bytes(), &first_frame].concat(),
        sent: 0,
        turns: turns.clone(),
        seen: 0,
        sent_since: 0,
        most: most.clone(),
    };
    let counting = async {
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    };
    let ended = async {
        server.serve(endless).await;
        // The socket's task owns the stream until it ends.
        while Arc::strong_count(&most) > 1 {
            yield_now().await;
        }
    };
    tokio::select! { () = counting => {}, () = ended => {} }
    let most = most.load(Ordering::Relaxed);
    assert!((1..512 * 1024).contains(&most), "{most} bytes were read in one turn");
}

#[tokio::test(start_paused = true)]
async fn a_fast_client_is_read_more_slowly_and_not_closed() {
    let server = Server::start_with(Transport::Duplex, |socket| socket.max_message_rate(10)).await;
    let mut client = server.client().await;
    let start = Instant::now();
    for _ in 0..31 {
        client.send(r#"[null,"1","phoenix","heartbeat",{}]"#).await;
    }
    for n in 1..=31_u32 {
        assert_eq!(client.frame().await[1], "1");
        // A second's allowance and one more message are free.
        let due = Duration::from_millis(100) * n.saturating_sub(11);
        let late = start.elapsed().checked_sub(due).unwrap_or_else(|| panic!("{n} comes too early"));
        assert!(late <= Duration::from_millis(5), "{n} comes {late:?} late");
    }
}

#[tokio::test(start_paused = true)]
async fn each_frame_counts_pings_too_and_so_do_bytes() {
    let configure = |socket: SocketBuilder<Arc<App>>| socket.max_message_rate(10).max_byte_rate(1000);
    let server = Server::start_with(Transport::Duplex, configure).await;
    let mut client = server.client().await;
    let start = Instant::now();
    for _ in 0..21 {
        client.send_message(Message::Ping("".into())).await;
    }
    while client.message().await.is_pong() && start.elapsed() < Duration::from_millis(999) {}
    assert!(start.elapsed() < Duration::from_millis(1005));

    let mut client = server.client().await;
    let start = Instant::now();
    let large = "x".repeat(3000);
    client.send(&format!(r#"[null,"1","phoenix","heartbeat","{large}"]"#)).await;
    client.frame().await;
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_has_begun_has_to_end() {
    let server = Server::start(Transport::Duplex).await;
    let mut client = server.client().await;
    client.expect_nothing().await;
    let start = Instant::now();
    // A text of 1 MB, unfinished.
    let stream = client.0.get_mut();
    stream.write_all(&[0x81, 0xff, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 0]).await.unwrap();
    loop {
        client.0.get_mut().write_all(b"x").await.unwrap();
        match timeout(Duration::from_secs(10), client.message()).await {
            Err(_) => assert!(start.elapsed() <= DEFAULT_MESSAGE_TIMEOUT, "it is closed in time"),
            Ok(Message::Close(close)) => {
                assert_eq!(u16::from(close.unwrap().code), 1002);
                break;
            }
            Ok(other) => panic!("no close but {other:?}"),
        }
    }
    assert_eq!(start.elapsed(), DEFAULT_MESSAGE_TIMEOUT);
}

/// A client of a custom transport, whose channel has no room.
async fn accepted(acceptor: &Acceptor) -> Accepted {
    let request = http::Request::get("/?vsn=2.0.0&user_id=u").body(()).unwrap().into_parts().0;
    let mut client = acceptor.accept("test", request).await.unwrap();
    client.receive(Wire::Text(br#"["1","1","room:a","phx_join",{}]"#)).unwrap();
    assert!(matches!(client.next().await, Outgoing::Text(_)));
    client.receive(Wire::Text(br#"["1","s","room:a","slow",{}]"#)).unwrap();
    // Waits until the channel waits for the gate.
    assert!(timeout(Duration::from_secs(1), client.next()).await.is_err());
    for _ in 0..2 {
        client.receive(Wire::Text(br#"["1","2","room:a","echo",{}]"#)).unwrap();
        assert!(client.is_ready());
    }
    client.receive(Wire::Text(br#"["1","3","room:a","echo",{}]"#)).unwrap();
    assert!(!client.is_ready());
    client
}

#[tokio::test(start_paused = true)]
async fn a_transport_of_the_program_s_own_is_told_when_to_read() {
    let (acceptor, app) = crate::transport::start_small(small);
    let mut client = accepted(&acceptor).await;
    app.gate.add_permits(1);
    let mut texts = 0;
    while texts < 4 || !client.is_ready() {
        match client.next().await {
            Outgoing::Text(_) => texts += 1,
            Outgoing::Nothing => assert!(client.is_ready()),
            other => panic!("{other:?}"),
        }
    }

    // If the transport reads anyway, the channel ends.
    let mut client = accepted(&acceptor).await;
    client.receive(Wire::Text(br#"["1","4","room:a","echo",{}]"#)).unwrap();
    let Outgoing::Text(text) = client.next().await else { panic!("the channel ends") };
    assert!(text.ends_with(br#""phx_error",{"reason":"overloaded"}]"#), "{text:?}");
}

over_both!(
    a_burst_in_one_write_is_answered_in_full,
    a_client_that_hangs_up_while_it_is_not_read_is_gone,
    messages_sent_meanwhile_are_read_afterwards,
);
