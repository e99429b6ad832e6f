//! Networks that lose messages, and a database server's connection that falls silent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use adsum::{Adapter, BroadcastError, Inbound, Message, PubSub, Topic};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Nodes of one process, between which messages of some events can be lost.
#[derive(Clone, Default)]
pub(crate) struct Network(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: HashMap<String, Inbound>,
    lost: &'static [&'static str],
    /// How many messages were lost.
    losses: usize,
}

impl Network {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn node(&self, name: &str) -> PubSub {
        PubSub::new(Node { name: name.to_owned(), network: self.clone() })
    }

    /// From now on messages of these events are lost, and no others.
    pub(crate) fn lose(&self, events: &'static [&'static str]) {
        self.state().lost = events;
    }

    pub(crate) fn losses(&self) -> usize {
        self.state().losses
    }
}

struct Node {
    name: String,
    network: Network,
}

impl Node {
    fn send(&self, message: &Arc<Message>, to: impl Fn(&str) -> bool) {
        let nodes: Vec<Inbound> = {
            let mut state = self.network.state();
            if state.lost.contains(&message.event()) {
                state.losses += 1;
                return;
            }
            state
                .nodes
                .iter()
                .filter(|(name, _)| **name != self.name && to(name))
                .map(|(_, node)| node.clone())
                .collect()
        };
        for node in nodes {
            node.deliver(message);
        }
    }
}

impl Adapter for Node {
    fn node(&self) -> &str {
        &self.name
    }

    fn start(&self, inbound: Inbound) {
        self.network.state().nodes.insert(self.name.clone(), inbound);
    }

    fn broadcast(&self, message: &Arc<Message>) -> Result<(), BroadcastError> {
        self.send(message, |_| true);
        Ok(())
    }

    fn direct_broadcast(&self, node: &str, message: &Arc<Message>) -> Result<(), BroadcastError> {
        self.send(message, |name| name == node);
        Ok(())
    }

    fn subscribed(&self, _: &Topic) {}

    fn unsubscribed(&self, _: &Topic) {}
}

/// A way to a database server, on which a client falls silent as it is about to say a word, like a program that is
/// frozen there. Returns the port.
pub(crate) async fn silent_at(
    server: String,
    word: &'static [u8],
    is_silent: tokio::sync::watch::Receiver<bool>,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (server, is_silent) = (server.clone(), is_silent.clone());
            tokio::spawn(async move {
                let far = TcpStream::connect(server).await.unwrap();
                let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut far_in, &mut near_out).await });
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = near_in.read(&mut bytes).await {
                    let said = &bytes[..read];
                    if *is_silent.borrow() && said.windows(word.len()).any(|said| said == word) {
                        std::future::pending::<()>().await;
                    }
                    if far_out.write_all(said).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
