//! A slow network that can be made to misbehave.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{Adapter, BroadcastError, Inbound, Json, Message, Payload, PubSub, Topic};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// A fault of the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Broadcasts reach no other node.
    Deaf,
    /// Broadcasts come back to their node.
    Echo,
    /// Messages arrive twice.
    Double,
    /// A message also goes to every topic that is a prefix of its own.
    Prefix,
    /// A topic that was left is never joined again.
    LeftForGood,
    /// A message to one node reaches all.
    DirectToAll,
    /// A message to an unknown node is an error.
    UnknownNode,
    /// The message with the number 7 arrives after the next one.
    Overtaken,
    /// JSON is parsed and encoded again.
    Reencoded,
    /// Binary payloads arrive as JSON.
    NoBinary,
    /// All nodes have the same name.
    SameName,
}

type Delivery = Box<dyn FnOnce() + Send>;

/// Carries one delivery after the other, each a moment after it was sent. Subscriptions travel like messages.
pub(crate) struct Network {
    fault: Fault,
    queue: mpsc::UnboundedSender<Delivery>,
    overtaken: Mutex<Option<Delivery>>,
    nodes: Mutex<HashMap<String, Known>>,
}

struct Known {
    inbound: Inbound,
    interest: HashSet<Topic>,
    left: HashSet<Topic>,
}

impl Network {
    /// Starts its task, which ends once all nodes are dropped.
    pub(crate) fn start(fault: Fault) -> Arc<Self> {
        let (queue, mut deliveries) = mpsc::unbounded_channel::<Delivery>();
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.recv().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
                delivery();
            }
        });
        Arc::new(Self { fault, queue, overtaken: Mutex::default(), nodes: Mutex::default() })
    }

    pub(crate) fn node(self: &Arc<Self>, name: &str) -> PubSub {
        let name = if self.fault == Fault::SameName { "same" } else { name };
        PubSub::new(Node { name: name.to_owned(), network: self.clone() })
    }

    fn post(&self, delivery: impl FnOnce() + Send + 'static) {
        // A delivery that is sent while the runtime shuts down is lost.
        let _ = self.queue.send(Box::new(delivery));
    }

    fn carry(self: &Arc<Self>, from: &str, to: Option<&str>, message: &Arc<Message>) {
        let (network, from, to) = (self.clone(), from.to_owned(), to.map(str::to_owned));
        let message = Arc::new(self.garble(message));
        let is_seven = matches!(message.payload(), Payload::Json(json) if json.as_bytes() == b"7");
        let delivery = move || network.arrive(&from, to.as_deref(), &message);
        if self.fault == Fault::Overtaken && is_seven {
            *self.overtaken.lock() = Some(Box::new(delivery));
            return;
        }
        self.post(delivery);
        if let Some(delivery) = self.overtaken.lock().take() {
            self.post(delivery);
        }
    }

    /// A network carries bytes, so the receiver gets a new message.
    fn garble(&self, message: &Message) -> Message {
        let payload = match (self.fault, message.payload().clone()) {
            (Fault::Reencoded, Payload::Json(json)) => {
                Payload::Json(Json::encode(&json.decode::<serde_json::Value>().unwrap()).unwrap())
            }
            (Fault::NoBinary, Payload::Binary(bytes)) => Payload::Json(Json::from_encoded(bytes)),
            (_, payload) => payload,
        };
        Message::new(message.topic(), message.event(), payload)
    }

    fn arrive(&self, from: &str, to: Option<&str>, message: &Arc<Message>) {
        let mut deliveries = Vec::new();
        for (name, node) in &*self.nodes.lock() {
            let meant = match to {
                Some(to) => self.fault == Fault::DirectToAll || to == name,
                None => self.fault != Fault::Deaf && (name != from || self.fault == Fault::Echo),
            };
            for topic in node.interest.iter().filter(|_| meant) {
                if topic == message.topic() {
                    let copies = if self.fault == Fault::Double { 2 } else { 1 };
                    deliveries.extend((0..copies).map(|_| (node.inbound.clone(), message.clone())));
                } else if self.fault == Fault::Prefix && message.topic().starts_with(topic.as_str()) {
                    let stray = Message::new(topic, message.event(), message.payload().clone());
                    deliveries.push((node.inbound.clone(), Arc::new(stray)));
                }
            }
        }
        for (inbound, message) in deliveries {
            inbound.deliver(&message);
        }
    }
}

struct Node {
    name: String,
    network: Arc<Network>,
}

impl Node {
    fn change(&self, topic: &Topic, change: impl FnOnce(&mut Known, Topic) + Send + 'static) {
        let (network, name, topic) = (self.network.clone(), self.name.clone(), topic.clone());
        self.network.post(move || {
            if let Some(node) = network.nodes.lock().get_mut(&name) {
                change(node, topic);
            }
        });
    }
}

impl Adapter for Node {
    fn node(&self) -> &str {
        &self.name
    }

    fn start(&self, inbound: Inbound) {
        let node = Known { inbound, interest: HashSet::new(), left: HashSet::new() };
        self.network.nodes.lock().insert(self.name.clone(), node);
    }

    fn broadcast(&self, message: &Arc<Message>) -> Result<(), BroadcastError> {
        self.network.carry(&self.name, None, message);
        Ok(())
    }

    fn direct_broadcast(&self, node: &str, message: &Arc<Message>) -> Result<(), BroadcastError> {
        if self.network.fault == Fault::UnknownNode && !self.network.nodes.lock().contains_key(node) {
            return Err(BroadcastError::Disconnected { engine: node.to_owned().into() });
        }
        self.network.carry(&self.name, Some(node), message);
        Ok(())
    }

    fn subscribed(&self, topic: &Topic) {
        let for_good = self.network.fault == Fault::LeftForGood;
        self.change(topic, move |node, topic| {
            if !(for_good && node.left.contains(&topic)) {
                node.interest.insert(topic);
            }
        });
    }

    fn unsubscribed(&self, topic: &Topic) {
        self.change(topic, |node, topic| {
            node.interest.remove(&topic);
            node.left.insert(topic);
        });
    }
}
