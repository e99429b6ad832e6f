//! The messages of one socket, which may be of another node, for as long as somebody watches.

#[cfg(all(test, feature = "testing"))]
mod tests;

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{
    Json, PubSub, Topic,
    tasks::{self, Task},
};
use adsum_tracker::OwnerId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use crate::{core::Core, handler::PresenceHandler};

/// The events on the topic of questions.
const WATCH: &str = "watch";
const UNWATCH: &str = "unwatch";
const ITEM: &str = "item";

/// A watch ends by itself after this.
const WATCH_TIME: Duration = Duration::from_mins(1);
/// How long the node of the socket has to begin.
const BEGIN_TIME: Duration = Duration::from_secs(2);
/// How many sockets of one node are watched at once.
const MAX_WATCHED: usize = 4;
/// The pause after each message, so that a busy socket doesn't fill the network. Messages that come meanwhile are left out.
const PAUSE: Duration = Duration::from_millis(10);
/// How many messages wait for the page.
const WAITING: usize = 256;

/// One step of a watch, as its page hears it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum StreamItem {
    /// The watch has begun.
    Begun,
    Message {
        from_client: bool,
        bytes: usize,
        text: String,
        skipped: u64,
    },
    /// Nothing more comes, for this reason.
    End(String),
}

#[derive(Serialize, Deserialize)]
struct WatchRequest {
    stream: u64,
    from: String,
    owner: u64,
}

#[derive(Serialize, Deserialize)]
struct WatchedItem {
    stream: u64,
    item: StreamItem,
}

/// The watches of this node: of its pages, and of its sockets.
pub(crate) struct Watches {
    pubsub: PubSub,
    /// The topic on which the nodes ask each other.
    topic: Topic,
    streams: Mutex<HashMap<u64, mpsc::Sender<StreamItem>>>,
    watched: Mutex<HashMap<u64, Task>>,
}

/// The messages of a socket on their way to a page. Dropped, the watch ends.
pub(crate) struct Stream {
    watches: Arc<Watches>,
    id: u64,
    node: String,
    items: mpsc::Receiver<StreamItem>,
    ends_at: Instant,
    begun: bool,
    ended: bool,
}

impl Stream {
    /// Watches the socket of an owner on a node.
    pub(crate) fn open<H: PresenceHandler>(
        watches: &Arc<Watches>,
        core: &Core<H>,
        node: String,
        owner: u64,
    ) -> Self {
        let (sender, items) = mpsc::channel(WAITING);
        let id = RandomState::new().build_hasher().finish();
        watches.streams.lock().insert(id, sender);
        let from = watches.pubsub.node().to_owned();
        if node == from {
            watches.begin(core, WatchRequest { stream: id, from, owner });
        } else if let Ok(payload) = Json::encode(&WatchRequest { stream: id, from, owner }) {
            // A node that doesn't hear it doesn't begin, which is said.
            let _ = watches.pubsub.direct_broadcast(&node, &watches.topic, WATCH, payload);
        }
        let ends_at = Instant::now() + WATCH_TIME;
        Self { watches: watches.clone(), id, node, items, ends_at, begun: false, ended: false }
    }

    /// The next message, or why there is none any more. `None` after that.
    pub(crate) async fn next(&mut self) -> Option<StreamItem> {
        if self.ended {
            return None;
        }
        let deadline = if self.begun { self.ends_at } else { self.ends_at.min(Instant::now() + BEGIN_TIME) };
        let item = match timeout_at(deadline, self.items.recv()).await {
            Ok(Some(item)) => item,
            Ok(None) => StreamItem::End("the watch has ended".to_owned()),
            Err(_) if self.begun => StreamItem::End(over()),
            Err(_) => StreamItem::End(format!("{} did not answer", self.node)),
        };
        self.begun = true;
        self.ended = matches!(item, StreamItem::End(_));
        Some(item)
    }
}

fn over() -> String {
    format!("a watch ends by itself after {} s", WATCH_TIME.as_secs())
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Self { watches, id, node, .. } = self;
        let sender = watches.streams.lock().remove(id);
        drop(sender);
        if node == watches.pubsub.node() {
            watches.end(*id);
        } else if let Ok(payload) = Json::encode(id) {
            let _ = watches.pubsub.direct_broadcast(node, &watches.topic, UNWATCH, payload);
        }
    }
}

impl Watches {
    pub(crate) fn new(pubsub: PubSub, topic: Topic) -> Arc<Self> {
        Arc::new(Self { pubsub, topic, streams: Mutex::default(), watched: Mutex::default() })
    }

    /// Begins to watch a socket of this node.
    fn begin<H: PresenceHandler>(self: &Arc<Self>, core: &Core<H>, watch: WatchRequest) {
        let WatchRequest { stream, from, owner } = watch;
        let probe = core.holders.socket(OwnerId::numbered(owner));
        let sender = Sender { watches: self.clone(), stream, to: from };
        // Held until the watch is noted, so that no other one is counted meanwhile.
        let mut watched = self.watched.lock();
        let ids: Vec<u64> = watched.iter().filter(|(_, task)| task.has_ended()).map(|(id, _)| *id).collect();
        let ended: Vec<Task> = ids.into_iter().filter_map(|id| watched.remove(&id)).collect();
        // Looked at before the trace begins, which ends another one of the same socket.
        let refused = (watched.len() >= MAX_WATCHED)
            .then(|| format!("{MAX_WATCHED} sockets of that node are watched already"));
        let trace = if refused.is_none() { probe.and_then(|probe| probe.trace()) } else { None };
        let Some(mut trace) = trace else {
            drop(watched);
            drop(ended);
            return sender.send(StreamItem::End(refused.unwrap_or_else(|| "its socket is gone".to_owned())));
        };
        let ends_at = Instant::now() + WATCH_TIME;
        let task = tasks::spawn("watch of a socket", async move {
            sender.send(StreamItem::Begun);
            loop {
                let item = match timeout_at(ends_at, trace.next()).await {
                    Ok(Some(message)) => StreamItem::Message {
                        from_client: message.is_from_client,
                        bytes: message.bytes,
                        text: message.text,
                        skipped: message.skipped,
                    },
                    Ok(None) => StreamItem::End("its socket is gone, or somebody else watches it".to_owned()),
                    Err(_) => StreamItem::End(over()),
                };
                let ends = matches!(item, StreamItem::End(_));
                sender.send(item);
                if ends {
                    return;
                }
                sleep(PAUSE).await;
            }
        });
        let before = watched.insert(stream, task);
        drop(watched);
        drop((ended, before));
    }

    fn end(&self, stream: u64) {
        let task = self.watched.lock().remove(&stream);
        drop(task);
    }

    fn deliver(&self, WatchedItem { stream, item }: WatchedItem) {
        let sender = self.streams.lock().get(&stream).cloned();
        if let Some(sender) = sender {
            // A page that is too slow doesn't see all.
            let _ = sender.try_send(item);
        }
    }
}

/// The way of messages to the node of the page.
struct Sender {
    watches: Arc<Watches>,
    stream: u64,
    to: String,
}

impl Sender {
    fn send(&self, item: StreamItem) {
        let Self { watches, stream, to } = self;
        let item = WatchedItem { stream: *stream, item };
        if to == watches.pubsub.node() {
            watches.deliver(item);
        } else if let Ok(payload) = Json::encode(&item) {
            let _ = watches.pubsub.direct_broadcast(to, &watches.topic, ITEM, payload);
        }
    }
}

/// Handles what other nodes say of watches.
pub(crate) fn handle<H: PresenceHandler>(core: &Core<H>, watches: &Arc<Watches>, event: &str, json: &Json) {
    match event {
        WATCH => {
            if let Ok(watch) = json.decode::<WatchRequest>() {
                watches.begin(core, watch);
            }
        }
        UNWATCH => {
            if let Ok(stream) = json.decode() {
                watches.end(stream);
            }
        }
        ITEM => {
            if let Ok(item) = json.decode() {
                watches.deliver(item);
            }
        }
        _ => {}
    }
}
