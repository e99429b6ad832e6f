//! One node of the simulation: a program with its [`Cluster`], and the views of its clients.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adsum_pubsub::{SimulatedEnd, Topic};
use adsum_tracker::{
    Bare, Cluster, ClusterMessage, Effect, Incarnation, Key, LeaveReason, Limits, Meta, NodeInfo, NodeState,
    OwnerExit, RawOwner, Ref, Region, Replica, Report, Time, TopicSet, Tracker, between_holds, shard_of,
};

use super::{
    known::Known,
    network::{Packet, Said},
    random::Random,
    schedule::{CLIENTS, Config, KEYS, OWNERS, TOPICS},
};
use crate::client::{Change, Client, View};

#[allow(clippy::struct_excessive_bools, reason = "what befalls a node befalls it independently")]
pub(super) struct Node {
    pub(super) tracker: Arc<Tracker<Bare>>,
    pub(super) cluster: Cluster<Bare>,
    owners: Vec<Holder>,
    /// The views of its clients, by topic.
    clients: Vec<Vec<Client>>,
    /// Topics that have changed since they were flushed, as the program knows.
    dirty: HashSet<usize>,
    pub(super) reports: Vec<Report>,
    /// The messages that it hasn't read yet, as it sleeps.
    pub(super) inbox: VecDeque<Packet>,
    /// Its connection to the engine.
    pub(super) end: SimulatedEnd<Said>,
    pub(super) began: Time,
    /// The numbers of the messages that it has received.
    pub(super) received: HashSet<u64>,
    /// Those that it may not be handed, or not once more, as they are replays.
    pub(super) refused: HashSet<u64>,
    /// The current time.
    pub(super) now: Time,
    pub(super) asleep_until: Time,
    pub(super) has_slept: bool,
    pub(super) connected: bool,
    /// The network's state, which it learns once it is awake.
    pub(super) unheard: Option<bool>,
    pub(super) is_leaving: bool,
    woken: Arc<AtomicBool>,
    /// When it asked last to be ticked next.
    due: Time,
    /// Twins are forgotten at once, so their late messages are news.
    pub(super) has_twins: bool,
    /// The refs that have left for good, as its clients were told.
    left: HashSet<Ref>,
    /// When it ticked last, and how often at that time.
    ticked: (Time, usize),
    /// When it heard the heartbeats of other runs of its name last.
    namesakes: HashMap<Incarnation, Time>,
    /// The incarnations of its name that others knew as the highest.
    stale: HashSet<Incarnation>,
    /// When it announced itself to all nodes within the last heartbeat.
    announced: VecDeque<Time>,
    /// How many changes it has made while handling messages, in the second that began at this time.
    changed_among_messages: (Time, usize),
    heartbeat: Duration,
    turn_time: Duration,
    topics: usize,
}

/// Maximum number of hellos and heartbeats within one heartbeat: its own, a few in answer to others, and one each time
/// that the network is back.
const ANNOUNCEMENTS: usize = 12;

/// Maximum number of ticks at one time: more than a node has ends of departures, of which the shortest turns take one each.
const TICKS_AT_ONCE: usize = 1000;

const SECOND: Duration = Duration::from_secs(1);
/// Maximum number of changes that a node makes in a second while it handles messages.
const CHANGES_A_SECOND: usize = 20;

/// A message and its receiver. `None`: all nodes.
type Outgoing = (Option<Arc<str>>, ClusterMessage);

struct Holder {
    owner: RawOwner<Bare>,
    held: BTreeMap<(usize, Key), Ref>,
}

/// The first two are of one shard.
static TOPIC_NAMES: LazyLock<[String; TOPICS]> = LazyLock::new(|| {
    let name = |n: usize| format!("room:{n}");
    let is_beside = |other: &String| shard_of(other) == shard_of(&name(0));
    let [beside, apart] = [true, false].map(|is| (1..1000).map(name).find(|other| is_beside(other) == is));
    [name(0), beside.unwrap(), apart.unwrap()]
});

pub(super) fn topic(index: usize) -> Topic {
    TOPIC_NAMES[index].as_str().into()
}

pub(super) fn key(index: usize) -> Key {
    format!("user-{index}").into()
}

fn index_of(topic: &Topic) -> usize {
    TOPIC_NAMES.iter().position(|name| *name == **topic).unwrap()
}

impl Node {
    pub(super) fn start(
        now: Time,
        replica: Replica,
        region: Option<Region>,
        config: &Config,
        seed: u64,
    ) -> Self {
        let woken = Arc::new(AtomicBool::new(false));
        let wake = {
            let woken = woken.clone();
            move || woken.store(true, Ordering::Relaxed)
        };
        let windows = config.windows;
        let windows_of = move |name: &str| windows[index_of(&name.into())];
        let limits = Limits::default().meta_bytes(64 * 1024);
        let mut origin = [0; 16];
        origin[..8].copy_from_slice(&seed.to_le_bytes());
        origin[8..].copy_from_slice(&replica.incarnation.random.to_le_bytes());
        let end = SimulatedEnd::new(origin, replica.name.clone());
        let tracker = Tracker::with_cluster(replica, limits, true, windows_of, |_| {}, wake);
        let mut cluster = Cluster::start(now, tracker.clone(), region, config.options.clone(), seed);
        cluster.turn(config.turn);
        let mut node = Self {
            end,
            began: now,
            received: HashSet::new(),
            refused: HashSet::new(),
            now,
            owners: (0..OWNERS).map(|_| Holder::new(&tracker)).collect(),
            clients: (0..TOPICS).map(|_| (0..CLIENTS).map(|_| Client::default()).collect()).collect(),
            tracker,
            cluster,
            dirty: HashSet::new(),
            reports: Vec::new(),
            inbox: VecDeque::new(),
            asleep_until: now,
            has_slept: false,
            connected: true,
            unheard: None,
            is_leaving: false,
            woken,
            due: now,
            has_twins: false,
            left: HashSet::new(),
            ticked: (now, 0),
            namesakes: HashMap::new(),
            stale: HashSet::new(),
            announced: VecDeque::new(),
            changed_among_messages: (now, 0),
            heartbeat: config.options.heartbeat,
            turn_time: config.turn_time,
            topics: config.topics,
        };
        // One client of each topic is there from the start.
        for topic in 0..TOPICS {
            node.show_state(topic, 0);
        }
        node
    }

    /// Returns when to wake it next.
    pub(super) fn next_at(&self, now: Time) -> Time {
        let due = if self.woken.load(Ordering::Relaxed) { now } else { self.due };
        due.max(self.asleep_until).max(now)
    }

    pub(super) fn is_awake(&self, now: Time) -> bool {
        self.asleep_until <= now
    }

    pub(super) fn tick(&mut self, now: Time) {
        self.ticked = if self.ticked.0 == now { (now, self.ticked.1 + 1) } else { (now, 1) };
        assert!(
            self.ticked.1 < TICKS_AT_ONCE,
            "the node is woken without end at {now:?}: {:?}",
            self.cluster
        );
        self.woken.store(false, Ordering::Relaxed);
        self.now = now;
        self.end.tidy(now.since_zero());
        let was = self.cluster.replica().incarnation;
        self.cluster.tick(now);
        self.check_outbid(was);
    }

    /// Checks that the node takes another incarnation only to outbid a run that isn't there, or that has departed.
    fn check_outbid(&self, was: Incarnation) {
        let is = self.cluster.replica().incarnation;
        if is == was {
            return;
        }
        let nodes = self.cluster.nodes(self.now);
        let has_departed = |incarnation| {
            let is_departed = |node: &NodeInfo| node.state == NodeState::Departed;
            nodes.iter().any(|node| node.incarnation == incarnation && is_departed(node))
        };
        // If two runs started at the same time, the higher one is outbid.
        let is_outbid = |other: &Incarnation| {
            let is_higher = |stale: &Incarnation| stale.started == other.started && stale > other;
            is.started == other.started + 1 && !self.stale.iter().any(is_higher)
        };
        let outbid = self.namesakes.iter().filter(|(other, _)| is_outbid(other) && !has_departed(**other));
        for (other, heard) in outbid {
            let is_long_ago = *heard + self.heartbeat <= self.now;
            assert!(is_long_ago, "outbids {other:?} by {is:?}, and heard it at {heard:?}");
        }
    }

    /// Checks that the node doesn't outbid a namesake that it hears, and doesn't wait for one that gives way to it.
    fn check_namesake(&mut self, said: &ClusterMessage) {
        if let ClusterMessage::Stale { highest, .. } = said {
            self.stale.insert(*highest);
        }
        let (ClusterMessage::Heartbeat { from, .. } | ClusterMessage::Goodbye { from }) = said else {
            return;
        };
        let me = self.cluster.replica();
        if from.name != me.name || from == me {
            return;
        }
        let says_goodbye = matches!(said, ClusterMessage::Goodbye { .. });
        let gives_way = says_goodbye && from.incarnation > me.incarnation;
        let waits = self.info().state == NodeState::Duplicate;
        assert!(!(gives_way && waits), "{from} has given way, and this node waits for it");
        // A goodbye says that it has yielded. While this node listens, it may still have to outbid it.
        if !says_goodbye {
            self.namesakes.insert(from.incarnation, self.now);
        }
    }

    /// Returns what it reports of itself.
    pub(super) fn info(&self) -> NodeInfo {
        let nodes = self.cluster.nodes(self.now);
        nodes.into_iter().find(|node| node.is_self).unwrap()
    }

    pub(super) fn sleep(&mut self, until: Time) {
        self.asleep_until = until;
        self.has_slept = true;
    }

    /// Tells it the network's state, once it is awake.
    pub(super) fn hear_of_network(&mut self, now: Time) {
        if let Some(connected) = self.unheard.take() {
            self.cluster.connected(now, connected);
        }
    }

    /// Does the program's part of the effects. Returns the messages to other nodes, and the reports.
    pub(super) fn take_effects(&mut self) -> (Vec<Outgoing>, Vec<Report>) {
        let (mut messages, mut reports) = (Vec::new(), Vec::new());
        for effect in self.cluster.take_effects() {
            match effect {
                Effect::Broadcast(message) => {
                    self.check_announcement(&message);
                    messages.push((None, message));
                }
                Effect::Send(to, message) => messages.push((Some(to), message)),
                Effect::Changed(topic) => {
                    self.dirty.insert(index_of(&topic));
                }
                Effect::Report(report) => reports.push(report),
            }
        }
        self.reports.extend(reports.iter().cloned());
        self.due = self.cluster.wake_at().max(self.now + self.turn_time);
        (messages, reports)
    }

    /// Checks that the node doesn't announce itself again and again: all others may answer each announcement.
    fn check_announcement(&mut self, message: &ClusterMessage) {
        if !matches!(message, ClusterMessage::Hello { .. } | ClusterMessage::Heartbeat { .. }) {
            return;
        }
        let (now, heartbeat) = (self.now, self.heartbeat);
        self.announced.retain(|at| *at + heartbeat > now);
        self.announced.push_back(now);
        assert!(self.announced.len() <= ANNOUNCEMENTS, "announces itself without end: {:?}", self.cluster);
    }

    pub(super) fn track(&mut self, owner: usize, index: usize, key: &Key, text: String, known: &mut Known) {
        let Holder { owner, held } = &mut self.owners[owner];
        let meta = Meta::from_encoded(text);
        let tracked = owner.track(&topic(index), key, meta.clone());
        assert_eq!(tracked.is_ok(), !held.contains_key(&(index, key.clone())));
        if let Ok(reference) = tracked {
            held.insert((index, key.clone()), reference);
            known.came(reference, index, key.clone(), meta);
            self.dirty.insert(index);
        }
    }

    pub(super) fn update(&mut self, owner: usize, index: usize, key: &Key, text: String, known: &mut Known) {
        let Holder { owner, held } = &mut self.owners[owner];
        let meta = Meta::from_encoded(text);
        let updated = owner.update(&topic(index), key, |_| Ok::<_, ()>(meta.clone()));
        let before = held.get_mut(&(index, key.clone()));
        assert_eq!(updated.is_ok(), before.is_some());
        if let (Ok(reference), Some(before)) = (updated, before) {
            let old = std::mem::replace(before, reference);
            known.came(reference, index, key.clone(), meta);
            known.replaced(old, reference);
            self.dirty.insert(index);
        }
    }

    pub(super) fn untrack(&mut self, owner: usize, index: usize, key: &Key, known: &mut Known) {
        let Holder { owner, held } = &mut self.owners[owner];
        let untracked = owner.untrack(&topic(index), key);
        let before = held.remove(&(index, key.clone()));
        assert_eq!(untracked, before.is_some());
        if let Some(before) = before {
            known.ended(before, LeaveReason::Left);
            self.dirty.insert(index);
        }
    }

    pub(super) fn end(&mut self, owner: usize, known: &mut Known) {
        let new = Holder::new(&self.tracker);
        let owner_exit = self
            .tracker
            .owner_exit()
            .because([LeaveReason::Gone, LeaveReason::Finished, LeaveReason::Crashed][owner % 3]);
        let Holder { mut owner, held } = std::mem::replace(&mut self.owners[owner], new);
        owner.end(owner_exit);
        for ((topic, _), reference) in held {
            match owner_exit {
                OwnerExit::Leave(reason) => known.ended(reference, reason),
                OwnerExit::Depart(reason, grace) => known.departs(reference, reason, self.now + grace),
            }
            self.dirty.insert(topic);
        }
    }

    /// Returns how many of these changes may be made while messages are handled. Others hear of each and may change in
    /// turn, so that among many nodes there would be more and more.
    pub(super) fn changes_among_messages(&mut self, changes: usize) -> usize {
        let (since, made) = &mut self.changed_among_messages;
        if *since + SECOND <= self.now {
            (*since, *made) = (self.now, 0);
        }
        let changes = changes.min(CHANGES_A_SECOND.saturating_sub(*made));
        *made += changes;
        changes
    }

    /// Handles a message. At up to `changes` random releases of the lock meanwhile, another thread tracks, updates or
    /// untracks a presence.
    pub(super) fn handle(
        &mut self,
        message: ClusterMessage,
        changes: usize,
        random: Random,
        known: &mut Known,
    ) {
        let was = self.cluster.replica().incarnation;
        let said = message.clone();
        self.handle_among_changes(message, changes, random, known);
        self.check_outbid(was);
        self.check_namesake(&said);
    }

    fn handle_among_changes(
        &mut self,
        message: ClusterMessage,
        changes: usize,
        random: Random,
        known: &mut Known,
    ) {
        if changes == 0 {
            return self.cluster.handle(self.now, message);
        }
        let held = self.owners.pop().expect("there are several");
        let busy = Rc::new(RefCell::new(Busy::new(held, changes, random, self.topics)));
        let acting = busy.clone();
        between_holds(Some(Box::new(move || acting.borrow_mut().act())));
        self.cluster.handle(self.now, message);
        between_holds(None);
        let Ok(busy) = Rc::try_unwrap(busy) else { panic!("nobody else has it") };
        let Busy { holder, came, updated, went, .. } = busy.into_inner();
        self.owners.push(holder);
        for (reference, topic, key) in came {
            known.came(reference, topic, key, Meta::from_encoded("{}"));
            self.dirty.insert(topic);
        }
        for (before, reference) in updated {
            known.replaced(before, reference);
        }
        for (reference, topic) in went {
            known.ended(reference, LeaveReason::Left);
            self.dirty.insert(topic);
        }
    }

    pub(super) fn linger(&mut self, grace: Option<Duration>) {
        self.tracker.set_owner_exit(match grace {
            Some(grace) => OwnerExit::Depart(LeaveReason::Gone, grace),
            None => OwnerExit::Leave(LeaveReason::Gone),
        });
    }

    pub(super) fn leave(&mut self, now: Time, grace: Option<Duration>, known: &mut Known) {
        self.tracker.set_owner_exit(match grace {
            Some(grace) => OwnerExit::Depart(LeaveReason::Draining, grace),
            None => OwnerExit::Leave(LeaveReason::Draining),
        });
        for owner in 0..OWNERS {
            self.end(owner, known);
        }
        self.is_leaving = true;
        self.cluster.leave(now, grace.unwrap_or_default());
    }

    /// Returns the presences of live owners.
    pub(super) fn held(&self) -> impl Iterator<Item = (usize, &Key, Ref)> {
        self.owners
            .iter()
            .flat_map(|holder| holder.held.iter().map(|((topic, key), reference)| (*topic, key, *reference)))
    }

    pub(super) fn view(&self, index: usize) -> View {
        let list = self.tracker.list(&topic(index)).into_iter();
        list.map(|(key, rows)| (key, rows.iter().map(|row| row.reference).collect())).collect()
    }

    /// Gives the list to a new client, and notes under the same lock that it did.
    pub(super) fn show_state(&mut self, index: usize, client: usize) {
        let topic = topic(index);
        let mut shard = self.tracker.lock(&topic);
        let set = shard.entry(&topic);
        let refs = |rows: adsum_tracker::Rows<'_>| rows.iter().map(|row| row.reference).collect();
        let state: View = set.groups().map(|(key, group)| (key.clone(), refs(group.rows()))).collect();
        set.mark_shown();
        drop(shard);
        let mut new = Client::default();
        new.join();
        new.on_state(&state);
        self.clients[index][client] = new;
    }

    /// Takes the diffs of a topic that is known to have changed, and compares its clients with its list.
    pub(super) fn flush(&mut self, index: usize, known: &Known) {
        let name = topic(index);
        let is_dirty = self.dirty.remove(&index);
        let mut shard = self.tracker.lock(&name);
        let diffs = shard.topic_mut(&name).map_or_else(Vec::new, TopicSet::take_diffs);
        shard.tidy(&name);
        drop(shard);
        assert!(is_dirty || diffs.is_empty(), "{name} has changed, and no diff said so");
        for diff in &diffs {
            let mut seen = HashSet::new();
            let joins = diff.joins.iter().map(|joined| joined.reference);
            for reference in joins.chain(diff.leaves.iter().map(|left| left.row.reference)) {
                assert!(seen.insert(reference), "{reference} is twice in a diff");
            }
            for joined in &diff.joins {
                let reference = joined.reference;
                assert!(
                    self.has_twins || !self.left.contains(&reference),
                    "{reference} had left, and joins once more"
                );
            }
            for left in &diff.leaves {
                let is_followed = diff.joins.iter().any(|joined| joined.key == left.row.key);
                known.check_left(self.now, left.row.reference, left.reason, is_followed);
                if left.reason != Some(LeaveReason::Unreachable) {
                    self.left.insert(left.row.reference);
                }
            }
            let change = Change::from(diff);
            for client in self.clients[index].iter_mut().filter(|client| client.is_joined()) {
                client.on_diff(&change);
            }
        }
        let list = self.view(index);
        for client in self.clients[index].iter().filter(|client| client.is_joined()) {
            assert_eq!(client.view(), &list, "a client of {name} sees other than the list");
        }
    }

    pub(super) fn flush_all(&mut self, known: &Known) {
        (0..TOPICS).for_each(|topic| self.flush(topic, known));
    }

    /// Checks what holds at any time.
    pub(super) fn check(&self, known: &Known) {
        let mut listed = HashSet::new();
        for index in 0..TOPICS {
            let list = self.tracker.list(&topic(index));
            for (key, rows) in &list {
                assert!(!rows.is_empty(), "{key} is listed with nothing");
                for row in rows {
                    let version = known.get(row.reference);
                    let is_it = (version.topic, &version.key, &version.meta) == (index, key, &row.meta);
                    assert!(is_it, "{} is another", row.reference);
                    assert!(listed.insert(row.reference), "{} is listed twice", row.reference);
                    known.check_listed(self.now, row.reference);
                }
            }
            let rows: usize = list.iter().map(|(_, rows)| rows.len()).sum();
            assert_eq!(self.tracker.count(&topic(index)), rows);
        }
        for (topic, key, reference) in self.held() {
            assert!(
                listed.contains(&reference),
                "{reference} of {key} in room:{topic} is held and isn't listed"
            );
        }
    }
}

impl Holder {
    fn new(tracker: &Arc<Tracker<Bare>>) -> Self {
        Self { owner: tracker.owner(), held: BTreeMap::new() }
    }
}

/// An owner on another thread.
struct Busy {
    holder: Holder,
    changes: usize,
    random: Random,
    /// Whether it changes one presence only, which then comes and goes during the same read.
    place: Option<(usize, Key)>,
    topics: usize,
    came: Vec<(Ref, usize, Key)>,
    updated: Vec<(Ref, Ref)>,
    went: Vec<(Ref, usize)>,
}

impl Busy {
    fn new(holder: Holder, changes: usize, mut random: Random, topics: usize) -> Self {
        let place = random.percent(50).then(|| (random.below(topics), key(random.below(KEYS))));
        Self {
            holder,
            changes,
            random,
            place,
            topics,
            came: Vec::new(),
            updated: Vec::new(),
            went: Vec::new(),
        }
    }

    fn act(&mut self) {
        if self.changes == 0 || self.random.percent(50) {
            return;
        }
        self.changes -= 1;
        let Self { random, topics, .. } = self;
        let place = self.place.clone();
        let (index, key) = place.unwrap_or_else(|| (random.below(*topics), key(random.below(KEYS))));
        let Holder { owner, held } = &mut self.holder;
        let before = held.get(&(index, key.clone())).copied();
        if let Some(before) = before.filter(|_| random.percent(50)) {
            let update = owner.update(&topic(index), &key, |_| Ok::<_, ()>(Meta::from_encoded("{}")));
            let reference = update.unwrap();
            held.insert((index, key.clone()), reference);
            self.updated.push((before, reference));
            self.came.push((reference, index, key));
        } else if let Some(before) = held.remove(&(index, key.clone())) {
            assert!(owner.untrack(&topic(index), &key));
            self.went.push((before, index));
        } else {
            let reference = owner.track(&topic(index), &key, Meta::from_encoded("{}")).unwrap();
            held.insert((index, key.clone()), reference);
            self.came.push((reference, index, key));
        }
    }
}
