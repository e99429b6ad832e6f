//! A client's session: the task that stands for its socket between polls.

use std::{sync::Arc, time::Duration, vec};

use adsum_pubsub::log::limited;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    PostedMessage, SessionEntry,
    responder::{NodeAnswer, NotSent, Responder},
};
use crate::{
    admission::Admitted,
    connection::Connection,
    endpoint::EndpointOwner,
    frame::{Frame, Outgoing},
    outbound::{Outbound, OutboundState, Transport},
    serializer::Wire,
};

/// Maximum number of queued requests of one client. It sends one post and one poll at a time.
const MAX_REQUESTS: usize = 16;

/// A message can't be passed on to the node whose client waits for it.
struct NeverFits;

/// A handle to a session.
#[derive(Clone)]
pub(super) struct SessionHandle {
    requests: mpsc::Sender<Request>,
    window: Duration,
}

pub(super) enum Request {
    Publish(Vec<PostedMessage>, Recipient<Result<(), String>>),
    Poll(Recipient<Polled>),
    /// The client of a poll through another node has gone away.
    GiveUp {
        number: u64,
        relay: String,
    },
}

/// The result of a poll.
pub(super) enum Polled {
    Messages(Vec<String>),
    Nothing,
    /// The session has ended, or is unknown.
    Gone,
}

/// The result of a post.
pub(super) enum Published {
    Taken,
    Bad(String),
    /// The session has ended.
    Gone,
    /// The session didn't process it in time.
    Late,
    /// It can't be passed on to the node of the session.
    TooLong,
}

/// The recipient of a response: a request on this node or on another.
pub(super) enum Recipient<T> {
    Local(oneshot::Sender<T>),
    Remote(Responder),
}

impl SessionHandle {
    /// Creates a session that is not [started](start) yet, and the receiver of its requests.
    pub(super) fn new(window: Duration) -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(MAX_REQUESTS);
        (Self { requests, window }, received)
    }

    /// Waits for messages to the client, or until the window has passed.
    pub(super) async fn poll(&self) -> Polled {
        let (answer, answered) = oneshot::channel();
        match self.requests.send(Request::Poll(Recipient::Local(answer))).await {
            Ok(()) => answered.await.unwrap_or(Polled::Gone),
            Err(_) => Polled::Gone,
        }
    }

    pub(super) async fn publish(&self, batch: Vec<PostedMessage>) -> Published {
        let (answer, answered) = oneshot::channel();
        let taken = async {
            self.requests.send(Request::Publish(batch, Recipient::Local(answer))).await.ok()?;
            answered.await.ok()
        };
        match timeout(self.window, taken).await {
            Ok(Some(Ok(()))) => Published::Taken,
            Ok(Some(Err(error))) => Published::Bad(error),
            Ok(None) => Published::Gone,
            Err(_) => Published::Late,
        }
    }

    /// Queues a request from another node. If the queue is full, drops it without a response; the requester times out.
    pub(super) fn offer(&self, request: Request) {
        if let Err(mpsc::error::TrySendError::Full(request)) = self.requests.try_send(request) {
            request.forget();
        }
    }
}

impl Request {
    /// Drops the request without telling the requester that the session is gone.
    fn forget(self) {
        if let Self::Publish(_, Recipient::Remote(responder)) | Self::Poll(Recipient::Remote(responder)) =
            self
        {
            responder.leave_unanswered();
        }
    }
}

impl Recipient<Result<(), String>> {
    fn send(self, taken: Result<(), String>) {
        match self {
            // Ignore the error: the requester no longer waits.
            Self::Local(answer) => drop(answer.send(taken)),
            Self::Remote(responder) => {
                drop(responder.answer(&taken.map_or_else(NodeAnswer::Bad, |()| NodeAnswer::Taken)));
            }
        }
    }
}

impl Recipient<Polled> {
    /// Responds with no messages.
    fn send_nothing(self) {
        match self {
            Self::Local(answer) => drop(answer.send(Polled::Nothing)),
            // If it can't be sent, the requester times out.
            Self::Remote(responder) => drop(responder.answer(&NodeAnswer::Nothing)),
        }
    }

    /// Responds with messages, and returns those that were not sent.
    ///
    /// # Errors
    /// The first message never fits between the nodes. The requester is told that the session is gone.
    fn send(self, mut messages: Vec<String>) -> Result<Vec<String>, NeverFits> {
        Ok(match self {
            Self::Local(answer) => match answer.send(Polled::Messages(messages)) {
                Err(Polled::Messages(unread)) => unread,
                _ => Vec::new(),
            },
            Self::Remote(responder) => {
                let unread = messages.split_off(responder.fitting(&messages));
                let answer = NodeAnswer::Messages(messages);
                match (responder.answer(&answer), answer) {
                    (Err(NotSent::TooLong(_)), _) => return Err(NeverFits),
                    (Err(NotSent::Now(_)), NodeAnswer::Messages(messages)) => [messages, unread].concat(),
                    _ => unread,
                }
            }
        })
    }

    fn is_given_up(&self) -> bool {
        matches!(self, Self::Local(answer) if answer.is_closed())
    }

    /// Resolves once the requester no longer waits. Another node signals it with a request instead.
    async fn given_up(&mut self) {
        match self {
            Self::Local(answer) => answer.closed().await,
            Self::Remote(_) => std::future::pending().await,
        }
    }
}

/// Starts a session. It ends after the client's silence or with the server, and then drops its entry.
pub(super) fn start(
    owner: &EndpointOwner,
    admitted: Admitted,
    requests: mpsc::Receiver<Request>,
    entry: SessionEntry,
) {
    let endpoint = owner.endpoint.clone();
    let window = endpoint.context.options.longpoll_window;
    let outbound = Arc::new(Outbound::new(&endpoint.budget, Transport::polled()));
    let connection = Connection::new(endpoint, admitted, outbound.clone());
    let mut running =
        Running { connection, outbound, window, waiting: None, posted: None, unread: Vec::new() };
    owner.tasks.spawn("long poll session", |shutdown| async move {
        running.serve(requests, shutdown).await;
        drop(entry);
        // Pending requests learn that the session has ended.
        (running.waiting, running.posted) = (None, None);
        running.connection.end_channels(running.outbound.server_end());
        running.outbound.shut();
        running.connection.finish().await;
    });
}

struct Running {
    connection: Connection,
    outbound: Arc<Outbound>,
    window: Duration,
    /// The poll that is held open, and until when.
    waiting: Option<(Recipient<Polled>, Instant)>,
    /// The post that is being handled. While a channel has no room for its next event, or the client is too fast, no
    /// other request is processed.
    posted: Option<Posted>,
    /// Messages of a poll response that didn't reach the client. They are sent before those in the queue.
    unread: Vec<String>,
}

struct Posted {
    batch: vec::IntoIter<PostedMessage>,
    answer: Recipient<Result<(), String>>,
}

impl Running {
    async fn serve(&mut self, mut requests: mpsc::Receiver<Request>, shutdown: CancellationToken) {
        let patience = self.window.mul_f32(1.5);
        // When the client was last active: at a post, or at the start or the answered end of a poll.
        let mut heard = Instant::now();
        loop {
            let wake = self.waiting.as_ref().map_or(heard + patience, |(_, until)| *until);
            let Self { connection, outbound, waiting, .. } = self;
            let given_up = async {
                match waiting {
                    Some((poll, _)) => poll.given_up().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                request = requests.recv(), if self.posted.is_none() => match request {
                    Some(Request::Publish(batch, answer)) => {
                        heard = Instant::now();
                        self.posted = Some(Posted { batch: batch.into_iter(), answer });
                        self.receive();
                    }
                    Some(Request::Poll(answer)) => {
                        heard = Instant::now();
                        self.outbound.note_heard(heard);
                        // A client has one poll at a time: a new poll means that it has given up the previous one.
                        if let Some((before, _)) = self.waiting.replace((answer, heard + self.window)) {
                            before.send_nothing();
                        }
                    }
                    Some(Request::GiveUp { number, relay }) => {
                        let given_up = self.waiting.take_if(|(poll, _)| {
                            matches!(poll, Recipient::Remote(responder) if responder.is(number, &relay))
                        });
                        if let Some((Recipient::Remote(responder), _)) = given_up {
                            responder.leave_unanswered();
                        }
                    }
                    None => return,
                },
                () = outbound.woken() => {}
                () = connection.tend() => {
                    if self.posted.is_some() {
                        // The time in which requests weren't processed doesn't count as silence.
                        heard = Instant::now();
                        self.receive();
                    }
                }
                () = given_up => self.waiting = None,
                () = sleep_until(wake) => match self.waiting.take() {
                    Some((poll, _)) => {
                        if !poll.is_given_up() {
                            heard = Instant::now();
                        }
                        poll.send_nothing();
                    }
                    None if self.posted.is_some() => heard = Instant::now(),
                    None => return,
                },
                () = shutdown.cancelled() => return,
            }
            if self.deliver() != OutboundState::Open {
                return;
            }
        }
    }

    /// Handles the posted messages as far as the channels have room, and answers the post once all are handled.
    fn receive(&mut self) {
        let Some(mut posted) = self.posted.take() else { return };
        let now = Instant::now();
        while self.connection.is_ready() {
            let Some(message) = posted.batch.next() else { return posted.answer.send(Ok(())) };
            let wire = match &message {
                PostedMessage::Text(text) => Wire::Text(text),
                PostedMessage::Binary(bytes) => Wire::Binary(bytes),
            };
            let received = self.connection.receive(wire);
            self.connection.spend(1, message.len(), now);
            if let Err(error) = received {
                // The session continues: the response tells the client of the error.
                return posted.answer.send(Err(error.to_string()));
            }
        }
        self.posted = Some(posted);
    }

    /// Answers the poll that is held open, if there are messages.
    fn deliver(&mut self) -> OutboundState {
        self.waiting.take_if(|(poll, _)| poll.is_given_up());
        if self.waiting.is_some() && self.unread.is_empty() && !self.outbound.is_quiet() {
            // Binary messages have no form in a response; phoenix.js reads only text.
            let messages = self.outbound.take().0.into_iter().filter_map(Frame::into_message);
            let texts = messages.filter_map(|message| match message {
                Outgoing::Text(text) => Some(String::from_utf8_lossy(&text).into_owned()),
                Outgoing::Binary(_) | Outgoing::Nothing | Outgoing::Close(_) => None,
            });
            self.unread = texts.collect();
        }
        if let Some((poll, _)) = self.waiting.take_if(|_| !self.unread.is_empty()) {
            if let Ok(unread) = poll.send(std::mem::take(&mut self.unread)) {
                self.unread = unread;
            } else {
                // Each further poll through another node would fail as well. The client opens a new session instead.
                limited!(
                    WARN,
                    "ended a long poll session: a message never reaches the node that its client polls"
                );
                self.outbound.never_fits();
            }
            self.outbound.note_returned(self.unread.iter().map(String::len).sum());
        }
        self.outbound.state()
    }
}
