//! A flooding client, and other clients beside it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use adsum_channels::SocketBuilder;
use tokio::time::sleep;

use crate::{
    deflating::{RSV1, deflate},
    room::App,
    server::{Server, Transport},
};

/// An echo may take this long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);
/// The duration of each flood. If a flood starves the others, an echo takes until the flood is over.
const FLOOD: Duration = Duration::from_millis(2500);

/// A frame of a client, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 + 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

const JOIN: &str = r#"["1","1","room:flood","phx_join",{}]"#;
const LEAVE: &str = r#"["1","1","room:flood","phx_leave",{}]"#;

/// The bytes that a flooder sends once, and those that it repeats.
fn kinds() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let more = "x".repeat(60_000);
    let padded = format!(r#"[null,"1","phoenix","heartbeat",{{"x":"{}"}}]"#, "x".repeat(500_000));
    let bomb = frame(0x81 | RSV1, &deflate(padded));
    vec![
        ("empty frames", frame(0x01, b""), frame(0x00, b"")),
        ("pings", Vec::new(), frame(0x89, b"")),
        ("heartbeats", Vec::new(), text(r#"[null,"1","phoenix","heartbeat",{}]"#)),
        ("joins", Vec::new(), text(JOIN)),
        ("leaves", Vec::new(), [text(JOIN), text(LEAVE)].concat()),
        ("echoes", text(JOIN), text(r#"["1","2","room:flood","echo",{"x":1}]"#)),
        ("events that nobody handles", Vec::new(), text(r#"["1","2","room:flood","nonsense",{}]"#)),
        ("unfinished messages", frame(0x01, b"x"), frame(0x00, more.as_bytes())),
        ("messages that grow", Vec::new(), bomb.clone()),
        ("messages that would grow, while the socket is being closed", text("malformed"), bomb),
    ]
}

/// Sends as fast as it can for the duration of a flood, and reads everything. If its connection is closed, it
/// reconnects. Returns how many bytes it has sent.
fn flood(address: SocketAddr, first: &[u8], again: &[u8]) -> usize {
    let again = again.repeat(64 * 1024 / again.len() + 1);
    let mut sent = 0;
    let end = Instant::now() + FLOOD;
    while Instant::now() < end {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "GET /socket/websocket?vsn=2.0.0&user_id=flood HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
            upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            sec-websocket-extensions: permessage-deflate\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        let mut reader = stream.try_clone().unwrap();
        let reading = std::thread::spawn(move || {
            let mut room = vec![0; 64 * 1024];
            while reader.read(&mut room).is_ok_and(|bytes| bytes > 0) {}
        });
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut open = stream.write_all(first).is_ok();
        let mut at = 0;
        while open && Instant::now() < end {
            match stream.write(&again[at..]) {
                Ok(bytes) => (sent, at) = (sent + bytes, (at + bytes) % again.len()),
                Err(error) => {
                    open =
                        matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                }
            }
        }
        // Everything that is still in flight.
        let _ = stream.shutdown(std::net::Shutdown::Both);
        reading.join().unwrap();
    }
    sent
}

/// Five clients echo every 50 ms, each in a room of its own, while another one floods. All share one worker thread, and
/// no rate limit slows the flood down.
#[tokio::test]
async fn nobody_is_kept_waiting_by_a_client_that_floods() {
    let configure = |socket: SocketBuilder<Arc<App>>| {
        socket.max_message_rate(None).max_byte_rate(None).compress_over(512)
    };
    let server = Arc::new(Server::start_with(Transport::Tcp, configure).await);
    for (kind, first, again) in kinds() {
        let stop = Arc::new(AtomicBool::new(false));
        let echoes = Arc::new(AtomicUsize::new(0));
        let innocents: Vec<_> = (0..5)
            .map(|n| {
                let (server, stop, echoes) = (server.clone(), stop.clone(), echoes.clone());
                tokio::spawn(async move {
                    let mut client = server.client().await;
                    let topic = format!("room:innocent{n}");
                    client.join(&topic, "1").await;
                    while !stop.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        client.send(&format!(r#"["1","2","{topic}","echo",{{}}]"#)).await;
                        assert_eq!(client.frame().await[4]["status"], "ok");
                        assert!(start.elapsed() < PATIENCE, "{kind}: an echo took {:?}", start.elapsed());
                        echoes.fetch_add(1, Ordering::Relaxed);
                        sleep(Duration::from_millis(50)).await;
                    }
                })
            })
            .collect();
        let address = server.address();
        let flooding = std::thread::spawn({
            let stop = stop.clone();
            // The flooding thread ends the test: the runtime's timers don't fire if the flood starves it.
            move || {
                let sent = flood(address, &first, &again);
                stop.store(true, Ordering::Relaxed);
                sent
            }
        });
        for innocent in innocents {
            innocent.await.unwrap();
        }
        assert!(flooding.join().unwrap() > 0, "{kind}: nothing was sent");
        assert!(echoes.load(Ordering::Relaxed) >= 5, "{kind}: {echoes:?} echoes");
    }
}
