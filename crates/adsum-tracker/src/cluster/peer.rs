//! One other replica, as far as it is known.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use adsum_pubsub::Topic;

use crate::{
    leave_reason::LeaveReason,
    reference::Ref,
    replica::{Region, Replica},
    row::Row,
    sharding::SHARDS,
    time::Time,
    wire::{Batch, PresenceRow, Versions},
};

/// Maximum number of peers, as a stranger may invent names.
pub(super) const MAX_PEERS: usize = 1024;

/// One other replica: whether it is up, and its shards.
pub(super) struct Peer {
    pub(super) replica: Replica,
    pub(super) region: Option<Region>,
    pub(super) state: PeerState,
    /// When it was heard last.
    pub(super) heard_at: Time,
    /// When it goes down if it stays silent.
    pub(super) deadline: Time,
    pub(super) shards: Box<[PeerShard]>,
    /// The ends of departing rows.
    pub(super) ends: BTreeSet<(Time, usize, Ref)>,
    /// The shard, and the row in it, after which rows of a departed replica are still to be marked as departing.
    pub(super) to_depart: Option<(usize, Option<Ref>)>,
    /// Whether it isn't shown before the other nodes of its region.
    pub(super) waits_for_region: bool,
    /// The shards with rows that are still to be shown or hidden.
    pub(super) unsettled: BTreeSet<usize>,
    /// The shards that are to be pulled.
    pub(super) pulls: BTreeMap<usize, Pull>,
    /// Nodes that may have the set of a departed replica, to ask if the replica itself doesn't answer.
    pub(super) holders: Vec<Replica>,
    /// Rows of earlier runs that this one doesn't have, on their way out.
    pub(super) remains: Option<Box<Peer>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerState {
    /// Heard lately; its rows are shown.
    Up,
    /// Silent since this time; its rows are hidden and kept.
    Down(Time),
    /// It has left: its set is final, and stays until its graces end.
    Departed { since: Time, until: Time },
}

pub(super) type Rows = BTreeMap<Ref, Arc<Row>>;
/// When rows leave, and why.
pub(super) type Departing = HashMap<Ref, (Time, LeaveReason)>;

/// One shard of another replica.
#[derive(Default)]
pub(super) struct PeerShard {
    /// The version of the rows.
    pub(super) version: u64,
    /// The highest version heard of.
    pub(super) known: u64,
    /// Hidden rows are shown once they have this version.
    pub(super) show_at: u64,
    /// Whether it is shown, or hidden, but for what is unsettled.
    pub(super) shown: bool,
    pub(super) unsettled: Option<Box<Unsettled>>,
    /// While rows of an earlier run are among the rows, those of them that this run is known to have.
    #[expect(clippy::box_collection, reason = "there is rarely one, and each peer has 64 shards")]
    pub(super) confirmed: Option<Box<HashSet<Ref>>>,
    /// The origin's set, as far as it is known, in the order in which its rows were made. It includes rows that are
    /// hidden for good. A tree, as it grows without a pause.
    pub(super) rows: Rows,
    pub(super) departing: Departing,
    /// Batches that arrived before those they follow.
    pub(super) early: BTreeMap<u64, Arc<Batch>>,
    pub(super) early_bytes: usize,
}

/// The rows of a shard that are still to be shown, though the shard counts as shown, or to be hidden, though it counts
/// as hidden: those that join or leave meanwhile do so at once. First they are put together by topic, so that the rows of
/// a topic come and go together.
#[derive(Default)]
pub(super) struct Unsettled {
    /// The rows up to this one are in the topics. `None` before the first.
    pub(super) gathered: Option<Ref>,
    pub(super) is_gathered: bool,
    pub(super) topics: BTreeMap<Topic, VecDeque<Arc<Row>>>,
}

/// A shard that is being pulled.
pub(super) struct Pull {
    /// When to ask, or to retry.
    pub(super) at: Time,
    pub(super) attempts: u32,
    /// The snapshot that is coming in.
    pub(super) incoming: Option<IncomingSnapshot>,
}

/// A snapshot of which some chunks are applied.
pub(super) struct IncomingSnapshot {
    pub(super) begun: Time,
    pub(super) from: Replica,
    pub(super) version: u64,
    pub(super) next: u32,
    pub(super) count: u32,
    /// The rows held when it began that it hasn't had so far. Sorted, so that the same messages have the same effects.
    pub(super) missing: BTreeSet<Ref>,
}

/// A part of a snapshot, as it was received.
pub(super) struct Chunk {
    pub(super) from: Replica,
    pub(super) version: u64,
    pub(super) index: u32,
    pub(super) count: u32,
    pub(super) topics: Vec<(Topic, Vec<PresenceRow>)>,
}

impl Peer {
    pub(super) fn new(replica: Replica, state: PeerState, now: Time) -> Self {
        Self {
            replica,
            region: None,
            state,
            heard_at: now,
            deadline: now,
            shards: (0..SHARDS).map(|_| PeerShard::default()).collect(),
            ends: BTreeSet::new(),
            to_depart: None,
            waits_for_region: false,
            unsettled: BTreeSet::new(),
            pulls: BTreeMap::new(),
            holders: Vec::new(),
            remains: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == PeerState::Up
    }

    pub(super) fn has_departed(&self) -> bool {
        matches!(self.state, PeerState::Departed { .. })
    }

    pub(super) fn is_silent(&self, now: Time) -> bool {
        self.is_up() && self.deadline <= now
    }

    pub(super) fn is_forgotten(&self, now: Time, forget_after: Duration) -> bool {
        self.forgotten_at(forget_after).is_some_and(|at| at <= now)
    }

    /// Whether rows of it are to be shown, hidden, marked or dropped now.
    pub(super) fn is_busy(&self, now: Time, forget_after: Duration) -> bool {
        self.is_unfinished()
            || self.ends.first().is_some_and(|(end, ..)| *end <= now)
            || self.is_forgotten(now, forget_after)
    }

    fn is_unfinished(&self) -> bool {
        !self.unsettled.is_empty() || self.to_depart.is_some() || self.remains.is_some()
    }

    fn forgotten_at(&self, forget_after: Duration) -> Option<Time> {
        match self.state {
            PeerState::Up => None,
            PeerState::Down(since) => Some(since + forget_after),
            PeerState::Departed { since, until } => Some(until.max(since + forget_after)),
        }
    }

    /// Notes that the peer was heard. While the network is there, silence counts from now, and a deadline extended for
    /// an outage ends. While it is away, the message may be an old one, and the deadline stays extended.
    pub(super) fn heard(&mut self, now: Time, down_after: Duration, connected: bool) {
        let deadline = now + down_after;
        self.heard_at = now;
        self.deadline = if connected { deadline } else { self.deadline.max(deadline) };
    }

    /// Extends the deadline to at least this time.
    pub(super) fn extend_to(&mut self, deadline: Time) {
        self.deadline = self.deadline.max(deadline);
    }

    pub(super) fn extend_by(&mut self, late: Duration) {
        self.heard_at += late;
        self.deadline += late;
    }

    /// Whether everything known of it is shown.
    pub(super) fn is_synced(&self) -> bool {
        let is_synced =
            |shard: &PeerShard| shard.shown && shard.unsettled.is_none() && shard.confirmed.is_none();
        self.remains.is_none() && self.shards.iter().all(is_synced)
    }

    /// Whether all its shards have the versions that it announced when it came up.
    pub(super) fn may_be_shown(&self) -> bool {
        self.shards.iter().all(|shard| shard.version >= shard.show_at)
    }

    /// Whether its set is complete up to the highest versions known.
    pub(super) fn is_complete(&self) -> bool {
        self.shards.iter().all(|shard| shard.version >= shard.known)
    }

    /// Returns how much longer the presences of a departed replica stay. `None` if it hasn't departed, or the time is
    /// over.
    pub(super) fn grace(&self, now: Time) -> Option<Duration> {
        match self.state {
            PeerState::Departed { until, .. } => Some(until.since(now)).filter(|grace| !grace.is_zero()),
            PeerState::Up | PeerState::Down(_) => None,
        }
    }

    /// Whether it has departed and its presences have left, so that nothing is pulled of it any more.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.has_departed() && self.grace(now).is_none()
    }

    pub(super) fn versions(&self) -> Versions {
        Versions::collect(self.shards.iter().map(|shard| shard.known))
    }

    pub(super) fn wake_at(&self, forget_after: Duration, pulls_at_once: usize) -> Option<Time> {
        let silence = self.is_up().then_some(self.deadline);
        let forgotten = self.forgotten_at(forget_after);
        let end = self.ends.first().map(|(at, ..)| *at);
        let settle = self.is_unfinished().then_some(Time::ZERO);
        // Nothing more is pulled then.
        let over = match self.state {
            PeerState::Departed { until, .. } if !self.pulls.is_empty() => Some(until),
            _ => None,
        };
        [silence, forgotten, end, self.next_pull(pulls_at_once), settle, over].into_iter().flatten().min()
    }

    pub(super) fn knows(&self, shard: usize, reference: Ref) -> bool {
        self.shards[shard].rows.contains_key(&reference)
            || self.remains.as_ref().is_some_and(|remains| remains.knows(shard, reference))
    }

    pub(super) fn rows(&self) -> usize {
        let own: usize = self.shards.iter().map(|shard| shard.rows.len()).sum();
        own + self.remains.as_ref().map_or(0, |remains| remains.rows())
    }

    pub(super) fn early(&self) -> usize {
        self.shards.iter().map(|shard| shard.early.len()).sum()
    }

    pub(super) fn departing(&self) -> usize {
        self.shards.iter().map(|shard| shard.departing.len()).sum()
    }

    pub(super) fn summary(&self) -> String {
        format!("{} {:?}, {} rows", self.replica, self.state, self.rows())
    }
}

impl IncomingSnapshot {
    /// Begins with the first chunk, for a shard of which the rows `held` are known.
    pub(super) fn new(begun: Time, chunk: &Chunk, held: BTreeSet<Ref>) -> Self {
        let Chunk { ref from, version, count, .. } = *chunk;
        Self { begun, from: from.clone(), version, next: 0, count, missing: held }
    }
}
