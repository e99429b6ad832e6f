//! The activity of a connection, which determines its deadline.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::Instant,
};

use super::options::ServeOptions;

/// How long a partly received head may take once the server shuts down.
const LAST_HEAD_GRACE: Duration = Duration::from_secs(1);

/// The activity of a connection. Shared by its stream, its requests and the task that checks the deadline.
pub(super) struct Activity(Mutex<ActivityState>);

struct ActivityState {
    phase: Phase,
    since: Instant,
    /// Since when the client reads nothing of the response.
    write_blocked: Option<Instant>,
    ends_by: Option<Instant>,
}

enum Phase {
    /// The head of a request is being read.
    Head,
    /// A request is being answered. Its body has its own timeout.
    Request,
    /// A request has been answered, and the next one has not begun.
    Idle,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Mutex::new(ActivityState {
            phase: Phase::Head,
            since: Instant::now(),
            write_blocked: None,
            ends_by: None,
        }))
    }

    pub(super) fn request_begins(&self) {
        self.0.lock().phase = Phase::Request;
    }

    /// Whether no request is under way, nor is the client slow to read.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.0.lock();
        matches!(state.phase, Phase::Idle) && state.write_blocked.is_none()
    }

    pub(super) fn request_is_answered(&self) {
        let mut state = self.0.lock();
        state.phase = Phase::Idle;
        state.since = Instant::now();
    }

    /// Shortens the deadline of a head that is being read, since the server shuts down.
    pub(super) fn server_ends(&self) {
        self.0.lock().ends_by = Some(Instant::now() + LAST_HEAD_GRACE);
    }

    fn bytes_were_read(&self) {
        let mut state = self.0.lock();
        if matches!(state.phase, Phase::Idle) {
            state.phase = Phase::Head;
            state.since = Instant::now();
        }
    }

    fn bytes_were_written(&self, blocked: bool) {
        let mut state = self.0.lock();
        if blocked {
            state.write_blocked.get_or_insert_with(Instant::now);
        } else {
            state.write_blocked = None;
        }
    }

    /// When to close the connection if nothing happens until then. `None` while a request is being answered.
    pub(super) fn deadline(&self, options: &ServeOptions) -> Option<Instant> {
        let state = self.0.lock();
        let in_phase = match state.phase {
            Phase::Head => Some(state.since + options.head_timeout),
            Phase::Idle => Some(state.since + options.idle_timeout),
            Phase::Request => None,
        };
        let ends_by = state.ends_by.filter(|_| in_phase.is_some());
        let written = state.write_blocked.map(|since| since + options.idle_timeout);
        [in_phase, ends_by, written].into_iter().flatten().min()
    }
}

/// A client's stream that records its activity, and its permit as an open connection.
pub(crate) struct WatchedStream {
    stream: TcpStream,
    activity: Arc<Activity>,
    place: OwnedSemaphorePermit,
}

impl WatchedStream {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>, place: OwnedSemaphorePermit) -> Self {
        Self { stream, activity, place }
    }

    /// Returns the bare stream, and its permit, which must be kept as long as the stream.
    pub(crate) fn into_parts(self) -> (TcpStream, OwnedSemaphorePermit) {
        (self.stream, self.place)
    }

    fn note_write<T>(&self, written: &Poll<io::Result<T>>) {
        self.activity.bytes_were_written(written.is_pending());
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.activity.bytes_were_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
