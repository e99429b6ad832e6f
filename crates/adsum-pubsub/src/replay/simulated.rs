//! The replay protection of a node without an engine, for simulations in other crates in which somebody records
//! messages and replays them.

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use tokio::time::Instant;

use super::{FRESH, Nonce, Numbers, Origin, Received, ReplayGuard, Timeline};

/// An envelope with a message of type `M`. A replayed envelope is as authentic as the original.
#[derive(Clone, Debug)]
pub struct Sealed<M> {
    origin: Origin,
    /// The name of the sending node.
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
    /// The message. `None` if this is a control message.
    pub fn message(&self) -> Option<&M> {
        match &self.packet {
            Packet::Message { message, .. } => Some(message),
            Packet::Challenge { .. } | Packet::Answer { .. } => None,
        }
    }
}

/// An envelope to send to the node of this name.
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
    /// Starts a run with a random, unique origin.
    pub fn new(origin: [u8; 16], name: Arc<str>) -> Self {
        let (sent, guard) = (Timeline::default(), ReplayGuard::default());
        // Only differences matter, since the simulation has its own time.
        Self { began: Clock::now().into(), origin, name, sent, guard }
    }

    /// Seals a message.
    pub fn seal(&mut self, now: Duration, message: M) -> Sealed<M> {
        let number = self.sent.last() + 1;
        self.sent.note(self.began + now, number);
        self.sealed(Packet::Message { number, message })
    }

    fn sealed(&self, packet: Packet<M>) -> Sealed<M> {
        Sealed { origin: self.origin, name: self.name.clone(), packet }
    }

    /// Handles an envelope. Returns the messages to deliver, and an envelope to send.
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
                let numbers = Numbers { last: self.sent.last(), stale: self.sent.before(time, FRESH) };
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

    /// Drops what has expired. Call it about twice a second.
    pub fn tidy(&mut self, now: Duration) {
        self.guard.tidy(self.began + now);
    }
}

impl<M> std::fmt::Debug for SimulatedEnd<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedEnd").field("name", &self.name).finish_non_exhaustive()
    }
}
