//! This node among others: a pure state machine around the set.
//!
//! [`Cluster`] takes what other nodes say, the passing of time, and what changed here, and gives back what is to
//! be said and done ([`Effect`]). It keeps what is known of each other replica ([`Peer`]): whether it is up, and
//! each shard of it at a version. Messages may be lost, doubled, late and out of order; every node is the only
//! writer of its own presences, so whoever has the higher version of them is right.

mod applying;
mod leaving;
mod membership;
mod message;
mod nodes;
mod options;
mod peer;
mod pulling;
mod regions;
mod serving;
mod time;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::Topic;
use indexmap::IndexSet;

use self::{
    applying::wake_if_logged,
    leaving::OwnDepartures,
    membership::{Outbid, NodePhase},
    peer::Peer,
    regions::BrokenLinks,
    serving::Served,
};
pub use self::{
    message::{
        Batch, RowChange, DepartedSet, MAX_GRACE, MAX_STARTED, MAX_VERSION, ClusterMessage, MessageError, PROTOCOL,
        PresenceRow, Versions,
    },
    nodes::{NodeInfo, NodeState},
    options::ClusterOptions,
    regions::Region,
    time::Time,
};
use crate::{Layer, Replica, SHARDS, Tracker};

/// A node's part in the cluster. Every call takes the present time; [`wake_at`](Self::wake_at) says when
/// [`tick`](Self::tick) is to be called next.
pub struct Cluster<X: Layer> {
    me: Replica,
    region: Option<Region>,
    tracker: Arc<Tracker<X>>,
    options: ClusterOptions,
    random: Jitter,
    phase: NodePhase,
    /// When this node was started.
    started: Time,
    /// When it will be woken at the latest. It has slept if it comes round much later.
    expected: Time,
    /// Since when the network between the nodes is away.
    disconnected: Option<Time>,
    next_heartbeat: Time,
    /// Shards with changes that wait for their turn, and when each may publish again.
    to_publish: u64,
    may_publish: Box<[Time]>,
    /// In order, so that the same messages and times have the same effects.
    peers: BTreeMap<Replica, Peer>,
    broken_links: BrokenLinks,
    own: OwnDepartures,
    served: HashMap<(Replica, u8), Served>,
    next_purge: Time,
    readiness: Readiness,
    /// It isn't ready before: others may not have answered yet.
    ready_from: Time,
    outbid: Option<Outbid>,
    out: Out,
}

/// What is to be done for the cluster.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Send to all other nodes.
    Broadcast(ClusterMessage),
    /// Send to the node of this name.
    Send(Arc<str>, ClusterMessage),
    /// The presences of a topic have changed: flush it.
    Changed(Topic),
    /// Tell the program.
    Report(Report),
}

/// What a program is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// This node has a full view of the cluster; not if the time for that ran out. Then it is said again once it has.
    Ready {
        /// Whether all nodes that were heard are synced.
        synced: bool,
    },
    /// Another node of this name is alive: this node serves its own clients only, until that one is gone.
    DuplicateNode(Replica),
    /// The other node of this name is gone, and this one takes part in the cluster. [`Ready`](Self::Ready) follows.
    DuplicateGone(Replica),
    /// A node is heard, for the first time or again.
    Up(Replica),
    /// A node isn't heard any more; its presences are hidden.
    Down(Replica),
    /// A node has said goodbye.
    Departed(Replica),
    /// All nodes of another region have fallen silent at once. It counts as the link to them, and their presences stay
    /// for `engine_grace`.
    LinkBroken {
        /// Which region.
        region: Region,
        /// How many of its nodes were up.
        nodes: usize,
    },
    /// A region is heard again whose link was broken. Nodes there that stay silent are down.
    LinkRestored {
        /// Which region.
        region: Region,
    },
    /// This node has left: all others hold its final set, or had their time.
    Left {
        /// How many nodes have said that they hold it.
        held: usize,
        /// Of how many.
        of: usize,
    },
}

/// Whether the program has been told that this node has a full view of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Waiting,
    /// The time for it has run out.
    Overdue,
    Synced,
}

/// What is collected in the course of a call.
#[derive(Default)]
struct Out {
    effects: Vec<Effect>,
    changed: IndexSet<Topic>,
}

impl<X: Layer> Cluster<X> {
    /// A node that starts, in a region if it has one. `seed` is for jitter; different nodes need different ones.
    ///
    /// Without a `network` it is alone: it only ends departing presences in time.
    pub fn start(
        now: Time,
        tracker: Arc<Tracker<X>>,
        region: Option<Region>,
        options: ClusterOptions,
        seed: u64,
    ) -> Self {
        let me = tracker.replica().clone();
        let mut cluster = Self::new(now, me, region, tracker, options, seed);
        cluster.begin(now);
        cluster
    }

    /// A node whose part in the cluster has failed, under a new incarnation. Its own presences keep their refs. Those
    /// of other nodes stay as they are until this node has a full view again; then those that nobody answers for
    /// leave. `was_live`: other nodes have known this one as up, and there was no other of its name.
    pub fn restart(
        now: Time,
        me: Replica,
        was_live: bool,
        tracker: Arc<Tracker<X>>,
        region: Option<Region>,
        options: ClusterOptions,
        seed: u64,
    ) -> Self {
        for shard in 0..SHARDS {
            let mut set = tracker.shard(shard);
            set.recover();
            wake_if_logged(&tracker, &set);
        }
        let mut cluster = Self::new(now, me, region, tracker, options, seed);
        cluster.begin(now);
        cluster.ready_from = now + 2 * cluster.options.heartbeat;
        if was_live && cluster.tracker.is_published() {
            // Others would miss it while it listens.
            cluster.go_live(now);
        }
        cluster.look(now);
        cluster
    }

    fn new(
        now: Time,
        me: Replica,
        region: Option<Region>,
        tracker: Arc<Tracker<X>>,
        options: ClusterOptions,
        seed: u64,
    ) -> Self {
        Self {
            me,
            region,
            tracker,
            random: Jitter(seed),
            phase: NodePhase::Alone,
            started: now,
            expected: now,
            disconnected: None,
            next_heartbeat: now,
            to_publish: 0,
            may_publish: vec![Time::ZERO; SHARDS].into(),
            peers: BTreeMap::new(),
            broken_links: BrokenLinks::new(),
            own: OwnDepartures::default(),
            served: HashMap::new(),
            next_purge: now,
            readiness: Readiness::Waiting,
            outbid: None,
            ready_from: now,
            out: Out::default(),
            options,
        }
    }

    fn begin(&mut self, now: Time) {
        if self.tracker.is_published() {
            self.listen(now);
        } else {
            self.readiness = Readiness::Synced;
            self.out.report(Report::Ready { synced: true });
        }
    }

    /// This node's replica. Its incarnation is another than at first where a higher one had to be outbid.
    pub fn replica(&self) -> &Replica {
        &self.me
    }

    /// Takes what another node has said.
    pub fn handle(&mut self, now: Time, message: ClusterMessage) {
        self.catch_up(now);
        match message {
            ClusterMessage::Hello { from } => self.on_hello(now, from),
            ClusterMessage::Welcome { from, to, region, versions, departed } => {
                if to == self.me {
                    self.on_heartbeat(now, &from, region, &versions);
                    self.on_departed_sets(now, &from, departed);
                }
            }
            ClusterMessage::Heartbeat { from, region, versions } => self.on_heartbeat(now, &from, region, &versions),
            ClusterMessage::Batches { from, batches } => self.on_batches(now, &from, batches),
            ClusterMessage::Pull { from, of, shard, have, chunk } => {
                self.on_pull(now, &from, of, shard, have, chunk);
            }
            ClusterMessage::Run { of, batches } => self.on_run(now, &of, batches),
            ClusterMessage::Chunk { from, of, shard, version, index, count, topics } => {
                self.on_chunk(now, &of, shard, peer::Chunk { from, version, index, count, topics });
            }
            ClusterMessage::Leaving { from, versions, grace } => self.on_leaving(now, &from, versions, grace),
            ClusterMessage::SetHeld { from, of } => self.on_set_held(now, from, &of),
            ClusterMessage::Stale { of, highest } => self.on_stale(now, &of, highest),
            ClusterMessage::Goodbye { from } => self.on_goodbye(now, &from),
        }
        self.look(now);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        self.catch_up(now);
        self.keep_phase(now);
        self.publish(now);
        self.end_own_departures(now);
        self.hold_behind_broken_links(now);
        let down: Vec<Replica> =
            self.peers.values().filter(|peer| peer.is_silent(now)).map(|peer| peer.replica.clone()).collect();
        for replica in down {
            self.go_down(now, &replica);
        }
        self.peers.retain(|_, peer| {
            let keep = !peer.is_forgotten(now, self.options.forget_after);
            if !keep {
                peer.forget(&self.tracker, &mut self.out);
            }
            keep
        });
        for peer in self.peers.values_mut() {
            peer.end_departures(now, &self.tracker, &mut self.out);
            peer.pull(now, &self.me, &self.options, &mut self.random, &mut self.out);
        }
        self.served.retain(|_, served| served.until > now);
        self.purge(now);
        self.look(now);
    }

    /// The network between the nodes has come or gone.
    pub fn connected(&mut self, now: Time, connected: bool) {
        self.catch_up(now);
        match (connected, self.disconnected) {
            (false, None) => {
                self.disconnected = Some(now);
                // What silence says of links is covered by this outage.
                self.broken_links.clear();
                for peer in self.peers.values_mut() {
                    peer.extend_to(now + self.options.engine_grace);
                }
            }
            (true, Some(since)) => {
                self.disconnected = None;
                let rest = since + self.options.engine_grace;
                for peer in self.peers.values_mut() {
                    peer.extend_to(rest.max(now + RECONNECT_GRACE));
                }
                if self.readiness != Readiness::Synced {
                    self.ready_from = now + 2 * self.options.heartbeat;
                }
                self.rejoin(now);
            }
            _ => {}
        }
        self.look(now);
    }

    /// When `tick` is to be called next.
    pub fn wake_at(&self) -> Time {
        let published = if self.phase.is_published() { self.to_publish } else { 0 };
        let publish = bits(published).map(|shard| self.may_publish[shard]).min();
        let peers = self.peers.values().filter_map(|peer| peer.wake_at(self.options.forget_after)).min();
        let own = self.own.next_end();
        let outbid = self.outbid.as_ref().filter(|_| self.phase.is_published()).map(|outbid| outbid.at);
        let links = self.look_at_broken_links_at();
        let times = [
            Some(self.next_heartbeat),
            publish,
            peers,
            own,
            self.phase.wake_at(self.disconnected.is_none()),
            outbid,
            self.ready_by(),
            links,
        ];
        times.into_iter().flatten().min().unwrap_or(Time::MAX)
    }

    /// What is to be done, in this order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.out.effects);
        effects.extend(std::mem::take(&mut self.out.changed).into_iter().map(Effect::Changed));
        effects
    }

    /// What is kept of other nodes, in numbers.
    pub fn usage(&self) -> Usage {
        Usage {
            peers: self.peers.len(),
            rows: self.peers.values().map(Peer::rows).sum(),
            early: self.peers.values().map(Peer::early).sum(),
            hidden: self.tracker.shards().map(|shard| shard.hidden()).sum(),
            served: self.served.len(),
            departing: self.own.len() + self.peers.values().map(Peer::departing).sum::<usize>(),
        }
    }

    /// A node that was stopped for a while must not take its own sleep for others' silence: all deadlines move
    /// by as much as it is late.
    fn catch_up(&mut self, now: Time) {
        let late = now.since(self.expected);
        if late > self.options.heartbeat / 2 {
            for peer in self.peers.values_mut() {
                peer.extend_by(late);
            }
            for link in self.broken_links.values_mut() {
                link.extend_by(late);
            }
            self.phase.extend_by(late);
            if let Some(outbid) = &mut self.outbid {
                outbid.at += late;
            }
        }
    }

    /// What every call ends with.
    fn look(&mut self, now: Time) {
        let woken = self.tracker.take_unpublished();
        self.to_publish |= woken;
        for shard in bits(woken) {
            let departed = self.tracker.shard(shard).log.take_departed();
            self.own.note(now, departed);
        }
        self.publish(now);
        self.look_whether_ready(now);
        self.expected = self.wake_at().max(now);
    }

    /// Sends what has changed in the shards whose turn it is: the first change at once, further ones together.
    fn publish(&mut self, now: Time) {
        if !self.phase.is_published() {
            // Who hears of this node later pulls it all.
            return;
        }
        let mut batches = Vec::new();
        for shard in bits(self.to_publish) {
            if self.may_publish[shard] <= now {
                self.to_publish &= !(1 << shard);
                self.may_publish[shard] = now + self.options.batch_interval;
                batches.extend(self.tracker.shard(shard).log.publish(shard));
            }
        }
        self.out.batches(&self.me, batches);
    }

    fn versions(&self) -> Versions {
        Versions::collect((0..SHARDS).map(|shard| self.tracker.shard(shard).log.version()))
    }

    fn purge(&mut self, now: Time) {
        if now < self.next_purge {
            return;
        }
        self.next_purge = now + self.options.forget_after / 20;
        for index in 0..SHARDS {
            let known = |reference| self.peers.values().any(|peer| peer.knows(index, reference));
            self.tracker.shard(index).purge_hidden(now, self.options.forget_after, known);
        }
    }
}

/// What a node keeps of others, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Replicas that are up, down or departed, and not forgotten.
    pub peers: usize,
    /// Their presences, shown and hidden.
    pub rows: usize,
    /// Batches that came before those they follow.
    pub early: usize,
    /// Versions never to be shown again.
    pub hidden: usize,
    /// Snapshots being served.
    pub served: usize,
    /// Presences about to leave.
    pub departing: usize,
}

/// After a reconnect, every node that was up has at least so long to be heard again.
const RECONNECT_GRACE: Duration = Duration::from_secs(10);
/// Batches are put together in one message up to about so many bytes; no batch is larger than 300 KiB.
const MESSAGE_BYTES: usize = 128 * 1024;

impl Out {
    fn report(&mut self, report: Report) {
        self.effects.push(Effect::Report(report));
    }

    fn broadcast(&mut self, message: ClusterMessage) {
        self.effects.push(Effect::Broadcast(message));
    }

    fn send(&mut self, to: &Replica, message: ClusterMessage) {
        self.effects.push(Effect::Send(to.name.clone(), message));
    }

    fn changed(&mut self, topic: &Topic) {
        if !self.changed.contains(topic) {
            self.changed.insert(topic.clone());
        }
    }

    fn batches(&mut self, from: &Replica, batches: Vec<Arc<Batch>>) {
        let (mut bytes, mut together) = (0, Vec::new());
        for batch in batches {
            if bytes > 0 && bytes + batch.bytes() > MESSAGE_BYTES {
                bytes = 0;
                self.broadcast(ClusterMessage::Batches {
                    from: from.clone(),
                    batches: std::mem::take(&mut together),
                });
            }
            bytes += batch.bytes();
            together.push(batch);
        }
        if !together.is_empty() {
            self.broadcast(ClusterMessage::Batches { from: from.clone(), batches: together });
        }
    }
}

/// The positions of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(lowest)
    })
}

/// `SplitMix64` (Steele, Lea and Flood, 2014), from a seed: for jitter.
struct Jitter(u64);

impl Jitter {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A time below another.
    fn below(&mut self, limit: Duration) -> Duration {
        let nanos = limit.as_nanos().clamp(1, u128::from(u64::MAX)) as u64;
        Duration::from_nanos(self.next() % nanos)
    }
}

impl<X: Layer> std::fmt::Debug for Cluster<X> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("me", &self.me)
            .field("phase", &self.phase)
            .field("peers", &self.peers.values().map(Peer::summary).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
