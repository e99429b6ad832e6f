//! One client, whatever carries its messages: runs its session, starts its channels and owns their tasks.

use std::sync::Arc;

use adsum_pubsub::{Attachment, Json, Message, Payload, Subscriber, SubscriberId, Topic};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    Assigns,
    endpoint::Endpoint,
    log::limited,
    outbound::{Outbound, State},
    runtime::{EndCause, Letter, Link, Place, Start, reason_json},
    serializer::{Address, BadMessage, ClientMessage, Codec, Wire},
    session::{Action, Liveness, Session},
    sockets::{RESTART_CODE, Seat, SocketSets},
};

pub(crate) struct Connection {
    endpoint: Arc<Endpoint>,
    assigns: Arc<Assigns>,
    codec: Arc<Codec>,
    outbound: Arc<Outbound>,
    session: Session<Arc<Link>>,
    /// One task for each join.
    tasks: JoinSet<Topic>,
    /// Hears of a `disconnect` to the socket's id.
    _named: Option<Attachment>,
    seat: Seat,
}

/// What a socket is closed with that is told to `disconnect`; its client connects again.
const DISCONNECT_CODE: u16 = 1001;

struct Named(Arc<Outbound>);

impl Subscriber for Named {
    fn deliver(&self, message: &Arc<Message>) {
        if message.event() == "disconnect" {
            self.0.close(DISCONNECT_CODE);
        }
    }
}

impl Liveness for Arc<Link> {
    fn is_open(&self) -> bool {
        Link::is_open(self)
    }
}

impl Connection {
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        assigns: Assigns,
        sets: SocketSets,
        codec: Arc<Codec>,
        outbound: Arc<Outbound>,
    ) -> Self {
        let seat = sets.seat(&outbound);
        let named = assigns
            .socket_id()
            .map(|id| endpoint.pubsub.attach(id, SubscriberId::unique(), Arc::new(Named(outbound.clone()))));
        Self {
            session: Session::new(&endpoint.options),
            endpoint,
            assigns: Arc::new(assigns),
            codec,
            outbound,
            tasks: JoinSet::new(),
            _named: named,
            seat,
        }
    }

    /// Handles a message of the client.
    ///
    /// # Errors
    /// Nobody can make sense of it.
    pub(crate) fn receive(&mut self, message: Wire<'_>) -> Result<(), BadMessage> {
        let codec = self.codec.clone();
        let message = codec.decode(message)?;
        let routes = &self.endpoint.routes;
        let action =
            self.session.handle(&message, |topic| routes.iter().position(|route| route.matches(topic)));
        match action {
            Action::Drop => {}
            Action::Ok { with_join_ref } => {
                self.reply(&message, with_join_ref, "ok", Json::empty_object());
            }
            Action::Error { with_join_ref, reason } => {
                self.reply(&message, with_join_ref, "error", reason_json(reason));
            }
            Action::Event(channel) => {
                let event = Letter::Event {
                    reference: message.reference.into(),
                    event: message.event.into(),
                    payload: message.payload,
                };
                // A channel that ends at this moment has told its client so; one that overflows will.
                let _ = channel.deliver_letter(event);
            }
            Action::Leave(channel) => {
                let leave = EndCause::Leave { reference: (*message.reference).into() };
                if channel.end(leave).is_err() {
                    self.reply(&message, true, "ok", Json::empty_object());
                }
            }
            // An answer would keep its client here for a moment more, and then send it away.
            Action::Join { .. } if self.seat.is_draining() => self.outbound.close(RESTART_CODE),
            Action::Join { topic, route, join_ref, after, duplicate } => {
                // Joined over and over, a topic whose channel takes its time to end must not pile up tasks.
                if self.tasks.len() >= self.endpoint.options.max_channels.saturating_mul(2) {
                    self.reply(&message, true, "error", reason_json("too many channels joined"));
                    return Ok(());
                }
                if let Some(before) = after.as_ref().filter(|_| duplicate) {
                    // One that ends by itself at this moment needs not be told.
                    let _ = before.end(EndCause::DuplicateJoin);
                }
                self.start(message, topic, route, join_ref, after);
            }
        }
        Ok(())
    }

    /// Waits for channels that end by themselves, and forgets them. Pending while there are none; never
    /// resolves to anything else than another round. Cancel safe.
    pub(crate) async fn channel_ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(topic)) => self.session.forget(&topic, |link| link.has_ended()),
            // A task that panicked doesn't say which it was.
            Some(Err(_)) => self.session.forget_all(|link| link.has_ended()),
            None => std::future::pending().await,
        }
    }

    /// Tells all channels that the client is gone, or sent away.
    pub(crate) fn end_channels(&self) {
        let drained = self.seat.is_draining() && self.outbound.state() == State::Closing(RESTART_CODE);
        let cause = if drained { EndCause::Draining } else { EndCause::Closed };
        for channel in self.session.channels() {
            // One that is ending already needs not be told.
            let _ = channel.end(cause.clone());
        }
    }

    /// Waits until all channels have ended, and aborts those that don't in time. The socket is noted as open until its
    /// seat is dropped.
    pub(crate) async fn finish(mut self) -> Seat {
        // Each cuts itself off after the grace. One that blocks its thread can't, and is not waited for.
        let grace = 2 * self.endpoint.longest_grace();
        let _ = timeout(grace, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.seat
    }

    fn start(
        &mut self,
        message: ClientMessage<'_>,
        topic: Topic,
        route: usize,
        join_ref: Box<str>,
        after: Option<Arc<Link>>,
    ) {
        let place =
            Place { join_ref: join_ref.clone(), topic: crate::serializer::write_string(&topic).into() };
        let route = &self.endpoint.routes[route];
        let link = Link::new(
            topic.clone(),
            place,
            self.outbound.clone(),
            self.codec.clone(),
            &self.endpoint.options,
            route.intercepts,
        );
        let link = Arc::new(link);
        let start = Start {
            link: link.clone(),
            assigns: route.assigns(&self.assigns),
            endpoint: self.endpoint.clone(),
            params: message.payload,
            join_ref: message.join_ref.into(),
            reference: message.reference.into(),
            after,
        };
        route.spawn(start, &mut self.tasks);
        self.session.insert(topic, join_ref, link);
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
