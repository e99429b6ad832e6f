//! The messages and requests that wait for the replication task.

use std::{collections::VecDeque, mem, sync::Arc};

use adsum_pubsub::{Message, Payload, Subscriber, Topic};
use adsum_tracker::{HeldPresence, Key, NodeInfo};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::peer_topic::{REFRESH, SET};
use crate::presence_metrics::PresenceMetrics;

/// Maximum size of the waiting messages from other nodes; further ones are dropped.
pub(crate) const INBOX_BYTES: usize = 64 * 1024 * 1024;
/// Maximum number and approximate size of the messages taken before the time is checked and the effects are done.
const MESSAGES_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 64 * 1024;
/// Maximum number of waiting refreshes from other nodes; further ones are dropped.
const REFRESHES: usize = 4096;

/// The messages and requests that wait for the replication task.
pub(crate) struct ReplicationInbox {
    metrics: Arc<PresenceMetrics>,
    state: Mutex<InboxState>,
    wake: Notify,
}

#[derive(Default)]
struct InboxState {
    messages: VecDeque<Bytes>,
    bytes: usize,
    refreshes: VecDeque<(Topic, Key)>,
    leave: Option<oneshot::Sender<HandedOver>>,
    /// Requests for the list of nodes. Each caller waits for its answer, so there are no more of them than callers.
    node_requests: Vec<oneshot::Sender<Vec<NodeInfo>>>,
    /// Requests for the presences of a key. As with the nodes, each caller waits.
    held_requests: Vec<HeldRequest>,
    /// This node was asked to leave.
    leaving: bool,
    /// The task has ended, and takes nothing any more.
    closed: bool,
}

/// Asks for the presences that are held under a key.
pub(super) struct HeldRequest {
    pub(super) topic: Topic,
    pub(super) key: Key,
    pub(super) most: usize,
    /// The presences, and how many more there are.
    pub(super) answer: oneshot::Sender<(Vec<HeldPresence>, usize)>,
}

/// How many of the other nodes have this one's final set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandedOver {
    pub(crate) held: usize,
    pub(crate) of: usize,
}

/// A part of an inbox, for the task.
pub(super) struct InboxPart {
    pub(super) messages: Vec<Bytes>,
    /// Whether no more messages wait.
    pub(super) is_last: bool,
    pub(super) refreshes: VecDeque<(Topic, Key)>,
    pub(super) leave: Option<oneshot::Sender<HandedOver>>,
    pub(super) node_requests: Vec<oneshot::Sender<Vec<NodeInfo>>>,
    pub(super) held_requests: Vec<HeldRequest>,
}

impl ReplicationInbox {
    pub(crate) fn new(metrics: Arc<PresenceMetrics>) -> Self {
        Self { metrics, state: Mutex::default(), wake: Notify::new() }
    }

    /// Wakes the task, as the set has changed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Asks the task to leave the cluster. The receiver gets an error if the task has ended.
    pub(crate) fn leave(&self) -> oneshot::Receiver<HandedOver> {
        let (told, left) = oneshot::channel();
        let mut state = self.state.lock();
        state.leaving = true;
        if !state.closed {
            state.leave = Some(told);
        }
        drop(state);
        self.wake();
        left
    }

    /// Asks the task for the list of nodes. The receiver gets an error if the task has ended, or fails before it
    /// answers.
    pub(crate) fn nodes(&self) -> oneshot::Receiver<Vec<NodeInfo>> {
        let (request, nodes) = oneshot::channel();
        let mut state = self.state.lock();
        if !state.closed {
            state.node_requests.push(request);
        }
        drop(state);
        self.wake();
        nodes
    }

    /// Asks the task for the presences that are held under a key. The receiver gets an error as with
    /// [`nodes`](Self::nodes).
    pub(crate) fn held(
        &self,
        topic: &Topic,
        key: &Key,
        most: usize,
    ) -> oneshot::Receiver<(Vec<HeldPresence>, usize)> {
        let (answer, held) = oneshot::channel();
        let mut state = self.state.lock();
        if !state.closed {
            state.held_requests.push(HeldRequest { topic: topic.clone(), key: key.clone(), most, answer });
        }
        drop(state);
        self.wake();
        held
    }

    fn push(&self, message: &Bytes) {
        let mut state = self.state.lock();
        if state.closed || state.bytes + message.len() > INBOX_BYTES {
            drop(state);
            self.metrics.most_inbox_bytes.note_full();
            self.metrics.messages_dropped.increment();
            return;
        }
        state.bytes += message.len();
        state.messages.push_back(message.clone());
        let bytes = state.bytes;
        drop(state);
        self.metrics.most_inbox_bytes.note(bytes);
        self.wake();
    }

    /// Waits until there is something for the task.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Takes all requests, and as many messages as are handled at once.
    pub(super) fn take(&self) -> InboxPart {
        let mut state = self.state.lock();
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while messages.len() < MESSAGES_AT_ONCE
            && bytes < BYTES_AT_ONCE
            && let Some(message) = state.messages.pop_front()
        {
            bytes += message.len();
            messages.push(message);
        }
        state.bytes -= bytes;
        InboxPart {
            is_last: state.messages.is_empty(),
            messages,
            refreshes: mem::take(&mut state.refreshes),
            leave: state.leave.take(),
            node_requests: mem::take(&mut state.node_requests),
            held_requests: mem::take(&mut state.held_requests),
        }
    }

    /// Whether this node was asked to leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.state.lock().leaving
    }

    /// Drops everything in the inbox, as a run of the task has ended. If it was the last run, or the node was leaving,
    /// the inbox takes nothing any more: callers that ask the node to leave get an error.
    pub(super) fn clear(&self, is_last_run: bool) {
        let mut state = self.state.lock();
        let dropped = mem::take(&mut *state);
        state.leaving = dropped.leaving;
        state.closed = is_last_run || dropped.leaving;
        drop(state);
    }
}

impl Subscriber for ReplicationInbox {
    fn deliver(&self, message: &Arc<Message>) {
        match message.payload() {
            Payload::Binary(bytes) if message.event() == SET => self.push(bytes),
            Payload::Json(json) if message.event() == REFRESH => {
                let Ok(refresh) = json.decode::<(Topic, Key)>() else { return };
                let mut state = self.state.lock();
                if state.refreshes.len() < REFRESHES {
                    state.refreshes.push_back(refresh);
                }
                drop(state);
                self.wake();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use adsum_pubsub::Json;

    use super::*;

    fn new_inbox() -> ReplicationInbox {
        ReplicationInbox::new(PresenceMetrics::new(
            &adsum_pubsub::metrics::Metrics::new(),
            "p".into(),
            INBOX_BYTES,
        ))
    }

    fn message_of(bytes: usize) -> Arc<Message> {
        Arc::new(Message::new("t", SET, Payload::Binary(vec![0; bytes].into())))
    }

    fn held(inbox: &ReplicationInbox) -> (usize, usize) {
        let state = inbox.state.lock();
        (state.messages.len(), state.bytes)
    }

    #[test]
    fn an_inbox_holds_its_bytes_and_no_more() {
        let inbox = new_inbox();
        let message = message_of(INBOX_BYTES / 4);
        for _ in 0..4 {
            inbox.deliver(&message);
        }
        assert_eq!(held(&inbox), (4, INBOX_BYTES));
        inbox.deliver(&message_of(1));
        assert_eq!(held(&inbox), (4, INBOX_BYTES));
    }

    #[test]
    fn refreshes_beyond_the_maximum_are_dropped() {
        let inbox = new_inbox();
        for n in 0..REFRESHES + 2 {
            assert_eq!(inbox.state.lock().refreshes.len(), n.min(REFRESHES));
            let refresh = Json::encode(&("t", n.to_string())).expect("strings are JSON");
            inbox.deliver(&Arc::new(Message::new("t", REFRESH, refresh.into())));
        }
    }
}
