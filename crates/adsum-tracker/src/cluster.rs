//! A node's part in the cluster: a pure state machine around the set.
//!
//! [`Cluster`] takes messages from other nodes, the passing of time and the changes made here, and returns what to send
//! and do ([`Effect`]). For each other replica it keeps a [`Peer`]: whether it is up, and each of its shards at a
//! version. Messages may be lost, duplicated, late and out of order. Every node is the only writer of its own
//! presences, so the copy with the higher version is right.

mod applying;
mod earlier_runs;
mod effects;
mod holding;
mod jitter;
mod leaving;
mod membership;
mod nodes;
mod options;
mod own_departures;
mod peer;
mod phase;
mod pulling;
mod readiness;
mod receiving;
mod regions;
mod returning;
mod serving;
mod showing;
mod twins;
mod usage;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use self::{
    applying::TURN,
    effects::Out,
    jitter::Jitter,
    own_departures::OwnDepartures,
    peer::{Chunk, Peer},
    phase::{NodePhase, Outbid},
    readiness::Readiness,
    regions::BrokenLinks,
    returning::LostRegions,
    serving::Snapshots,
};
pub use self::{
    effects::{Effect, Report},
    holding::{HeldPresence, PresenceOrigin},
    nodes::{NodeInfo, NodeState},
    options::ClusterOptions,
    usage::Usage,
};
use crate::{
    layer::Layer,
    replica::{Region, Replica},
    sharding::SHARDS,
    time::Time,
    tracker::Tracker,
    wire::{ClusterMessage, Versions},
};

/// After a reconnect, every node that was up has at least this long to be heard again.
const RECONNECT_GRACE: Duration = Duration::from_secs(10);

/// A node's part in the cluster. Every call takes the current time; [`wake_at`](Self::wake_at) returns when to call
/// [`tick`](Self::tick) next.
pub struct Cluster<X: Layer> {
    me: Replica,
    region: Option<Region>,
    tracker: Arc<Tracker<X>>,
    options: ClusterOptions,
    jitter: Jitter,
    phase: NodePhase,
    /// When this node was started.
    started: Time,
    /// The latest time of the next call. The node has slept if that comes much later.
    expected: Time,
    /// When the network between the nodes was lost.
    disconnected: Option<Time>,
    next_heartbeat: Time,
    /// When this node may answer a message by one to all again.
    may_answer_all: Time,
    /// How many rows of all peers are shown, hidden, marked or dropped, or read for them, before other things are done, and
    /// how many are in a chunk of a snapshot at most.
    turn: usize,
    /// A bit for each shard with changes to publish.
    to_publish: u64,
    /// When this node may publish again.
    may_publish: Time,
    /// Sorted, so that the same messages and times have the same effects.
    peers: BTreeMap<Replica, Peer>,
    broken_links: BrokenLinks,
    lost_regions: LostRegions,
    own: OwnDepartures,
    snapshots: Snapshots,
    next_purge: Time,
    readiness: Readiness,
    /// When the last piece of another node's set came that was pulled, or this node was started.
    progress_at: Time,
    /// The node isn't ready before this time, as others may not have answered yet.
    ready_from: Time,
    outbid: Option<Outbid>,
    out: Out,
}

impl<X: Layer> Cluster<X> {
    /// Starts a node, in a region if it has one. `seed` is for jitter; different nodes need different ones.
    ///
    /// If the tracker's changes aren't published, the node is alone: it only ends departing presences in time.
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

    /// Restarts a node whose part in the cluster has failed, under a new incarnation. Its own presences keep their
    /// refs. Those of other nodes stay as they are until this node has a full view again; then those that no node
    /// confirmed leave. `was_live`: other nodes knew this one as up, and it had no twin.
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
            tracker.wake_if_logged(&set);
        }
        let mut cluster = Self::new(now, me, region, tracker, options, seed);
        cluster.begin(now);
        cluster.ready_from = now + 2 * cluster.options.heartbeat;
        if was_live && cluster.tracker.is_published() {
            // Others would take it for down while it listens.
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
            jitter: Jitter::new(seed),
            phase: NodePhase::Alone,
            started: now,
            expected: now,
            disconnected: None,
            next_heartbeat: now,
            may_answer_all: now,
            turn: TURN,
            to_publish: 0,
            may_publish: now,
            peers: BTreeMap::new(),
            broken_links: BrokenLinks::new(),
            lost_regions: LostRegions::new(),
            own: OwnDepartures::default(),
            snapshots: Snapshots::default(),
            next_purge: now,
            readiness: Readiness::Pending,
            progress_at: now,
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

    /// Sets how many rows of all peers are shown, hidden, marked or dropped, or read for them, before other things are done,
    /// so that small sets take several turns and chunks. For simulations.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn turn(&mut self, rows: usize) {
        self.turn = rows.max(1);
    }

    /// Forgets what was published, so that a node that missed some of it needs a snapshot. For simulations.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn forget_published(&self) {
        (0..SHARDS).for_each(|shard| self.tracker.shard(shard).log.forget());
    }

    /// Returns this node's replica. Its incarnation changes if the node has to outbid a higher one.
    pub fn replica(&self) -> &Replica {
        &self.me
    }

    /// Takes a message from another node.
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
            ClusterMessage::Heartbeat { from, region, versions } => {
                self.on_heartbeat(now, &from, region, &versions);
            }
            ClusterMessage::Batches { from, batches } => self.on_batches(now, &from, batches),
            ClusterMessage::Pull { from, of, shard, have, chunk } => {
                self.on_pull(now, &from, of, shard, have, chunk);
            }
            ClusterMessage::Run { of, batches } => self.on_run(now, &of, batches),
            ClusterMessage::Chunk { from, of, shard, version, index, count, topics } => {
                self.on_chunk(now, &of, shard, Chunk { from, version, index, count, topics });
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
        let busy = self.peers.values().filter(|peer| peer.is_busy(now, self.options.forget_after)).count();
        let turn = (self.turn / busy.max(1)).max(1);
        let at_once = self.pulls_at_once();
        self.peers.retain(|_, peer| {
            let mut left = turn;
            if peer.is_forgotten(now, self.options.forget_after)
                && peer.forget_on(&mut left, &self.tracker, &mut self.out)
            {
                return false;
            }
            peer.bury_on(&mut left, &self.tracker, &mut self.out);
            peer.end_departures(now, &mut left, &self.tracker, &mut self.out);
            peer.depart_on(&mut left, &self.tracker);
            peer.settle_on(&mut left, &self.tracker, &mut self.out);
            peer.pull(now, &self.me, &self.options, at_once, &mut self.jitter, &mut self.out);
            true
        });
        self.snapshots.drop_old(now);
        self.read_on(now);
        self.purge(now);
        self.look(now);
    }

    /// Notes whether the network between the nodes is there.
    pub fn connected(&mut self, now: Time, connected: bool) {
        self.catch_up(now);
        match (connected, self.disconnected) {
            (false, None) => {
                self.disconnected = Some(now);
                // This outage explains the silence of other regions, too.
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

    /// Returns when to call `tick` next.
    pub fn wake_at(&self) -> Time {
        let published = if self.phase.is_published() { self.to_publish } else { 0 };
        let publish = (published != 0).then_some(self.may_publish);
        let at_once = self.pulls_at_once();
        let wake_at = |peer: &Peer| peer.wake_at(self.options.forget_after, at_once);
        let peers = self.peers.values().filter_map(wake_at).min();
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
            self.show_returned_regions_at(),
            self.snapshots.is_reading().then_some(Time::ZERO),
        ];
        times.into_iter().flatten().min().unwrap_or(Time::MAX)
    }

    /// Takes the effects, to be done in this order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.out.take()
    }

    /// Extends all deadlines by the time that this node is late. If it was stopped for a while, it must not take that
    /// for silence of the others.
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

    /// Ends every call: takes what changed in the set, publishes, and notes when to wake.
    fn look(&mut self, now: Time) {
        let woken = self.tracker.take_unpublished();
        self.to_publish |= woken;
        for shard in bits(woken) {
            let mut set = self.tracker.shard(shard);
            self.own.note(now, set.log.take_departed());
            if self.phase.is_unheard() {
                set.log.drop_closed_early();
            }
        }
        self.publish(now);
        self.show_returned_regions(now);
        self.look_whether_ready(now);
        self.expected = self.wake_at().max(now);
    }

    /// Publishes the changes if the interval is over: a first change at once, further ones of all shards together, in as
    /// few messages as they fit. So the number of messages doesn't grow with the number of shards that change.
    fn publish(&mut self, now: Time) {
        // Before it is live, other nodes pull everything once they hear of this one.
        if !self.phase.is_published() || self.to_publish == 0 || now < self.may_publish {
            return;
        }
        self.may_publish = now + self.options.batch_interval;
        let shards = std::mem::take(&mut self.to_publish);
        let batches = bits(shards).flat_map(|shard| self.tracker.shard(shard).log.publish(shard)).collect();
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

/// Returns the positions of the bits that are set.
fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(lowest)
    })
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
