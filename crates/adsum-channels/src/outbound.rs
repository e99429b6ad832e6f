//! The outbound queue of a client. Everything that is sent to a client goes through it.
//!
//! If any thread may write to the transport's stream, a [write pass](pass) writes everything that a burst of pushes has
//! queued, once per socket. The connection's task writes the rest that the kernel doesn't accept. Any other stream is
//! written by the connection's task alone.

mod budget;
mod conflation;
mod entries;
mod entry;
mod held_changes;
mod pass;
#[cfg(test)]
mod tests;
mod trace;
mod transport;

use std::{
    io::{self, IoSlice},
    mem,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Poll, ready},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

pub(crate) use self::{
    budget::{Budget, Total},
    entry::Renewable,
    held_changes::HeldChanges,
    pass::Urgency,
    trace::{Trace, Traced},
    transport::{DirectStream, Item, Transport},
};
use self::{entries::Entries, entry::Entry};
use crate::{
    about::{About, SocketDetails, Tick},
    frame::Frame,
    socket_end::{OVERFLOW_CODE, SocketEnd},
};

/// Maximum number of parts in one write: about twenty small frames.
const MAX_SLICES: usize = 64;
/// The number of queued bytes at which a push writes them itself: writing more at once gains nothing.
const WRITE_THRESHOLD: usize = 64 * 1024;

/// The outbound queue of a socket, under one lock.
pub(crate) struct Outbound {
    queue: Mutex<OutboundQueue>,
    /// Wakes the connection's task when there is something to write, or when the state has changed.
    wake: Notify,
    about: OnceLock<About>,
    /// When the client was last heard, in [`Tick`]s.
    heard: AtomicU32,
    /// How the socket has ended, as [`SocketEnd::to_bits`] says; 0 while it is open.
    end: AtomicU32,
    is_traced: AtomicBool,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own, and they go together in any way"
)]
pub(crate) struct OutboundQueue {
    entries: Entries,
    /// How much of the first frame is written.
    offset: usize,
    /// The states whose changes were dropped for a slow client. They are sent again once the queue is empty.
    owed: Vec<Weak<dyn Renewable>>,
    /// States that were renewed, to be dropped after the lock is released: these may be the last references.
    renewed: Vec<Arc<dyn Renewable>>,
    state: OutboundState,
    transport: Transport,
    /// Whether the kernel's buffer is full. The connection's task writes the rest once the stream is writable.
    blocked: bool,
    /// Set by a push for which the connection's task must wake up.
    woken: bool,
    /// Set by a push to an empty queue, which needs a write pass.
    due: bool,
    /// Set by a push that a write pass may write.
    pushed: bool,
    /// The soonest pass in which the queue is enrolled.
    enrolled: Option<Urgency>,
    /// Somebody watches the messages.
    trace: Option<Box<Trace>>,
}

/// The sum of what one call has written.
#[derive(Clone, Copy, Default)]
struct Sent {
    frames: usize,
    bytes: usize,
    writes: usize,
}

/// The state of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutboundState {
    Open,
    /// The connection closes with this code after the rest of the queue.
    Closing(u16),
    /// Nothing can be written any more.
    Gone,
}

impl Outbound {
    /// Creates a queue bounded by its budget.
    pub(crate) fn new(budget: &Arc<Budget>, transport: Transport) -> Self {
        let queue = OutboundQueue {
            entries: Entries::new(budget.clone()),
            offset: 0,
            owed: Vec::new(),
            renewed: Vec::new(),
            state: OutboundState::Open,
            transport,
            blocked: false,
            woken: false,
            due: false,
            pushed: false,
            enrolled: None,
            trace: None,
        };
        Self {
            queue: Mutex::new(queue),
            wake: Notify::new(),
            about: OnceLock::new(),
            heard: AtomicU32::new(0),
            end: AtomicU32::new(0),
            is_traced: AtomicBool::new(false),
        }
    }

    /// Runs a critical section: frames pushed in it are consecutive, with no other push in between.
    ///
    /// Lock order: this lock, then the locks of topics and subscribers. The section must not broadcast, and must not
    /// take the lock again.
    pub(crate) fn locked<R>(self: &Arc<Self>, section: impl FnOnce(&mut OutboundQueue) -> R) -> R {
        self.locked_for(Urgency::Reply, section)
    }

    /// As [`locked`](Self::locked), for frames that other sockets get too: more urgent ones are written first.
    pub(crate) fn locked_for<R>(
        self: &Arc<Self>,
        urgency: Urgency,
        section: impl FnOnce(&mut OutboundQueue) -> R,
    ) -> R {
        let mut queue = self.queue.lock();
        let result = section(&mut queue);
        let (due, pushed) = (mem::take(&mut queue.due), mem::take(&mut queue.pushed));
        let enrols = match urgency {
            Urgency::Many => due,
            // Everything queued before it is written now as well.
            sooner => pushed && queue.enrolled.is_none_or(|enrolled| enrolled > sooner),
        };
        if enrols {
            queue.enrolled = Some(urgency);
        }
        self.unlock(queue);
        if enrols && !pass::enrol(self, urgency) {
            self.write();
        }
        result
    }

    fn unlock(&self, mut queue: MutexGuard<'_, OutboundQueue>) {
        let woken = mem::take(&mut queue.woken);
        let counted = queue.entries.counted_cost().map(|cost| (cost, queue.entries.budget.clone()));
        let renewed = mem::take(&mut queue.renewed);
        drop(queue);
        drop(renewed);
        if woken {
            self.wake.notify_one();
        }
        if let Some((cost, budget)) = counted {
            budget.note(cost);
            budget.relieve();
        }
    }

    /// Writes queued frames, as far as the kernel accepts them now.
    fn write(&self) {
        let mut queue = self.queue.lock();
        queue.write();
        self.unlock(queue);
    }

    /// Pushes one frame.
    pub(crate) fn push(self: &Arc<Self>, frame: Frame) {
        self.push_item(Item::Frame(frame));
    }

    /// Pushes one item.
    pub(crate) fn push_item(self: &Arc<Self>, item: Item) {
        self.locked(|queue| queue.push_item(item));
    }

    /// Queues a close as the last item. Does nothing if the queue is already closing.
    pub(crate) fn close(self: &Arc<Self>, code: u16) {
        self.locked(|queue| queue.close(code));
    }

    /// Drops the stream and all queued frames.
    pub(crate) fn shut(self: &Arc<Self>) {
        self.locked(OutboundQueue::shut);
    }

    /// Waits until the connection's task is needed.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes all queued frames, for a [polled](Transport::polled) transport.
    pub(crate) fn take(&self) -> (Vec<Frame>, OutboundState) {
        let mut queue = self.queue.lock();
        let mut frames = Vec::new();
        while !queue.entries.is_empty() || queue.renew() {
            while let Some(entry) = queue.entries.pop() {
                frames.push(entry.frame);
            }
        }
        let state = queue.state;
        let bytes = frames.iter().map(Frame::len).sum();
        queue.count_sent(Sent { frames: frames.len(), bytes, writes: 0 });
        self.unlock(queue);
        (frames, state)
    }

    /// Records how many taken bytes are waiting again, because they didn't reach the client.
    pub(crate) fn note_returned(&self, bytes: usize) {
        let mut queue = self.queue.lock();
        if queue.state != OutboundState::Gone {
            queue.entries.note_returned(bytes);
        }
        self.unlock(queue);
    }

    /// Whether the queue is empty and no state is owed.
    pub(crate) fn is_quiet(&self) -> bool {
        let queue = self.queue.lock();
        queue.entries.is_empty() && queue.owed.is_empty()
    }

    /// The state of the socket.
    pub(crate) fn state(&self) -> OutboundState {
        self.queue.lock().state
    }

    /// How the socket has ended if its client didn't close it.
    pub(crate) fn server_end(&self) -> SocketEnd {
        match self.state() {
            OutboundState::Closing(code) => SocketEnd::by_server(code),
            OutboundState::Open | OutboundState::Gone => SocketEnd::Lost,
        }
    }

    /// When the oldest timed frame must be sent.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.queue.lock().entries.deadline()
    }

    /// Closes the socket if the [deadline](Self::deadline) has passed.
    pub(crate) fn expire(self: &Arc<Self>) {
        self.locked(|queue| {
            if queue.state == OutboundState::Open
                && queue.entries.deadline().is_some_and(|deadline| deadline <= Instant::now())
            {
                queue.overflow("state");
            }
        });
    }

    /// Closes the socket because a message can't be passed on to the node that its client has asked.
    pub(crate) fn never_fits(self: &Arc<Self>) {
        self.locked(|queue| {
            if queue.state == OutboundState::Open {
                queue.overflow("nodes");
            }
        });
    }

    /// Returns the bytes that wait, as far as the node's total counts them.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let queue = self.queue.lock();
        if queue.entries.counted_since().is_some() { queue.entries.cost() } else { 0 }
    }

    /// Since when this queue is counted in the node's total.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        self.queue.lock().entries.counted_since()
    }

    /// Closes the socket because the queues of all sockets are too large.
    pub(crate) fn evict(self: &Arc<Self>) {
        self.locked(OutboundQueue::evict);
    }

    /// Passes the queue's frames to `write` until none is left, it isn't ready, or it fails.
    pub(crate) fn drain(
        &self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<OutboundState>> {
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

/// For operators.
impl Outbound {
    /// Says whose socket this is. Called once, when it opens.
    pub(crate) fn set_about(&self, about: About) {
        // It is set once only.
        let _ = self.about.set(about);
    }

    pub(crate) fn about(&self) -> Option<&About> {
        self.about.get()
    }

    /// The client was heard.
    pub(crate) fn note_heard(&self, now: Instant) {
        if let Some(about) = self.about.get() {
            self.heard.store(about.tick(now).0, Ordering::Relaxed);
        }
    }

    /// The socket ends.
    pub(crate) fn note_end(&self, end: SocketEnd) {
        self.end.store(end.to_bits(), Ordering::Relaxed);
    }

    /// Describes the socket. `None` before it opens.
    pub(crate) fn details(&self) -> Option<SocketDetails> {
        let heard = Tick(self.heard.load(Ordering::Relaxed));
        let end = SocketEnd::from_bits(self.end.load(Ordering::Relaxed));
        Some(self.about.get()?.details(heard, end))
    }

    /// Whether somebody watches the messages.
    pub(crate) fn is_traced(&self) -> bool {
        self.is_traced.load(Ordering::Relaxed)
    }

    /// Has the messages watched, in place of an earlier trace.
    pub(crate) fn set_trace(&self, trace: Trace) {
        let mut queue = self.queue.lock();
        let before = queue.trace.replace(Box::new(trace));
        self.is_traced.store(true, Ordering::Relaxed);
        drop(queue);
        drop(before);
    }

    /// Drops the trace if nobody watches it any more.
    pub(crate) fn end_trace(&self) {
        let mut queue = self.queue.lock();
        let ended = queue.trace.take_if(|trace| trace.has_ended());
        if ended.is_some() {
            self.is_traced.store(false, Ordering::Relaxed);
        }
        drop(queue);
        drop(ended);
    }

    /// Tells the one who watches of a message.
    pub(crate) fn trace(&self, message: Traced) {
        if let Some(trace) = &mut self.queue.lock().trace {
            trace.note(message);
        }
    }
}

impl OutboundQueue {
    /// Queues a frame. Drops it if the socket is closing.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.push_item(Item::Frame(frame));
    }

    /// Queues an item. Drops it if the socket is closing.
    fn push_item(&mut self, item: Item) {
        if let Some(frame) = (self.transport.encode)(item) {
            self.put(Entry::plain(frame));
        }
    }

    fn put(&mut self, entry: Entry) {
        if self.state != OutboundState::Open {
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

    /// An empty queue accepts a frame of any size: the size doesn't mean that the client is slow.
    fn is_full(&self, next: &Entry) -> bool {
        !self.entries.is_empty() && self.entries.cost() + next.cost() > self.entries.max_cost()
    }

    fn append(&mut self, entry: Entry) {
        if let Some(trace) = &mut self.trace {
            trace.note(Traced::Queued(entry.frame.clone()));
        }
        let first = self.entries.is_empty();
        self.entries.push(entry);
        if self.transport.stream.is_none() {
            // It is unknown when it will be written.
            self.entries.count();
            self.woken |= first;
        } else if self.entries.cost() >= WRITE_THRESHOLD && !self.blocked {
            self.write();
        } else {
            self.due |= first;
            self.pushed |= !self.blocked;
        }
    }

    /// Writes what the stream accepts now, and leaves the rest to the connection's task.
    fn write(&mut self) {
        self.enrolled = None;
        let Some(stream) = self.transport.stream.clone().filter(|_| !self.blocked) else { return };
        match self.drain(&mut |parts| stream.try_write(parts)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => self.shut(),
            Poll::Pending => self.woken = true,
        }
    }

    pub(crate) fn close(&mut self, code: u16) {
        if self.state == OutboundState::Open {
            self.owed = Vec::new();
            if let Some(close) = (self.transport.encode)(Item::Close(code)) {
                self.append(Entry::plain(close));
            }
            self.woken = true;
            // The write may have found that the peer is gone.
            if self.state == OutboundState::Open {
                self.state = OutboundState::Closing(code);
            }
        }
    }

    /// Closes the socket of a client that doesn't read: only a partly written frame stays queued.
    fn overflow(&mut self, reason: &'static str) {
        self.entries.budget.metrics.overflowed(reason);
        self.entries.truncate(usize::from(self.offset > 0));
        self.close(OVERFLOW_CODE);
    }

    /// Closes the socket of a client whose memory others need. If a large frame is partly written, cuts the socket off
    /// instead of keeping the frame so that a close can follow.
    fn evict(&mut self) {
        if self.state != OutboundState::Open {
            return self.shut();
        }
        self.overflow("total");
        if self.entries.first().is_some_and(|half| half.len() > WRITE_THRESHOLD) {
            self.shut();
        }
    }

    fn shut(&mut self) {
        self.state = OutboundState::Gone;
        self.entries.truncate(0);
        self.owed = Vec::new();
        self.offset = 0;
        self.transport.stream = None;
        self.woken = true;
    }

    fn drain(
        &mut self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let mut sent = Sent::default();
        let drained = self.drain_counted(write, &mut sent);
        self.count_sent(sent);
        drained
    }

    fn count_sent(&self, sent: Sent) {
        let metrics = &self.entries.budget.metrics;
        // Once for a burst, as many threads add to them.
        for (counter, count) in [
            (&metrics.messages_sent, sent.frames),
            (&metrics.bytes_sent, sent.bytes),
            (&metrics.writes, sent.writes),
        ] {
            if count > 0 {
                counter.add(count as u64);
            }
        }
    }

    fn drain_counted(
        &mut self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
        sent: &mut Sent,
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
                written => {
                    sent.writes += 1;
                    sent.bytes += written;
                    sent.frames += self.advance(written);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// How many frames are written in full.
    fn advance(&mut self, written: usize) -> usize {
        self.offset += written;
        let mut frames = 0;
        while let Some(first) = self.entries.first().map(Frame::len) {
            if self.offset < first {
                break;
            }
            self.offset -= first;
            self.entries.pop();
            frames += 1;
        }
        frames
    }
}
