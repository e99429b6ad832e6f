//! The reading and writing halves of a stream: bare TCP, or any other stream that hyper has upgraded.

use std::{
    future::poll_fn,
    io::{self, IoSlice, Read},
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
    frame::Frame,
    outbound::{Budget, DirectStream, Item, Outbound, OutboundState, Transport},
    rfc6455::frame,
    serve::WatchedStream,
};

/// The size of a read. The buffer is on the stack, so an idle socket has none.
pub(super) const READ_BYTES: usize = 8 * 1024;

type Io = TokioIo<Upgraded>;

/// An upgraded stream, and the bytes that were already read from it.
pub(crate) enum Stream {
    Tcp(TcpStream, Option<OwnedSemaphorePermit>, Bytes),
    Other(Io),
}

impl Stream {
    /// Extracts the bare TCP stream from an upgraded connection, if there is one.
    pub(crate) fn new(upgraded: Upgraded) -> Self {
        let upgraded = match upgraded.downcast::<TokioIo<WatchedStream>>() {
            Ok(parts) => {
                let (stream, place) = parts.io.into_inner().into_parts();
                return Self::tcp(stream, Some(place), parts.read_buf);
            }
            Err(upgraded) => upgraded,
        };
        // `axum::serve` uses hyper-util, other servers use hyper itself; each wraps the stream differently.
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
        // Frames are small and written whole; waiting for more only delays them. Ignore the error: it works without it.
        let _ = stream.set_nodelay(true);
        // Even an empty slice would keep hyper's whole buffer alive.
        let read = if read.is_empty() { Bytes::new() } else { read };
        Self::Tcp(stream, place, read)
    }

    /// Splits the stream into its reading and writing halves and the outbound queue.
    pub(crate) fn split(self, budget: &Arc<Budget>) -> (Source, Sink, Arc<Outbound>) {
        match self {
            Self::Tcp(stream, place, read) => {
                let stream = Arc::new(stream);
                let outbound = Outbound::new(budget, transport(Some(stream.clone())));
                let source =
                    Source { read, unsure: false, side: ReadSide::Tcp(stream.clone()), _place: place };
                (source, Sink::new(WriteSide::Tcp(stream)), Arc::new(outbound))
            }
            Self::Other(io) => {
                let (read, write) = tokio::io::split(io);
                let source =
                    Source { read: Bytes::new(), unsure: false, side: ReadSide::Other(read), _place: None };
                let outbound = Outbound::new(budget, transport(None));
                (source, Sink::new(WriteSide::Other(write)), Arc::new(outbound))
            }
        }
    }
}

/// The reading half.
pub(crate) struct Source {
    /// Bytes that were read before the upgrade, or while reading was paused.
    read: Bytes,
    /// Whether the kernel may hold bytes although the stream isn't marked as readable, so that a read must be tried.
    unsure: bool,
    side: ReadSide,
    /// Its permit as a connection of the server.
    _place: Option<OwnedSemaphorePermit>,
}

enum ReadSide {
    Tcp(Arc<TcpStream>),
    Other(ReadHalf<Io>),
}

impl Source {
    /// Reads a chunk into `take`. Returns false at the end of the stream. Cancel safe.
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

    /// Waits until the client has hung up, while reading is paused. Cancel safe.
    ///
    /// For a stream other than bare TCP it reads ahead, at most one chunk. If the client has sent more before it hung
    /// up, only the next write or read notices.
    pub(crate) async fn hung_up(&mut self) {
        match &mut self.side {
            ReadSide::Tcp(stream) => loop {
                match stream.ready(Interest::READABLE).await {
                    Ok(ready) if !ready.is_read_closed() => {}
                    _ => return,
                }
                // There is something to read. Clear the readiness, to wait for the next event.
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

/// Reads regardless of the readiness, until the kernel holds no more bytes: later arrivals set the readiness again.
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
        // A short read means that nothing more is there. Clearing the readiness saves the system call that would find
        // out.
        let is_empty = (1..READ_BYTES).contains(&bytes);
        if is_empty { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    let Some(bytes) = read else { return asked.map(|()| true) };
    take(&room[..bytes]);
    Ok(bytes > 0)
}

/// The writing half.
pub(crate) struct Sink {
    side: WriteSide,
    /// Whether the queue had something that isn't written yet.
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

    /// Waits until the queue needs writing, and writes until it is empty, or until the socket closes. Cancel safe.
    pub(crate) async fn write(&mut self, outbound: &Arc<Outbound>) -> io::Result<OutboundState> {
        if !self.backlog {
            outbound.woken().await;
            self.backlog = true;
        }
        let state = loop {
            tokio::select! {
                biased;
                state = self.drain(outbound) => break state?,
                // A push, or the close of a socket whose client doesn't read.
                () = outbound.woken() => match outbound.state() {
                    OutboundState::Open => {}
                    state => return Ok(state),
                },
                () = overdue(outbound) => outbound.expire(),
            }
        };
        self.backlog = false;
        Ok(state)
    }

    /// Writes all of the queue. Cancel safe.
    pub(crate) async fn drain(&mut self, outbound: &Outbound) -> io::Result<OutboundState> {
        match &mut self.side {
            WriteSide::Tcp(stream) => loop {
                match outbound.drain(|parts| DirectStream::try_write(&**stream, parts)) {
                    Poll::Ready(result) => return result,
                    Poll::Pending => {
                        stream.writable().await?;
                        // Waiting for the stream doesn't consume the task's budget, however fast the client reads.
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

/// The transport of a WebSocket.
pub(crate) fn transport(stream: Option<Arc<dyn DirectStream>>) -> Transport {
    let encode = |item| {
        Some(match item {
            Item::Frame(frame) => frame,
            Item::Ping(payload) => Frame::whole(frame::ping(payload)),
            Item::Pong(payload) => Frame::whole(frame::pong(&payload)),
            Item::Close(code) => Frame::whole(frame::close(code, "")),
        })
    };
    Transport { encode, stream }
}

impl DirectStream for TcpStream {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = match parts {
            [part] => self.try_write(part),
            parts => self.try_write_vectored(parts),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result),
        }
    }
}

/// Waits until the oldest timed frame must be sent.
async fn overdue(outbound: &Outbound) {
    match outbound.deadline() {
        // Boxed, so that a socket without a backlog reserves no space for it.
        Some(deadline) => Box::pin(sleep_until(deadline)).await,
        None => std::future::pending().await,
    }
}

/// Shuts the writing half down, and reads until the client has closed its half.
///
/// If TCP is closed with unread bytes, the client may lose written bytes that it hasn't read.
pub(crate) async fn shut_down(source: Source, sink: Sink, outbound: &Arc<Outbound>) -> io::Result<()> {
    outbound.shut();
    match (source.side, sink.side) {
        (ReadSide::Tcp(stream), WriteSide::Tcp(other)) => {
            drop(other);
            // The queue has dropped its reference, so this is the last one.
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
