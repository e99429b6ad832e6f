//! Protection against replays: no message is delivered twice, even if somebody records it on the engine and sends it
//! again.
//!
//! Each run of a node has a random origin, and its messages have increasing numbers. An unknown origin is challenged
//! with a random nonce to prove that it is alive; its messages are kept until it answers. The answer names the numbers
//! that are fresh. From then on each number is accepted once, in any order within [`WINDOW`].
//!
//! This is a state machine without I/O: messages and the time go in, and decisions come out.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// Identifies one `PubSub` among all that ever existed: a node's name may occur twice, by mistake or by a restart.
pub(crate) type Origin = [u8; 16];
/// Random, so that no recorded answer fits.
pub(crate) type Nonce = [u8; 16];

/// Maximum age of a message, by its sender's clock, when its origin is admitted.
pub(crate) const FRESH: Duration = Duration::from_secs(5);
/// How much later than newer messages of its origin a message may arrive: subjects overtake each other on an engine.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// After this time of silence an origin is forgotten, and challenged again.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// Minimum time between two challenges to one origin.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long messages are kept for an origin that doesn't answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node that has closed answers challenges, once the engine has its last message.
pub(crate) const ANSWER_AFTER_LAST: Duration = Duration::from_millis(500);

/// Maximum number of unknown origins at a time: nodes that start at once, or recordings of dead ones. Their messages are
/// bounded by [`MAX_KEPT_BYTES_IN_ALL`], 8 KiB for each if there are as many. Each takes less than 1 KiB beside.
const MAX_UNKNOWN: usize = 1024;
/// Maximum number of bytes kept for one of them. A single message may exceed it.
const MAX_KEPT_BYTES: usize = 256 * 1024;
/// Maximum number of bytes kept for all of them.
const MAX_KEPT_BYTES_IN_ALL: usize = 8 * 1024 * 1024;
/// The overhead of a kept message in bytes.
const KEPT_OVERHEAD: usize = 128;

/// Maximum distance between the lowest and the highest accepted number.
const MAX_SPAN: u64 = 1 << 20;
/// The numbers in one chunk of the bitmap.
const NUMBERS_PER_CHUNK: u64 = 512;
/// The resolution of the time at which a number was sent.
const BUCKET: Duration = Duration::from_millis(100);

/// Decides which messages from other nodes are delivered. `M` is a message.
pub(crate) struct ReplayGuard<M> {
    admitted: HashMap<Origin, AdmittedOrigin<M>>,
    unknown: HashMap<Origin, Unknown<M>>,
    kept_bytes: usize,
    unanswered: u64,
}

/// The decision about a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<M> {
    Deliver(M),
    /// It is kept. If there is a nonce, challenge its origin with it.
    Kept(Option<Nonce>),
    /// It was received before, or is too old to know.
    Replayed,
    /// The queue behind the kept messages is full.
    Overflow,
}

/// An origin's own message numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// The last number.
    pub(crate) last: u64,
    /// The last number as of [`FRESH`] ago.
    pub(crate) stale: u64,
}

struct AdmittedOrigin<M> {
    heard: Instant,
    window: Window,
    /// While the kept messages are delivered, new ones are queued behind them.
    behind: Option<VecDeque<(usize, M)>>,
    behind_bytes: usize,
}

struct Unknown<M> {
    since: Instant,
    asked: Vec<(Instant, Nonce)>,
    kept: BTreeMap<u64, (usize, M)>,
    bytes: usize,
}

impl<M> Default for ReplayGuard<M> {
    fn default() -> Self {
        Self { admitted: HashMap::new(), unknown: HashMap::new(), kept_bytes: 0, unanswered: 0 }
    }
}

impl<M> ReplayGuard<M> {
    /// Handles an authentic message of `bytes` bytes.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        origin: Origin,
        number: u64,
        bytes: usize,
        message: M,
        nonce: impl FnOnce() -> Nonce,
    ) -> Received<M> {
        if let Some(admitted) = self.admitted.get_mut(&origin) {
            if !admitted.is_forgotten(now) {
                return admitted.receive(now, number, bytes, message);
            }
            self.admitted.remove(&origin);
        }
        let bytes = bytes + KEPT_OVERHEAD;
        self.give_up(now, &origin);
        if !self.unknown.contains_key(&origin) && self.unknown.len() == MAX_UNKNOWN {
            self.drop_oldest(None);
        }
        let unknown = self.unknown.entry(origin).or_insert_with(|| Unknown::new(now));
        if unknown.kept.contains_key(&number) {
            return Received::Replayed;
        }
        let (before, kept) = (unknown.bytes, unknown.kept.len());
        unknown.keep(number, bytes, message);
        self.unanswered += (kept + 1 - unknown.kept.len()) as u64;
        self.kept_bytes = self.kept_bytes - before + unknown.bytes;
        let challenge = unknown.is_to_be_asked(now).then(|| {
            let nonce = nonce();
            unknown.asked.push((now, nonce));
            nonce
        });
        while self.kept_bytes > MAX_KEPT_BYTES_IN_ALL && self.unknown.len() > 1 {
            self.drop_oldest(Some(&origin));
        }
        Received::Kept(challenge)
    }

    /// Handles an answer. If it matches a challenge, returns the kept messages to deliver, and how many are too old.
    /// After delivering them, call [`behind`](Self::behind) until it returns `None`.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        origin: &Origin,
        nonce: &Nonce,
        numbers: Numbers,
    ) -> Option<(Vec<M>, u64)> {
        // A process that was stopped may find an old answer, and one is proof of what was fresh when it was given.
        self.give_up(now, origin);
        self.unknown.get(origin).filter(|unknown| unknown.asked.iter().any(|(_, asked)| asked == nonce))?;
        let unknown = self.unknown.remove(origin)?;
        self.kept_bytes -= unknown.bytes;
        let mut window = Window::new(now, numbers);
        let (mut fresh, mut stale) = (Vec::new(), 0);
        for (number, (_, message)) in unknown.kept {
            if window.take(now, number) {
                fresh.push(message);
            } else {
                stale += 1;
            }
        }
        let behind = Some(VecDeque::new());
        self.admitted.insert(*origin, AdmittedOrigin { heard: now, window, behind, behind_bytes: 0 });
        Some((fresh, stale))
    }

    /// Returns the next message that came while others of its origin were delivered.
    pub(crate) fn behind(&mut self, origin: &Origin) -> Option<M> {
        let admitted = self.admitted.get_mut(origin)?;
        if let Some((bytes, message)) = admitted.behind.as_mut()?.pop_front() {
            admitted.behind_bytes -= bytes;
            return Some(message);
        }
        admitted.behind = None;
        None
    }

    /// Drops what has expired. Returns how many messages were dropped without an answer since the last call.
    pub(crate) fn tidy(&mut self, now: Instant) -> u64 {
        self.admitted.retain(|_, admitted| !admitted.is_forgotten(now));
        let over: Vec<Origin> = self
            .unknown
            .iter()
            .filter(|(_, unknown)| unknown.is_over(now))
            .map(|(origin, _)| *origin)
            .collect();
        for origin in over {
            self.give_up(now, &origin);
        }
        if self.admitted.capacity() > 4 * self.admitted.len().max(16) {
            self.admitted.shrink_to(2 * self.admitted.len());
        }
        std::mem::take(&mut self.unanswered)
    }

    /// Drops the messages kept for an origin that hasn't answered in time.
    fn give_up(&mut self, now: Instant, origin: &Origin) {
        if self.unknown.get(origin).is_some_and(|unknown| unknown.is_over(now)) {
            self.drop_unknown(*origin);
        }
    }

    fn drop_oldest(&mut self, but: Option<&Origin>) {
        let others = self.unknown.iter().filter(|(origin, _)| Some(*origin) != but);
        let oldest = others.min_by_key(|(_, unknown)| unknown.since).map(|(origin, _)| *origin);
        if let Some(oldest) = oldest {
            self.drop_unknown(oldest);
        }
    }

    fn drop_unknown(&mut self, origin: Origin) {
        if let Some(unknown) = self.unknown.remove(&origin) {
            self.kept_bytes -= unknown.bytes;
            self.unanswered += unknown.kept.len() as u64;
        }
    }
}

impl<M> AdmittedOrigin<M> {
    fn is_forgotten(&self, now: Instant) -> bool {
        self.behind.is_none() && now >= self.heard + FORGET_AFTER
    }

    fn receive(&mut self, now: Instant, number: u64, bytes: usize, message: M) -> Received<M> {
        if !self.window.take(now, number) {
            return Received::Replayed;
        }
        self.heard = now;
        match &mut self.behind {
            None => Received::Deliver(message),
            Some(behind) if self.behind_bytes + bytes > MAX_KEPT_BYTES_IN_ALL && !behind.is_empty() => {
                Received::Overflow
            }
            Some(behind) => {
                self.behind_bytes += bytes;
                behind.push_back((bytes, message));
                Received::Kept(None)
            }
        }
    }
}

impl<M> Unknown<M> {
    fn new(now: Instant) -> Self {
        Self { since: now, asked: Vec::new(), kept: BTreeMap::new(), bytes: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.since + ANSWER_TIMEOUT && self.is_to_be_asked(now)
    }

    fn is_to_be_asked(&self, now: Instant) -> bool {
        self.asked.last().is_none_or(|(asked, _)| now >= *asked + ASK_AGAIN)
    }

    fn keep(&mut self, number: u64, bytes: usize, message: M) {
        while self.bytes + bytes > MAX_KEPT_BYTES
            && let Some((_, (dropped, _))) = self.kept.pop_first()
        {
            self.bytes -= dropped;
        }
        self.bytes += bytes;
        self.kept.insert(number, (bytes, message));
    }
}

/// The accepted numbers of one origin.
struct Window {
    /// Numbers up to this one are refused.
    floor: u64,
    /// The non-empty chunks of a bitmap, by their index.
    taken: BTreeMap<u64, [u64; NUMBERS_PER_CHUNK as usize / 64]>,
    highest: Timeline,
}

impl Window {
    fn new(now: Instant, numbers: Numbers) -> Self {
        let mut highest = Timeline::default();
        highest.note(now, numbers.last.max(numbers.stale));
        Self { floor: numbers.stale, taken: BTreeMap::new(), highest }
    }

    /// Accepts a number. Returns false if it was accepted before, or is too old to know.
    fn take(&mut self, now: Instant, number: u64) -> bool {
        let floor = self.highest.before(now, WINDOW);
        self.raise_floor(floor);
        if number <= self.floor {
            return false;
        }
        let (chunk, bit) = (number / NUMBERS_PER_CHUNK, number % NUMBERS_PER_CHUNK);
        let word = &mut self.taken.entry(chunk).or_default()[bit as usize / 64];
        let mask = 1 << (bit % 64);
        if *word & mask != 0 {
            return false;
        }
        *word |= mask;
        if number >= self.highest.last {
            self.highest.note(now, number);
        }
        let lowest = self.highest.last.saturating_sub(MAX_SPAN);
        self.raise_floor(lowest);
        true
    }

    fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.taken = self.taken.split_off(&(floor / NUMBERS_PER_CHUNK));
        }
    }
}

/// The recent history of an increasing number.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    last: u64,
    /// For each bucket, when it began, when it was last updated, and the number then.
    buckets: VecDeque<(Instant, Instant, u64)>,
    /// The last number of the last dropped bucket.
    dropped: u64,
}

impl Timeline {
    pub(crate) fn note(&mut self, now: Instant, number: u64) {
        self.last = number;
        match self.buckets.back_mut() {
            Some((began, noted, last)) if now < *began + BUCKET => (*noted, *last) = (now, number),
            _ => self.buckets.push_back((now, now, number)),
        }
        // Nothing older than the longer of both times is needed.
        self.before(now, WINDOW.max(FRESH));
    }

    /// The last number.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The number as of `age` ago, or slightly earlier.
    pub(crate) fn before(&mut self, now: Instant, age: Duration) -> u64 {
        let is_old = |noted: Instant, age| now >= noted + age;
        while let Some((_, noted, number)) = self.buckets.front()
            && is_old(*noted, WINDOW.max(FRESH))
            && self.buckets.len() > 1
        {
            self.dropped = *number;
            self.buckets.pop_front();
        }
        let old = self.buckets.iter().take_while(|(_, noted, _)| is_old(*noted, age)).last();
        old.map_or(self.dropped, |(.., number)| *number)
    }
}

#[cfg(feature = "suite")]
pub(crate) mod simulated;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
