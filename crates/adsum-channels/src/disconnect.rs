//! Listens for a `disconnect` to a client's id, from the moment that the client is admitted.

use std::{fmt, sync::Arc};

use adsum_pubsub::{Attachment, Message, PubSub, Subscriber, SubscriberId, event};
use parking_lot::Mutex;

use crate::{assigns::Assigns, outbound::Outbound, socket_end::DISCONNECT_CODE};

/// Closes a client's socket when its id is told to `disconnect`, even if its upgrade is still in progress.
pub(crate) struct DisconnectListener {
    target: Arc<Target>,
    _attachment: Attachment,
}

struct Target(Mutex<ListenedSocket>);

enum ListenedSocket {
    Admitted,
    Open(Arc<Outbound>),
    /// It must close as soon as it opens.
    Told,
}

impl DisconnectListener {
    /// `None` if the client has no id.
    pub(crate) fn attach(pubsub: &PubSub, assigns: &Assigns) -> Option<Self> {
        let id = assigns.socket_id()?;
        let target = Arc::new(Target(Mutex::new(ListenedSocket::Admitted)));
        let attachment = pubsub.attach(id, SubscriberId::unique(), target.clone());
        Some(Self { target, _attachment: attachment })
    }

    /// Connects the listener to the socket that has opened.
    pub(crate) fn opened(&self, outbound: &Arc<Outbound>) {
        let before = std::mem::replace(&mut *self.target.0.lock(), ListenedSocket::Open(outbound.clone()));
        if matches!(before, ListenedSocket::Told) {
            outbound.close(DISCONNECT_CODE);
        }
    }
}

impl Subscriber for Target {
    fn deliver(&self, message: &Arc<Message>) {
        if message.event() != event::DISCONNECT {
            return;
        }
        let mut socket = self.0.lock();
        let outbound = match &*socket {
            ListenedSocket::Open(outbound) => outbound.clone(),
            ListenedSocket::Admitted | ListenedSocket::Told => {
                *socket = ListenedSocket::Told;
                return;
            }
        };
        drop(socket);
        outbound.close(DISCONNECT_CODE);
    }
}

impl fmt::Debug for DisconnectListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DisconnectListener").finish_non_exhaustive()
    }
}
