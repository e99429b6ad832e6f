//! An engine inside the process that records every message and can replay it. For tests of the crates of adsum with
//! paused time.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    driver::{Engine, EngineSession, Failure, Lost},
    engine_link::{EngineLink, Outgoing},
    pubsub::PubSub,
};

/// The secret of the nodes on a bus.
const SECRET: &str = "a secret of the cluster";

/// Carries envelopes between nodes of one process, without delay.
#[derive(Clone, Debug, Default)]
pub struct Bus(Arc<SharedBus>);

#[derive(Default)]
struct SharedBus {
    subscribers: Mutex<HashMap<String, Vec<Listening>>>,
    recorded: Mutex<Vec<Recorded>>,
    sessions: Mutex<u64>,
}

/// The number of a session and the link of its node.
type Listening = (u64, Arc<EngineLink>);

impl std::fmt::Debug for SharedBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedBus")
    }
}

/// A message as the bus carried it.
#[derive(Clone, Debug)]
pub struct Recorded {
    subject: String,
    /// The envelope.
    pub envelope: Bytes,
}

impl Bus {
    /// Starts a node.
    ///
    /// # Panics
    /// The name is not a valid name of a node.
    pub async fn node(&self, name: &str) -> PubSub {
        let builder = PubSub::nats("").node(name).secret(SECRET);
        let bus = self.clone();
        builder.launch("bus", |_| Ok(bus)).await.expect("a bus takes every node")
    }

    /// Returns all messages so far.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.0.recorded.lock().clone()
    }

    /// Delivers a recorded message again, to all current subscribers of its subject.
    pub fn replay(&self, Recorded { subject, envelope }: &Recorded) {
        let listening = self.0.subscribers.lock().get(subject).cloned().unwrap_or_default();
        for (_, link) in listening {
            link.receive(envelope);
        }
    }
}

impl Engine for Bus {
    type Session = BusSession;

    async fn dial(&self, link: &Arc<EngineLink>) -> Result<BusSession, Failure> {
        let mut sessions = self.0.sessions.lock();
        *sessions += 1;
        Ok(BusSession { id: *sessions, bus: self.clone(), link: link.clone(), lost: Lost::default() })
    }
}

pub(crate) struct BusSession {
    id: u64,
    bus: Bus,
    link: Arc<EngineLink>,
    lost: Lost,
}

impl EngineSession for BusSession {
    fn lost(&self) -> &Lost {
        &self.lost
    }

    async fn subscribe(&mut self, subjects: Vec<String>) -> Result<(), Failure> {
        for subject in subjects {
            let mut subscribers = self.bus.0.subscribers.lock();
            subscribers.entry(subject).or_default().push((self.id, self.link.clone()));
        }
        Ok(())
    }

    async fn unsubscribe(&mut self, subjects: Vec<String>) -> Result<(), Failure> {
        for subject in subjects {
            if let Some(subscribers) = self.bus.0.subscribers.lock().get_mut(&subject) {
                subscribers.retain(|(id, _)| *id != self.id);
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    async fn publish(&mut self, outgoing: &mut Vec<Outgoing>) -> Result<(), Failure> {
        for Outgoing { subject, envelope, room } in outgoing.drain(..) {
            room.sent();
            let sent = Recorded { subject, envelope };
            self.bus.replay(&sent);
            self.bus.0.recorded.lock().push(sent);
        }
        Ok(())
    }

    async fn proceed(&mut self) -> Failure {
        std::future::pending().await
    }
}

impl Drop for BusSession {
    fn drop(&mut self) {
        self.bus.0.subscribers.lock().retain(|_, subscribers| {
            subscribers.retain(|(id, _)| *id != self.id);
            !subscribers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_has_left_keeps_no_topics_for_the_engine() {
        let bus = Bus::default();
        let node = bus.node("a").await;
        let kept = node.subscribe("kept");
        let (_, link) = bus.0.subscribers.lock().values().next().expect("it is subscribed")[0].clone();
        assert_eq!(link.interest.len(), 1);
        node.close().await;
        for n in 0..100 {
            drop(node.subscribe(format!("t:{n}")));
        }
        assert_eq!(link.interest.len(), 0);
        node.local_broadcast("kept", "said", ()).unwrap();
        drop(kept);
        assert_eq!(link.interest.len(), 0);
    }
}
