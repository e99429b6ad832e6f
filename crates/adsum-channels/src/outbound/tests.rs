//! What a queue does with what it is given.

use std::io::Read;

use super::*;

fn frame(text: &'static str) -> Frame {
    Frame::whole(Bytes::from_static(text.as_bytes()))
}

/// Takes at most `room` bytes in pieces of `piece`.
fn drain(outbound: &Outbound, mut room: usize, piece: usize) -> (Vec<u8>, Poll<io::Result<State>>) {
    let mut written = Vec::new();
    let state = outbound.drain(|parts| {
        let all: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let taken = all.len().min(room).min(piece);
        if taken == 0 {
            return Poll::Pending;
        }
        room -= taken;
        written.extend_from_slice(&all[..taken]);
        Poll::Ready(Ok(taken))
    });
    (written, state)
}

#[test]
fn frames_leave_in_order_however_little_a_write_takes() {
    for piece in 1..12 {
        let outbound = Arc::new(Outbound::new(10_000, None));
        for text in ["abc", "de", "fghij", "k"] {
            outbound.push(frame(text));
        }
        let (first, state) = drain(&outbound, 4, piece);
        assert!(state.is_pending());
        let (rest, state) = drain(&outbound, 100, piece);
        assert!(matches!(state, Poll::Ready(Ok(State::Open))));
        assert_eq!([first, rest].concat(), b"abcdefghijk");
    }
}

#[test]
fn an_overflow_leaves_the_half_written_frame_and_a_close() {
    let outbound = Arc::new(Outbound::new(400, None));
    outbound.push(frame("abcdef"));
    assert_eq!(drain(&outbound, 2, 2).0, b"ab");
    for _ in 0..10 {
        outbound.push(frame("later"));
    }
    let (rest, state) = drain(&outbound, 100, 100);
    assert_eq!(rest, b"cdef\x88\x02\x03\xf5");
    assert!(matches!(state, Poll::Ready(Ok(State::Closing(OVERFLOW_CODE)))));
    outbound.push(frame("dropped"));
    assert_eq!(drain(&outbound, 100, 100).0, b"");
}

#[test]
fn a_frame_larger_than_the_bound_is_sent_if_nothing_waits() {
    let outbound = Arc::new(Outbound::new(1, None));
    outbound.push(frame("large"));
    assert_eq!(drain(&outbound, 100, 100).0, b"large");
}

#[test]
fn a_close_is_the_last_frame() {
    let outbound = Arc::new(Outbound::new(1000, None));
    outbound.push(frame("a"));
    outbound.close(1001);
    outbound.close(1002);
    outbound.push(frame("b"));
    assert_eq!(drain(&outbound, 100, 100).0, b"a\x88\x02\x03\xe9");
}

#[test]
fn a_failed_write_ends_the_queue() {
    let outbound = Arc::new(Outbound::new(1000, None));
    outbound.push(frame("a"));
    let failed = outbound.drain(|_| Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())));
    assert!(matches!(failed, Poll::Ready(Err(_))));
    outbound.push(frame("b"));
    let (written, state) = drain(&outbound, 100, 100);
    assert_eq!(written, b"");
    assert!(matches!(state, Poll::Ready(Ok(State::Gone))));
}

/// A queue before a bare stream of this runtime, and the client's end.
async fn connected() -> (Arc<Outbound>, std::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    server.writable().await.unwrap();
    client.set_nonblocking(true).unwrap();
    (Arc::new(Outbound::new(1_000_000, Some(Arc::new(server)))), client)
}

/// What has arrived at the client.
fn arrived(client: &mut std::net::TcpStream) -> String {
    let mut read = [0; 64];
    let bytes = match client.read(&mut read) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        read => read.unwrap(),
    };
    String::from_utf8(read[..bytes].to_vec()).unwrap()
}

async fn until_quiet(outbound: &Outbound) {
    while !outbound.is_quiet() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_burst_has_pushed_is_written_once_the_burst_is_over() {
    let (outbound, mut client) = connected().await;
    for round in 0..3 {
        for text in ["a", "b", "c"] {
            outbound.push(frame(text));
        }
        assert_eq!(arrived(&mut client), "", "{round}");
        until_quiet(&outbound).await;
        assert_eq!(arrived(&mut client), "abc", "{round}");
    }
}

#[tokio::test]
async fn a_large_burst_does_not_wait_for_its_end_nor_overflow() {
    let (outbound, mut client) = connected().await;
    let large: &str = "x".repeat(GATHERED).leak();
    outbound.push(frame("first"));
    outbound.push(frame(large));
    assert_eq!(&arrived(&mut client)[..7], "firstxx");
}

#[tokio::test]
async fn outside_of_a_runtime_a_push_is_a_write() {
    let (outbound, mut client) = connected().await;
    let pushing = outbound.clone();
    std::thread::spawn(move || pushing.push(frame("direct"))).join().unwrap();
    assert_eq!(arrived(&mut client), "direct");
}

#[test]
fn a_runtime_that_ends_leaves_nothing_unwritten() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let serving = runtime();
    let (outbound, mut client) = serving.block_on(connected());
    let brief = runtime();
    brief.block_on(async { outbound.push(frame("a")) });
    outbound.push(frame("b"));
    assert_eq!(arrived(&mut client), "");
    drop(brief);
    assert_eq!(arrived(&mut client), "ab");
    serving.block_on(async {
        outbound.push(frame("c"));
        until_quiet(&outbound).await;
    });
    assert_eq!(arrived(&mut client), "c");
}
