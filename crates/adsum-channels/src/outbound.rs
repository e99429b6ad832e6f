//! What waits to be sent to one client. Every byte to a socket goes through its queue.
//!
//! Where the stream is a bare TCP stream, a [write pass](pass) writes what a burst of pushes has queued, once for
//! each socket. What the kernel doesn't take waits for the connection's task. Any other stream is written by
//! the connection's task alone.

mod budget;
mod conflation;
mod entries;
mod held_changes;
mod pass;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IoSlice},
    mem,
    sync::{Arc, Weak},
    task::{Poll, ready},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::{net::TcpStream, sync::Notify, time::Instant};

use self::entries::{Entries, Entry};
use self::pass::Urgency;
pub(crate) use self::{
    budget::{Budget, Total},
    conflation::Renewable,
    held_changes::HeldChanges,
};
use crate::{frame::Frame, websocket::frame};

/// How many parts one write takes at most: about twenty small frames.
const MAX_SLICES: usize = 64;
/// How many bytes gather before whoever pushes writes them: more at once gains nothing.
const WRITE_THRESHOLD: usize = 64 * 1024;

/// The outbound queue of one socket, under one lock.
pub(crate) struct Outbound {
    queue: Mutex<OutboundQueue>,
    /// Wakes the connection's task: there is something to write, or the state has changed.
    wake: Notify,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own, and they go together in any way"
)]
pub(crate) struct OutboundQueue {
    entries: Entries,
    /// How much of the first frame is written.
    offset: usize,
    /// The states whose changes a slow client isn't sent. It gets them when nothing waits any more.
    owed: Vec<Weak<dyn Renewable>>,
    /// States that were asked, to be let go once the lock is free: this may be the last that holds them.
    renewed: Vec<Arc<dyn Renewable>>,
    state: State,
    /// Where others than the connection's task may write.
    stream: Option<Arc<TcpStream>>,
    /// The kernel has not taken all: the rest is for the connection's task, once the stream is writable.
    blocked: bool,
    /// Set by a push that the connection's task has to hear of.
    woken: bool,
    /// Set by a push that finds nothing waiting: a write pass has to see to it.
    due: bool,
    /// Set by a push that a write pass may see to.
    pushed: bool,
    /// The pass of replies will write what waits.
    is_urgent: bool,
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
    /// A queue that holds as much as its budget says, and writes to `stream` directly, if there is one.
    pub(crate) fn new(budget: &Arc<Budget>, stream: Option<Arc<TcpStream>>) -> Self {
        let queue = OutboundQueue {
            entries: Entries::new(budget.clone()),
            offset: 0,
            owed: Vec::new(),
            renewed: Vec::new(),
            state: State::Open,
            stream,
            blocked: false,
            woken: false,
            due: false,
            pushed: false,
            is_urgent: false,
        };
        Self { queue: Mutex::new(queue), wake: Notify::new() }
    }

    /// Runs a critical section: frames pushed in it follow each other, and no other push comes between.
    ///
    /// Lock order: this lock, then any lock of topics and subscribers. The section must not broadcast, nor
    /// take the lock again.
    pub(crate) fn locked<R>(self: &Arc<Self>, section: impl FnOnce(&mut OutboundQueue) -> R) -> R {
        self.locked_for(Urgency::Reply, section)
    }

    /// As [`locked`](Self::locked), for a frame that many sockets get: what is for this client alone is written before.
    pub(crate) fn locked_for_broadcast<R>(
        self: &Arc<Self>,
        section: impl FnOnce(&mut OutboundQueue) -> R,
    ) -> R {
        self.locked_for(Urgency::Broadcast, section)
    }

    fn locked_for<R>(self: &Arc<Self>, urgency: Urgency, section: impl FnOnce(&mut OutboundQueue) -> R) -> R {
        let mut queue = self.queue.lock();
        let result = section(&mut queue);
        let (due, pushed) = (mem::take(&mut queue.due), mem::take(&mut queue.pushed));
        let enrols = match urgency {
            // Whatever waits already stands before it, so all of it is written now.
            Urgency::Reply => pushed && !mem::replace(&mut queue.is_urgent, true),
            Urgency::Broadcast => due,
        };
        self.unlock(queue);
        if enrols && !pass::enrol(self, urgency) {
            self.write();
        }
        result
    }

    fn unlock(&self, mut queue: MutexGuard<'_, OutboundQueue>) {
        let woken = mem::take(&mut queue.woken);
        let crowded = queue.entries.is_crowded().then(|| queue.entries.budget.clone());
        let renewed = mem::take(&mut queue.renewed);
        drop(queue);
        drop(renewed);
        if woken {
            self.wake.notify_one();
        }
        if let Some(budget) = crowded {
            budget.relieve();
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
        self.locked(OutboundQueue::shut);
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
            while let Some(entry) = queue.entries.pop() {
                frames.push(entry.frame);
            }
        }
        let state = queue.state;
        self.unlock(queue);
        (frames, state)
    }

    /// Takes note of how many bytes were taken out and wait again, as the client has gone away meanwhile.
    pub(crate) fn note_returned(&self, bytes: usize) {
        let mut queue = self.queue.lock();
        if queue.state != State::Gone {
            queue.entries.note_returned(bytes);
        }
        self.unlock(queue);
    }

    /// Whether nothing waits, nor is a state owed.
    pub(crate) fn is_quiet(&self) -> bool {
        let queue = self.queue.lock();
        queue.entries.is_empty() && queue.owed.is_empty()
    }

    /// How far the socket's end is.
    pub(crate) fn state(&self) -> State {
        self.queue.lock().state
    }

    /// When what waits for a limited time only has waited for too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.queue.lock().entries.deadline()
    }

    /// Closes the socket if the [deadline](Self::deadline) has passed.
    pub(crate) fn expire(self: &Arc<Self>) {
        self.locked(|queue| {
            if queue.state == State::Open
                && queue.entries.deadline().is_some_and(|deadline| deadline <= Instant::now())
            {
                queue.overflow("state");
            }
        });
    }

    /// Since when something has waited that the node's total counts.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.queue.lock().entries.counted_since()
    }

    /// Closes the socket because too much waits in all sockets.
    pub(crate) fn evict(self: &Arc<Self>) {
        self.locked(OutboundQueue::evict);
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

impl OutboundQueue {
    /// Queues a frame; dropped where the socket is at its end.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.put(Entry::plain(frame));
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
            self.overflow("queue");
        } else {
            self.append(entry);
        }
    }

    /// A frame that finds nothing waiting is always taken: its size is no sign of a slow client.
    fn is_full(&self, next: &Entry) -> bool {
        !self.entries.is_empty() && self.entries.cost() + next.cost() > self.entries.max_cost()
    }

    fn append(&mut self, entry: Entry) {
        let first = self.entries.is_empty();
        self.entries.push(entry);
        if self.stream.is_none() {
            // Nobody knows yet when it will be written.
            self.entries.count();
            self.woken |= first;
        } else if self.entries.cost() >= WRITE_THRESHOLD && !self.blocked {
            self.write();
        } else {
            self.due |= first;
            self.pushed |= !self.blocked;
        }
    }

    /// Writes what the kernel takes now, and leaves the rest to the connection's task.
    fn write(&mut self) {
        self.is_urgent = false;
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
            self.append(Entry::plain(Frame::whole(frame::close(code, ""))));
            self.woken = true;
            // The write may have found that the peer is gone.
            if self.state == State::Open {
                self.state = State::Closing(code);
            }
        }
    }

    /// Gives up on a client that doesn't read: only the frame that is half written stays.
    fn overflow(&mut self, reason: &'static str) {
        metrics::counter!("adsum_sockets_overflowed_total", "reason" => reason).increment(1);
        self.entries.truncate(usize::from(self.offset > 0));
        self.close(OVERFLOW_CODE);
    }

    /// Gives up on a client whose memory others need. A large frame that is half written isn't kept for a close
    /// that would follow it.
    fn evict(&mut self) {
        if self.state != State::Open {
            return self.shut();
        }
        self.overflow("total");
        if self.entries.first().is_some_and(|half| half.len() > WRITE_THRESHOLD) {
            self.shut();
        }
    }

    fn shut(&mut self) {
        self.state = State::Gone;
        self.entries.truncate(0);
        self.owed = Vec::new();
        self.offset = 0;
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
            for (part, slot) in self.entries.slices(self.offset).zip(&mut parts) {
                *slot = part;
                filled += 1;
            }
            let written = write(&parts[..filled]);
            self.blocked = written.is_pending();
            if self.blocked {
                self.entries.count();
            }
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.offset += written;
        while let Some(first) = self.entries.first().map(Frame::len) {
            if self.offset < first {
                return;
            }
            self.offset -= first;
            self.entries.pop();
        }
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

/// A ping with a payload.
pub(crate) fn ping(payload: [u8; 4]) -> Frame {
    Frame::whole(frame::ping(payload))
}

/// A frame that is a pong's.
pub(crate) fn pong(payload: &Bytes) -> Frame {
    Frame::whole(frame::pong(payload))
}
