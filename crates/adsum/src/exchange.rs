//! Questions to all nodes, and their answers.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::{Json, Message, Payload, PubSub, Topic, metrics::table};
use adsum_tracker::{HeldPresence, Key, LeaveReason, NodeInfo, NodeState, OwnerId, Ref};
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

#[cfg(feature = "dashboard")]
use crate::watching::{self, Watches};
use crate::{
    core::Core,
    explanation::{ExplainedDeparture, ExplainedSocket, Holder, HoldingNode},
    handler::PresenceHandler,
    replication::ReplicationInbox,
    seconds,
};

/// The events on the topic of questions.
const ASK: &str = "ask";
const ANSWER: &str = "answer";

/// How many messages wait for the task that answers. Further ones drop the oldest.
const WAITING: usize = 128;
/// How many answers wait for the one who asked.
const ANSWERS: usize = 128;
/// How many presences, and how many leaves, one node tells of.
pub(crate) const MAX_TOLD: usize = 64;
/// How many questions are answered at once. Further ones count as unanswered.
const MAX_ANSWERING: usize = 16;
/// How long a node waits for its own replication before it answers without it.
const OWN_TIME: Duration = Duration::from_millis(500);

/// A question to all nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// Asks for the presences of a key, and its leaves.
    Explain { topic: Topic, key: Key },
    /// How they hear each other.
    Nodes,
}

/// The answer of one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Explained(Explained),
    Nodes(NodeReport),
}

/// The report of one node on itself and on the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// Each is a [`NodeInfo`] as JSON.
    pub(crate) nodes: Vec<serde_json::Value>,
    /// How many presences it knows, of all nodes, and in how many topics.
    pub(crate) presences: usize,
    pub(crate) topics: usize,
    /// How many channels and tasks of its own hold presences, or may.
    pub(crate) holders: usize,
    /// Whether it reaches the engine.
    pub(crate) is_connected: bool,
    pub(crate) counts: Counts,
}

/// The counts of one node since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) diffs: u64,
    pub(crate) joins: u64,
    pub(crate) leaves: u64,
    /// The traffic of its clients. Zero from an older node.
    #[serde(default)]
    pub(crate) messages_received: u64,
    #[serde(default)]
    pub(crate) messages_sent: u64,
    #[serde(default)]
    pub(crate) bytes_received: u64,
    #[serde(default)]
    pub(crate) bytes_sent: u64,
}

/// An answer, and when it was heard.
pub(crate) struct Told {
    pub(crate) node: String,
    pub(crate) answer: Answer,
    #[cfg_attr(not(feature = "dashboard"), expect(dead_code, reason = "the dashboard plots it"))]
    pub(crate) at: Instant,
}

/// The presences and leaves of a key on one node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Explained {
    pub(crate) presences: Vec<HeldHere>,
    /// How many more presences it has than it tells of.
    #[serde(default)]
    pub(crate) left_out: usize,
    pub(crate) leaves: Vec<LeftHere>,
}

/// A presence as one node has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HeldHere {
    pub(crate) reference: Ref,
    pub(crate) node: Option<HoldingNode>,
    pub(crate) is_own: bool,
    pub(crate) is_shown: bool,
    pub(crate) departing: Option<ExplainedDeparture>,
    pub(crate) holder: Option<Holder>,
}

/// A leave as one node remembers it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LeftHere {
    pub(crate) reference: Ref,
    pub(crate) node: Option<String>,
    pub(crate) is_own: bool,
    pub(crate) reason: LeaveReason,
    #[serde(with = "seconds")]
    pub(crate) ago: Duration,
    #[serde(with = "seconds::optional")]
    pub(crate) node_silent_for: Option<Duration>,
    pub(crate) holder: Option<Holder>,
}

#[derive(Serialize, Deserialize)]
struct Asked {
    nonce: u64,
    from: String,
    question: Question,
}

#[derive(Serialize, Deserialize)]
struct Answered {
    nonce: u64,
    from: String,
    answer: Answer,
}

/// The way of questions to the same presence on other nodes, and of answers back.
pub(crate) struct Exchange {
    pubsub: PubSub,
    topic: Topic,
    /// The calls that wait for answers.
    askers: Mutex<HashMap<u64, mpsc::Sender<Told>>>,
    #[cfg(feature = "dashboard")]
    pub(crate) watches: Arc<Watches>,
}

impl Exchange {
    /// No client can join this topic: those that begin like it are kept for the nodes.
    pub(crate) fn new(pubsub: PubSub, name: &str) -> Arc<Self> {
        let topic = Topic::from(format!("adsum:explain:{name}"));
        Arc::new(Self {
            #[cfg(feature = "dashboard")]
            watches: Watches::new(pubsub.clone(), topic.clone()),
            pubsub,
            topic,
            askers: Mutex::default(),
        })
    }

    fn ask(self: &Arc<Self>, question: Question) -> (Asking, mpsc::Receiver<Told>) {
        let (sender, answers) = mpsc::channel(ANSWERS);
        // Random, so that an answer to another question, or of another run, is no answer to this one.
        let nonce = RandomState::new().build_hasher().finish();
        self.askers.lock().insert(nonce, sender);
        let asking = Asking { exchange: self.clone(), nonce };
        let asked = Asked { nonce, from: self.pubsub.node().to_owned(), question };
        // A node that isn't reached counts as one that doesn't answer.
        if let Ok(payload) = Json::encode(&asked) {
            let _ = self.pubsub.broadcast(&self.topic, ASK, payload);
        }
        (asking, answers)
    }

    /// The nodes that this one knows, and what each has to say within a time, this one included.
    pub(crate) async fn ask_all<H: PresenceHandler>(
        self: &Arc<Self>,
        core: &Core<H>,
        inbox: &ReplicationInbox,
        question: Question,
        within: Duration,
    ) -> (Vec<NodeInfo>, Vec<Told>) {
        let deadline = Instant::now() + within;
        let pubsub = &self.pubsub;
        let mut asked = pubsub.is_networked().then(|| self.ask(question.clone()));
        let nodes = timeout_at(deadline, inbox.nodes()).await.ok().and_then(Result::ok).unwrap_or_default();
        let own = answer(core, inbox, &question).await;
        let mut answers = vec![Told { node: pubsub.node().to_owned(), answer: own, at: Instant::now() }];
        let is_expected = |node: &&NodeInfo| node.state == NodeState::Up && !node.is_self;
        let mut expected: Vec<&str> = nodes.iter().filter(is_expected).map(|node| &*node.name).collect();
        if let Some((_, receiver)) = &mut asked {
            while !expected.is_empty()
                && let Ok(Some(told)) = timeout_at(deadline, receiver.recv()).await
            {
                expected.retain(|name| *name != told.node);
                if answers.iter().all(|known| known.node != told.node) {
                    answers.push(told);
                }
            }
        }
        (nodes, answers)
    }
}

/// A question that is under way.
struct Asking {
    exchange: Arc<Exchange>,
    nonce: u64,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.exchange.askers.lock().remove(&self.nonce);
    }
}

/// Answers what other nodes ask, and hands their answers to those who asked. Runs until it is aborted.
pub(crate) async fn run<H: PresenceHandler>(
    core: &Core<H>,
    inbox: &ReplicationInbox,
    exchange: &Arc<Exchange>,
) {
    let mut questions = exchange.pubsub.inbox(WAITING);
    questions.subscribe(exchange.topic.clone());
    let mut answering = FuturesUnordered::new();
    loop {
        tokio::select! {
            // A question that was dropped counts as unanswered.
            message = questions.recv() => if let Ok(message) = message {
                if message.event() != ASK {
                    handle(core, exchange, &message);
                } else if answering.len() < MAX_ANSWERING {
                    answering.push(answer_to(core, inbox, exchange, message));
                }
            },
            Some(()) = answering.next() => {}
        }
    }
}

async fn answer_to<H: PresenceHandler>(
    core: &Core<H>,
    inbox: &ReplicationInbox,
    exchange: &Exchange,
    message: Arc<Message>,
) {
    let Exchange { pubsub, topic, .. } = exchange;
    let Payload::Json(json) = message.payload() else { return };
    // A newer node may ask what this one can't answer.
    let Ok(Asked { nonce, from, question }) = json.decode() else { return };
    if from == pubsub.node() {
        return;
    }
    let answer = answer(core, inbox, &question).await;
    let answered = Answered { nonce, from: pubsub.node().to_owned(), answer };
    if let Ok(payload) = Json::encode(&answered) {
        let _ = pubsub.direct_broadcast(&from, topic, ANSWER, payload);
    }
}

#[cfg_attr(not(feature = "dashboard"), expect(unused_variables, reason = "the dashboard watches sockets"))]
fn handle<H: PresenceHandler>(core: &Core<H>, exchange: &Arc<Exchange>, message: &Message) {
    let Payload::Json(json) = message.payload() else { return };
    match message.event() {
        ANSWER => {
            let Ok(Answered { nonce, from, answer }) = json.decode() else { return };
            if let Some(asker) = exchange.askers.lock().get(&nonce) {
                // One that has given up, or has more answers than it can take, doesn't need it.
                let _ = asker.try_send(Told { node: from, answer, at: Instant::now() });
            }
        }
        #[cfg(feature = "dashboard")]
        event => watching::handle(core, &exchange.watches, event, json),
        #[cfg(not(feature = "dashboard"))]
        _ => {}
    }
}

/// The answer of this node.
async fn answer<H: PresenceHandler>(core: &Core<H>, inbox: &ReplicationInbox, question: &Question) -> Answer {
    match question {
        Question::Explain { topic, key } => Answer::Explained(explain_here(core, inbox, topic, key).await),
        Question::Nodes => {
            let nodes = timeout(OWN_TIME, inbox.nodes()).await;
            let nodes = nodes.ok().and_then(Result::ok).unwrap_or_default();
            let nodes = nodes.iter().filter_map(|node| serde_json::to_value(node).ok());
            let counts = core.tracker.counts();
            let total = |metric| core.pubsub.metrics().counter(metric, &[]).get();
            Answer::Nodes(NodeReport {
                nodes: nodes.collect(),
                presences: counts.presences,
                topics: counts.topics,
                holders: core.holders.len(),
                is_connected: *core.pubsub.connected().borrow(),
                counts: Counts {
                    diffs: core.metrics.diffs.get(),
                    joins: counts.joined + counts.updated,
                    leaves: counts.left.iter().sum::<u64>() + counts.updated,
                    messages_received: total(&table::MESSAGES_RECEIVED),
                    messages_sent: total(&table::MESSAGES_SENT),
                    bytes_received: total(&table::BYTES_RECEIVED),
                    bytes_sent: total(&table::BYTES_SENT),
                },
            })
        }
    }
}

async fn explain_here<H: PresenceHandler>(
    core: &Core<H>,
    inbox: &ReplicationInbox,
    topic: &Topic,
    key: &Key,
) -> Explained {
    let held = timeout(OWN_TIME, inbox.held(topic, key, MAX_TOLD)).await;
    let (presences, left_out) = match held.ok().and_then(Result::ok) {
        Some((held, left_out)) => (held.into_iter().map(|held| held_here(core, held)).collect(), left_out),
        // Replication has failed: what is in the set is known all the same.
        None => in_the_set(core, topic, key),
    };
    let leaves = core.leaves.of(topic, key, MAX_TOLD).into_iter().map(|left| {
        let is_own = left.owner != OwnerId::REMOTE;
        let own_node = is_own.then(|| core.pubsub.node().to_owned());
        LeftHere {
            reference: left.reference,
            node: own_node.or_else(|| left.node.map(|node| node.to_string())),
            is_own,
            reason: left.reason,
            ago: left.ago,
            node_silent_for: left.silent_for,
            holder: is_own.then(|| holder(core, left.owner)),
        }
    });
    Explained { presences, left_out, leaves: leaves.collect() }
}

fn held_here<H: PresenceHandler>(core: &Core<H>, held: HeldPresence) -> HeldHere {
    let is_own = held.row.owner != OwnerId::REMOTE;
    let node = held.by.map(|by| HoldingNode {
        name: by.replica.name.to_string(),
        state: Some(by.state),
        silent_for: by.silent_for,
        silence_left: by.silence_left,
        // The one that puts the answers together knows.
        answered: false,
    });
    HeldHere {
        reference: held.row.reference,
        node,
        is_own,
        is_shown: held.is_shown,
        departing: held.departing.map(|(reason, remaining)| ExplainedDeparture { reason, remaining }),
        holder: is_own.then(|| holder(core, held.row.owner)),
    }
}

fn in_the_set<H: PresenceHandler>(core: &Core<H>, topic: &Topic, key: &Key) -> (Vec<HeldHere>, usize) {
    let mut rows = core.tracker.get_by_key(topic, key);
    rows.sort_unstable_by_key(|row| row.reference);
    let left_out = rows.len().saturating_sub(MAX_TOLD);
    rows.truncate(MAX_TOLD);
    let here = rows.into_iter().map(|row| HeldHere {
        reference: row.reference,
        node: None,
        is_own: row.owner != OwnerId::REMOTE,
        is_shown: true,
        departing: None,
        holder: (row.owner != OwnerId::REMOTE).then(|| holder(core, row.owner)),
    });
    (here.collect(), left_out)
}

fn holder<H: PresenceHandler>(core: &Core<H>, owner: OwnerId) -> Holder {
    let info = core.holders.find(owner);
    let (held_for, ended) = info.as_ref().map_or((None, None), |info| (Some(info.held_for), info.ended));
    let socket = info.and_then(|info| info.socket).map(ExplainedSocket::of);
    Holder { owner: owner.number(), socket, held_for, ended }
}
