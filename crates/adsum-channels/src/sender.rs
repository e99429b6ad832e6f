//! Messages from the program to a channel.

use std::{fmt, marker::PhantomData, sync::Weak};

use crate::runtime::{ChannelLink, MailboxError, MailboxMessage};

/// Sends messages to a channel's [`handle_info`](crate::Channel::handle_info). It doesn't keep the channel alive.
pub struct Sender<Info> {
    link: Weak<ChannelLink>,
    info: PhantomData<fn(Info)>,
}

impl<Info: Send + 'static> Sender<Info> {
    pub(crate) fn new(link: Weak<ChannelLink>) -> Self {
        Self { link, info: PhantomData }
    }

    /// Puts a message into the channel's mailbox.
    ///
    /// # Errors
    /// The message was not sent: the channel has ended, or its mailbox is full.
    pub fn send(&self, info: Info) -> Result<(), SendError> {
        let link = self.link.upgrade().ok_or(SendError::Closed)?;
        link.offer(MailboxMessage::Info(Box::new(info))).map_err(|error| match error {
            MailboxError::Closed => SendError::Closed,
            MailboxError::Full => SendError::Full,
        })
    }

    /// Whether the channel has ended.
    pub fn is_closed(&self) -> bool {
        self.link.upgrade().is_none_or(|link| !link.is_open())
    }
}

impl<Info> Clone for Sender<Info> {
    fn clone(&self) -> Self {
        Self { link: self.link.clone(), info: PhantomData }
    }
}

impl<Info> fmt::Debug for Sender<Info> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("topic", &self.link.upgrade().map(|link| link.topic().clone()))
            .finish()
    }
}

/// Why a message was not sent to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The channel has ended.
    #[error("the message was not sent: the channel has ended")]
    Closed,
    /// The channel's mailbox is full.
    #[error(
        "the message was not sent: the channel's mailbox is full; it handles messages more slowly than they come"
    )]
    Full,
}
