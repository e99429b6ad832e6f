//! What waits to be sent to one client. Every byte to a socket goes through its queue.
//!
//! Where the stream is a bare TCP stream and nothing waits, whoever pushes a frame also writes it. What the
//! kernel doesn't take waits for the connection's task, which writes all that has gathered at once.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::Notify};

use crate::{frame::Frame, websocket::frame};

/// How many parts one write takes at most: about twenty small frames.
const MAX_SLICES: usize = 64;

/// The outbound queue of one socket, under one lock.
pub(crate) struct Outbound {
    queue: Mutex<Queue>,
    /// Wakes the connection's task: there is something to write, or the state has changed.
    wake: Notify,
}

pub(crate) struct Queue {
    frames: VecDeque<Frame>,
    /// How much of the first frame is written.
    offset: usize,
    /// What the frames that wait cost in memory.
    cost: usize,
    max_cost: usize,
    state: State,
    /// Where a push may write by itself.
    stream: Option<Arc<TcpStream>>,
    /// Set by a push that the connection's task has to hear of.
    woken: bool,
}

/// How far a socket's end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// A close frame with this code is the last in the queue, or written.
    Closing(u16),
    /// Nothing can be written any more.
    Gone,
}

/// The code a slow client's socket is closed with: phoenix.js comes back after it, as it doesn't after 1000.
pub(crate) const OVERFLOW_CODE: u16 = 1013;

impl Outbound {
    /// A queue that holds at most `max_cost` bytes, and writes to `stream` directly, if there is one.
    pub(crate) fn new(max_cost: usize, stream: Option<Arc<TcpStream>>) -> Self {
        let queue = Queue {
            frames: VecDeque::new(),
            offset: 0,
            cost: 0,
            max_cost,
            state: State::Open,
            stream,
            woken: false,
        };
        Self { queue: Mutex::new(queue), wake: Notify::new() }
    }

    /// Runs a critical section: frames pushed in it follow each other, and no other push comes between.
    ///
    /// Lock order: this lock, then any lock of topics and subscribers. The section must not broadcast, nor
    /// take the lock again.
    pub(crate) fn locked<R>(&self, section: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue = self.queue.lock();
        let result = section(&mut queue);
        if mem::take(&mut queue.woken) {
            self.wake.notify_one();
        }
        result
    }

    /// Pushes one frame.
    pub(crate) fn push(&self, frame: Frame) {
        self.locked(|queue| queue.push(frame));
    }

    /// Makes a close frame the last. A queue that is closing already stays as it is.
    pub(crate) fn close(&self, code: u16) {
        self.locked(|queue| queue.close(code));
    }

    /// Drops the stream and what waits for it.
    pub(crate) fn shut(&self) {
        self.locked(Queue::shut);
    }

    /// Waits until a push needs the connection's task.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes all frames that wait, for a client that isn't written to but asks.
    pub(crate) fn take(&self) -> (Vec<Frame>, State) {
        self.locked(|queue| {
            queue.cost = 0;
            (mem::take(&mut queue.frames).into(), queue.state)
        })
    }

    /// Whether nothing waits.
    pub(crate) fn is_quiet(&self) -> bool {
        self.locked(|queue| queue.frames.is_empty())
    }

    /// How far the socket's end is.
    pub(crate) fn state(&self) -> State {
        self.locked(|queue| queue.state)
    }

    /// Gives the queue's frames to `write` until none is left, it isn't ready or it fails.
    pub(crate) fn drain(
        &self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<State>> {
        self.locked(|queue| {
            let drained = queue.drain(&mut write);
            if let Poll::Ready(Err(_)) = &drained {
                queue.shut();
            }
            ready!(drained)?;
            Poll::Ready(Ok(queue.state))
        })
    }
}

impl Queue {
    /// Queues a frame, or writes it at once; dropped where the socket is at its end.
    pub(crate) fn push(&mut self, frame: Frame) {
        if self.state != State::Open {
            return;
        }
        // A frame that finds nothing waiting is always taken: its size is no sign of a slow client.
        if !self.frames.is_empty() && self.cost + cost(&frame) > self.max_cost {
            self.overflow();
            return;
        }
        self.append(frame);
    }

    fn append(&mut self, frame: Frame) {
        let first = self.frames.is_empty();
        self.cost += cost(&frame);
        self.frames.push_back(frame);
        if !first {
            return;
        }
        let Some(stream) = self.stream.clone() else {
            self.woken = true;
            return;
        };
        match self.drain(&mut |parts| try_write(&stream, parts)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => self.shut(),
            Poll::Pending => self.woken = true,
        }
    }

    pub(crate) fn close(&mut self, code: u16) {
        if self.state == State::Open {
            self.append(Frame::whole(frame::close(code, "")));
            self.woken = true;
            // The write may have found that the peer is gone.
            if self.state == State::Open {
                self.state = State::Closing(code);
            }
        }
    }

    /// Gives up on a client that doesn't read: only the frame that is half written stays.
    fn overflow(&mut self) {
        metrics::counter!("adsum_sockets_overflowed_total").increment(1);
        let half = (self.offset > 0).then(|| self.frames.pop_front()).flatten();
        self.frames = half.into_iter().collect();
        self.cost = self.frames.iter().map(cost).sum();
        self.close(OVERFLOW_CODE);
    }

    fn shut(&mut self) {
        self.state = State::Gone;
        self.frames = VecDeque::new();
        (self.offset, self.cost) = (0, 0);
        self.stream = None;
        self.woken = true;
    }

    fn drain(
        &mut self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while !self.frames.is_empty() {
            let mut parts = [IoSlice::new(&[]); MAX_SLICES];
            let mut filled = 0;
            let skips = std::iter::once(self.offset).chain(std::iter::repeat(0));
            for (part, slot) in
                self.frames.iter().zip(skips).flat_map(|(f, skip)| f.slices(skip)).zip(&mut parts)
            {
                *slot = part;
                filled += 1;
            }
            match ready!(write(&parts[..filled]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.offset += written;
        while let Some(first) = self.frames.front() {
            if self.offset < first.len() {
                return;
            }
            self.offset -= first.len();
            self.cost -= cost(first);
            self.frames.pop_front();
        }
        // An idle socket keeps no memory for the burst it has had.
        if self.frames.capacity() > 16 {
            self.frames = VecDeque::new();
        }
    }
}

/// What a frame costs while it waits, its place in the queue included, so that empty frames count too.
fn cost(frame: &Frame) -> usize {
    frame.len() + mem::size_of::<Frame>()
}

/// Writes what the kernel takes now.
pub(crate) fn try_write(stream: &TcpStream, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    match stream.try_write_vectored(parts) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// A frame that is a pong's.
pub(crate) fn pong(payload: &Bytes) -> Frame {
    Frame::whole(frame::pong(payload))
}

#[cfg(test)]
mod tests {
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
            let outbound = Outbound::new(10_000, None);
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
        let outbound = Outbound::new(400, None);
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
        let outbound = Outbound::new(1, None);
        outbound.push(frame("large"));
        assert_eq!(drain(&outbound, 100, 100).0, b"large");
    }

    #[test]
    fn a_close_is_the_last_frame() {
        let outbound = Outbound::new(1000, None);
        outbound.push(frame("a"));
        outbound.close(1001);
        outbound.close(1002);
        outbound.push(frame("b"));
        assert_eq!(drain(&outbound, 100, 100).0, b"a\x88\x02\x03\xe9");
    }

    #[test]
    fn a_failed_write_ends_the_queue() {
        let outbound = Outbound::new(1000, None);
        outbound.push(frame("a"));
        let failed = outbound.drain(|_| Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())));
        assert!(matches!(failed, Poll::Ready(Err(_))));
        outbound.push(frame("b"));
        let (written, state) = drain(&outbound, 100, 100);
        assert_eq!(written, b"");
        assert!(matches!(state, Poll::Ready(Ok(State::Gone))));
    }

    #[tokio::test]
    async fn who_pushes_first_writes_to_a_bare_stream() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        server.writable().await.unwrap();
        let outbound = Outbound::new(1000, Some(Arc::new(server)));
        outbound.push(frame("direct"));
        client.readable().await.unwrap();
        let mut read = [0; 16];
        assert_eq!(client.try_read(&mut read).unwrap(), 6);
        assert_eq!(drain(&outbound, 100, 100).0, b"");
    }
}
