//! The task of one join: joins, handles letters one by one, and ends in good order.

use std::{
    collections::VecDeque,
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{Json, Pattern, Payload, PubSub, Topic};
use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::{
    link::{Link, reason_json, sendable},
    mailbox::{EndCause, Letter},
};
use crate::{
    Assigns, Channel, JoinError, Joined, PushError, Reason, Reply, Socket, Stop, channel::JoinErrorKind,
    frame::Frame, reply::StopKind,
};

/// Topics, and the channel that serves them.
pub(crate) struct Route {
    pattern: Pattern,
    spawn: Spawn,
}

/// Spawns the task of one channel type.
type Spawn = Box<dyn Fn(Start, &mut JoinSet<Topic>) + Send + Sync>;

impl Route {
    pub(crate) fn new<C: Channel>(pattern: Pattern, app: Arc<C::App>) -> Self {
        let spawn = Box::new(move |start, tasks: &mut JoinSet<Topic>| {
            tasks.spawn(run::<C>(app.clone(), start));
        });
        Self { pattern, spawn }
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.pattern.matches(topic)
    }

    /// Starts a join's task, which returns its topic.
    pub(crate) fn spawn(&self, start: Start, tasks: &mut JoinSet<Topic>) {
        (self.spawn)(start, tasks);
    }
}

/// What a join's task starts with.
pub(crate) struct Start {
    pub(crate) link: Arc<Link>,
    pub(crate) assigns: Arc<Assigns>,
    pub(crate) pubsub: PubSub,
    pub(crate) params: Json,
    /// The `join_ref` as it came, for the reply.
    pub(crate) join_ref: Box<str>,
    pub(crate) reference: Box<str>,
    /// The task of the same topic that has to end first.
    pub(crate) after: Option<Arc<Link>>,
    pub(crate) grace: Duration,
}

async fn run<C: Channel>(app: Arc<C::App>, start: Start) -> Topic {
    let Start { link, assigns, pubsub, params, join_ref, reference, after, grace } = start;
    // The first value here, so the last to go: whoever waits for the end finds nothing left of the channel.
    let _ended = Ended(link.clone());
    let topic = link.topic().clone();
    let mut overdue = pin!(async {
        link.mailbox().ending().await;
        tokio::time::sleep(grace).await;
    });
    let mut socket = Socket::new::<C>(link.clone(), assigns, pubsub);

    let joining = Box::pin(join::<C>(&app, params, after.as_deref(), &mut socket));
    let verdict = judge(guarded(joining, overdue.as_mut()).await, &topic);
    // A client that knows of a failed join must find the topic unmatched.
    let unread = if verdict.joined.is_some() { VecDeque::new() } else { link.mailbox().close() };
    link.locked(|queue| {
        if verdict.joined.is_some() {
            socket.attach();
            link.set_subscribed(true, queue);
        }
        queue.push(link.join_reply_frame(&join_ref, &reference, verdict.status, &verdict.response));
        if let Some(after) = after.as_deref().filter(|after| after.owes_close()) {
            queue.push(after.close_frame());
        }
        unread.into_iter().filter_map(|letter| unjoined(&link, letter)).for_each(|frame| queue.push(frame));
    });
    drop(after);
    let Some((mut channel, info)) = verdict.joined else { return topic };
    metrics::counter!("adsum_channels_joined_total").increment(1);

    let mut end = None;
    match guarded(serve(&mut channel, info, &mut socket, &mut end), overdue).await {
        Outcome::Done(()) => {}
        Outcome::Panicked => {
            tracing::error!(%topic, "channel panicked");
            end.get_or_insert(End::new(Reason::Crashed));
        }
        Outcome::Overdue => tracing::error!(%topic, ?grace, "channel did not end in time and was cut off"),
    }
    finish(end, &mut socket);
    topic
}

/// Says that the task has ended, however it did.
struct Ended(Arc<Link>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.set_ended();
    }
}

enum Outcome<T> {
    Done(T),
    Panicked,
    Overdue,
}

/// Runs the program's code: a panic in it, or a handler that hangs, ends nothing but this channel.
async fn guarded<F: Future>(work: F, overdue: Pin<&mut impl Future<Output = ()>>) -> Outcome<F::Output> {
    // What the work has borrowed is only ended after a panic, never handled on.
    tokio::select! {
        biased;
        result = AssertUnwindSafe(work).catch_unwind() => result.map_or(Outcome::Panicked, Outcome::Done),
        () = overdue => Outcome::Overdue,
    }
}

enum JoinFailure {
    Params(serde_json::Error),
    Join(JoinError),
}

async fn join<C: Channel>(
    app: &Arc<C::App>,
    params: Json,
    after: Option<&Link>,
    socket: &mut Socket,
) -> Result<Joined<C>, JoinFailure> {
    if let Some(after) = after {
        after.ended().await;
    }
    let params = params.decode().map_err(JoinFailure::Params)?;
    let topic = socket.topic().clone();
    C::join(app, &topic, params, socket).await.map_err(JoinFailure::Join)
}

/// What a client is told of its join.
struct Verdict<C: Channel> {
    joined: Option<(C, Option<C::Info>)>,
    status: &'static str,
    response: Json,
}

fn judge<C: Channel>(outcome: Outcome<Result<Joined<C>, JoinFailure>>, topic: &Topic) -> Verdict<C> {
    let refused = |response| Verdict { joined: None, status: "error", response };
    let crashed = |error: &dyn std::fmt::Display| {
        tracing::error!(%topic, %error, "join crashed");
        refused(reason_json("join crashed"))
    };
    match outcome {
        Outcome::Done(Ok(Joined { channel, info, response })) => {
            match response.map_or_else(|| Ok(Json::empty_object()), sendable) {
                Ok(response) => Verdict { joined: Some((channel, info)), status: "ok", response },
                Err(error) => crashed(&error),
            }
        }
        Outcome::Done(Err(JoinFailure::Params(error))) => {
            tracing::debug!(%topic, %error, "join with invalid params");
            refused(reason_json("invalid params"))
        }
        Outcome::Done(Err(JoinFailure::Join(error))) => match error.kind {
            JoinErrorKind::Refused(response) => match sendable(response) {
                Ok(response) => refused(response),
                Err(error) => crashed(&error),
            },
            JoinErrorKind::Crashed(error) => crashed(&error),
        },
        Outcome::Panicked => crashed(&"panicked"),
        Outcome::Overdue => crashed(&"did not end in time and was cut off"),
    }
}

/// How a letter is answered whose channel was never joined.
fn unjoined(link: &Link, letter: Letter) -> Option<Frame> {
    match letter {
        Letter::Event { reference, .. } => {
            Some(link.join_reply_frame("null", &reference, "error", &reason_json("unmatched topic")))
        }
        letter => left(link, letter),
    }
}

/// The reply to a leave that the channel itself has not got to.
fn left(link: &Link, letter: Letter) -> Option<Frame> {
    match letter {
        Letter::End(EndCause::Leave { reference }) => {
            Some(link.reply_frame(&reference, "ok", &Json::empty_object()))
        }
        _ => None,
    }
}

/// How a channel ends.
struct End {
    reason: Reason,
    /// The letter that made it end, if it has to be answered.
    leave: Option<Letter>,
}

impl End {
    fn new(reason: Reason) -> Self {
        Self { reason, leave: None }
    }

    fn by(cause: EndCause) -> Self {
        match cause {
            EndCause::Leave { .. } => Self { reason: Reason::Left, leave: Some(Letter::End(cause)) },
            EndCause::Closed => Self::new(Reason::Closed),
            EndCause::DuplicateJoin => Self::new(Reason::DuplicateJoin),
        }
    }
}

/// Handles letters until the channel ends, and lets it terminate.
async fn serve<C: Channel>(
    channel: &mut C,
    info: Option<C::Info>,
    socket: &mut Socket,
    end: &mut Option<End>,
) {
    socket.handler_returned();
    let found = handle_letters(channel, info, socket).await;
    // A channel that ends by itself has no more time for it than one that is told to.
    socket.link().mailbox().begin_ending();
    let reason = end.insert(found).reason.clone();
    Box::pin(channel.terminate(&reason, socket)).await;
}

async fn handle_letters<C: Channel>(channel: &mut C, info: Option<C::Info>, socket: &mut Socket) -> End {
    let link = socket.link().clone();
    if let Some(info) = info {
        if let Err(stop) = Box::pin(channel.handle_info(info, socket)).await {
            return stopped(&link, stop, None);
        }
        socket.handler_returned();
    }
    // Each handler's future is boxed and freed, so that a channel at rest is small.
    while let Some(letter) = link.mailbox().next().await {
        match letter {
            Letter::Event { reference, event, payload } => {
                match Box::pin(channel.handle_in(&event, Payload::Json(payload), socket)).await {
                    Ok(reply) => {
                        if let Err(error) = answer(&link, &reference, reply) {
                            return stopped(&link, error.into(), None);
                        }
                    }
                    Err(stop) => return stopped(&link, stop, Some(&reference)),
                }
            }
            Letter::Info(info) => {
                let info = info.downcast().expect("a sender is made for its channel's type only");
                if let Err(stop) = Box::pin(channel.handle_info(*info, socket)).await {
                    return stopped(&link, stop, None);
                }
            }
            Letter::Message(message) => {
                if let Err(stop) = Box::pin(channel.handle_message(message, socket)).await {
                    return stopped(&link, stop, None);
                }
            }
            Letter::End(cause) => return End::by(cause),
        }
        socket.handler_returned();
    }
    tracing::warn!(topic = %link.topic(), "channel overloaded: its mailbox is full");
    End::new(Reason::Overloaded)
}

fn answer(link: &Link, reference: &str, reply: Reply) -> Result<(), PushError> {
    if let Some(answer) = reply.0 {
        let response = sendable(answer.response)?;
        link.locked(|queue| queue.push(link.reply_frame(reference, &answer.status, &response)));
    }
    Ok(())
}

fn stopped(link: &Link, stop: Stop, reference: Option<&str>) -> End {
    let mut kind = stop.kind;
    if let Some(reference) = reference
        && let Err(error) = answer(link, reference, stop.reply)
    {
        kind = StopKind::Crash(error.into());
    }
    End::new(match kind {
        StopKind::Normal => Reason::Stopped,
        StopKind::Shutdown => Reason::Shutdown,
        StopKind::Crash(error) => {
            tracing::error!(topic = %link.topic(), %error, "channel crashed");
            Reason::Crashed
        }
    })
}

/// Sends the last frames and ends the subscription in one critical section, then all that hangs on the channel.
fn finish(end: Option<End>, socket: &mut Socket) {
    let link = socket.link().clone();
    let overflowed = link.mailbox().has_overflowed();
    let mut unread = link.mailbox().close();
    // One that was cut off ends for the reason that it was told.
    let end = end
        .or_else(|| first_cause(&mut unread).map(End::by))
        .unwrap_or_else(|| End::new(if overflowed { Reason::Overloaded } else { Reason::Crashed }));
    link.locked(|queue| {
        link.set_subscribed(false, queue);
        end.leave
            .into_iter()
            .chain(unread)
            .filter_map(|letter| left(&link, letter))
            .for_each(|frame| queue.push(frame));
        match end.reason {
            Reason::Left | Reason::Stopped | Reason::Shutdown => queue.push(link.close_frame()),
            Reason::Crashed => queue.push(link.error_frame("channel_crash")),
            Reason::Overloaded => queue.push(link.error_frame("overloaded")),
            Reason::DuplicateJoin => link.owe_close(),
            Reason::Closed => {}
        }
    });
    if matches!(end.reason, Reason::Crashed | Reason::Overloaded) {
        metrics::counter!("adsum_channels_crashed_total").increment(1);
    }
    socket.detach();
    if panic::catch_unwind(AssertUnwindSafe(|| socket.channel_ended(&end.reason))).is_err() {
        tracing::error!(topic = %link.topic(), "an extension panicked at the end of its channel");
    }
}

fn first_cause(unread: &mut VecDeque<Letter>) -> Option<EndCause> {
    let index = unread.iter().position(|letter| matches!(letter, Letter::End(_)))?;
    match unread.remove(index) {
        Some(Letter::End(cause)) => Some(cause),
        _ => None,
    }
}
