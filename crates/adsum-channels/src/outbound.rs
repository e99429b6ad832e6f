//! What waits to be sent to one client. Every byte to a socket goes through its queue.
//!
//! Where the stream is a bare TCP stream, a [write pass](pass) writes what a burst of pushes has queued, once for
//! each socket. What the kernel doesn't take waits for the connection's task. Any other stream is written by
//! the connection's task alone.

mod conflation;
mod pass;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    mem,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::{net::TcpStream, sync::Notify};

pub(crate) use self::conflation::Renewable;
use crate::{frame::Frame, websocket::frame};

/// How many parts one write takes at most: about twenty small frames.
const MAX_SLICES: usize = 64;
/// How many bytes gather before whoever pushes writes them: more at once gains nothing.
const GATHERED: usize = 64 * 1024;

/// The outbound queue of one socket, under one lock.
pub(crate) struct Outbound {
    queue: Mutex<Queue>,
    /// Wakes the connection's task: there is something to write, or the state has changed.
    wake: Notify,
}

pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    /// How much of the first frame is written.
    offset: usize,
    /// What the entries cost in memory.
    cost: usize,
    max_cost: usize,
    /// The states whose changes a slow client isn't sent. It gets them when nothing waits any more.
    owed: Vec<Arc<dyn Renewable>>,
    state: State,
    /// Where others than the connection's task may write.
    stream: Option<Arc<TcpStream>>,
    /// The kernel has not taken all: the rest is for the connection's task, once the stream is writable.
    blocked: bool,
    /// Set by a push that the connection's task has to hear of.
    woken: bool,
    /// Set by a push that a write pass has to see to.
    due: bool,
}

/// A frame that waits.
struct Entry {
    frame: Frame,
    /// The state that it changes, if a newer one of that would do as well.
    change_of: Option<Arc<dyn Renewable>>,
}

impl Entry {
    /// What it costs in memory, its place in the queue included, so that empty frames count too.
    fn cost(&self) -> usize {
        self.frame.len() + mem::size_of::<Self>()
    }
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
            entries: VecDeque::new(),
            offset: 0,
            cost: 0,
            max_cost,
            owed: Vec::new(),
            state: State::Open,
            stream,
            blocked: false,
            woken: false,
            due: false,
        };
        Self { queue: Mutex::new(queue), wake: Notify::new() }
    }

    /// Runs a critical section: frames pushed in it follow each other, and no other push comes between.
    ///
    /// Lock order: this lock, then any lock of topics and subscribers. The section must not broadcast, nor
    /// take the lock again.
    pub(crate) fn locked<R>(self: &Arc<Self>, section: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue = self.queue.lock();
        let result = section(&mut queue);
        let due = mem::take(&mut queue.due);
        self.unlock(queue);
        if due && !pass::enrol(self) {
            self.write();
        }
        result
    }

    fn unlock(&self, mut queue: MutexGuard<'_, Queue>) {
        let woken = mem::take(&mut queue.woken);
        drop(queue);
        if woken {
            self.wake.notify_one();
        }
    }

    /// Writes what waits, as far as the kernel takes it now.
    fn write(&self) {
        let mut queue = self.queue.lock();
        queue.write();
        self.unlock(queue);
    }

    /// Pushes one frame.
    pub(crate) fn push(self: &Arc<Self>, frame: Frame) {
        self.locked(|queue| queue.push(frame));
    }

    /// Makes a close frame the last. A queue that is closing already stays as it is.
    pub(crate) fn close(self: &Arc<Self>, code: u16) {
        self.locked(|queue| queue.close(code));
    }

    /// Drops the stream and what waits for it.
    pub(crate) fn shut(self: &Arc<Self>) {
        self.locked(Queue::shut);
    }

    /// Waits until a push needs the connection's task.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes all frames that wait, for a client that isn't written to but asks.
    pub(crate) fn take(&self) -> (Vec<Frame>, State) {
        let mut queue = self.queue.lock();
        let mut frames = Vec::new();
        while !queue.entries.is_empty() || queue.renew() {
            frames.extend(queue.entries.drain(..).map(|entry| entry.frame));
            queue.cost = 0;
        }
        (frames, queue.state)
    }

    /// Whether nothing waits.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.lock().entries.is_empty()
    }

    /// How far the socket's end is.
    pub(crate) fn state(&self) -> State {
        self.queue.lock().state
    }

    /// Gives the queue's frames to `write` until none is left, it isn't ready or it fails.
    pub(crate) fn drain(
        &self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<State>> {
        let mut queue = self.queue.lock();
        let drained = queue.drain(&mut write);
        if let Poll::Ready(Err(_)) = &drained {
            queue.shut();
        }
        let state = queue.state;
        self.unlock(queue);
        drained.map_ok(|()| state)
    }
}

impl Queue {
    /// Queues a frame; dropped where the socket is at its end.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.put(Entry { frame, change_of: None });
    }

    fn put(&mut self, entry: Entry) {
        if self.state != State::Open {
            return;
        }
        if self.is_full(&entry) {
            self.write();
        }
        if self.is_full(&entry) {
            self.conflate();
            if let Some(of) = entry.change_of {
                self.owe(of);
                return;
            }
        }
        if self.is_full(&entry) {
            self.overflow();
        } else {
            self.append(entry);
        }
    }

    /// A frame that finds nothing waiting is always taken: its size is no sign of a slow client.
    fn is_full(&self, next: &Entry) -> bool {
        !self.entries.is_empty() && self.cost + next.cost() > self.max_cost
    }

    fn append(&mut self, entry: Entry) {
        let first = self.entries.is_empty();
        self.cost += entry.cost();
        self.entries.push_back(entry);
        if self.stream.is_none() {
            self.woken |= first;
        } else if self.cost >= GATHERED && !self.blocked {
            self.write();
        } else {
            self.due |= first;
        }
    }

    /// Writes what the kernel takes now, and leaves the rest to the connection's task.
    fn write(&mut self) {
        let Some(stream) = self.stream.clone().filter(|_| !self.blocked) else { return };
        match self.drain(&mut |parts| try_write(&stream, parts)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => self.shut(),
            Poll::Pending => self.woken = true,
        }
    }

    pub(crate) fn close(&mut self, code: u16) {
        if self.state == State::Open {
            self.owed = Vec::new();
            self.append(Entry { frame: Frame::whole(frame::close(code, "")), change_of: None });
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
        let half = (self.offset > 0).then(|| self.entries.pop_front()).flatten();
        self.entries = half.into_iter().collect();
        self.cost = self.entries.iter().map(Entry::cost).sum();
        self.close(OVERFLOW_CODE);
    }

    fn shut(&mut self) {
        self.state = State::Gone;
        self.entries = VecDeque::new();
        self.owed = Vec::new();
        (self.offset, self.cost) = (0, 0);
        self.stream = None;
        self.woken = true;
    }

    fn drain(
        &mut self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while !self.entries.is_empty() || self.renew() {
            let mut parts = [IoSlice::new(&[]); MAX_SLICES];
            let mut filled = 0;
            let skips = std::iter::once(self.offset).chain(std::iter::repeat(0));
            let waiting = self.entries.iter().zip(skips).flat_map(|(entry, skip)| entry.frame.slices(skip));
            for (part, slot) in waiting.zip(&mut parts) {
                *slot = part;
                filled += 1;
            }
            let written = write(&parts[..filled]);
            self.blocked = written.is_pending();
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.offset += written;
        while let Some(first) = self.entries.front() {
            if self.offset < first.frame.len() {
                return;
            }
            self.offset -= first.frame.len();
            self.cost -= first.cost();
            self.entries.pop_front();
        }
        // An idle socket keeps no memory for the burst it has had.
        self.entries = VecDeque::new();
    }
}

/// Writes what the kernel takes now.
pub(crate) fn try_write(stream: &TcpStream, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let written = match parts {
        [part] => stream.try_write(part),
        parts => stream.try_write_vectored(parts),
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// A frame that is a pong's.
pub(crate) fn pong(payload: &Bytes) -> Frame {
    Frame::whole(frame::pong(payload))
}
