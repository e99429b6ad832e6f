//! One client's session: the task that stands for its socket between two polls.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Message, Seat};
use crate::{
    Assigns,
    connection::Connection,
    endpoint::Endpoint,
    frame::Frame,
    outbound::{Outbound, State},
    serializer::{Codec, Wire},
};

/// How many requests of one client may wait for its session. It sends one post and one poll at a time.
const MAX_REQUESTS: usize = 16;

/// A handle to a session.
#[derive(Clone)]
pub(super) struct Session {
    requests: mpsc::Sender<Request>,
    window: Duration,
}

enum Request {
    Publish(Vec<Message>, oneshot::Sender<Result<(), String>>),
    Poll(oneshot::Sender<Polled>),
}

/// What a poll is answered with.
pub(super) enum Polled {
    Messages(Vec<String>),
    Nothing,
}

/// What a post is answered with.
pub(super) enum Published {
    Taken,
    Bad(String),
    /// The session has ended.
    Gone,
    /// The session didn't get to it in time.
    Late,
}

impl Session {
    /// What there is for the client, once there is something or the window has passed; none where the session
    /// has ended.
    pub(super) async fn poll(&self) -> Option<Polled> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Poll(answer)).await.ok()?;
        answered.await.ok()
    }

    pub(super) async fn publish(&self, batch: Vec<Message>) -> Published {
        let (answer, answered) = oneshot::channel();
        let taken = async {
            self.requests.send(Request::Publish(batch, answer)).await.ok()?;
            answered.await.ok()
        };
        match timeout(self.window, taken).await {
            Ok(Some(Ok(()))) => Published::Taken,
            Ok(Some(Err(error))) => Published::Bad(error),
            Ok(None) => Published::Gone,
            Err(_) => Published::Late,
        }
    }
}

/// Starts a session, which leaves its seat when it ends: by the client's silence, or with the server.
pub(super) fn start(
    endpoint: Arc<Endpoint>,
    assigns: Assigns,
    codec: Arc<Codec>,
    shutdown: CancellationToken,
    seat: Seat,
) -> Session {
    let (requests, received) = mpsc::channel(MAX_REQUESTS);
    let window = endpoint.options.longpoll_window;
    let outbound = Arc::new(Outbound::new(endpoint.options.max_queue_bytes, None));
    let connection = Connection::new(endpoint, assigns, codec, outbound.clone());
    let mut running = Running { connection, outbound, window, waiting: None, unread: Vec::new() };
    tokio::spawn(async move {
        running.serve(received, shutdown).await;
        drop(seat);
        // Whoever waits for an answer learns that the session has ended.
        running.waiting = None;
        running.connection.end_channels();
        running.connection.finish().await;
    });
    Session { requests, window }
}

struct Running {
    connection: Connection,
    outbound: Arc<Outbound>,
    window: Duration,
    /// The poll that is held open, and until when.
    waiting: Option<(oneshot::Sender<Polled>, Instant)>,
    /// What was to answer a poll whose client had gone away.
    unread: Vec<String>,
}

impl Running {
    async fn serve(&mut self, mut requests: mpsc::Receiver<Request>, shutdown: CancellationToken) {
        let patience = self.window.mul_f32(1.5);
        let mut heard = Instant::now();
        loop {
            let wake = self.waiting.as_ref().map_or(heard + patience, |(_, until)| *until);
            let Self { connection, outbound, .. } = self;
            tokio::select! {
                request = requests.recv() => match request {
                    Some(Request::Publish(batch, answer)) => {
                        heard = Instant::now();
                        // Who doesn't wait for the answer doesn't need it.
                        let _ = answer.send(self.receive(&batch));
                    }
                    Some(Request::Poll(answer)) => {
                        heard = Instant::now();
                        // A client polls once at a time: one that polls again has given up the poll before.
                        if let Some((before, _)) = self.waiting.replace((answer, heard + self.window)) {
                            let _ = before.send(Polled::Nothing);
                        }
                    }
                    None => return,
                },
                () = outbound.woken() => {}
                () = connection.channel_ended() => {}
                () = sleep_until(wake) => {
                    heard = Instant::now();
                    let Some((poll, _)) = self.waiting.take() else { return };
                    let _ = poll.send(Polled::Nothing);
                }
                () = shutdown.cancelled() => return,
            }
            if self.deliver() != State::Open {
                return;
            }
        }
    }

    fn receive(&mut self, batch: &[Message]) -> Result<(), String> {
        for message in batch {
            let message = match message {
                Message::Text(text) => Wire::Text(text),
                Message::Binary(bytes) => Wire::Binary(bytes),
            };
            // The session goes on: the client hears of its mistake by the answer.
            self.connection.receive(message).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Answers the poll that is held open, if there is something to say.
    fn deliver(&mut self) -> State {
        if self.waiting.as_ref().is_some_and(|(poll, _)| poll.is_closed()) {
            self.waiting = None;
        }
        let nothing = self.unread.is_empty() && self.outbound.is_quiet();
        let Some((poll, until)) = self.waiting.take_if(|_| !nothing) else { return self.outbound.state() };
        let (frames, state) = self.outbound.take();
        let mut messages = std::mem::take(&mut self.unread);
        // Bytes have no form in an answer; phoenix.js reads text only.
        let texts = frames.into_iter().filter_map(Frame::into_text);
        messages.extend(texts.map(|text| String::from_utf8_lossy(&text).into_owned()));
        if messages.is_empty() {
            self.waiting = Some((poll, until));
        } else if let Err(Polled::Messages(unread)) = poll.send(Polled::Messages(messages)) {
            self.unread = unread;
        }
        state
    }
}
