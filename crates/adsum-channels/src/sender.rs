//! Messages from the program to a channel.

use std::{
    any::TypeId,
    fmt,
    marker::PhantomData,
    sync::{Arc, Weak},
};

use crate::{
    channel::Channel,
    channel_link::ChannelLink,
    mailbox::{MailboxError, MailboxMessage},
    socket::Socket,
};

/// Sends messages to a channel's [`handle_info`](crate::Channel::handle_info). It doesn't keep the channel alive.
pub struct Sender<Info> {
    link: Weak<ChannelLink>,
    info: PhantomData<fn(Info)>,
}

impl<Info: Send + 'static> Sender<Info> {
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

impl Socket {
    /// Returns a handle to send messages to this channel from the rest of the program.
    ///
    /// # Panics
    /// `C` is not this channel's type.
    pub fn sender<C: Channel>(&self) -> Sender<C::Info> {
        assert!(
            TypeId::of::<C>() == self.channel_type(),
            "`socket.sender::<{}>()` was called in a channel of another type",
            std::any::type_name::<C>(),
        );
        Sender { link: Arc::downgrade(self.link()), info: PhantomData }
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
