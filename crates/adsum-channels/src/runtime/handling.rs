//! Measures the handling of an event, for the observer, the log and the metrics.

use std::{any::type_name, sync::Arc};

use adsum_pubsub::{Payload, Topic};
use tokio::time::Instant;
use tracing::Level;

use crate::{
    assigns::Assigns,
    channel::Channel,
    context::SocketContext,
    metrics::RouteMetrics,
    observe::{EventOutcome, ObservedEvent},
    reply::{Reply, Stop, StopKind},
    socket::Socket,
};

/// If it is dropped before [`end`](Self::end), the handler has panicked or was aborted.
pub(super) struct Handling<'e> {
    context: &'e SocketContext,
    counts: &'e RouteMetrics,
    begun: Instant,
    watched: Option<Box<Watched>>,
}

/// Data for the observer and the log. Kept only if one of them needs it.
struct Watched {
    topic: Topic,
    channel: &'static str,
    level: Option<Level>,
    event: Box<str>,
    payload: Payload,
    assigns: Arc<Assigns>,
}

impl<'e> Handling<'e> {
    pub(super) fn begin<C: Channel>(
        context: &'e SocketContext,
        counts: &'e RouteMetrics,
        socket: &Socket,
        event: &str,
        payload: &Payload,
    ) -> Self {
        let watched = context.watch.is_watched(C::LOG_HANDLE_IN).then(|| {
            Box::new(Watched {
                topic: socket.topic().clone(),
                channel: type_name::<C>(),
                level: C::LOG_HANDLE_IN,
                event: event.into(),
                payload: payload.clone(),
                assigns: socket.shared_assigns().clone(),
            })
        });
        Self { context, counts, begun: Instant::now(), watched }
    }

    pub(super) fn end(mut self, handled: &Result<Reply, Stop>) {
        self.tell(match handled {
            Ok(Reply(Some(answer))) => EventOutcome::Replied(&answer.status),
            Ok(Reply(None)) => EventOutcome::Handled,
            Err(Stop { kind: StopKind::Malformed(_), .. }) => EventOutcome::Replied("error"),
            Err(Stop { kind: StopKind::Crash(_), .. }) => EventOutcome::Crashed,
            Err(_) => EventOutcome::Stopped,
        });
    }

    fn tell(&mut self, result: EventOutcome<'_>) {
        let Some(watched) = self.watched.take() else { return };
        let Watched { topic, channel, level, event, payload, assigns } = &*watched;
        let duration = self.begun.elapsed();
        let observed = ObservedEvent { topic, channel, event, payload, assigns, duration, result };
        self.context.watch.handled_in(*level, &observed);
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.tell(EventOutcome::Crashed);
        self.counts.handle_in_seconds.record(self.begun.elapsed().as_secs_f64());
    }
}
