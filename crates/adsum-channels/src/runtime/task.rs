//! The task of a join: joins, handles messages one by one, and shuts down gracefully.

use std::{
    any::{TypeId, type_name},
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    ops::Deref,
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use adsum_pubsub::{
    Json, MalformedPayload, OptionsError, Pattern, Payload, Topic,
    log::{cut, cut_name, limited},
    tasks::{self, Panicked, noticed},
};
use ecow::EcoString;
use tokio::{
    task::{JoinSet, consume_budget},
    time::{Instant, error::Elapsed, timeout},
};
use tracing::{Instrument, Span, field::display, info_span};

use super::handling::Handling;
use crate::{
    assigns::Assigns,
    channel::{Channel, JoinError, JoinErrorKind, Joined},
    channel_link::{ChannelLink, reason_json},
    context::SocketContext,
    end_reason::EndReason,
    frame::Frame,
    logged_error::LoggedError,
    mailbox::{EndCause, MailboxMessage},
    metrics::RouteMetrics,
    observe::{JoinOutcome, ObservedJoin, ObservedLeave},
    options,
    push_error::PushError,
    reply::{Reply, Stop, StopKind},
    serializer::Unsendable,
    socket::Socket,
};

/// A topic pattern and the channel that serves its topics.
pub(crate) struct Route {
    pattern: Pattern,
    /// The pattern as it was written.
    text: Box<str>,
    channel: &'static str,
    pub(crate) intercepts: &'static [&'static str],
    pub(crate) shutdown_grace: Option<Duration>,
    assigns: Option<Assigns>,
    spawn: Spawn,
}

/// The tasks of a socket's joins. Each returns its topic.
pub(crate) type ChannelTasks = JoinSet<Result<Topic, Panicked>>;

/// Spawns the task of a channel type.
type Spawn = Box<dyn Fn(Start, &mut ChannelTasks) + Send + Sync>;

impl Route {
    pub(crate) fn new<C: Channel>(
        text: &str,
        pattern: Pattern,
        app: C::App,
        assigns: Option<Assigns>,
    ) -> Self {
        let spawn = Box::new(move |start: Start, tasks: &mut ChannelTasks| {
            let span = start.span();
            tasks.spawn(noticed("channel", run::<C>(app.clone(), Box::new(start)).instrument(span)));
        });
        let (intercepts, shutdown_grace) = (C::INTERCEPT, C::SHUTDOWN_GRACE);
        Self {
            pattern,
            text: text.into(),
            channel: type_name::<C>(),
            intercepts,
            shutdown_grace,
            assigns,
            spawn,
        }
    }

    /// Checks the options of the channel type.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        options::check_grace(self.channel, self.shutdown_grace)
    }

    pub(crate) fn pattern(&self) -> &str {
        &self.text
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.pattern.matches(topic)
    }

    /// The values for the route's channels of a socket.
    pub(crate) fn assigns(&self, of_socket: &Arc<Assigns>) -> Arc<Assigns> {
        match &self.assigns {
            Some(of_route) => Arc::new(of_socket.extended(of_route)),
            None => of_socket.clone(),
        }
    }

    /// Starts a join's task.
    pub(crate) fn spawn(&self, start: Start, tasks: &mut ChannelTasks) {
        (self.spawn)(start, tasks);
    }
}

/// The input of a join's task.
pub(crate) struct Start {
    pub(crate) link: Arc<ChannelLink>,
    pub(crate) assigns: Arc<Assigns>,
    pub(crate) context: Arc<SocketContext>,
    pub(crate) counts: Arc<RouteMetrics>,
    pub(crate) params: Payload,
    /// The `join_ref` of the request, for the reply.
    pub(crate) join_ref: Box<str>,
    pub(crate) reference: Box<str>,
    /// The previous task of the topic, which must end first.
    pub(crate) after: Option<Arc<ChannelLink>>,
}

impl Start {
    /// The span of the channel: log lines of the program in it have the topic and the socket's id.
    fn span(&self) -> Span {
        let socket_id = self.assigns.socket_id().map(|id| display(cut_name(id)));
        info_span!("channel", topic = %cut_name(self.link.topic()), socket_id)
    }
}

async fn run<C: Channel>(app: C::App, start: Box<Start>) -> Topic {
    let (link, context, counts) = (start.link.clone(), start.context.clone(), start.counts.clone());
    let grace = C::SHUTDOWN_GRACE.unwrap_or(context.options.shutdown_grace);
    // Declared first, so dropped last: when it signals the end, nothing of the channel is left.
    let _ended = Ended(link.clone());
    let topic = link.topic().clone();
    let mut overdue = pin!(async {
        link.mailbox().ending().await;
        Box::pin(tokio::time::sleep(grace)).await;
    });
    let mut socket =
        Socket::new(link.clone(), TypeId::of::<C>(), start.assigns.clone(), context.pubsub.clone());
    // State needed for one step only is boxed and freed, so that an idle channel is small.
    let entered = Box::pin(enter::<C>(app, start, &mut socket, overdue.as_mut())).await;
    let Some(mut channel) = entered else { return topic };

    let counted = counts.open();
    let joined = Instant::now();
    let (mut end, mut doing) = (None, Doing::Function(""));
    let outcome = {
        let mut serving =
            pin!(Some(serve(&context, &counts, &mut channel, &mut socket, &mut doing, &mut end)));
        guarded(serving.as_mut(), overdue).await
    };
    match outcome {
        Outcome::Done(()) => {}
        Outcome::Panicked(panic) => {
            log_panic::<C>(&topic, &doing, &panic);
            end.get_or_insert(End::new(EndReason::Crashed));
        }
        Outcome::Overdue => {
            limited!(ERROR, topic = %cut_name(&topic), ?grace, "aborted a channel that did not end in time");
        }
    }
    let reason = finish(end, &mut socket);
    counted.left(&reason);
    let (assigns, channel_type, duration) = (socket.assigns(), type_name::<C>(), joined.elapsed());
    let left = ObservedLeave { topic: &topic, channel: channel_type, assigns, duration, reason: &reason };
    context.watch.left(C::LOG_JOIN, &left);
    discard(channel);
    topic
}

/// Logs and counts a panic in the program's code.
fn log_panic<C: Channel>(topic: &Topic, doing: &str, panic: &str) {
    tasks::count_panic("channel");
    limited!(
        ERROR,
        topic = %cut_name(topic),
        channel = type_name::<C>(),
        event = %cut_name(doing),
        panic = %cut(panic),
        "channel panicked"
    );
}

/// Drops a value of the program, whose panic must not keep the channel from ending.
fn discard<T>(value: T) {
    // Ignore the error: the panic is logged.
    let _ = tasks::guarded("drop of a channel's value", || drop(value));
}

/// Runs the join, and replies to the client.
async fn enter<C: Channel>(
    app: C::App,
    start: Box<Start>,
    socket: &mut Socket,
    overdue: Pin<&mut impl Future<Output = ()>>,
) -> Option<C> {
    let Start { link, context, counts, params, join_ref, reference, after, .. } = *start;
    let begun = Instant::now();
    let watched = context.watch.is_watched(C::LOG_JOIN).then(|| params.clone());
    let outcome = {
        let joining = join::<C>(&app, params, after.as_deref(), socket);
        let mut joining = pin!(Some(timeout(context.options.join_timeout, joining)));
        guarded(joining.as_mut(), overdue).await
    };
    let verdict = judge(outcome, link.topic(), |status, response| {
        link.join_reply_frame(&join_ref, &reference, status, response)
    });
    // Once a client has the reply to a failed join, the topic must be unmatched.
    let unread = if verdict.joined.is_some() { VecDeque::new() } else { link.mailbox().close() };
    let answers: Vec<_> = unread.iter().filter_map(|message| unjoined(&link, message)).collect();
    discard(unread);
    link.locked(|queue| {
        if verdict.joined.is_some() {
            link.exclude(verdict.without);
            socket.attach();
            link.subscribe(queue);
        }
        let close = after.as_deref().filter(|after| after.owes_close()).and_then(ChannelLink::close_frame);
        verdict.reply.into_iter().chain(close).chain(answers).for_each(|frame| queue.push(frame));
    });
    let duration = begun.elapsed();
    counts.join_seconds.record(duration.as_secs_f64());
    counts.joined(verdict.result);
    if let Some(params) = watched {
        let (assigns, channel, result) = (socket.assigns(), type_name::<C>(), verdict.result);
        let joined =
            ObservedJoin { topic: link.topic(), channel, params: &params, assigns, duration, result };
        context.watch.joined(C::LOG_JOIN, &joined);
    }
    verdict.joined
}

/// Signals that the task has ended, however it ends.
struct Ended(Arc<ChannelLink>);

impl Drop for Ended {
    fn drop(&mut self) {
        discard(self.0.set_ended());
    }
}

enum Outcome<T> {
    Done(T),
    /// The message of the panic.
    Panicked(String),
    Overdue,
}

/// Runs the program's code: a panic in it, or a handler that hangs, ends only this channel. The work is dropped before
/// this returns, and a panic in its drop is caught as well.
async fn guarded<F: Future>(
    mut work: Pin<&mut Option<F>>,
    overdue: Pin<&mut impl Future<Output = ()>>,
) -> Outcome<F::Output> {
    // After a panic the borrowed state is only torn down, never used again.
    let running = poll_fn(|cx| {
        let work = work.as_mut().as_pin_mut().expect("the work is dropped only after this");
        match panic::catch_unwind(AssertUnwindSafe(|| work.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Outcome::Done(output)),
            Err(panic) => Poll::Ready(Outcome::Panicked(tasks::panic_text(&*panic).to_owned())),
        }
    });
    let outcome = tokio::select! {
        biased;
        outcome = running => outcome,
        () = overdue => Outcome::Overdue,
    };
    // Ignore the error: the panic is logged.
    let _ = tasks::guarded("drop of a channel's future", || work.set(None));
    outcome
}

async fn join<C: Channel>(
    app: &C::App,
    params: Payload,
    after: Option<&ChannelLink>,
    socket: &mut Socket,
) -> Result<Joined<C>, JoinError> {
    if let Some(after) = after {
        after.ended().await;
    }
    let topic = socket.topic().clone();
    let params = params.decode().or_else(|error| {
        limited!(DEBUG, topic = %cut_name(&topic), error = %LoggedError::Error(&error), "a join has invalid params");
        C::invalid_params(error)
    })?;
    C::join(app, &topic, params, socket).await
}

/// The result of a join, and the reply to it.
struct JoinVerdict<C: Channel> {
    joined: Option<C>,
    result: JoinOutcome,
    reply: Option<Frame>,
    /// The events whose broadcasts the client doesn't get.
    without: Vec<Box<str>>,
}

fn judge<C: Channel>(
    outcome: Outcome<Result<Result<Joined<C>, JoinError>, Elapsed>>,
    topic: &Topic,
    reply: impl Fn(&str, &Payload) -> Result<Frame, Unsendable>,
) -> JoinVerdict<C> {
    // The ref of a join can be anything, so even this reply may be impossible to encode.
    let failed = |result, response: &Payload| JoinVerdict {
        joined: None,
        result,
        reply: reply("error", response).ok(),
        without: Vec::new(),
    };
    let crashed = |error: &dyn std::fmt::Display| {
        limited!(ERROR, topic = %cut_name(topic), error = %cut(error), "join crashed");
        failed(JoinOutcome::Crashed, &reason("join crashed"))
    };
    let mut kept_from = Vec::new();
    let (joined, status, response) = match outcome {
        Outcome::Done(Err(_elapsed)) => {
            limited!(ERROR, topic = %cut_name(topic), "join took longer than the join_timeout");
            return failed(JoinOutcome::Crashed, &reason("join timeout"));
        }
        Outcome::Done(Ok(Ok(Joined { channel, response, without }))) => {
            kept_from = without;
            (Some(channel), "ok", response.unwrap_or_else(|| Ok(empty())))
        }
        Outcome::Done(Ok(Err(error))) => match error.kind {
            JoinErrorKind::Refused(response) => (None, "error", response),
            JoinErrorKind::Malformed(error) => {
                limited!(INFO, topic = %cut_name(topic), error = %cut(&error), "join refused");
                (None, "error", Ok(malformed(&error)))
            }
            JoinErrorKind::Crashed(error) => return crashed(&LoggedError::Error(&*error)),
        },
        Outcome::Panicked(panic) => {
            tasks::count_panic("channel");
            return crashed(&format_args!("panicked: {panic}"));
        }
        Outcome::Overdue => return crashed(&"did not end in time and was aborted"),
    };
    match response.map_err(PushError::from).and_then(|response| Ok(reply(status, &response)?)) {
        Ok(reply) => {
            let result = if joined.is_some() { JoinOutcome::Joined } else { JoinOutcome::Refused };
            JoinVerdict { joined, result, reply: Some(reply), without: kept_from }
        }
        Err(error) => {
            discard(joined);
            crashed(&error)
        }
    }
}

fn empty() -> Payload {
    Payload::Json(Json::empty_object())
}

fn reason(text: &str) -> Payload {
    Payload::Json(reason_json(text))
}

fn malformed(error: &MalformedPayload) -> Payload {
    let response = BTreeMap::from([("reason", "malformed payload"), ("at", error.path())]);
    Json::encode(&response).map_or_else(|_| empty(), Payload::Json)
}

/// The reply to a message of a channel whose join failed.
fn unjoined(link: &ChannelLink, message: &MailboxMessage) -> Option<Frame> {
    match message {
        MailboxMessage::Event { reference, .. } => {
            link.join_reply_frame("null", reference, "error", &reason("unmatched topic")).ok()
        }
        message => left(link, message),
    }
}

/// The reply to a leave that the channel itself has not handled.
fn left(link: &ChannelLink, message: &MailboxMessage) -> Option<Frame> {
    match message {
        MailboxMessage::End(EndCause::Leave { reference }) => {
            link.reply_frame(reference, "ok", &empty()).ok()
        }
        _ => None,
    }
}

/// How a channel ends.
struct End {
    reason: EndReason,
    /// The message that made it end, if it needs a reply.
    leave: Option<MailboxMessage>,
}

impl End {
    fn new(reason: EndReason) -> Self {
        Self { reason, leave: None }
    }

    fn by(cause: EndCause) -> Self {
        match cause {
            EndCause::Leave { .. } => {
                Self { reason: EndReason::Left, leave: Some(MailboxMessage::End(cause)) }
            }
            EndCause::Closed => Self::new(EndReason::Closed),
            EndCause::Draining => Self::new(EndReason::Draining),
            EndCause::DuplicateJoin => Self::new(EndReason::DuplicateJoin),
        }
    }
}

/// The code of the program that runs, for log lines about its failure.
enum Doing {
    Function(&'static str),
    /// `handle_in`, for this event of the client.
    Event(EcoString),
}

impl Deref for Doing {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Function(name) => name,
            Self::Event(event) => event,
        }
    }
}

/// Handles messages until the channel ends, then calls `terminate`.
async fn serve<C: Channel>(
    context: &SocketContext,
    counts: &RouteMetrics,
    channel: &mut C,
    socket: &mut Socket,
    doing: &mut Doing,
    end: &mut Option<End>,
) {
    socket.handler_returned();
    let found = handle_messages(context, counts, channel, socket, doing).await;
    // A channel that ends by itself has the same grace as one that is told to end.
    socket.link().mailbox().begin_ending();
    let reason = end.insert(found).reason.clone();
    *doing = Doing::Function("terminate");
    Box::pin(channel.terminate(&reason, socket)).await;
}

async fn handle_messages<C: Channel>(
    context: &SocketContext,
    counts: &RouteMetrics,
    channel: &mut C,
    socket: &mut Socket,
    doing: &mut Doing,
) -> End {
    let link = socket.link().clone();
    *doing = Doing::Function("joined");
    if let Err(stop) = Box::pin(channel.joined(socket)).await {
        return stopped::<C>(&link, stop, doing, None);
    }
    link.release_held();
    socket.handler_returned();
    // Each handler's future is boxed and freed, so that an idle channel is small.
    while let Some(message) = link.mailbox().next().await {
        match message {
            MailboxMessage::Event { reference, event, payload } => {
                let handling = Handling::begin::<C>(context, counts, socket, &event, &payload);
                socket.answering = Some(reference);
                *doing = Doing::Event(event);
                let handled = Box::pin(channel.handle_in(doing, payload, socket)).await;
                handling.end(&handled);
                let reference = socket.answering.take().unwrap_or_default();
                let reply = match handled {
                    Ok(reply) => reply,
                    Err(Stop { kind: StopKind::Malformed(error), .. }) => {
                        log_refused::<C>(&link, doing, &error);
                        Reply::error(malformed(&error))
                    }
                    Err(stop) => return stopped::<C>(&link, stop, doing, Some(&reference)),
                };
                if let Err(error) = answer(&link, &reference, reply) {
                    return stopped::<C>(&link, error.into(), doing, None);
                }
            }
            MailboxMessage::Info(info) => {
                *doing = Doing::Function("handle_info");
                let info = info.downcast().expect("a sender is made for its channel's type only");
                if let Err(stop) = Box::pin(channel.handle_info(*info, socket)).await {
                    return stopped::<C>(&link, stop, doing, None);
                }
            }
            MailboxMessage::Message(message) => {
                *doing = Doing::Function("handle_message");
                if let Err(stop) = Box::pin(channel.handle_message(message, socket)).await {
                    return stopped::<C>(&link, stop, doing, None);
                }
            }
            MailboxMessage::Out(message) => {
                let Some(message) = link.news(message) else { continue };
                *doing = Doing::Function("handle_out");
                if let Err(stop) = Box::pin(channel.handle_out(message, socket)).await {
                    return stopped::<C>(&link, stop, doing, None);
                }
            }
            MailboxMessage::End(cause) => return End::by(cause),
        }
        *doing = Doing::Function("handler_returned");
        socket.handler_returned();
        // A mailbox that never empties must not starve other tasks.
        consume_budget().await;
    }
    limited!(WARN, topic = %cut_name(link.topic()), "channel overloaded: its mailbox is full");
    End::new(EndReason::Overloaded)
}

fn answer(link: &ChannelLink, reference: &str, reply: Reply) -> Result<(), PushError> {
    if let Some(answer) = reply.0 {
        let frame = link.reply_frame(reference, &answer.status, &answer.response?)?;
        link.locked(|queue| queue.push(frame));
    }
    Ok(())
}

fn log_refused<C: Channel>(link: &ChannelLink, event: &str, error: &MalformedPayload) {
    limited!(
        INFO,
        topic = %cut_name(link.topic()),
        channel = type_name::<C>(),
        event = %cut_name(event),
        error = %cut(error),
        "event refused"
    );
}

/// `doing` is the client's event, or the function that was running.
fn stopped<C: Channel>(link: &ChannelLink, stop: Stop, doing: &str, reference: Option<&str>) -> End {
    let mut kind = stop.kind;
    if let Some(reference) = reference
        && let Err(error) = answer(link, reference, stop.reply)
    {
        kind = StopKind::Crash(error.into());
    }
    End::new(match kind {
        StopKind::Normal => EndReason::Stopped,
        StopKind::Shutdown => EndReason::Shutdown,
        StopKind::Crash(error) => {
            log_crash::<C>(link, doing, &LoggedError::Error(&*error));
            EndReason::Crashed
        }
        // Not in a handler of a client's event, so there is no event to reply to.
        StopKind::Malformed(error) => {
            log_crash::<C>(link, doing, &cut(error));
            EndReason::Crashed
        }
    })
}

fn log_crash<C: Channel>(link: &ChannelLink, doing: &str, error: &dyn std::fmt::Display) {
    limited!(
        ERROR,
        topic = %cut_name(link.topic()),
        channel = type_name::<C>(),
        event = %cut_name(doing),
        error = %error,
        "channel crashed"
    );
}

/// Sends the last frames and ends the subscription in one critical section, then ends the channel's extensions.
fn finish(end: Option<End>, socket: &mut Socket) -> EndReason {
    let link = socket.link().clone();
    let overflowed = link.mailbox().has_overflowed();
    let mut unread = link.mailbox().close();
    // If it was cut off, report the reason it was asked to end with.
    let end = end
        .or_else(|| first_cause(&mut unread).map(End::by))
        .unwrap_or_else(|| End::new(if overflowed { EndReason::Overloaded } else { EndReason::Crashed }));
    let answers: Vec<_> =
        end.leave.iter().chain(&unread).filter_map(|message| left(&link, message)).collect();
    let shown = link.locked(|queue| {
        let shown = link.unsubscribe(queue);
        for frame in answers {
            queue.push(frame);
        }
        let last = match end.reason {
            EndReason::Left | EndReason::Stopped | EndReason::Shutdown => link.close_frame(),
            EndReason::Crashed => link.error_frame("channel_crash"),
            EndReason::Overloaded => link.error_frame("overloaded"),
            EndReason::Closed | EndReason::Draining => None,
            EndReason::DuplicateJoin => {
                link.owe_close();
                None
            }
        };
        if let Some(frame) = last {
            queue.push(frame);
        }
        shown
    });
    discard((unread, shown));
    socket.detach();
    // Ignore the error: the panic is logged.
    let _ = tasks::guarded("extension of a channel", || socket.channel_ended(&end.reason));
    end.reason
}

fn first_cause(unread: &mut VecDeque<MailboxMessage>) -> Option<EndCause> {
    let index = unread.iter().position(|message| matches!(message, MailboxMessage::End(_)))?;
    match unread.remove(index) {
        Some(MailboxMessage::End(cause)) => Some(cause),
        _ => None,
    }
}
