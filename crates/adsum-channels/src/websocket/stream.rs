//! The two sides of a connection's stream, over bare TCP or anything else that hyper has upgraded.

use std::{
    future::poll_fn,
    io::{self, Read},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::{rt::TokioIo, server::conn::auto};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    task::consume_budget,
    time::sleep_until,
};

use crate::{
    outbound::{Budget, Outbound, State, try_write},
    serve::WatchedStream,
};

/// How much is read at once. The buffer is on the stack, so an idle socket has none.
pub(super) const READ_BYTES: usize = 8 * 1024;

type Io = TokioIo<Upgraded>;

/// A stream that was upgraded, and what was read of it already.
pub(crate) enum Stream {
    Tcp(TcpStream, Option<OwnedSemaphorePermit>, Bytes),
    Other(Io),
}

impl Stream {
    /// Takes the bare TCP stream out of an upgraded connection, where that is what it is.
    pub(crate) fn new(upgraded: Upgraded) -> Self {
        let upgraded = match upgraded.downcast::<TokioIo<WatchedStream>>() {
            Ok(parts) => {
                let (stream, place) = parts.io.into_inner().into_parts();
                return Self::tcp(stream, Some(place), parts.read_buf);
            }
            Err(upgraded) => upgraded,
        };
        // `axum::serve` drives connections by hyper-util, others by hyper itself; each wraps in its own way.
        let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => return Self::tcp(parts.io.into_inner(), None, parts.read_buf),
            Err(upgraded) => upgraded,
        };
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => Self::tcp(parts.io.into_inner(), None, parts.read_buf),
            Err(upgraded) => Self::Other(TokioIo::new(upgraded)),
        }
    }

    fn tcp(stream: TcpStream, place: Option<OwnedSemaphorePermit>, read: Bytes) -> Self {
        // Frames are small and written whole; waiting for more only delays them. Without it all still works.
        let _ = stream.set_nodelay(true);
        // Of nothing, too, hyper's whole buffer would be kept.
        let read = if read.is_empty() { Bytes::new() } else { read };
        Self::Tcp(stream, place, read)
    }

    /// The reading side, the writing side, and the outbound queue before it.
    pub(crate) fn split(self, budget: &Arc<Budget>) -> (Source, Sink, Arc<Outbound>) {
        match self {
            Self::Tcp(stream, place, read) => {
                let stream = Arc::new(stream);
                let outbound = Outbound::new(budget, Some(stream.clone()));
                let source =
                    Source { read, unsure: false, side: ReadSide::Tcp(stream.clone()), _place: place };
                (source, Sink::new(WriteSide::Tcp(stream)), Arc::new(outbound))
            }
            Self::Other(io) => {
                let (read, write) = tokio::io::split(io);
                let source =
                    Source { read: Bytes::new(), unsure: false, side: ReadSide::Other(read), _place: None };
                let outbound = Outbound::new(budget, None);
                (source, Sink::new(WriteSide::Other(write)), Arc::new(outbound))
            }
        }
    }
}

/// The reading side.
pub(crate) struct Source {
    /// What was read before the upgrade, or while nobody wanted to read.
    read: Bytes,
    /// The kernel may hold more than the readiness of the stream tells: it is asked, whatever that says.
    unsure: bool,
    side: ReadSide,
    /// Its place among the connections of the server.
    _place: Option<OwnedSemaphorePermit>,
}

enum ReadSide {
    Tcp(Arc<TcpStream>),
    Other(ReadHalf<Io>),
}

impl Source {
    /// Reads a piece into `take`; false at the end of the stream. Cancel safe.
    pub(crate) async fn read(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        if !self.read.is_empty() {
            take(&std::mem::take(&mut self.read));
            return Ok(true);
        }
        match &mut self.side {
            ReadSide::Tcp(stream) => loop {
                let read = if self.unsure {
                    read_unsure(stream, &mut self.unsure, &mut take)
                } else {
                    stream.readable().await?;
                    try_read(stream, &mut take)
                };
                match read {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return result,
                }
            },
            ReadSide::Other(stream) => read_piece(stream, take).await,
        }
    }

    /// Waits until the client has hung up, while it isn't read. Cancel safe.
    ///
    /// Over a stream that isn't bare TCP this has to read ahead, a piece at most: a client that has sent more before it
    /// hung up is missed by the next write or read.
    pub(crate) async fn hung_up(&mut self) {
        match &mut self.side {
            ReadSide::Tcp(stream) => loop {
                match stream.ready(Interest::READABLE).await {
                    Ok(ready) if !ready.is_read_closed() => {}
                    _ => return,
                }
                // There is something to read. That is forgotten, so that the next news is waited for.
                self.unsure = true;
                let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            },
            ReadSide::Other(stream) => {
                let ahead = &mut self.read;
                if ahead.is_empty() {
                    let read = read_piece(stream, |bytes| *ahead = Bytes::copy_from_slice(bytes)).await;
                    if !read.unwrap_or(false) {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn read_piece(stream: &mut ReadHalf<Io>, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
    poll_fn(|cx| {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        take(buffer.filled());
        Poll::Ready(Ok(!buffer.filled().is_empty()))
    })
    .await
}

/// Reads whatever the readiness says, until it is seen that the kernel holds nothing more: a later arrival is told again.
fn read_unsure(stream: &TcpStream, unsure: &mut bool, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let mut room = [0; READ_BYTES];
    let read = (&*SockRef::from(stream)).read(&mut room);
    *unsure = read.as_ref().is_ok_and(|bytes| *bytes == READ_BYTES);
    let bytes = read?;
    take(&room[..bytes]);
    Ok(bytes > 0)
}

fn try_read(stream: &TcpStream, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let mut room = [0; READ_BYTES];
    let mut read = None;
    let asked = stream.try_io(Interest::READABLE, || {
        let bytes = (&*SockRef::from(stream)).read(&mut room)?;
        read = Some(bytes);
        // Where room is left, nothing more was there. Said here, it spares the call that would find out.
        let is_empty = (1..READ_BYTES).contains(&bytes);
        if is_empty { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    let Some(bytes) = read else { return asked.map(|()| true) };
    take(&room[..bytes]);
    Ok(bytes > 0)
}

/// The writing side.
pub(crate) struct Sink {
    side: WriteSide,
    /// The queue was seen with something in it that isn't written yet.
    backlog: bool,
}

enum WriteSide {
    Tcp(Arc<TcpStream>),
    Other(WriteHalf<Io>),
}

impl Sink {
    fn new(side: WriteSide) -> Self {
        Self { side, backlog: false }
    }

    /// Waits until the queue needs it, and writes all of it, or as much as the client has taken when the socket comes
    /// to its end. Cancel safe.
    pub(crate) async fn write(&mut self, outbound: &Arc<Outbound>) -> io::Result<State> {
        if !self.backlog {
            outbound.woken().await;
            self.backlog = true;
        }
        let state = loop {
            tokio::select! {
                biased;
                state = self.drain(outbound) => break state?,
                // A push, or the end of a socket that isn't taken from.
                () = outbound.woken() => match outbound.state() {
                    State::Open => {}
                    state => return Ok(state),
                },
                () = overdue(outbound) => outbound.expire(),
            }
        };
        self.backlog = false;
        Ok(state)
    }

    /// Writes all of the queue. Cancel safe.
    pub(crate) async fn drain(&mut self, outbound: &Outbound) -> io::Result<State> {
        match &mut self.side {
            WriteSide::Tcp(stream) => loop {
                match outbound.drain(|parts| try_write(stream, parts)) {
                    Poll::Ready(result) => return result,
                    Poll::Pending => {
                        stream.writable().await?;
                        // Waiting for the stream takes nothing of the task's turn, however fast it is read.
                        consume_budget().await;
                    }
                }
            },
            WriteSide::Other(stream) => {
                poll_fn(|cx| {
                    let state = ready!(
                        outbound.drain(|parts| Pin::new(&mut *stream).poll_write_vectored(cx, parts))
                    )?;
                    ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                    Poll::Ready(Ok(state))
                })
                .await
            }
        }
    }
}

/// Waits until something has waited for longer than it may.
async fn overdue(outbound: &Outbound) {
    match outbound.deadline() {
        // Boxed, as a socket that takes all needs no room for it.
        Some(deadline) => Box::pin(sleep_until(deadline)).await,
        None => std::future::pending().await,
    }
}

/// Tells the client that nothing more comes, and reads what it still sends until it ends the stream too.
///
/// Closed with something unread, TCP would take back what was written but not read by the client.
pub(crate) async fn shut_down(source: Source, sink: Sink, outbound: &Arc<Outbound>) -> io::Result<()> {
    outbound.shut();
    match (source.side, sink.side) {
        (ReadSide::Tcp(stream), WriteSide::Tcp(other)) => {
            drop(other);
            // The queue has let go of it, so this is the last.
            let Some(mut stream) = Arc::into_inner(stream) else { return Ok(()) };
            stream.shutdown().await?;
            read_to_end(stream).await
        }
        (ReadSide::Other(read), WriteSide::Other(mut write)) => {
            write.shutdown().await?;
            read_to_end(read).await
        }
        _ => Ok(()),
    }
}

async fn read_to_end(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut room = vec![0; READ_BYTES];
    while stream.read(&mut room).await? > 0 {}
    Ok(())
}
