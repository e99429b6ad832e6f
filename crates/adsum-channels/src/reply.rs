//! How a handler answers: with a reply, or by ending the channel.

use std::{borrow::Cow, error::Error, fmt, sync::Weak};

use adsum_pubsub::{IntoPayload, MalformedPayload, Payload};

use crate::{PushError, log::cut_name, runtime::Link};

/// What a client gets in answer to an event.
#[derive(Debug)]
pub struct Reply(pub(crate) Option<Answer>);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Cow<'static, str>,
    pub(crate) response: Result<Payload, serde_json::Error>,
}

impl Reply {
    /// No answer: the client didn't ask for one.
    pub fn none() -> Self {
        Self(None)
    }

    /// The status `ok`.
    pub fn ok(response: impl IntoPayload) -> Self {
        Self::with_status("ok", response)
    }

    /// The status `error`.
    pub fn error(response: impl IntoPayload) -> Self {
        Self::with_status("error", response)
    }

    /// A status of the program's own.
    pub fn with_status(status: impl Into<Cow<'static, str>>, response: impl IntoPayload) -> Self {
        Self(Some(Answer { status: status.into(), response: response.into_payload() }))
    }
}

/// Answers an event later, from any task; from [`Socket::reply_ref`](crate::Socket::reply_ref).
pub struct ReplyRef {
    link: Weak<Link>,
    reference: Box<str>,
}

impl ReplyRef {
    pub(crate) fn new(link: Weak<Link>, reference: Box<str>) -> Self {
        Self { link, reference }
    }

    /// Sends the answer. Where the channel has ended meanwhile there is nobody to answer, which is no error.
    ///
    /// # Errors
    /// The response can't be sent.
    pub fn reply(self, reply: Reply) -> Result<(), PushError> {
        match (self.link.upgrade(), reply.0) {
            (Some(link), Some(Answer { status, response })) => {
                link.reply_if_joined(&self.reference, &status, &response?)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for ReplyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplyRef").field(&self.reference).finish()
    }
}

/// Ends a channel.
///
/// Any error becomes a crash by `?`, also a boxed one or one of `anyhow`. It is logged, and the client gets `phx_error`
/// and joins again. A [`MalformedPayload`] ends nothing: the event is answered with the status `error` and
/// `{"reason": "malformed payload"}`.
pub struct Stop {
    pub(crate) kind: StopKind,
    pub(crate) reply: Reply,
}

#[derive(Debug)]
pub(crate) enum StopKind {
    Normal,
    Shutdown,
    Crash(Box<dyn Error + Send + Sync>),
    /// The event is refused, and the channel goes on.
    Malformed(MalformedPayload),
}

impl Stop {
    /// The channel has done its work. The client gets `phx_close` and doesn't join again.
    pub fn normal() -> Self {
        Self::new(StopKind::Normal)
    }

    /// The channel has to go. For the client it's as [`normal`](Self::normal).
    pub fn shutdown() -> Self {
        Self::new(StopKind::Shutdown)
    }

    /// The channel has failed. The client gets `phx_error` and joins again.
    pub fn crash(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(match error.into().downcast::<MalformedPayload>() {
            Ok(malformed) => StopKind::Malformed(*malformed),
            Err(error) => StopKind::Crash(error),
        })
    }

    /// The channel doesn't know this event, which is a crash as in Phoenix.
    pub fn unhandled(event: &str) -> Self {
        Self::crash(format!("the event \"{}\" isn't handled", cut_name(event)))
    }

    /// Answers the event first. Where the handler was not called for an event there is nobody to answer.
    #[must_use]
    pub fn reply(mut self, reply: Reply) -> Self {
        self.reply = reply;
        self
    }

    fn new(kind: StopKind) -> Self {
        Self { kind, reply: Reply::none() }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::crash(error)
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("kind", &self.kind).field("reply", &self.reply).finish()
    }
}
