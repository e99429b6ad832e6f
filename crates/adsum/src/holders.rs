//! The owners of the presences of this node: channels, and tasks.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use adsum_channels::{SocketDetails, SocketProbe};
use adsum_tracker::OwnerId;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The owners stand in several tables, so that those of many workers seldom wait for each other.
const TABLES: usize = 16;

/// The owners of this node's presences. An owner is in a table while it lives; the sockets of channels that have ended
/// are remembered for a while.
pub(crate) struct Holders {
    began: Instant,
    living: [Mutex<HashMap<OwnerId, LivingHolder>>; TABLES],
    ended: Mutex<VecDeque<EndedHolder>>,
    remembered: usize,
    age: Duration,
}

/// Small, as there may be one for each socket.
struct LivingHolder {
    /// `None` if a task holds the owner.
    socket: Option<SocketProbe>,
    /// Since when, in seconds from the beginning.
    since: u32,
}

struct EndedHolder {
    owner: OwnerId,
    socket: SocketDetails,
    at: Instant,
    held_for: Duration,
}

/// An owner as it is now, or was at its end.
pub(crate) struct HolderInfo {
    /// `None` if a task holds, or held, it.
    pub(crate) socket: Option<SocketDetails>,
    /// How long it has held presences, or had.
    pub(crate) held_for: Duration,
    /// How long ago it ended.
    pub(crate) ended: Option<Duration>,
}

impl Holders {
    /// Remembers the sockets of at most so many channels that have ended, for so long.
    pub(crate) fn new((remembered, age): (usize, Duration)) -> Self {
        Self { began: Instant::now(), living: Default::default(), ended: Mutex::default(), remembered, age }
    }

    /// Notes a new owner.
    pub(crate) fn begin(&self, owner: OwnerId, socket: Option<SocketProbe>) {
        let since = u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX);
        self.table(owner).lock().insert(owner, LivingHolder { socket, since });
    }

    /// The owner of a channel has ended in good time: its socket is remembered.
    pub(crate) fn end(&self, owner: OwnerId) {
        let Some(living) = self.remove(owner).filter(|_| self.remembered > 0) else { return };
        let held_for = self.held_for(&living);
        let Some(socket) = living.socket.and_then(|probe| probe.details()) else { return };
        let at = Instant::now();
        let mut ended = self.ended.lock();
        let is_over = |oldest: &EndedHolder| at.saturating_duration_since(oldest.at) > self.age;
        while ended.len() >= self.remembered || ended.front().is_some_and(is_over) {
            ended.pop_front();
        }
        ended.push_back(EndedHolder { owner, socket, at, held_for });
    }

    /// An owner is gone, if it hasn't ended before.
    pub(crate) fn forget(&self, owner: OwnerId) {
        drop(self.remove(owner));
    }

    /// Finds an owner, also one that has ended of late.
    pub(crate) fn find(&self, owner: OwnerId) -> Option<HolderInfo> {
        let living =
            self.table(owner).lock().get(&owner).map(|living| (living.socket.clone(), self.held_for(living)));
        if let Some((probe, held_for)) = living {
            let socket = probe.and_then(|probe| probe.details());
            return Some(HolderInfo { socket, held_for, ended: None });
        }
        let ended = self.ended.lock();
        let ended = ended.iter().rev().find(|ended| ended.owner == owner)?;
        let (socket, held_for) = (Some(ended.socket.clone()), ended.held_for);
        Some(HolderInfo { socket, held_for, ended: Some(ended.at.elapsed()) })
    }

    /// How many owners live.
    pub(crate) fn len(&self) -> usize {
        self.living.iter().map(|table| table.lock().len()).sum()
    }

    /// The socket of a channel that owns presences.
    #[cfg(feature = "dashboard")]
    pub(crate) fn socket(&self, owner: OwnerId) -> Option<SocketProbe> {
        self.table(owner).lock().get(&owner)?.socket.clone()
    }

    fn remove(&self, owner: OwnerId) -> Option<LivingHolder> {
        let mut table = self.table(owner).lock();
        let removed = table.remove(&owner);
        if table.capacity() > 64 && table.capacity() > 4 * table.len() {
            let room = 2 * table.len();
            table.shrink_to(room);
        }
        removed
    }

    fn held_for(&self, living: &LivingHolder) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_secs(living.since.into()))
    }

    fn table(&self, owner: OwnerId) -> &Mutex<HashMap<OwnerId, LivingHolder>> {
        &self.living[owner.number() as usize % TABLES]
    }
}
