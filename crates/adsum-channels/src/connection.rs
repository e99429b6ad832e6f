//! One client over any transport: runs its protocol session, starts its channels and owns their tasks.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use adsum_pubsub::{Json, Payload, Topic, log::limited};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::{
    about::About,
    admission::Admitted,
    assigns::Assigns,
    channel_link::{ChannelLink, JoinAddress, reason_json},
    disconnect::DisconnectListener,
    endpoint::Endpoint,
    mailbox::{EndCause, MailboxMessage},
    metrics::CountedSocket,
    observe::{ClientLimit, ObservedLimit, Opened},
    outbound::{Outbound, OutboundState, Traced},
    pace::Pace,
    protocol_session::{Action, Liveness, ProtocolSession, TOO_MANY_CHANNELS, TOPIC_TOO_LONG},
    runtime::{ChannelTasks, Start},
    serializer::{Address, BadMessage, ClientMessage, Codec, Wire, read_string},
    socket_end::{RESTART_CODE, SocketEnd},
    sockets::OpenSocket,
    trace::show_received,
};

pub(crate) struct Connection {
    endpoint: Arc<Endpoint>,
    assigns: Arc<Assigns>,
    codec: Arc<Codec>,
    outbound: Arc<Outbound>,
    session: ProtocolSession<Arc<ChannelLink>>,
    /// One task for each join.
    tasks: ChannelTasks,
    pace: Pace,
    /// Why reading the client is paused. `None` if it isn't.
    wait: Option<Box<Wait>>,
    /// Notifies the observer when it is dropped, after the channels have ended.
    opened: Option<Box<Opened>>,
    counted: CountedSocket,
    _disconnects: Option<DisconnectListener>,
    open_socket: OpenSocket,
}

impl Liveness for Arc<ChannelLink> {
    fn is_open(&self) -> bool {
        ChannelLink::is_open(self)
    }
}

impl Connection {
    pub(crate) fn new(endpoint: Arc<Endpoint>, admitted: Admitted, outbound: Arc<Outbound>) -> Self {
        let Admitted { codec, assigns, disconnects, sets, transport, address, .. } = admitted;
        let assigns = Arc::new(assigns);
        outbound.set_about(About::new(endpoint.context.clone(), assigns.clone(), transport, address));
        let open_socket = sets.open(&outbound);
        if let Some(disconnects) = &disconnects {
            disconnects.opened(&outbound);
        }
        Self {
            session: ProtocolSession::new(&endpoint.context.options),
            opened: Opened::new(&endpoint.context.watch, &assigns, transport),
            counted: endpoint.metrics.opened(transport),
            endpoint,
            assigns,
            codec,
            outbound,
            tasks: ChannelTasks::new(),
            pace: Pace::new(),
            wait: None,
            _disconnects: disconnects,
            open_socket,
        }
    }

    /// The values assigned to the socket.
    pub(crate) fn assigns(&self) -> &Assigns {
        &self.assigns
    }

    /// Whether the client's next message may be read now. If not, [`tend`](Self::tend) resolves once it may.
    pub(crate) fn is_ready(&self) -> bool {
        self.wait.is_none()
    }

    /// Counts what has arrived from the client. Pauses reading if the client sends too fast.
    pub(crate) fn spend(&mut self, messages: usize, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.outbound.note_heard(now);
            self.endpoint.metrics.bytes_received.add(bytes as u64);
        }
        self.pay(messages, bytes, now);
    }

    /// Counts messages and bytes of the client against its rates only.
    pub(crate) fn pay(&mut self, messages: usize, bytes: usize, now: Instant) {
        let waits = self.pace.spend(messages, bytes, &self.endpoint.context.options, now);
        if let Some(until) = waits.filter(|_| self.is_ready()) {
            self.limited(self.pace.limit(), None);
            self.wait = Some(Box::new(Wait::until(until)));
        }
    }

    /// Pauses reading until other tasks have run.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.wait.get_or_insert_with(|| Box::new(Wait::until(now)));
    }

    /// Handles a message of the client. If the connection isn't [ready](Self::is_ready), the channel that has no room
    /// ends.
    ///
    /// # Errors
    /// The message is malformed.
    pub(crate) fn receive(&mut self, message: Wire<'_>) -> Result<(), BadMessage> {
        if let Some(wait) = self.wait.take_if(|wait| wait.held.is_some()) {
            wait.give_up();
        }
        self.endpoint.metrics.messages_received.increment();
        let codec = self.codec.clone();
        let bytes = match &message {
            Wire::Text(bytes) | Wire::Binary(bytes) => bytes.len(),
        };
        self.endpoint.metrics.most_message_bytes.note(bytes);
        let message = codec.decode(message)?;
        if self.outbound.is_traced() {
            let text = show_received(&self.endpoint.context.watch.filter, &message);
            self.outbound.trace(Traced::Received { bytes, text });
        }
        let routes = &self.endpoint.routes;
        let action =
            self.session.handle(&message, |topic| routes.iter().position(|route| route.matches(topic)))?;
        match action {
            Action::Drop => {}
            Action::Ok { with_join_ref } => {
                self.reply(&message, with_join_ref, "ok", Json::empty_object());
            }
            Action::Error { with_join_ref, reason } => {
                let limit = match reason {
                    TOO_MANY_CHANNELS => Some(ClientLimit::Channels),
                    TOPIC_TOO_LONG => Some(ClientLimit::TopicBytes),
                    _ => None,
                };
                if let Some(limit) = limit {
                    self.limited(limit, read_string(&message.topic).as_deref());
                }
                self.reply(&message, with_join_ref, "error", reason_json(reason));
            }
            Action::Event(channel) => {
                let event = MailboxMessage::Event {
                    reference: message.reference.into(),
                    event: message.event.into(),
                    payload: message.payload,
                };
                match channel.put_event(event) {
                    Ok(waiting) => self.endpoint.metrics.most_mailbox.note(waiting),
                    Err(event) => {
                        self.limited(ClientLimit::Mailbox, Some(channel.topic()));
                        let until = Instant::now() + self.endpoint.context.options.mailbox_timeout;
                        self.wait = Some(Box::new(Wait::for_room(channel, event, until)));
                    }
                }
            }
            Action::Leave(channel) => {
                let leave = EndCause::Leave { reference: (*message.reference).into() };
                if channel.end(leave).is_err() {
                    self.reply(&message, true, "ok", Json::empty_object());
                }
            }
            // A reply would keep the client on this node only until it is drained.
            Action::Join { .. } if self.open_socket.is_draining() => self.outbound.close(RESTART_CODE),
            Action::Join { topic, route, join_ref, after, duplicate } => {
                // Repeated joins of a topic whose channel ends slowly must not pile up tasks.
                if self.tasks.len() >= self.endpoint.context.options.max_channels.saturating_mul(2) {
                    self.limited(ClientLimit::Channels, Some(&topic));
                    self.reply(&message, true, "error", reason_json(TOO_MANY_CHANNELS));
                    return Ok(());
                }
                if let Some(before) = after.as_ref().filter(|_| duplicate) {
                    // Ignore the error: the channel is already ending.
                    let _ = before.end(EndCause::DuplicateJoin);
                }
                self.start(message, topic, route, join_ref, after);
            }
        }
        Ok(())
    }

    /// Removes channels that have ended, and resumes reading if the connection isn't [ready](Self::is_ready). Resolves
    /// after each such step. Cancel safe.
    pub(crate) async fn tend(&mut self) {
        poll_fn(|cx| {
            match self.tasks.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Ok(topic)))) => self.session.forget(&topic, |link| link.has_ended()),
                // A task that panicked doesn't return its topic.
                Poll::Ready(Some(_)) => self.session.forget_all(|link| link.has_ended()),
                Poll::Ready(None) | Poll::Pending => {
                    let Some(wait) = &mut self.wait else { return Poll::Pending };
                    ready!(wait.poll(cx));
                    // The client may also have exceeded its rate.
                    self.wait = self.pace.waits_until(Instant::now()).map(|over| Box::new(Wait::until(over)));
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Tells all channels to end, since the socket has closed or is closing.
    pub(crate) fn end_channels(&mut self, end: SocketEnd) {
        if let Some(opened) = &mut self.opened {
            opened.end = end;
        }
        self.outbound.note_end(end);
        self.counted.end = end;
        let drained =
            self.open_socket.is_draining() && self.outbound.state() == OutboundState::Closing(RESTART_CODE);
        let cause = if drained { EndCause::Draining } else { EndCause::Closed };
        for channel in self.session.channels() {
            // Ignore the error: the channel is already ending.
            let _ = channel.end(cause.clone());
        }
    }

    /// Waits until all channels have ended, and aborts those that don't in time. The socket counts as open until the
    /// returned value is dropped.
    pub(crate) async fn finish(mut self) -> OpenSocket {
        // Each channel stops by itself after the grace. One that blocks its thread can't, and is not awaited.
        let grace = 2 * self.endpoint.longest_grace();
        let _ = timeout(grace, async { while self.tasks.join_next().await.is_some() {} }).await;
        drop(self.opened);
        self.open_socket
    }

    fn start(
        &mut self,
        message: ClientMessage<'_>,
        topic: Topic,
        route: usize,
        join_ref: Box<str>,
        after: Option<Arc<ChannelLink>>,
    ) {
        let address =
            JoinAddress { join_ref: join_ref.clone(), topic: crate::serializer::write_string(&topic).into() };
        let counts = self.endpoint.metrics.route(route).clone();
        let route = &self.endpoint.routes[route];
        let link = ChannelLink::new(
            topic.clone(),
            address,
            self.outbound.clone(),
            self.codec.clone(),
            &self.endpoint.context.options,
            route.intercepts,
        );
        let link = Arc::new(link);
        let start = Start {
            link: link.clone(),
            assigns: route.assigns(&self.assigns),
            context: self.endpoint.context.clone(),
            counts,
            params: message.payload,
            join_ref: message.join_ref.into(),
            reference: message.reference.into(),
            after,
        };
        route.spawn(start, &mut self.tasks);
        let most = &self.endpoint.metrics.most_channels;
        most.note(self.tasks.len().min(self.endpoint.context.options.max_channels));
        self.session.insert(topic, join_ref, link);
    }

    fn limited(&self, limit: ClientLimit, topic: Option<&str>) {
        self.endpoint.metrics.limited(limit);
        self.endpoint.context.watch.limited(&ObservedLimit { limit, topic, assigns: &self.assigns });
    }

    fn reply(&self, message: &ClientMessage<'_>, with_join_ref: bool, status: &str, response: Json) {
        let join_ref = if with_join_ref { &*message.join_ref } else { "null" };
        let to = Address { join_ref, reference: &message.reference, topic: &message.topic };
        match self.codec.reply(to, status, &Payload::Json(response)) {
            Ok(frame) => self.outbound.push(frame),
            Err(error) => limited!(ERROR, %error, "reply not sent"),
        }
    }
}

/// Why reading a client is paused.
struct Wait {
    /// When the pause ends at the latest.
    over: Pin<Box<Sleep>>,
    /// The event that its channel has no room for. `None` if the client was too fast.
    held: Option<(Arc<ChannelLink>, Option<MailboxMessage>)>,
}

impl Wait {
    fn until(over: Instant) -> Self {
        Self { over: Box::pin(sleep_until(over)), held: None }
    }

    fn for_room(channel: Arc<ChannelLink>, event: MailboxMessage, over: Instant) -> Self {
        Self { over: Box::pin(sleep_until(over)), held: Some((channel, Some(event))) }
    }

    /// Delivers the event once there is room. If there is none in time, ends the channel as overloaded.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((channel, event)) = &mut self.held
            && channel.poll_event(event, cx).is_ready()
        {
            return Poll::Ready(());
        }
        ready!(self.over.as_mut().poll(cx));
        if let Some((channel, _)) = &self.held {
            channel.overload();
        }
        Poll::Ready(())
    }

    /// Delivers the event now or ends the channel, for a transport that doesn't wait.
    fn give_up(self) {
        if let Some((channel, Some(event))) = self.held
            && channel.put_event(event).is_err()
        {
            channel.overload();
        }
    }
}
