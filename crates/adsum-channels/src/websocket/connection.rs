//! The task of one socket: reads its client, runs the session, writes what has gathered, owns its channels.

use std::{pin::pin, sync::Arc};

use adsum_pubsub::{Json, Topic};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Incoming, Reader,
    stream::{Sink, Source, Stream, shut_down},
};
use crate::{
    Assigns,
    builder::Endpoint,
    outbound::{Outbound, State, pong},
    runtime::{EndCause, Letter, Link, Place, Start, reason_json},
    serializer::{Address, ClientFrame, Serializer},
    session::{Action, Liveness, Session},
};

/// What Bandit closes a silent client's socket with.
const IDLE_CODE: u16 = 1002;
/// Binary messages have no meaning here.
const BINARY_CODE: u16 = 1003;
/// What Phoenix closes with after a frame that it can't read.
const BAD_FRAME_CODE: u16 = 1011;
/// The server goes, and another will be there.
const SHUTDOWN_CODE: u16 = 1012;

/// Serves a socket until its client or the server closes it.
pub(crate) async fn run(
    endpoint: Arc<Endpoint>,
    assigns: Assigns,
    serializer: Serializer,
    stream: Stream,
    shutdown: CancellationToken,
) {
    metrics::counter!("adsum_sockets_opened_total").increment(1);
    let (mut source, mut sink, outbound) = stream.split(endpoint.options.max_queue_bytes);
    let mut connection = Connection {
        session: Session::new(&endpoint.options),
        reader: Reader::new(endpoint.options.max_message_bytes),
        heard: Instant::now(),
        tasks: JoinSet::new(),
        assigns: Arc::new(assigns),
        endpoint,
        serializer,
        outbound,
    };
    let ending = connection.serve(&mut source, &mut sink, shutdown).await;
    tracing::debug!(?ending, "socket closes");
    connection.end(ending, source, sink).await;
    metrics::counter!("adsum_sockets_closed_total").increment(1);
}

struct Connection {
    endpoint: Arc<Endpoint>,
    assigns: Arc<Assigns>,
    serializer: Serializer,
    outbound: Arc<Outbound>,
    session: Session<Arc<Link>>,
    /// One task for each join.
    tasks: JoinSet<Topic>,
    reader: Reader,
    /// When the client has last sent something.
    heard: Instant,
}

/// How a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The connection is lost.
    Gone,
    /// The client has closed, with this code to be sent back.
    ClosedByClient(u16),
    /// The server closes, and the client answers.
    Close(u16),
    /// What the client sends makes no sense any more.
    Fail(u16),
}

impl Liveness for Arc<Link> {
    fn is_open(&self) -> bool {
        Link::is_open(self)
    }
}

impl Connection {
    async fn serve(&mut self, source: &mut Source, sink: &mut Sink, shutdown: CancellationToken) -> Ending {
        let silence = self.endpoint.options.timeout;
        let mut idle = pin!(sleep_until(self.heard + silence));
        let mut shutdown = pin!(shutdown.cancelled_owned());
        loop {
            let Self { reader, outbound, tasks, .. } = self;
            tokio::select! {
                read = source.read(|bytes| reader.feed(bytes)) => {
                    if !read.unwrap_or(false) {
                        return Ending::Gone;
                    }
                    if let Err(ending) = self.receive() {
                        return ending;
                    }
                }
                state = sink.write(outbound) => match state {
                    Ok(State::Open) => {}
                    Ok(State::Closing(code)) => return Ending::Close(code),
                    Ok(State::Gone) | Err(_) => return Ending::Gone,
                },
                Some(ended) = tasks.join_next() => self.forget(ended.ok()),
                () = &mut idle => {
                    if self.heard.elapsed() >= silence {
                        return Ending::Close(IDLE_CODE);
                    }
                    idle.as_mut().reset(self.heard + silence);
                }
                () = &mut shutdown => return Ending::Close(SHUTDOWN_CODE),
            }
        }
    }

    /// Handles all that has arrived in full.
    fn receive(&mut self) -> Result<(), Ending> {
        self.heard = Instant::now();
        loop {
            match self.reader.next() {
                Ok(None) => return Ok(()),
                Ok(Some(Incoming::Text(text))) => self.handle(&text)?,
                Ok(Some(Incoming::Binary(_))) => return Err(Ending::Close(BINARY_CODE)),
                Ok(Some(Incoming::Ping(payload))) => self.outbound.push(pong(&payload)),
                Ok(Some(Incoming::Pong)) => {}
                Ok(Some(Incoming::Close { code, reason })) => {
                    tracing::debug!(code, reason, "client closes");
                    return Err(Ending::ClosedByClient(code.unwrap_or(1000)));
                }
                Err(error) => {
                    tracing::debug!(%error, "client broke the WebSocket protocol");
                    return Err(Ending::Fail(error.close_code()));
                }
            }
        }
    }

    fn handle(&mut self, text: &[u8]) -> Result<(), Ending> {
        let frame = self.serializer.decode(text).map_err(|error| {
            tracing::debug!(%error, "client sent a bad frame");
            Ending::Close(BAD_FRAME_CODE)
        })?;
        let routes = &self.endpoint.routes;
        let action =
            self.session.handle(&frame, |topic| routes.iter().position(|route| route.matches(topic)));
        match action {
            Action::Drop => {}
            Action::Ok { with_join_ref } => self.reply(&frame, with_join_ref, "ok", &Json::empty_object()),
            Action::Error { with_join_ref, reason } => {
                self.reply(&frame, with_join_ref, "error", &reason_json(reason));
            }
            Action::Event(channel) => {
                let event = Letter::Event {
                    reference: frame.reference.into(),
                    event: frame.event.as_ref().into(),
                    payload: frame.payload.into(),
                };
                // A channel that ends at this moment has told its client so; one that overflows will.
                let _ = channel.deliver_letter(event);
            }
            Action::Leave(channel) => {
                if channel.end(EndCause::Leave { reference: frame.reference.into() }).is_err() {
                    self.reply(&frame, true, "ok", &Json::empty_object());
                }
            }
            Action::Join { topic, route, join_ref, after, duplicate } => {
                // Joined over and over, a topic whose channel takes its time to end must not pile up tasks.
                if self.tasks.len() >= self.endpoint.options.max_channels.saturating_mul(2) {
                    self.reply(&frame, true, "error", &reason_json("too many channels joined"));
                    return Ok(());
                }
                if let Some(before) = after.as_ref().filter(|_| duplicate) {
                    // One that ends by itself at this moment needs not be told.
                    let _ = before.end(EndCause::DuplicateJoin);
                }
                self.start(&frame, topic, route, join_ref, after);
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        frame: &ClientFrame<'_>,
        topic: Topic,
        route: usize,
        join_ref: Box<str>,
        after: Option<Arc<Link>>,
    ) {
        let topic_text = serde_json::to_string(topic.as_str()).expect("a string can be written as JSON");
        let place = Place { join_ref: join_ref.clone(), topic: topic_text.into() };
        let options = &self.endpoint.options;
        let link = Link::new(topic.clone(), place, self.outbound.clone(), self.serializer, options);
        let link = Arc::new(link);
        let start = Start {
            link: link.clone(),
            assigns: self.assigns.clone(),
            pubsub: self.endpoint.pubsub.clone(),
            params: frame.payload.into(),
            join_ref: frame.join_ref.into(),
            reference: frame.reference.into(),
            after,
            grace: options.shutdown_grace,
        };
        self.endpoint.routes[route].spawn(start, &mut self.tasks);
        self.session.insert(topic, join_ref, link);
    }

    fn reply(&self, frame: &ClientFrame<'_>, with_join_ref: bool, status: &str, response: &Json) {
        let join_ref = if with_join_ref { frame.join_ref } else { "null" };
        let to = Address { join_ref, reference: frame.reference, topic: frame.topic_text };
        self.outbound.push(self.serializer.reply(to, status, response));
    }

    /// Forgets the channel whose task has ended; where that panicked, all that have ended.
    fn forget(&mut self, topic: Option<Topic>) {
        match topic {
            Some(topic) => self.session.forget(&topic, |link| link.has_ended()),
            None => self.session.forget_all(|link| link.has_ended()),
        }
    }

    /// Says goodbye to the client while the channels end.
    async fn end(mut self, ending: Ending, mut source: Source, mut sink: Sink) {
        match ending {
            Ending::Gone => self.outbound.shut(),
            Ending::ClosedByClient(code) | Ending::Close(code) | Ending::Fail(code) => {
                self.outbound.close(code);
            }
        }
        for channel in self.session.channels() {
            // One that is ending already needs not be told.
            let _ = channel.end(EndCause::Closed);
        }
        let grace = self.endpoint.options.shutdown_grace;
        let Self { reader, outbound, tasks, .. } = &mut self;
        // A client that neither reads nor answers is left alone after a while.
        let _ = timeout(grace, async {
            match ending {
                Ending::Gone => {}
                Ending::ClosedByClient(_) => drop(sink.drain(outbound).await),
                Ending::Close(_) => {
                    let heard = hear_close(&mut source, reader);
                    let _ = tokio::join!(sink.drain(outbound), heard);
                }
                Ending::Fail(_) => {
                    if sink.drain(outbound).await.is_ok() {
                        let _ = shut_down(source, sink, outbound).await;
                    }
                }
            }
        })
        .await;
        outbound.shut();
        // Each cuts itself off after the grace. One that blocks its thread can't, and is not waited for.
        let _ = timeout(2 * grace, async { while tasks.join_next().await.is_some() {} }).await;
    }
}

/// Reads until the client has closed as well. What else it sends comes too late.
async fn hear_close(source: &mut Source, reader: &mut Reader) {
    loop {
        match reader.next() {
            Ok(Some(Incoming::Close { .. })) | Err(_) => return,
            Ok(Some(_)) => {}
            Ok(None) => {
                if !source.read(|bytes| reader.feed(bytes)).await.unwrap_or(false) {
                    return;
                }
            }
        }
    }
}
