//! The results of handlers: a reply, or the end of the channel.

use std::{borrow::Cow, error::Error, fmt, sync::Weak};

use adsum_pubsub::{IntoPayload, MalformedPayload, Payload, log::cut_name};
use ecow::EcoString;

use crate::{channel_link::ChannelLink, end_reason::EndReason, push_error::PushError};

/// The reply to a client's event.
#[derive(Debug)]
pub struct Reply(pub(crate) Option<ReplyContent>);

#[derive(Debug)]
pub(crate) struct ReplyContent {
    pub(crate) status: Cow<'static, str>,
    pub(crate) response: Result<Payload, serde_json::Error>,
}

impl Reply {
    /// Sends no reply.
    pub fn none() -> Self {
        Self(None)
    }

    /// Replies with the status `ok`.
    pub fn ok(response: impl IntoPayload) -> Self {
        Self::with_status("ok", response)
    }

    /// Replies with the status `error`.
    pub fn error(response: impl IntoPayload) -> Self {
        Self::with_status("error", response)
    }

    /// Replies with a custom status.
    pub fn with_status(status: impl Into<Cow<'static, str>>, response: impl IntoPayload) -> Self {
        Self(Some(ReplyContent { status: status.into(), response: response.into_payload() }))
    }

    /// The status, such as `ok`. `None` if this is no reply.
    pub fn status(&self) -> Option<&str> {
        self.0.as_ref().map(|answer| &*answer.status)
    }

    /// The response. `None` if this is no reply, or if its response can't be encoded as JSON.
    pub fn response(&self) -> Option<&Payload> {
        self.0.as_ref()?.response.as_ref().ok()
    }
}

/// Responses are equal if their encodings are.
impl PartialEq for Reply {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => {
                one.status == other.status && are_same(&one.response, &other.response)
            }
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

/// Whether two responses are equal, including those that can't be encoded.
pub(crate) fn are_same(
    one: &Result<Payload, serde_json::Error>,
    other: &Result<Payload, serde_json::Error>,
) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(one), Err(other)) => one.to_string() == other.to_string(),
        _ => false,
    }
}

/// Replies to an event later, from any task; from [`Socket::reply_ref`](crate::Socket::reply_ref).
pub struct ReplyRef {
    link: Weak<ChannelLink>,
    reference: EcoString,
}

impl ReplyRef {
    pub(crate) fn new(link: Weak<ChannelLink>, reference: EcoString) -> Self {
        Self { link, reference }
    }

    /// Sends the reply. Does nothing if the channel has ended.
    ///
    /// # Errors
    /// The response can't be sent.
    pub fn reply(self, reply: Reply) -> Result<(), PushError> {
        match (self.link.upgrade(), reply.0) {
            (Some(link), Some(ReplyContent { status, response })) => {
                Ok(link.reply_if_joined(&self.reference, &status, &response?)?)
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
/// `?` converts any error to a crash, including boxed errors and those from `anyhow`. It is logged, and the client gets
/// `phx_error` and rejoins. A [`MalformedPayload`] doesn't end the channel: the event gets a reply with the status
/// `error` and `{"reason": "malformed payload", "at": ".."}`.
pub struct Stop {
    pub(crate) kind: StopKind,
    pub(crate) reply: Reply,
}

#[derive(Debug)]
pub(crate) enum StopKind {
    Normal,
    Shutdown,
    Crash(Box<dyn Error + Send + Sync>),
    /// The event is refused, and the channel continues.
    Malformed(Box<MalformedPayload>),
}

impl Stop {
    /// The channel has completed its work. The client gets `phx_close` and doesn't rejoin.
    pub fn normal() -> Self {
        Self::new(StopKind::Normal)
    }

    /// The channel must shut down. For the client it is the same as [`normal`](Self::normal).
    pub fn shutdown() -> Self {
        Self::new(StopKind::Shutdown)
    }

    /// The channel has failed. The client gets `phx_error` and rejoins.
    pub fn crash(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(match error.into().downcast::<MalformedPayload>() {
            Ok(malformed) => StopKind::Malformed(malformed),
            Err(error) => StopKind::Crash(error),
        })
    }

    /// The channel doesn't handle this event, which is a crash as in Phoenix.
    pub fn unhandled(event: &str) -> Self {
        Self::crash(format!("the event \"{}\" isn't handled", cut_name(event)))
    }

    /// Replies to the event first. Ignored if the handler was not called for an event.
    #[must_use]
    pub fn reply(mut self, reply: Reply) -> Self {
        self.reply = reply;
        self
    }

    /// Why the channel ends. `None` if it continues, and the event is refused as malformed.
    pub fn reason(&self) -> Option<EndReason> {
        match self.kind {
            StopKind::Normal => Some(EndReason::Stopped),
            StopKind::Shutdown => Some(EndReason::Shutdown),
            StopKind::Crash(_) => Some(EndReason::Crashed),
            StopKind::Malformed(_) => None,
        }
    }

    /// The error that a channel has failed with, or why an event is malformed.
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        match &self.kind {
            StopKind::Normal | StopKind::Shutdown => None,
            StopKind::Crash(error) => Some(&**error),
            StopKind::Malformed(error) => Some(error),
        }
    }

    /// The reply that the event gets first.
    pub fn answer(&self) -> &Reply {
        &self.reply
    }

    fn new(kind: StopKind) -> Self {
        Self { kind, reply: Reply::none() }
    }
}

/// Errors are equal if their texts are.
impl PartialEq for Stop {
    fn eq(&self, other: &Self) -> bool {
        let said = |stop: &Self| stop.error().map(ToString::to_string);
        self.reason() == other.reason() && said(self) == said(other) && self.reply == other.reply
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_result_of_a_handler_can_be_looked_at_and_compared() {
        let reply = Reply::ok(json!({"n": 1}));
        assert_eq!(reply.status(), Some("ok"));
        assert_eq!(reply.response().and_then(|response| response.decode().ok()), Some(json!({"n": 1})));
        assert_eq!(reply, Reply::with_status("ok", json!({"n": 1})));
        assert_ne!(reply, Reply::error(json!({"n": 1})));
        assert_ne!(reply, Reply::none());
        assert_eq!(Reply::none(), Reply::none());

        let stop = Stop::crash("boom");
        assert_eq!(stop.reason(), Some(EndReason::Crashed));
        assert_eq!(stop.error().map(ToString::to_string).as_deref(), Some("boom"));
        assert_eq!(stop, Stop::crash("boom"));
        assert_ne!(stop, Stop::crash("bang"));
        assert_ne!(Stop::normal(), Stop::shutdown());
        assert_eq!(Stop::normal().reply(Reply::ok(1)).answer(), &Reply::ok(1));
        let malformed = Payload::Binary("x".into()).decode_or_refuse::<u8>().unwrap_err();
        assert_eq!(Stop::from(malformed).reason(), None, "the channel goes on");
    }
}
