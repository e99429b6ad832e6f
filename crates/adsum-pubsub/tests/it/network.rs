//! A slow network that can be made to misbehave.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{Adapter, BroadcastError, Inbound, Json, Message, Payload, PubSub, Topic};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// What a network does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Broadcasts reach no other node.
    Deaf,
    /// Broadcasts come back to their node.
    Echo,
    /// Messages arrive twice.
    Double,
    /// A message is also taken for one of every topic that its own begins with.
    Prefix,
    /// A topic that was left is never joined again.
    LeftForGood,
    /// A message to one node reaches all.
    DirectToAll,
    /// A message to an unknown node is an error.
    UnknownNode,
    /// The number 7 arrives after what follows it.
    Overtaken,
    /// JSON is read and written anew.
    Reencoded,
    /// Binary payloads arrive as JSON.
    NoBinary,
    /// All nodes have the same name.
    SameName,
}

type Parcel = Box<dyn FnOnce() + Send>;

/// Carries one parcel after the other, each a moment after it was sent. Interest travels like a message.
pub(crate) struct Network {
    fault: Fault,
    queue: mpsc::UnboundedSender<Parcel>,
    overtaken: Mutex<Option<Parcel>>,
    nodes: Mutex<HashMap<String, Known>>,
}

struct Known {
    inbound: Inbound,
    interest: HashSet<Topic>,
    left: HashSet<Topic>,
}

impl Network {
    /// Starts its task, which ends after all nodes were dropped.
    pub(crate) fn start(fault: Fault) -> Arc<Self> {
        let (queue, mut parcels) = mpsc::unbounded_channel::<Parcel>();
        tokio::spawn(async move {
            while let Some(parcel) = parcels.recv().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
                parcel();
            }
        });
        Arc::new(Self { fault, queue, overtaken: Mutex::default(), nodes: Mutex::default() })
    }

    pub(crate) fn node(self: &Arc<Self>, name: &str) -> PubSub {
        let name = if self.fault == Fault::SameName { "same" } else { name };
        PubSub::new(Node { name: name.to_owned(), network: self.clone() })
    }

    fn post(&self, parcel: impl FnOnce() + Send + 'static) {
        // A parcel that is sent while the runtime ends is lost.
        let _ = self.queue.send(Box::new(parcel));
    }

    fn carry(self: &Arc<Self>, from: &str, to: Option<&str>, message: &Arc<Message>) {
        let (network, from, to) = (self.clone(), from.to_owned(), to.map(str::to_owned));
        let message = Arc::new(self.garble(message));
        let is_seven = matches!(message.payload(), Payload::Json(json) if json.as_bytes() == b"7");
        let parcel = move || network.arrive(&from, to.as_deref(), &message);
        if self.fault == Fault::Overtaken && is_seven {
            *self.overtaken.lock() = Some(Box::new(parcel));
            return;
        }
        self.post(parcel);
        if let Some(parcel) = self.overtaken.lock().take() {
            self.post(parcel);
        }
    }

    /// A network carries bytes: what arrives is a message made anew.
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
