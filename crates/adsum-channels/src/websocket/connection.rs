//! The task of a WebSocket: reads from its client and writes the outbound queue.

use std::{pin::pin, sync::Arc, time::Duration};

use adsum_pubsub::{
    bounds::MAX_TIME,
    log::{cut, cut_name, limited},
};
use tokio::{
    sync::oneshot,
    task::{consume_budget, yield_now},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    silence::{Silence, Verdict},
    stream::{READ_BYTES, Sink, Source, Stream, shut_down},
};
use crate::{
    admission::Admitted,
    connection::Connection,
    endpoint::Endpoint,
    observe::ObservedRoundTrip,
    outbound::{Item, Outbound, OutboundState},
    rfc6455::reader::{Incoming, Reader},
    serializer::Wire,
    socket_end::{IDLE_CODE, RESTART_CODE, SocketEnd},
};

/// The close code after a malformed message, as in Phoenix.
const BAD_MESSAGE_CODE: u16 = 1011;

/// The close code of WebSocket for a message that is too large.
const TOO_LARGE_CODE: u16 = 1009;

/// The number of bytes that compressed messages may grow by before other tasks run. A read of 8 KB can grow to 8 MB.
const INFLATED_PER_TURN: usize = 256 * 1024;

/// How long a drain waits until the close frame is written to a client that reads nothing.
const WRITE_CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Serves a socket until its client or the server closes it.
pub(crate) fn run(
    endpoint: Arc<Endpoint>,
    admitted: Admitted,
    stream: Stream,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send {
    // Built here, outside the future, which would otherwise reserve space for each part as long as it lives.
    let (source, sink, outbound) = stream.split(&endpoint.budget);
    let socket = WebSocket {
        reader: Reader::new(endpoint.context.options.max_message_bytes, admitted.codec.compresses()),
        silence: Silence::new(Instant::now()),
        begun: None,
        paused: None,
        connection: Connection::new(endpoint.clone(), admitted, outbound.clone()),
        outbound,
        endpoint,
    };
    socket.run(source, sink, shutdown)
}

struct WebSocket {
    endpoint: Arc<Endpoint>,
    connection: Connection,
    outbound: Arc<Outbound>,
    reader: Reader,
    silence: Silence,
    /// When the current, incomplete message began.
    begun: Option<Instant>,
    /// Since when reading is paused.
    paused: Option<Instant>,
}

/// How a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The connection is lost.
    Gone,
    /// The client has closed, with this code to be sent back.
    ClosedByClient(u16),
    /// The server closes, and waits for the client's close frame.
    Close(u16),
    /// The client broke the WebSocket protocol.
    Fail(u16),
}

impl WebSocket {
    async fn run(mut self, mut source: Source, mut sink: Sink, shutdown: CancellationToken) {
        let ending = self.serve(&mut source, &mut sink, shutdown).await;
        tracing::debug!(?ending, "closing a socket");
        // Boxed, so that an open socket reserves no space for it.
        Box::pin(self.end(ending, source, sink)).await;
    }

    async fn serve(&mut self, source: &mut Source, sink: &mut Sink, shutdown: CancellationToken) -> Ending {
        let mut timer = pin!(sleep_until(self.due()));
        let mut shutdown = pin!(shutdown.cancelled_owned());
        loop {
            let mut fed = 0;
            let Self { reader, outbound, connection, paused, .. } = self;
            let read = async {
                if paused.is_some() {
                    source.hung_up().await;
                    return Ok(false);
                }
                let take = |bytes: &[u8]| {
                    fed = bytes.len();
                    reader.feed(bytes);
                };
                source.read(take).await
            };
            tokio::select! {
                read = read => {
                    if !read.unwrap_or(false) {
                        return Ending::Gone;
                    }
                    if let Err(ending) = self.receive(fed) {
                        return ending;
                    }
                    // Reading doesn't consume the task's budget, so a client that sends faster than it is read would
                    // starve other tasks.
                    if fed == READ_BYTES { yield_now().await } else { consume_budget().await }
                }
                state = sink.write(outbound) => match state {
                    Ok(OutboundState::Open) => {}
                    Ok(OutboundState::Closing(code)) => return Ending::Close(code),
                    Ok(OutboundState::Gone) | Err(_) => return Ending::Gone,
                },
                () = connection.tend() => {
                    if self.paused.is_some() {
                        // A client that makes it rest again and again would starve other tasks.
                        yield_now().await;
                        if let Err(ending) = self.receive(0) {
                            return ending;
                        }
                    }
                }
                () = &mut timer => {
                    if self.is_overdue(timer.deadline()) {
                        return Ending::Close(IDLE_CODE);
                    }
                    timer.as_mut().reset(self.due());
                }
                () = &mut shutdown => return Ending::Close(RESTART_CODE),
            }
            // The timer is only moved when it fires, except for a message that must end before.
            if self
                .begun
                .is_some_and(|begun| begun + self.endpoint.context.options.message_timeout < timer.deadline())
            {
                timer.as_mut().reset(self.due());
            }
        }
    }

    /// When to check whether the client was silent, or is too slow with a message.
    fn due(&self) -> Instant {
        let options = &self.endpoint.context.options;
        let silence = self.silence.due(options);
        let message = self.begun.map(|begun| begun + options.message_timeout);
        let due = silence.into_iter().chain(message).min().filter(|_| self.paused.is_none());
        // There is no deadline, so the timer merely fires periodically.
        due.unwrap_or_else(|| Instant::now() + options.timeout.unwrap_or(MAX_TIME))
    }

    /// Whether the client is gone, or too slow with a message. Pings it if necessary. `due` is when the timer was due.
    fn is_overdue(&mut self, due: Instant) -> bool {
        if self.paused.is_some() {
            // Time in which reading is paused counts as neither.
            return false;
        }
        let now = Instant::now();
        let options = &self.endpoint.context.options;
        if self.begun.is_some_and(|begun| now >= begun + options.message_timeout) {
            return true;
        }
        match self.silence.judge(now, due, options, || self.outbound.is_quiet()) {
            Verdict::Wait => {}
            Verdict::Ping => self.outbound.push_item(Item::Ping(self.silence.payload())),
            Verdict::Gone => return true,
        }
        false
    }

    /// Handles complete messages, as far as the channels have room and the client isn't too fast.
    fn receive(&mut self, bytes: usize) -> Result<(), Ending> {
        let now = Instant::now();
        self.silence.end(now);
        if let (Some(paused), Some(begun)) = (self.paused.take(), &mut self.begun) {
            *begun += now - paused;
        }
        self.connection.spend(0, bytes, now);
        let mut inflated = 0;
        while self.connection.is_ready() {
            let next = self.reader.next();
            let grown = self.reader.take_inflated();
            self.connection.pay(self.reader.take_frames(), grown, now);
            inflated += grown;
            if inflated > INFLATED_PER_TURN {
                self.connection.rest(now);
            }
            match next {
                Ok(None) => {
                    // A message that continues keeps the time at which it began.
                    self.begun = self.reader.is_amid().then(|| self.begun.unwrap_or(now));
                    return Ok(());
                }
                Ok(Some(Incoming::Text(text))) => self.handle(Wire::Text(&text))?,
                Ok(Some(Incoming::Binary(bytes))) => self.handle(Wire::Binary(&bytes))?,
                Ok(Some(Incoming::Ping(payload))) => self.outbound.push_item(Item::Pong(payload)),
                Ok(Some(Incoming::Pong(payload))) => self.hear_pong(&payload, now),
                Ok(Some(Incoming::Close { code, reason })) => {
                    tracing::debug!(code, reason = %cut_name(&reason), "the client closed the socket");
                    return Err(Ending::ClosedByClient(code.unwrap_or(1000)));
                }
                Err(error) => {
                    tracing::debug!(%error, "the client broke the WebSocket protocol; closing the socket");
                    if error.close_code() == TOO_LARGE_CODE {
                        self.endpoint.metrics.message_too_large();
                    }
                    return Err(Ending::Fail(error.close_code()));
                }
            }
        }
        self.paused = Some(now);
        Ok(())
    }

    fn hear_pong(&mut self, payload: &[u8], now: Instant) {
        if let Some(duration) = self.silence.round_trip(payload, now) {
            self.endpoint.metrics.ping_seconds.record(duration.as_secs_f64());
            let assigns = self.connection.assigns();
            self.endpoint.context.watch.round_trip(&ObservedRoundTrip { assigns, duration });
        }
    }

    fn handle(&mut self, message: Wire<'_>) -> Result<(), Ending> {
        self.begun = None;
        self.connection.receive(message).map_err(|error| {
            limited!(DEBUG, error = %cut(&error), "the client sent a malformed message; closing the socket");
            Ending::Close(BAD_MESSAGE_CODE)
        })
    }

    /// Runs the closing handshake with the client while the channels end.
    async fn end(mut self, ending: Ending, mut source: Source, mut sink: Sink) {
        match ending {
            Ending::Gone => self.outbound.shut(),
            Ending::ClosedByClient(code) | Ending::Close(code) | Ending::Fail(code) => {
                self.outbound.close(code);
            }
        }
        self.connection.end_channels(match ending {
            Ending::Gone => SocketEnd::Lost,
            Ending::ClosedByClient(code) => SocketEnd::Closed(code),
            Ending::Close(code) => SocketEnd::by_server(code),
            Ending::Fail(code) => SocketEnd::BadMessage(code),
        });
        let grace = self.endpoint.context.options.shutdown_grace;
        let Self { mut reader, outbound, connection, .. } = self;
        let (tell_written, written) = oneshot::channel::<()>();
        // The timeout is for a client that neither reads nor answers.
        let handshake = timeout(grace, async {
            match ending {
                Ending::Gone => drop(tell_written),
                Ending::Close(_) => {
                    let heard = hear_close(&mut source, &mut reader);
                    let write = async {
                        let _ = sink.drain(&outbound).await;
                        drop(tell_written);
                    };
                    tokio::join!(write, heard);
                }
                Ending::ClosedByClient(_) | Ending::Fail(_) => {
                    let drained = sink.drain(&outbound).await;
                    drop(tell_written);
                    if drained.is_ok() {
                        let _ = shut_down(source, sink, &outbound).await;
                    }
                }
            }
        });
        // A socket counts as closed once its channels have ended and the close frame is written; a drain doesn't wait
        // for the client's answer.
        let closed = async {
            let open_socket = connection.finish().await;
            let _ = timeout(WRITE_CLOSE_GRACE, written).await;
            drop(open_socket);
        };
        let _ = tokio::join!(handshake, closed);
        outbound.shut();
    }
}

/// Reads until the client has closed as well, past other messages.
async fn hear_close(source: &mut Source, reader: &mut Reader) {
    reader.skip_messages();
    loop {
        match reader.next() {
            Ok(Some(Incoming::Close { .. })) | Err(_) => return,
            Ok(Some(_)) => {}
            Ok(None) => {
                if !source.read(|bytes| reader.feed(bytes)).await.unwrap_or(false) {
                    return;
                }
                consume_budget().await;
            }
        }
    }
}
