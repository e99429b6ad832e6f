//! Tests of the outbound queue.

use std::{io::Read, time::Duration};

use adsum_pubsub::{Mark, SubscriberId, metrics::Metrics};
use bytes::Bytes;
use tokio::net::TcpStream;

use super::*;
use crate::{
    metrics::QueueMetrics,
    options::{DEFAULT_STATE_TIMEOUT, Options},
    sockets::{SocketSets, Sockets},
    websocket::stream::transport,
};

fn budget(options: &Options) -> (Sockets, Arc<Budget>) {
    let sockets = Sockets::new();
    let budget = sockets.budget(options, QueueMetrics::new(&Metrics::new(), options));
    (sockets, budget)
}

/// A queue that writes to this stream.
pub(super) fn queue_to(stream: Arc<dyn DirectStream>) -> Arc<Outbound> {
    queue(1_000_000, Some(stream))
}

fn queue(max_queue_bytes: usize, stream: Option<Arc<dyn DirectStream>>) -> Arc<Outbound> {
    let (_, budget) = budget(&Options { max_queue_bytes, ..Options::default() });
    Arc::new(Outbound::new(&budget, transport(stream)))
}

pub(super) fn frame(text: &'static str) -> Frame {
    Frame::whole(Bytes::from_static(text.as_bytes()))
}

/// Accepts at most `room` bytes in pieces of `piece`.
fn drain(outbound: &Outbound, mut room: usize, piece: usize) -> (Vec<u8>, Poll<io::Result<OutboundState>>) {
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
        let outbound = queue(10_000, None);
        for text in ["abc", "de", "fghij", "k"] {
            outbound.push(frame(text));
        }
        let (first, state) = drain(&outbound, 4, piece);
        assert!(state.is_pending());
        let (rest, state) = drain(&outbound, 100, piece);
        assert!(matches!(state, Poll::Ready(Ok(OutboundState::Open))));
        assert_eq!([first, rest].concat(), b"abcdefghijk");
    }
}

#[test]
fn an_overflow_leaves_the_half_written_frame_and_a_close() {
    let outbound = queue(400, None);
    outbound.push(frame("abcdef"));
    assert_eq!(drain(&outbound, 2, 2).0, b"ab");
    for _ in 0..10 {
        outbound.push(frame("later"));
    }
    let (rest, state) = drain(&outbound, 100, 100);
    assert_eq!(rest, b"cdef\x88\x02\x03\xf5");
    assert!(matches!(state, Poll::Ready(Ok(OutboundState::Closing(OVERFLOW_CODE)))));
    outbound.push(frame("dropped"));
    assert_eq!(drain(&outbound, 100, 100).0, b"");
}

#[test]
fn a_frame_larger_than_the_bound_is_sent_if_nothing_waits() {
    let outbound = queue(1, None);
    outbound.push(frame("large"));
    assert_eq!(drain(&outbound, 100, 100).0, b"large");
}

#[test]
fn a_close_is_the_last_frame() {
    let outbound = queue(1000, None);
    outbound.push(frame("a"));
    outbound.close(1001);
    outbound.close(1002);
    outbound.push(frame("b"));
    assert_eq!(drain(&outbound, 100, 100).0, b"a\x88\x02\x03\xe9");
}

#[test]
fn a_failed_write_ends_the_queue() {
    let outbound = queue(1000, None);
    outbound.push(frame("a"));
    let failed = outbound.drain(|_| Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())));
    assert!(matches!(failed, Poll::Ready(Err(_))));
    outbound.push(frame("b"));
    let (written, state) = drain(&outbound, 100, 100);
    assert_eq!(written, b"");
    assert!(matches!(state, Poll::Ready(Ok(OutboundState::Gone))));
}

/// A state that is a text.
struct Text(&'static str);

impl Renewable for Text {
    fn renew(&self) -> Vec<Frame> {
        vec![frame(self.0)]
    }
}

fn slow() -> (Arc<Outbound>, Arc<dyn Renewable>) {
    let outbound = queue(1000, None);
    let state: Arc<dyn Renewable> = Arc::new(Text("state"));
    outbound.locked(|queue| {
        queue.push(frame("first"));
        queue.push_change(frame("a"), &state);
        queue.push(frame("other"));
        for _ in 0..100 {
            queue.push_change(frame("b"), &state);
        }
    });
    (outbound, state)
}

#[test]
fn a_slow_client_gets_one_state_for_its_changes_once_the_rest_is_written() {
    let (outbound, state) = slow();
    assert_eq!(drain(&outbound, 7, 7).0, b"firstot");
    outbound.locked(|queue| queue.push_change(frame("c"), &state));
    assert_eq!(drain(&outbound, 100, 100).0, b"herstate");
    outbound.locked(|queue| queue.push_change(frame("d"), &state));
    assert_eq!(drain(&outbound, 100, 100).0, b"d");
}

#[test]
fn a_transport_that_polls_gets_the_state_as_well() {
    let (outbound, _state) = slow();
    let (frames, _) = outbound.take();
    let texts: Vec<_> = frames.into_iter().map(Frame::into_bytes).collect();
    assert_eq!(texts, ["first", "other", "state"]);
}

#[test]
fn a_half_written_change_is_finished_and_not_owed_alone() {
    let outbound = queue(1000, None);
    let state: Arc<dyn Renewable> = Arc::new(Text("state"));
    outbound.locked(|queue| queue.push_change(frame("half"), &state));
    assert_eq!(drain(&outbound, 2, 2).0, b"ha");
    for _ in 0..100 {
        outbound.push(frame("x"));
    }
    let (rest, state) = drain(&outbound, 1000, 1000);
    assert!(rest.starts_with(b"lf\x88\x02"), "what is no change overflows");
    assert!(matches!(state, Poll::Ready(Ok(OutboundState::Closing(OVERFLOW_CODE)))));
}

#[test]
fn a_large_state_has_room_and_as_much_again_beside_it_until_it_is_written() {
    let outbound = queue(1000, None);
    let large: &str = "x".repeat(5_000).leak();
    outbound.push(frame("before"));
    outbound.locked(|queue| queue.push_state(vec![frame(large)]));
    outbound.push(frame(&large[..4_000]));
    assert_eq!(outbound.state(), OutboundState::Open);
    // Writes everything before the state, and all but the last byte of the state.
    assert!(drain(&outbound, 6 + 4_999, 10_000).1.is_pending());
    outbound.push(frame(&large[..500]));
    assert_eq!(outbound.state(), OutboundState::Open);
    assert!(drain(&outbound, 1, 10_000).1.is_pending());
    outbound.push(frame("x"));
    assert_eq!(outbound.state(), OutboundState::Closing(OVERFLOW_CODE), "the bound is 1,000 bytes again");
}

#[test]
fn a_large_state_has_room_and_no_more_than_as_much_again() {
    let outbound = queue(1000, None);
    let large: &str = "x".repeat(5_000).leak();
    outbound.locked(|queue| queue.push_state(vec![frame(large)]));
    outbound.push(frame(&large[..4_000]));
    assert_eq!(outbound.state(), OutboundState::Open);
    outbound.push(frame(&large[..1_000]));
    assert_eq!(outbound.state(), OutboundState::Closing(OVERFLOW_CODE));
}

#[tokio::test(start_paused = true)]
async fn a_frame_larger_than_the_bound_waits_for_a_limited_time_only() {
    let small = frame("small");
    let large = frame("x".repeat(2_000).leak());
    for is_state in [true, false] {
        let outbound = queue(1000, None);
        assert_eq!(outbound.deadline(), None);
        if is_state {
            outbound.locked(|queue| queue.push_state(vec![small.clone(), large.clone()]));
        } else {
            outbound.push(large.clone());
        }
        assert_eq!(outbound.deadline(), Some(Instant::now() + DEFAULT_STATE_TIMEOUT));
        tokio::time::advance(DEFAULT_STATE_TIMEOUT / 2).await;
        outbound.expire();
        assert_eq!(outbound.state(), OutboundState::Open);
        tokio::time::advance(DEFAULT_STATE_TIMEOUT / 2).await;
        outbound.expire();
        assert_eq!(outbound.state(), OutboundState::Closing(OVERFLOW_CODE));
    }
    let outbound = queue(1000, None);
    outbound.locked(|queue| queue.push_state(vec![small.clone(), large.clone()]));
    assert!(drain(&outbound, small.len() + large.len(), 10_000).1.is_ready());
    assert_eq!(outbound.deadline(), None);
    outbound.push(small);
    assert_eq!(outbound.deadline(), None, "what is small may wait as long as the client likes");
}

#[test]
fn shared_bytes_are_counted_once_and_bytes_taken_at_once_not_at_all() {
    let (sockets, budget) = budget(&Options::default());
    let outbound = || Arc::new(Outbound::new(&budget, transport(None)));
    let place = mem::size_of::<Entry>();
    let broadcast = Frame::whole(Bytes::from("x".repeat(10_000)));
    let payload = Bytes::from("y".repeat(5_000));
    let queues: Vec<_> = (0..10).map(|_| outbound()).collect();
    for queue in &queues {
        queue.push(broadcast.clone());
        queue.push(Frame::text(payload.clone()));
    }
    let heads = Frame::text(payload.clone()).len() - payload.len();
    assert_eq!(sockets.queued_bytes(), 10_000 + 5_000 + 10 * (2 * place + heads));
    // A mostly written frame still counts in full, since the rest keeps all of it alive.
    assert!(drain(&queues[0], 9_000, 9_000).1.is_pending());
    assert_eq!(sockets.queued_bytes(), 10_000 + 5_000 + 10 * (2 * place + heads));
    for (left, queue) in queues.iter().enumerate().rev() {
        if left % 2 == 0 {
            drop(drain(queue, 100_000, 100_000));
        } else {
            queue.shut();
        }
        let shared = if left > 0 { 10_000 + 5_000 } else { 0 };
        assert_eq!(sockets.queued_bytes(), shared + left * (2 * place + heads));
    }
    let dropped = outbound();
    dropped.push(broadcast);
    assert_eq!(sockets.queued_bytes(), 10_000 + place);
    dropped.note_returned(500);
    assert_eq!(sockets.queued_bytes(), 10_000 + place + 500);
    dropped.note_returned(200);
    assert_eq!(sockets.queued_bytes(), 10_000 + place + 200);
    drop(dropped);
    assert_eq!(sockets.queued_bytes(), 0);
}

#[test]
fn changes_that_are_held_are_counted_once_and_their_sockets_may_be_closed_for_them() {
    let (sockets, budget) = budget(&Options::default());
    let place = mem::size_of::<Entry>();
    let mark = |number| Mark { sender: SubscriberId::unique(), number };
    let change = Frame::whole(Bytes::from("x".repeat(10_000)));
    let queues: Vec<_> = (0..3).map(|_| Arc::new(Outbound::new(&budget, transport(None)))).collect();
    let mut held = Vec::new();
    for queue in &queues {
        held.push(queue.locked(|queue| {
            let mut held = queue.hold();
            assert!(queue.hold_change(&mut held, mark(1), change.clone()).is_ok());
            assert!(queue.hold_change(&mut held, mark(2), change.clone()).is_ok());
            held
        }));
        assert!(queue.waits_since().is_some());
    }
    assert_eq!(sockets.queued_bytes(), 10_000 + 6 * place);
    held[0].retain(|mark| mark.number > 1);
    assert_eq!(sockets.queued_bytes(), 10_000 + 5 * place);
    for (queue, held) in queues.iter().zip(held.drain(..)) {
        queue.locked(|queue| queue.release(held));
    }
    assert_eq!(sockets.queued_bytes(), 10_000 + 5 * place, "they wait in the queues");
    for (queue, frames) in queues.iter().zip([1, 2, 2]) {
        assert_eq!(queue.take().0.len(), frames);
        assert!(queue.waits_since().is_none());
        let mut most = queue.locked(OutboundQueue::hold);
        let mut pushed = 0;
        while queue.locked(|queue| queue.hold_change(&mut most, mark(3), change.clone()).is_ok()) {
            pushed += 1;
        }
        assert_eq!(pushed, 104, "a MiB");
        queue.locked(|queue| queue.let_go(most));
        assert!(queue.waits_since().is_none());
    }
    assert_eq!(sockets.queued_bytes(), 0);
}

#[test]
fn changes_that_give_way_to_a_state_are_not_counted_any_more() {
    let (sockets, budget) = budget(&Options { max_queue_bytes: 1000, ..Options::default() });
    let outbound = Arc::new(Outbound::new(&budget, transport(None)));
    let state: Arc<dyn Renewable> = Arc::new(Text("state"));
    for _ in 0..1000 {
        outbound.locked(|queue| queue.push_change(frame("change"), &state));
    }
    assert_eq!((sockets.queued_bytes(), outbound.state()), (0, OutboundState::Open));
    outbound.push(frame("other"));
    assert!(sockets.queued_bytes() > 0);
    assert_eq!(outbound.take().0.len(), 2);
    assert_eq!(sockets.queued_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn if_too_much_waits_those_that_have_waited_longest_are_closed() {
    let options = Options { max_total_queue_bytes: 100_000, ..Options::default() };
    let (sockets, budget) = budget(&options);
    let mut open = Vec::new();
    for _ in 0..8 {
        let outbound = Arc::new(Outbound::new(&budget, transport(None)));
        open.push((SocketSets::of(&sockets, &http::Extensions::new(), None).open(&outbound), outbound));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let own = || Frame::whole(Bytes::from("x".repeat(12_000)));
    for (_, outbound) in &open {
        outbound.push(own());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    // The first one has read everything, and is queued again.
    assert!(drain(&open[0].1, 100_000, 100_000).1.is_ready());
    open[0].1.push(own());
    assert!(open.iter().all(|(_, outbound)| outbound.state() == OutboundState::Open));
    open[5].1.push(own());
    let closed: Vec<_> = open.iter().map(|(_, outbound)| outbound.state() != OutboundState::Open).collect();
    assert_eq!(closed, [false, true, true, false, false, false, false, false]);
    assert_eq!(open[1].1.state(), OutboundState::Closing(OVERFLOW_CODE));
    assert!(sockets.queued_bytes() <= 87_500);
}

#[test]
fn an_evicted_socket_keeps_a_half_written_frame_for_its_close_unless_it_is_large() {
    let (sockets, budget) = budget(&Options::default());
    for (len, kept) in [(WRITE_THRESHOLD, true), (WRITE_THRESHOLD + 1, false)] {
        let outbound = Arc::new(Outbound::new(&budget, transport(None)));
        outbound.push(Frame::whole(Bytes::from("x".repeat(len))));
        assert!(drain(&outbound, 10, 10).1.is_pending());
        outbound.push(frame("more"));
        outbound.evict();
        assert_eq!(outbound.state() == OutboundState::Closing(OVERFLOW_CODE), kept);
        assert_eq!(outbound.state() == OutboundState::Gone, !kept);
        assert_eq!(sockets.queued_bytes() > 0, kept);
        let rest = if kept { len - 10 + 4 } else { 0 };
        assert_eq!(drain(&outbound, 2 * len, 2 * len).0.len(), rest);
    }
    assert_eq!(sockets.queued_bytes(), 0);
}

#[test]
fn a_socket_that_is_closing_gives_way_as_well() {
    let (sockets, budget) = budget(&Options::default());
    let outbound = Arc::new(Outbound::new(&budget, transport(None)));
    outbound.push(frame("waits"));
    outbound.close(1012);
    outbound.evict();
    assert_eq!((outbound.state(), sockets.queued_bytes()), (OutboundState::Gone, 0));
}

/// A queue with a bare stream of this runtime, and the client's end.
pub(super) async fn connected() -> (Arc<Outbound>, std::net::TcpStream) {
    connected_with(1_000_000).await
}

async fn connected_with(max_queue_bytes: usize) -> (Arc<Outbound>, std::net::TcpStream) {
    let (server, client) = streams().await;
    (queue(max_queue_bytes, Some(server)), client)
}

/// The server's end of a stream of this runtime, and the client's end.
async fn streams() -> (Arc<TcpStream>, std::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    server.writable().await.unwrap();
    client.set_nonblocking(true).unwrap();
    (Arc::new(server), client)
}

/// The bytes that have arrived at the client.
pub(super) fn arrived(client: &mut std::net::TcpStream) -> String {
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
async fn the_pushes_of_a_burst_are_written_once_it_is_over() {
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
    let large: &str = "x".repeat(WRITE_THRESHOLD).leak();
    outbound.push(frame("first"));
    outbound.push(frame(large));
    assert_eq!(&arrived(&mut client)[..7], "firstxx");
}

#[tokio::test]
async fn a_small_bound_is_no_trouble_where_the_kernel_takes_all() {
    let (outbound, mut client) = connected_with(100).await;
    for _ in 0..20 {
        outbound.push(frame("0123456789"));
        assert_eq!(outbound.state(), OutboundState::Open);
    }
    until_quiet(&outbound).await;
    let mut read = String::new();
    while read.len() < 200 {
        read.push_str(&arrived(&mut client));
    }
    assert_eq!(read, "0123456789".repeat(20));
}

#[tokio::test(start_paused = true)]
async fn a_large_change_that_gives_way_to_its_state_has_no_deadline_any_more() {
    let outbound = queue(1000, None);
    let state: Arc<dyn Renewable> = Arc::new(Text("state"));
    outbound.locked(|queue| queue.push_change(frame("x".repeat(2_000).leak()), &state));
    assert!(outbound.deadline().is_some(), "it may wait for a limited time");
    outbound.push(frame("other"));
    assert_eq!(outbound.deadline(), None, "only a small frame is left");
    let (written, _) = drain(&outbound, 10_000, 10_000);
    assert_eq!(written, b"otherstate");
    assert_eq!(outbound.deadline(), None);
    // Neither does a half-written one, which stays.
    outbound.locked(|queue| queue.push_change(frame("x".repeat(2_000).leak()), &state));
    assert!(drain(&outbound, 1, 1).1.is_pending());
    outbound.locked(|queue| queue.push_change(frame("change"), &state));
    assert!(outbound.deadline().is_some());
    assert_eq!(drain(&outbound, 10_000, 10_000).0.len(), 1_999 + "state".len());
    assert_eq!(outbound.deadline(), None);
}

/// A state of 2,000 bytes.
struct Large;

impl Renewable for Large {
    fn renew(&self) -> Vec<Frame> {
        vec![frame("s".repeat(2_000).leak())]
    }
}

#[test]
fn a_state_that_comes_again_has_room_beside_it_too() {
    let outbound = queue(1000, None);
    let state: Arc<dyn Renewable> = Arc::new(Large);
    outbound.push(frame("first"));
    for _ in 0..100 {
        outbound.locked(|queue| queue.push_change(frame("change"), &state));
    }
    // The state follows the queued frame, and is written except for its end.
    assert!(drain(&outbound, 5 + 1_999, 10_000).1.is_pending());
    outbound.push(frame("x".repeat(1_500).leak()));
    assert_eq!(outbound.state(), OutboundState::Open);
    assert!(outbound.deadline().is_some(), "it may wait for a limited time");
    let (rest, _) = drain(&outbound, 10_000, 10_000);
    assert_eq!(rest.len(), 1 + 1_500);
    assert_eq!(outbound.deadline(), None);
}

/// A state whose last owner drops it while it is renewed, and whose drop checks whether the queue is locked.
struct Ending {
    queue: Weak<Outbound>,
    program: Arc<Mutex<Option<Arc<dyn Renewable>>>>,
    dropped_freely: Arc<Mutex<Vec<bool>>>,
}

impl Renewable for Ending {
    fn renew(&self) -> Vec<Frame> {
        *self.program.lock() = None;
        vec![frame("state")]
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let queue = self.queue.upgrade().expect("the test holds it");
        self.dropped_freely.lock().push(queue.queue.try_lock().is_some());
    }
}

#[test]
fn a_state_is_never_dropped_while_the_queue_is_locked() {
    let ends: [fn(&Arc<Outbound>); 4] = [
        |outbound| drop(drain(outbound, 10_000, 10_000)),
        |outbound| drop(outbound.take()),
        |outbound| outbound.close(1000),
        Outbound::shut,
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let outbound = queue(1000, None);
        let (program, dropped_freely) = (Arc::<Mutex<_>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let state: Arc<dyn Renewable> = Arc::new(Ending {
            queue: Arc::downgrade(&outbound),
            program: program.clone(),
            dropped_freely: dropped_freely.clone(),
        });
        outbound.push(frame("first"));
        // Some changes are queued, then the state is owed instead.
        for _ in 0..100 {
            outbound.locked(|queue| queue.push_change(frame("change"), &state));
        }
        *program.lock() = Some(state);
        end(&outbound);
        *program.lock() = None;
        assert_eq!(*dropped_freely.lock(), [true], "{n}");
    }
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

/// A queue with a bare stream whose peer is gone.
async fn forsaken() -> Arc<Outbound> {
    let (stream, client) = streams().await;
    socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    // Waits until the reset has arrived.
    while !stream.ready(tokio::io::Interest::READABLE).await.unwrap().is_read_closed() {
        // The I/O driver must process it.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    queue(1_000_000, Some(stream))
}

#[tokio::test]
async fn a_close_that_finds_the_peer_gone_is_no_close() {
    let outbound = forsaken().await;
    let almost: &str = "x".repeat(WRITE_THRESHOLD - mem::size_of::<Entry>() - 1).leak();
    outbound.push(frame(almost));
    assert_eq!(outbound.state(), OutboundState::Open);
    outbound.close(1001);
    assert_eq!(outbound.state(), OutboundState::Gone);
}

#[tokio::test]
async fn the_connection_s_task_hears_that_a_push_has_found_the_peer_gone() {
    let outbound = forsaken().await;
    outbound.push(frame("x".repeat(WRITE_THRESHOLD).leak()));
    assert_eq!(outbound.state(), OutboundState::Gone);
    tokio::time::timeout(std::time::Duration::from_secs(20), outbound.woken()).await.expect("it is woken");
}
