//! Compressed messages (`permessage-deflate`), byte by byte. Most other tests run over compressed sockets as well.

use std::sync::Arc;

use adsum_channels::{
    ClientLimit, DEFAULT_MAX_MESSAGE_BYTES, Json, ObservedLimit, Observer, Payload, SocketBuilder,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    deflating::{Inflater, RSV1, deflate, noise},
    raw::{self, Raw, last, open},
    room::App,
    server::{Server, Transport},
};

const OFFER: &str = "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";

/// A client of version 2 that inflates.
struct Client {
    raw: Raw,
    inflater: Inflater,
}

/// A message: whether it was compressed, its size on the wire, and its frame.
struct Read {
    is_compressed: bool,
    wire: Vec<u8>,
    bytes: Vec<u8>,
}

impl Read {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("a message is JSON")
    }
}

impl Client {
    async fn connect(server: &Server, is_kept: bool) -> Self {
        let raw = Raw::connect(server, "2.0.0", OFFER).await;
        let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
        assert!(raw.answer.contains(&format!("sec-websocket-extensions: {answer}")), "{}", raw.answer);
        Self { raw, inflater: Inflater::new(is_kept) }
    }

    /// One without compression.
    async fn plain(server: &Server) -> Self {
        let raw = Raw::connect(server, "2.0.0", "").await;
        assert!(!raw.answer.contains("extensions"), "{}", raw.answer);
        Self { raw, inflater: Inflater::new(false) }
    }

    async fn join(mut self, topic: &str) -> Self {
        self.send(json!(["1", "1", topic, "phx_join", {}])).await;
        assert_eq!(self.read().await.json()[4]["status"], "ok");
        self
    }

    async fn send(&mut self, message: Value) {
        self.raw.write(&last(0x1, message.to_string())).await;
    }

    async fn send_compressed(&mut self, message: &Value) {
        self.raw.write(&raw::frame(0x81 | RSV1, deflate(message.to_string()))).await;
    }

    async fn read(&mut self) -> Read {
        let (first, wire) = self.raw.read().await.expect("the socket is open");
        assert!(matches!(first & !RSV1, 0x81 | 0x82), "a message, not {first:#x}");
        let is_compressed = first & RSV1 != 0;
        let bytes = if is_compressed { self.inflater.inflate(&wire) } else { wire.clone() };
        Read { is_compressed, wire, bytes }
    }

    async fn closes_with(mut self, code: u16) {
        assert_eq!(self.raw.read().await, Some((0x88, code.to_be_bytes().to_vec())));
    }
}

async fn start(transport: Transport) -> Server {
    Server::start_with(transport, |socket| socket.compress_over(512)).await
}

/// Text of some length that can be compressed.
fn text(len: usize) -> String {
    let words: Vec<String> = (0..len / 4).map(|n| n.to_string()).collect();
    let mut text = words.join(" ");
    text.truncate(len);
    text
}

async fn a_broadcast_is_compressed_once_for_all_who_agreed(transport: Transport) {
    let server = start(transport).await;
    let mut kept = Client::connect(&server, true).await.join("room:a").await;
    let mut reset = Client::connect(&server, false).await.join("room:a").await;
    let mut plain = Client::plain(&server).await.join("room:a").await;
    for round in 0..10 {
        // Small ones, and a large one that can't be made smaller, go as they are.
        for (len, is_compressed) in [(2000, true), (400, false), (100_000, true)] {
            let shout = json!([null, null, "room:a", "shout", {"round": round, "text": text(len)}]);
            server.pubsub.broadcast("room:a", "shout", &shout[4]).unwrap();
            let (first, second, third) = (kept.read().await, reset.read().await, plain.read().await);
            assert_eq!(first.wire, second.wire);
            assert_eq!((first.is_compressed, third.is_compressed), (is_compressed, false));
            for read in [&first, &second, &third] {
                assert_eq!(read.json(), shout);
            }
            assert!(!is_compressed || first.wire.len() < third.wire.len() / 2);
        }
    }
}

async fn pushes_replies_and_bytes_are_compressed(transport: Transport) {
    let server = start(transport).await;
    let mut client = Client::connect(&server, true).await.join("room:a").await;
    for len in [2000, 100, 70_000] {
        let payload = json!({"text": text(len)});
        client.send(json!(["1", "2", "room:a", "echo", payload])).await;
        let reply = client.read().await;
        assert_eq!(reply.is_compressed, len > 512);
        let response = json!({"status": "ok", "response": payload});
        assert_eq!(reply.json(), json!(["1", "2", "room:a", "phx_reply", response]));

        client.send(json!(["1", "2", "room:a", "push", payload])).await;
        let push = client.read().await;
        assert_eq!(push.is_compressed, len > 512);
        assert_eq!(push.json(), json!(["1", null, "room:a", "pushed", payload]));
        assert_eq!(client.read().await.json(), json!(["1", null, "room:a", "pushed_with", {"n": 1}]));
    }
    let bytes = text(3000);
    server.pubsub.broadcast("room:a", "bytes", Payload::Binary(bytes.clone().into())).unwrap();
    let read = client.read().await;
    assert!(read.is_compressed);
    assert_eq!(read.bytes, [b"\x02\x06\x05room:abytes", bytes.as_bytes()].concat());
}

async fn compressed_messages_of_a_client_are_read(transport: Transport) {
    let server = start(transport).await;
    let mut client = Client::connect(&server, true).await.join("room:a").await;
    for len in [0, 100, 500_000] {
        let payload = json!({"text": text(len)});
        let message = json!(["1", "2", "room:a", "echo", payload]);
        client.send_compressed(&message).await;
        assert_eq!(client.read().await.json()[4]["response"], payload);
        client.send(message.clone()).await;
        assert_eq!(client.read().await.json()[4]["response"], payload);

        let deflated = deflate(message.to_string());
        let (first, second) = deflated.split_at(deflated.len() / 2);
        client.raw.write(&raw::frame(0x1 | RSV1, first)).await;
        client.raw.write(&last(0x9, "ping")).await;
        assert_eq!(client.raw.read().await, Some((0x8a, b"ping".to_vec())));
        client.raw.write(&open(0, "")).await;
        client.raw.write(&last(0, second)).await;
        assert_eq!(client.read().await.json()[4]["response"], payload);
    }
}

async fn a_message_that_grows_too_large_is_refused_before_it_is_inflated(transport: Transport) {
    let server = start(transport).await;
    // A megabyte becomes a kilobyte, and is all that is allowed.
    let fits = json!([null, "1", "phoenix", "heartbeat", ""]).to_string();
    let fits = fits.replace("\"\"", &format!("\"{}\"", "x".repeat(DEFAULT_MAX_MESSAGE_BYTES - fits.len())));
    let mut client = Client::connect(&server, false).await;
    let deflated = deflate(&fits);
    assert!(deflated.len() < 2000);
    client.raw.write(&raw::frame(0x81 | RSV1, deflated)).await;
    assert_eq!(client.read().await.json()[4]["status"], "ok");
    client.raw.write(&raw::frame(0x81 | RSV1, deflate(format!("{fits} ")))).await;
    client.closes_with(1009).await;

    // A bomb of which only the beginning has arrived.
    let mut client = Client::connect(&server, false).await;
    let bomb = deflate("x".repeat(8 * DEFAULT_MAX_MESSAGE_BYTES));
    client.raw.write(&raw::announced(0x82 | RSV1, bomb.len(), &bomb[..bomb.len() / 4])).await;
    client.closes_with(1009).await;
}

async fn a_frame_against_the_agreement_closes_the_socket(transport: Transport) {
    let server = start(transport).await;
    let whole = deflate(r#"[null,"1","phoenix","heartbeat",{}]"#);
    for (frame, code) in [
        (raw::frame(0x81 | RSV1, &whole[..whole.len() / 2]), 1007),
        (raw::frame(0x81 | RSV1, b"\xff\xff\xff"), 1007),
        (raw::frame(0x81 | RSV1, deflate(b"[\xff]")), 1007),
        (raw::frame(0x89 | RSV1, ""), 1002),
        (raw::frame(0x81 | 0x20, &whole), 1002),
        ([raw::open(0x1 | RSV1, ""), raw::frame(0x80 | RSV1, &whole)].concat(), 1002),
        (raw::frame(0x81 | RSV1, deflate("no message")), 1011),
    ] {
        let mut client = Client::connect(&server, false).await;
        client.raw.write(&frame).await;
        client.closes_with(code).await;
    }
    let mut client = Client::plain(&server).await;
    client.raw.write(&raw::frame(0x81 | RSV1, &whole)).await;
    client.closes_with(1002).await;
}

async fn an_offer_that_does_not_fit_is_declined(transport: Transport) {
    let server = start(transport).await;
    let header = "sec-websocket-extensions: permessage-deflate; server_max_window_bits=9, x-other\r\n";
    let client = Raw::connect(&server, "2.0.0", header).await;
    assert!(!client.answer.contains("extensions"), "{}", client.answer);
}

/// Notes that a client was too fast.
#[derive(Clone, Default)]
struct TooFast(Arc<Mutex<bool>>);

impl Observer for TooFast {
    fn limited(&self, limit: &ObservedLimit<'_>) {
        *self.0.lock() |= matches!(limit.limit, ClientLimit::ByteRate);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_s_rate_counts_what_its_messages_become() {
    let observer = TooFast::default();
    let configure = |socket: SocketBuilder<Arc<App>>| {
        socket.compress_over(512).max_byte_rate(10_000).observe(observer.clone())
    };
    let server = Server::start_with(Transport::Duplex, configure).await;
    let mut client = Client::connect(&server, false).await;
    let start = tokio::time::Instant::now();
    let message = json!([null, "1", "phoenix", "heartbeat", "x".repeat(30_000)]);
    assert!(deflate(message.to_string()).len() < 200);
    for _ in 0..2 {
        client.send_compressed(&message).await;
        client.read().await;
    }
    assert!(*observer.0.lock());
    assert!(start.elapsed() >= std::time::Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_socket_has_no_inflater_and_what_waits_is_counted_compressed() {
    let sockets = adsum_channels::Sockets::new();
    let configure = |socket: SocketBuilder<Arc<App>>| socket.compress_over(512).sockets(&sockets);
    let server = Server::start_with(Transport::Duplex, configure).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::connect(&server, false).await.join("room:a").await);
    }
    // More than the streams take.
    let noise = noise(400_000);
    server.pubsub.broadcast("room:a", "shout", Json::encode(&noise).unwrap()).unwrap();
    while sockets.queued_bytes() == 0 {
        tokio::task::yield_now().await;
    }
    let waiting = sockets.queued_bytes();
    let read = clients[0].read().await;
    assert!(read.is_compressed && read.wire.len() < noise.len());
    assert!(waiting < read.wire.len() + 2000, "shared bytes are counted once: {waiting}");
    for client in &mut clients[1..] {
        assert_eq!(client.read().await.wire, read.wire);
    }
}

over_both!(
    a_broadcast_is_compressed_once_for_all_who_agreed,
    pushes_replies_and_bytes_are_compressed,
    compressed_messages_of_a_client_are_read,
    a_message_that_grows_too_large_is_refused_before_it_is_inflated,
    a_frame_against_the_agreement_closes_the_socket,
    an_offer_that_does_not_fit_is_declined,
);
