//! A network between the nodes of a test, with faults.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use adsum_pubsub::{Adapter, BroadcastError, Inbound, Message, PubSub, Topic};
use parking_lot::Mutex;

/// Carries messages between nodes by a function call, except where it is told not to.
#[derive(Clone, Default)]
pub(super) struct Network(Arc<Mutex<Links>>);

#[derive(Default)]
struct Links {
    nodes: HashMap<Arc<str>, Node>,
    /// How many nodes have been added.
    added: u64,
    /// From the first to the second nothing arrives.
    cut: HashSet<(String, String)>,
    /// How many messages from the first to the second are lost next.
    losses: HashMap<(String, String), usize>,
}

struct Node {
    /// Distinguishes it from an earlier one of the same name.
    run: u64,
    inbound: Inbound,
}

impl Network {
    pub(super) fn node(&self, name: &str) -> PubSub {
        let mut links = self.0.lock();
        links.added += 1;
        let end = End { name: name.into(), run: links.added, network: self.clone() };
        drop(links);
        PubSub::new(end)
    }

    /// The node hears nothing any more, and isn't heard.
    pub(super) fn remove(&self, name: &str) {
        self.0.lock().nodes.remove(name);
    }

    /// Lets nothing through between nodes of different groups. A node that is in no group is cut off.
    pub(super) fn partition(&self, groups: &[&[&str]]) {
        let mut links = self.0.lock();
        let names: Vec<Arc<str>> = links.nodes.keys().cloned().collect();
        let group_of = |name: &str| groups.iter().position(|group| group.contains(&name));
        for from in &names {
            for to in names.iter().filter(|to| *to != from) {
                let together = group_of(from).is_some() && group_of(from) == group_of(to);
                let link = (from.to_string(), to.to_string());
                if together {
                    links.cut.remove(&link)
                } else {
                    links.cut.insert(link)
                };
            }
        }
    }

    pub(super) fn lose(&self, from: &str, to: &str, messages: usize) {
        *self.0.lock().losses.entry((from.to_owned(), to.to_owned())).or_default() += messages;
    }

    pub(super) fn heal(&self) {
        let mut links = self.0.lock();
        links.cut.clear();
        links.losses.clear();
    }
}

impl Links {
    /// The inbox for a message from one node to another. `None` if it doesn't arrive.
    fn way(&mut self, from: &End, to: &str) -> Option<Inbound> {
        // A removed node sends nothing, though its tasks may still run.
        self.nodes.get(&from.name).filter(|node| node.run == from.run)?;
        let inbound = self.nodes.get(to)?.inbound.clone();
        let link = (from.name.to_string(), to.to_owned());
        if self.cut.contains(&link) {
            return None;
        }
        if let Some(losses) = self.losses.get_mut(&link).filter(|losses| **losses > 0) {
            *losses -= 1;
            return None;
        }
        Some(inbound)
    }
}

/// One node's end of the network.
struct End {
    name: Arc<str>,
    run: u64,
    network: Network,
}

impl Adapter for End {
    fn node(&self) -> &str {
        &self.name
    }

    fn start(&self, inbound: Inbound) {
        let node = Node { run: self.run, inbound };
        self.network.0.lock().nodes.insert(self.name.clone(), node);
    }

    fn broadcast(&self, message: &Arc<Message>) -> Result<(), BroadcastError> {
        let ways: Vec<Inbound> = {
            let mut links = self.network.0.lock();
            let names: Vec<Arc<str>> =
                links.nodes.keys().filter(|name| **name != self.name).cloned().collect();
            names.iter().filter_map(|to| links.way(self, to)).collect()
        };
        // Delivered outside of the lock: it runs what the subscribers do.
        for way in ways {
            way.deliver(message);
        }
        Ok(())
    }

    fn direct_broadcast(&self, node: &str, message: &Arc<Message>) -> Result<(), BroadcastError> {
        let way = self.network.0.lock().way(self, node);
        if let Some(way) = way {
            way.deliver(message);
        }
        Ok(())
    }

    // Every node hears everything: a topic without subscribers costs a look into a map.
    fn subscribed(&self, _: &Topic) {}

    fn unsubscribed(&self, _: &Topic) {}
}
