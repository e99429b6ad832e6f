//! A node's end of an engine without the engine: for simulations of other crates, in which somebody records what goes
//! over the engine and says it again.

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use tokio::time::Instant;

use super::{FRESH, Nonce, Numbers, Origin, Received, ReplayGuard, Timeline};

/// What goes over the engine, with a message of type `M` in it. It is as authentic when it is said again.
#[derive(Clone, Debug)]
pub struct Sealed<M> {
    origin: Origin,
    /// The name of the node that said it.
    pub name: Arc<str>,
    packet: Packet<M>,
}

#[derive(Clone, Debug)]
enum Packet<M> {
    Message { number: u64, message: M },
    Challenge { of: Origin, nonce: Nonce },
    Answer { to: Origin, nonce: Nonce, numbers: Numbers },
}

impl<M> Sealed<M> {
    /// The message, unless this is a word between the ends themselves.
    pub fn message(&self) -> Option<&M> {
        match &self.packet {
            Packet::Message { message, .. } => Some(message),
            Packet::Challenge { .. } | Packet::Answer { .. } => None,
        }
    }
}

/// What is to be sent to a node of this name.
pub type Reply<M> = (Arc<str>, Sealed<M>);

/// One run of a node.
pub struct SimulatedEnd<M> {
    began: Instant,
    origin: Origin,
    name: Arc<str>,
    sent: Timeline,
    guard: ReplayGuard<M>,
}

impl<M> SimulatedEnd<M> {
    /// A run with a random origin, that no other has.
    pub fn new(origin: [u8; 16], name: Arc<str>) -> Self {
        let (sent, guard) = (Timeline::default(), ReplayGuard::default());
        // Only differences count, and the simulation has its own time.
        Self { began: Clock::now().into(), origin, name, sent, guard }
    }

    /// Seals a message.
    pub fn seal(&mut self, now: Duration, message: M) -> Sealed<M> {
        let number = self.sent.last().0 + 1;
        self.sent.note(self.began + now, number);
        self.sealed(Packet::Message { number, message })
    }

    fn sealed(&self, packet: Packet<M>) -> Sealed<M> {
        Sealed { origin: self.origin, name: self.name.clone(), packet }
    }

    /// Takes what has arrived. Returns the messages that are to be delivered, and what is to be sent, to the name of a
    /// node.
    pub fn receive(
        &mut self,
        now: Duration,
        sealed: Sealed<M>,
        nonce: [u8; 16],
    ) -> (Vec<M>, Option<Reply<M>>) {
        let time = self.began + now;
        let Sealed { origin, name, packet } = sealed;
        if origin == self.origin {
            return (Vec::new(), None);
        }
        match packet {
            Packet::Message { number, message } => {
                match self.guard.receive(time, origin, number, 256, message, || nonce) {
                    Received::Deliver(message) => (vec![message], None),
                    Received::Kept(Some(nonce)) => {
                        (Vec::new(), Some((name, self.sealed(Packet::Challenge { of: origin, nonce }))))
                    }
                    Received::Kept(None) | Received::Replayed | Received::Overflow => (Vec::new(), None),
                }
            }
            Packet::Challenge { of, nonce } if of == self.origin => {
                let numbers = Numbers { last: self.sent.last().0, stale: self.sent.before(time, FRESH) };
                (Vec::new(), Some((name, self.sealed(Packet::Answer { to: origin, nonce, numbers }))))
            }
            Packet::Answer { to, nonce, numbers } if to == self.origin => {
                let answered = self.guard.answered(time, &origin, &nonce, numbers);
                let fresh = answered.map_or_else(Vec::new, |(fresh, _)| fresh);
                while self.guard.behind(&origin).is_some() {}
                (fresh, None)
            }
            Packet::Challenge { .. } | Packet::Answer { .. } => (Vec::new(), None),
        }
    }

    /// Drops what is over. To be called about twice a second.
    pub fn tidy(&mut self, now: Duration) {
        self.guard.tidy(self.began + now);
    }
}

impl<M> std::fmt::Debug for SimulatedEnd<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedEnd").field("name", &self.name).finish_non_exhaustive()
    }
}
