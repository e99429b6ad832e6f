//! The messages to clients add up to the list, and no ref is told twice: by the rules of phoenix.js 1.8, and by those
//! of clients that append joins without a look at what they have.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use adsum::{
    Acceptor, Builder, Channel, Client, JoinError, Joined, LocalNetwork, Outgoing, Owner, Payload, Presence,
    PresenceHandler, PubSub, Reply, Socket, SocketBuilder, Stop, Topic, Wire,
};
use proptest::{prelude::*, test_runner::TestRunner};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{advance, sleep, timeout};

use crate::support::{Does, Script, meta, settle};

pub(crate) struct Hall {
    presence: Presence<Script>,
    key: String,
}

#[derive(Deserialize)]
pub(crate) struct Params {
    key: String,
}

impl Channel for Hall {
    type App = Presence<Script>;
    type Params = Params;
    type Info = ();

    async fn join(
        presence: &Presence<Script>,
        _: &Topic,
        params: Params,
        _: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        Ok(Joined::new(Self { presence: presence.clone(), key: params.key }))
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        self.presence.track(socket, &self.key, meta(1))?;
        self.presence.push_state(socket).await?;
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, _: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match event {
            "update" => drop(self.presence.update(socket, &self.key, meta(2))),
            "untrack" => drop(self.presence.untrack(socket, &self.key)),
            "track" => drop(self.presence.track(socket, &self.key, meta(3))),
            "state" => self.presence.push_state(socket).await?,
            _ => return Err(Stop::unhandled(event)),
        }
        Ok(Reply::none())
    }
}

/// The refs of each key, in the client's order.
pub(crate) type View = BTreeMap<String, Vec<String>>;

fn refs(entries: &Value) -> View {
    let refs = |entry: &Value| {
        let metas = entry["metas"].as_array().unwrap().iter();
        metas.map(|meta| meta["phx_ref"].as_str().unwrap().to_owned()).collect()
    };
    entries.as_object().unwrap().iter().map(|(key, entry)| (key.clone(), refs(entry))).collect()
}

fn without(view: &View, other: &View) -> View {
    let is_new = |key: &String, r: &String| !other.get(key).is_some_and(|refs| refs.contains(r));
    let new = |(key, refs): (&String, &Vec<String>)| {
        let refs: Vec<String> = refs.iter().filter(|r| is_new(key, r)).cloned().collect();
        (!refs.is_empty()).then(|| (key.clone(), refs))
    };
    view.iter().filter_map(new).collect()
}

fn remove(view: &mut View, leaves: &View) {
    for (key, left) in leaves {
        if let Some(refs) = view.get_mut(key) {
            refs.retain(|r| !left.contains(r));
        }
    }
    view.retain(|_, refs| !refs.is_empty());
}

pub(crate) fn sorted(view: &View) -> View {
    let mut view = view.clone();
    for refs in view.values_mut() {
        refs.sort();
    }
    view
}

/// A client, with its view of the presences.
pub(crate) struct Person {
    pub(crate) client: Client,
    /// By the rules of phoenix.js 1.8, which applies diffs that come before the first state after it.
    pub(crate) view: View,
    pending: Option<Vec<Value>>,
    /// By the rules of phoenix.js 1.3, which appends.
    naive: View,
    /// The refs that a diff joined though they were known.
    pub(crate) twice: Vec<String>,
    /// The name under each key that was joined last.
    infos: BTreeMap<String, Value>,
    states: usize,
    /// The number of states that it asked for, joins included.
    asked: usize,
    is_closed: bool,
    /// Its join isn't answered yet: until then, messages belong to the join before, which the server can't take back.
    is_joining: bool,
}

impl Person {
    pub(crate) async fn connect(acceptor: &Acceptor) -> Self {
        let request = axum::http::Request::get("/?vsn=2.0.0").body(()).unwrap().into_parts().0;
        Self {
            client: acceptor.accept("test", request).await.unwrap(),
            view: View::new(),
            pending: Some(Vec::new()),
            naive: View::new(),
            twice: Vec::new(),
            infos: BTreeMap::new(),
            states: 0,
            asked: 0,
            is_closed: false,
            is_joining: false,
        }
    }

    pub(crate) fn join(&mut self, key: &str) {
        self.pending = Some(Vec::new());
        self.is_joining = true;
        self.send("phx_join", &json!({"key": key}));
    }

    pub(crate) fn send(&mut self, event: &str, payload: &Value) {
        self.asked += usize::from(event == "phx_join" || event == "state");
        let message = json!(["1", "1", "hall", event, payload]).to_string();
        self.client.receive(Wire::Text(message.as_bytes())).unwrap();
    }

    /// Reads all messages that are there.
    pub(crate) async fn read(&mut self) {
        while !self.is_closed
            && let Ok(outgoing) = timeout(Duration::ZERO, self.client.next()).await
        {
            match outgoing {
                Outgoing::Text(text) => {
                    let frame: Value = serde_json::from_slice(&text).unwrap();
                    if frame[3] == "presence_state" {
                        let text = std::str::from_utf8(&text).unwrap();
                        let keys = frame[4].as_object().unwrap().len();
                        assert_eq!(text.matches("\"metas\":").count(), keys, "a key is there once: {text}");
                    }
                    self.take(frame[3].as_str().unwrap(), &frame[4]);
                }
                Outgoing::Binary(_) => unreachable!("no binary is sent"),
                Outgoing::Nothing => {}
                Outgoing::Close(_) => self.is_closed = true,
            }
        }
    }

    fn take(&mut self, event: &str, payload: &Value) {
        match event {
            "phx_reply" => self.is_joining = false,
            _ if self.is_joining => {}
            "presence_state" => {
                self.states += 1;
                self.note_infos(payload);
                let state = refs(payload);
                let (joins, leaves) = (without(&state, &self.view), without(&self.view, &state));
                self.fold(&joins, &leaves);
                for diff in self.pending.take().into_iter().flatten() {
                    self.take("presence_diff", &diff);
                }
                let (joins, leaves) = (without(&state, &self.naive), without(&self.naive, &state));
                self.append(joins, &leaves);
            }
            "presence_diff" => {
                if let Some(pending) = &mut self.pending {
                    pending.push(payload.clone());
                } else {
                    self.note_infos(&payload["joins"]);
                    let (joins, leaves) = (refs(&payload["joins"]), refs(&payload["leaves"]));
                    let known =
                        |key: &String, r: &&String| self.view.get(key).is_some_and(|refs| refs.contains(r));
                    let twice =
                        joins.iter().flat_map(|(key, refs)| refs.iter().filter(move |r| known(key, r)));
                    let twice: Vec<_> = twice.cloned().collect();
                    self.twice.extend(twice);
                    self.fold(&joins, &leaves);
                    self.append(joins, &leaves);
                    check_pairs(payload);
                }
            }
            _ => {}
        }
    }

    fn note_infos(&mut self, entries: &Value) {
        for (key, entry) in entries.as_object().unwrap() {
            self.infos.insert(key.clone(), entry["name"].clone());
        }
    }

    fn fold(&mut self, joins: &View, leaves: &View) {
        for (key, joined) in joins {
            let refs = self.view.entry(key.clone()).or_default();
            refs.retain(|r| !joined.contains(r));
            refs.extend(joined.iter().cloned());
        }
        remove(&mut self.view, leaves);
    }

    fn append(&mut self, joins: View, leaves: &View) {
        for (key, joined) in joins {
            self.naive.entry(key).or_default().extend(joined);
        }
        remove(&mut self.naive, leaves);
    }
}

/// Checks that each version that a join names as the one before it leaves in the same diff.
fn check_pairs(diff: &Value) {
    let leaves = refs(&diff["leaves"]);
    for (key, entry) in diff["joins"].as_object().unwrap() {
        for meta in entry["metas"].as_array().unwrap() {
            if let Some(previous) = meta["phx_ref_prev"].as_str() {
                let pairs = leaves.get(key).is_some_and(|refs| refs.iter().any(|r| r == previous));
                assert!(pairs, "{previous} doesn't leave in {diff}");
            }
        }
    }
}

pub(crate) fn listed<H: PresenceHandler>(list: &adsum::Presences<H>) -> View {
    let refs = |entry: &adsum::Entry<H>| entry.metas.iter().map(|meta| meta.reference.to_string()).collect();
    list.iter().map(|(key, entry)| (key.to_string(), refs(entry))).collect()
}

fn start(
    pubsub: PubSub,
    script: &Script,
    options: impl FnOnce(Builder<Script>) -> Builder<Script>,
) -> (Presence<Script>, Acceptor) {
    start_with_queues(pubsub, script, 4_000, options)
}

pub(crate) fn start_with_queues(
    pubsub: PubSub,
    script: &Script,
    queue_bytes: usize,
    options: impl FnOnce(Builder<Script>) -> Builder<Script>,
) -> (Presence<Script>, Acceptor) {
    let presence = options(Presence::builder(pubsub.clone()).handler(script.clone())).start();
    let socket = SocketBuilder::new(presence.clone()).max_queue_bytes(queue_bytes).channel::<Hall>("hall");
    let acceptor = socket.into_acceptor(pubsub);
    (presence, acceptor)
}

/// The ways in which diffs may be held back, with the time after which nothing waits any more.
pub(crate) type Pace = (&'static str, fn(Builder<Script>) -> Builder<Script>);

pub(crate) fn paces() -> Vec<Pace> {
    vec![
        ("the default", |builder| builder),
        ("a node that is busy", |builder| builder.diff_rate(20)),
        ("50 ms", |builder| builder.diff_interval(Duration::from_millis(50))),
        ("1 s", |builder| builder.diff_interval(Duration::from_secs(1))),
    ]
}

pub(crate) async fn check(presence: &Presence<Script>, people: &mut [Person], what: &str) {
    sleep(Duration::from_secs(8)).await;
    let list = listed(&presence.list("hall").await);
    for (index, person) in people.iter_mut().enumerate() {
        person.read().await;
        assert!(!person.is_closed, "{what}");
        assert_eq!(sorted(&person.view), sorted(&list), "{what}: {index}");
        assert_eq!(sorted(&person.naive), sorted(&list), "{what}: {index}, by a client that appends");
        assert_eq!(person.twice, [""; 0], "{what}: {index}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_join_one_after_the_other_are_told_each_ref_once() {
    for (what, pace) in paces() {
        let script = Script::answering(json!({"name": "Ann"}));
        let (presence, acceptor) = start(PubSub::local(), &script, pace);
        let mut people = Vec::new();
        for key in ["alice", "bob", "bob", "carol"] {
            let mut person = Person::connect(&acceptor).await;
            person.join(key);
            settle().await;
            person.read().await;
            assert_eq!(person.states, 1, "{what}: a state waits for no window");
            assert!(person.view.contains_key(key), "{what}: one sees oneself");
            people.push(person);
            advance(Duration::from_millis(3)).await;
        }
        check(&presence, &mut people, what).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_is_told_each_ref_once() {
    let slow = Does::AnswersAfter(Duration::from_millis(200), json!({"name": "Ann"}));
    for does in [Does::Answers(json!({"name": "Ann"})), slow, Does::FailsAfter(Duration::from_millis(200))] {
        for (what, pace) in paces() {
            let script = Script::new(does.clone());
            let (presence, acceptor) = start(PubSub::local(), &script, pace);
            let mut people = Vec::new();
            for n in 0..40 {
                let mut person = Person::connect(&acceptor).await;
                // Some are second tabs.
                person.join(&format!("u{}", n % 30));
                people.push(person);
                if n % 7 == 0 {
                    advance(Duration::from_millis(2)).await;
                }
                if n % 5 == 0 {
                    people[n / 2].send("update", &json!({}));
                }
            }
            // A reload: half of them leave, and others come.
            for n in 0..20 {
                people.remove(0).client.end().await;
                let mut person = Person::connect(&acceptor).await;
                person.join(&format!("u{n}"));
                people.push(person);
            }
            check(&presence, &mut people, what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_is_heard_also_before_ones_own_join_was_told() {
    for (what, pace) in paces() {
        let script = Script::answering(json!({"name": "old"}));
        let (presence, acceptor) = start(PubSub::local(), &script, pace);
        // The windows of those who follow are open.
        let mut first = Person::connect(&acceptor).await;
        first.join("first");
        settle().await;
        let mut person = Person::connect(&acceptor).await;
        person.join("alice");
        settle().await;
        person.read().await;
        assert_eq!(person.infos["alice"], json!("old"), "{what}");
        script.then(Does::Answers(json!({"name": "new"})));
        presence.refresh("hall", "alice");
        sleep(Duration::from_secs(8)).await;
        for person in [&mut first, &mut person] {
            person.read().await;
            assert_eq!(person.infos["alice"], json!("new"), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_an_interval_of_zero_the_own_join_comes_first_as_in_phoenix() {
    let script = Script::answering(json!({"name": "Ann"}));
    let (_presence, acceptor) =
        start(PubSub::local(), &script, |builder| builder.diff_interval(Duration::ZERO));
    let mut person = Person::connect(&acceptor).await;
    person.join("alice");
    let mut events = Vec::new();
    while events.len() < 3 {
        let Outgoing::Text(text) = person.client.next().await else { panic!("text") };
        let frame: Value = serde_json::from_slice(&text).unwrap();
        events.push(frame[3].as_str().unwrap().to_owned());
    }
    assert_eq!(events, ["phx_reply", "presence_diff", "presence_state"]);
}

/// However many updates travel in one message between nodes and in one diff, the version that leaves is named.
#[tokio::test(start_paused = true)]
async fn updates_are_paired_on_all_nodes() {
    let network = LocalNetwork::new();
    for interval in [Duration::ZERO, Duration::from_millis(50)] {
        let node = |name: &str| {
            let presence = Presence::builder(network.node(name)).name(format!("{interval:?}"));
            presence.diff_interval(interval).start()
        };
        let (a, b) = (node("a"), node("b"));
        let _ = tokio::join!(a.ready(), b.ready());
        let mut tabs = [a.owner(), a.owner()];
        for (n, tab) in tabs.iter_mut().enumerate() {
            tab.track("t", "me", meta(n)).unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        let mut watch = b.watch("t");
        assert!(matches!(watch.next().await, Some(adsum::Change::State(_))));
        for n in 0..5 {
            for tab in &mut tabs {
                tab.update("t", "me", meta(n)).unwrap();
            }
        }
        let mut paired = BTreeSet::new();
        for _ in 0..20 {
            let Ok(change) = timeout(Duration::from_secs(1), watch.next()).await else { break };
            let Some(adsum::Change::Diff(diff)) = change else { panic!("a diff") };
            for joined in &diff.joins["me"].metas {
                let previous = joined.previous.expect("an update names what it replaces");
                assert!(diff.leaves["me"].metas.iter().any(|left| left.reference == previous));
                assert!(paired.insert(previous.to_string()), "two tabs are told apart");
            }
        }
        assert!(paired.len() >= 2);
        let list = &b.list("t").await["me"];
        assert!(list.metas.iter().all(|meta| meta.previous.is_some()));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Connect { node: usize, key: usize },
    Event { person: usize, event: &'static str },
    Leave { person: usize },
    Rejoin { person: usize, key: usize },
    Disconnect { person: usize },
    Read { person: usize },
    Owner { node: usize, key: usize, what: usize },
    List { node: usize },
    Refresh { key: usize },
    Fetch { does: usize },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let (node, key, person) = (0..NODES, 0..KEYS, 0..20_usize);
    let event = prop_oneof![Just("update"), Just("untrack"), Just("track"), Just("state")];
    prop_oneof![
        4 => (node.clone(), key.clone()).prop_map(|(node, key)| Step::Connect { node, key }),
        6 => (person.clone(), event).prop_map(|(person, event)| Step::Event { person, event }),
        1 => person.clone().prop_map(|person| Step::Leave { person }),
        1 => (person.clone(), key.clone()).prop_map(|(person, key)| Step::Rejoin { person, key }),
        1 => person.clone().prop_map(|person| Step::Disconnect { person }),
        4 => person.prop_map(|person| Step::Read { person }),
        4 => (node.clone(), key.clone(), 0..3_usize).prop_map(|(node, key, what)| Step::Owner { node, key, what }),
        1 => node.prop_map(|node| Step::List { node }),
        1 => key.prop_map(|key| Step::Refresh { key }),
        1 => (0..4_usize).prop_map(|does| Step::Fetch { does }),
        5 => prop_oneof![Just(0), Just(3), Just(60), Just(400)].prop_map(|ms| Step::Wait { ms }),
    ]
}

const NODES: usize = 2;
const KEYS: usize = 4;

/// The actions of a program, and their results.
struct World {
    script: Script,
    nodes: Vec<(Presence<Script>, Acceptor)>,
    owners: Vec<Owner<Script>>,
    people: Vec<(usize, Person)>,
    /// Their refs are told again on purpose.
    refreshed: BTreeSet<String>,
}

impl World {
    async fn start(pace: fn(Builder<Script>) -> Builder<Script>, linger: Duration) -> Self {
        let script = Script::answering(json!({"name": "Ann"}));
        let network = LocalNetwork::new();
        let nodes: Vec<_> = ["a", "b"]
            .map(|name| {
                // A few diffs are too many for a slow reader.
                start_with_queues(network.node(name), &script, 1_500, |builder| pace(builder.linger(linger)))
            })
            .into();
        for (presence, _) in &nodes {
            presence.ready().await.unwrap();
        }
        let owners = nodes.iter().map(|(presence, _)| presence.owner()).collect();
        Self { script, nodes, owners, people: Vec::new(), refreshed: BTreeSet::new() }
    }

    fn person(&mut self, index: usize) -> Option<&mut Person> {
        let len = self.people.len().max(1);
        self.people.get_mut(index % len).map(|(_, person)| person).filter(|person| !person.is_closed)
    }

    async fn run(&mut self, step: &Step) {
        let name = |key: &usize| format!("u{key}");
        match step {
            Step::Connect { node, key } if self.people.len() < 20 => {
                let mut person = Person::connect(&self.nodes[*node].1).await;
                person.join(&name(key));
                self.people.push((*node, person));
            }
            Step::Event { person, event } => {
                if let Some(person) = self.person(*person) {
                    person.send(event, &json!({}));
                }
            }
            Step::Leave { person } => {
                if let Some(person) = self.person(*person) {
                    person.send("phx_leave", &json!({}));
                }
            }
            Step::Rejoin { person, key } => {
                if let Some(person) = self.person(*person) {
                    // phoenix.js drops messages of an earlier join.
                    settle().await;
                    person.read().await;
                    person.view.clear();
                    person.naive.clear();
                    person.join(&name(key));
                }
            }
            Step::Disconnect { person } if !self.people.is_empty() => {
                let (_, person) = self.people.swap_remove(person % self.people.len());
                person.client.end().await;
            }
            // There are too many, or none.
            Step::Connect { .. } | Step::Disconnect { .. } => {}
            Step::Read { person } => {
                if let Some(person) = self.person(*person) {
                    person.read().await;
                }
            }
            Step::Owner { node, key, what } => {
                let owner = &mut self.owners[*node];
                match what {
                    0 => drop(owner.track("hall", name(key), meta(4))),
                    1 => drop(owner.update("hall", name(key), meta(5))),
                    _ => drop(owner.untrack("hall", name(key))),
                }
            }
            Step::List { node } => drop(self.nodes[*node].0.list("hall").await),
            Step::Refresh { key } => {
                self.refreshed.insert(name(key));
                self.nodes[0].0.refresh("hall", name(key));
            }
            Step::Fetch { does } => {
                let name = json!({"name": "Ann"});
                let slow = Duration::from_millis(100);
                let does = [
                    Does::Answers(name.clone()),
                    Does::AnswersAfter(slow, name),
                    Does::Fails,
                    Does::FailsAfter(slow),
                ][*does]
                    .clone();
                self.script.then(does);
            }
            Step::Wait { ms: 0 } => settle().await,
            Step::Wait { ms } => sleep(Duration::from_millis(*ms)).await,
        }
    }

    async fn finish(mut self) -> usize {
        sleep(Duration::from_secs(10)).await;
        for (node, person) in &mut self.people {
            person.read().await;
            if person.is_closed || person.states == 0 {
                continue;
            }
            let is_in = {
                person.send("state", &json!({}));
                let states = person.states;
                settle().await;
                let view = person.view.clone();
                person.read().await;
                assert_eq!(
                    sorted(&view),
                    if person.states > states { sorted(&person.view) } else { sorted(&view) }
                );
                person.states > states
            };
            if is_in {
                let list = listed(&self.nodes[*node].0.list("hall").await);
                assert_eq!(sorted(&person.view), sorted(&list));
            }
            let refreshed = &self.refreshed;
            if refreshed.is_empty() {
                assert_eq!(person.twice, [""; 0]);
            }
        }
        self.people.iter().map(|(_, person)| person.states.saturating_sub(person.asked)).sum()
    }
}

/// Counts the states that no client had asked for, sent since a reader was too slow for diffs.
fn run(pace: fn(Builder<Script>) -> Builder<Script>, linger: Duration, steps: &[Step]) -> usize {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::start(pace, linger).await;
        for step in steps {
            world.run(step).await;
        }
        world.finish().await
    })
}

#[test]
fn whatever_happens_clients_arrive_at_the_list_and_no_ref_is_told_twice() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) };
    let programs = (prop::collection::vec(step(), 1..60), 0..paces().len(), any::<bool>());
    let conflated = Cell::new(0);
    let outcome = TestRunner::new(config).run(&programs, |(steps, pace, lingers)| {
        let linger = if lingers { Duration::from_millis(300) } else { Duration::ZERO };
        conflated.set(conflated.get() + run(paces()[pace].1, linger, &steps));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(conflated.get() > 20, "{} states were sent again to slow readers", conflated.get());
}
