//! A simulated cluster, under a seed, on an engine where somebody records all messages and replays them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

use super::*;

/// `ADSUM_SIM_SCHEDULES` overrides it.
const SCHEDULES: u64 = 1_000;
const MS: Duration = Duration::from_millis(1);
/// The length of one schedule.
const LENGTH: u64 = 60_000;
const NAMES: u64 = 3;
const TOPICS: u64 = 2;

/// The content of a message on the engine.
#[derive(Clone, Debug)]
enum Packet {
    Message { number: u64, said: u64 },
    Challenge { of: Origin, nonce: Nonce },
    Answer { to: Origin, nonce: Nonce, numbers: Numbers, said: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Subject {
    Topic(u64),
    Node(u64),
}

#[derive(Clone, Debug)]
struct Sent {
    subject: Subject,
    origin: Origin,
    name: u64,
    packet: Packet,
}

/// One run of a node.
struct Run {
    origin: Origin,
    name: u64,
    began: u64,
    /// When it sends its last message.
    ends: u64,
    /// Until when it answers challenges.
    answers_until: u64,
    sent: Timeline,
    guard: ReplayGuard<(Origin, u64, u64)>,
    delivered: HashSet<(Origin, u64)>,
    /// When each origin sent the answer that admitted it last.
    answered: HashMap<Origin, u64>,
}

/// An arrival: the time, the order, the run, the index of the message, and whether it is genuine.
type Arrival = (u64, u64, usize, usize, bool);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        bytes
    }
}

struct World {
    random: Random,
    start: Instant,
    now: u64,
    runs: Vec<Run>,
    on_the_way: BinaryHeap<Reverse<Arrival>>,
    /// When the last message of a subject arrives at a run: the order within a subject is kept.
    last: HashMap<(Subject, usize), u64>,
    sequence: u64,
    recorded: Vec<Sent>,
    is_lossy: bool,
    has_backlogs: bool,
    /// Messages that must be delivered: by which time, to which run, from which origin, with which number.
    due: Vec<(u64, usize, Origin, u64)>,
    replayed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let (is_lossy, has_backlogs) = (random.chance(50), random.chance(30));
        Self {
            random,
            start: Instant::now(),
            now: 0,
            runs: Vec::new(),
            on_the_way: BinaryHeap::new(),
            last: HashMap::new(),
            sequence: 0,
            recorded: Vec::new(),
            is_lossy,
            has_backlogs,
            due: Vec::new(),
            replayed: 0,
        }
    }

    fn time(&self) -> Instant {
        self.start + u32::try_from(self.now).unwrap() * MS
    }

    fn begin(&mut self, name: u64) {
        let origin = self.random.bytes();
        self.runs.push(Run {
            origin,
            name,
            began: self.now,
            ends: u64::MAX,
            answers_until: u64::MAX,
            sent: Timeline::default(),
            guard: ReplayGuard::default(),
            delivered: HashSet::new(),
            answered: HashMap::new(),
        });
    }

    fn end(&mut self, run: usize) {
        let dies = self.random.chance(50);
        let run = &mut self.runs[run];
        run.ends = self.now;
        run.answers_until = if dies { self.now } else { self.now + 500 };
    }

    fn say(&mut self, run: usize) {
        let subject = match self.random.below(10) {
            0 => Subject::Node(self.random.below(NAMES)),
            n => Subject::Topic(n % TOPICS),
        };
        let time = self.time();
        let run = &mut self.runs[run];
        let number = run.sent.last() + 1;
        run.sent.note(time, number);
        let (origin, name) = (run.origin, run.name);
        self.send(Sent { subject, origin, name, packet: Packet::Message { number, said: self.now } });
    }

    fn send(&mut self, sent: Sent) {
        let is_topic = matches!(sent.subject, Subject::Topic(_));
        let index = self.recorded.len();
        self.recorded.push(sent.clone());
        for to in 0..self.runs.len() {
            if !self.hears(to, &sent) || self.is_lossy && self.random.chance(5) {
                continue;
            }
            let delay = match self.random.below(20) {
                0 if is_topic && self.has_backlogs => self.random.below(4_000),
                _ => self.random.below(80),
            };
            let last = self.last.entry((sent.subject, to)).or_default();
            let at = (*last).max(self.now + delay);
            *last = at;
            self.arrive(at, to, index, true);
        }
    }

    fn arrive(&mut self, at: u64, to: usize, index: usize, is_genuine: bool) {
        self.sequence += 1;
        self.on_the_way.push(Reverse((at, self.sequence, to, index, is_genuine)));
    }

    /// Whether a run is subscribed and is not the sender.
    fn hears(&self, run: usize, sent: &Sent) -> bool {
        let run = &self.runs[run];
        let is_subscribed = match sent.subject {
            Subject::Topic(_) => self.now < run.ends,
            Subject::Node(name) => name == run.name && self.now < run.answers_until,
        };
        is_subscribed && run.origin != sent.origin
    }

    fn replay(&mut self) {
        if self.recorded.is_empty() {
            return;
        }
        let len = self.recorded.len() as u64;
        let first = self.random.below(len);
        let count = 1 + self.random.below(60).min(len - first - 1);
        let shuffled = self.random.chance(50);
        for n in 0..count {
            let index = if shuffled { self.random.below(len) } else { first + n } as usize;
            self.replayed += 1;
            for to in 0..self.runs.len() {
                if self.hears(to, &self.recorded[index]) {
                    self.arrive(self.now + n % 3, to, index, false);
                }
            }
        }
    }

    fn take(&mut self, to: usize, index: usize, is_genuine: bool) {
        let sent = self.recorded[index].clone();
        if !self.hears(to, &sent) {
            return;
        }
        let (now, time) = (self.now, self.time());
        let nonce = self.random.bytes();
        match sent.packet {
            Packet::Message { number, said } => {
                let message = (sent.origin, number, said);
                let run = &mut self.runs[to];
                match run.guard.receive(time, sent.origin, number, 100, message, || nonce) {
                    Received::Deliver(message) => self.deliver(to, message),
                    Received::Kept(Some(nonce)) => {
                        let (origin, name) = (run.origin, run.name);
                        let packet = Packet::Challenge { of: sent.origin, nonce };
                        self.send(Sent { subject: Subject::Node(sent.name), origin, name, packet });
                    }
                    Received::Kept(None) | Received::Replayed => {}
                    Received::Overflow => panic!("nothing waits here"),
                }
                if is_genuine && !self.is_lossy {
                    self.due.push((now + 400, to, sent.origin, number));
                }
            }
            Packet::Challenge { of, nonce } => {
                let run = &mut self.runs[to];
                if of != run.origin {
                    return;
                }
                let numbers = Numbers { last: run.sent.last(), stale: run.sent.before(time, FRESH) };
                let (origin, name) = (run.origin, run.name);
                let packet = Packet::Answer { to: sent.origin, nonce, numbers, said: now };
                self.send(Sent { subject: Subject::Node(sent.name), origin, name, packet });
            }
            Packet::Answer { to: asked, nonce, numbers, said } => {
                let run = &mut self.runs[to];
                if asked != run.origin {
                    return;
                }
                if let Some((fresh, _)) = run.guard.answered(time, &sent.origin, &nonce, numbers) {
                    run.answered.insert(sent.origin, said);
                    let behind = run.guard.behind(&sent.origin);
                    assert_eq!(behind, None);
                    for message in fresh {
                        self.deliver(to, message);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, to: usize, (origin, number, said): (Origin, u64, u64)) {
        let now = self.now;
        let sender = self.runs.iter().find(|run| run.origin == origin).unwrap();
        let receiver = &self.runs[to];
        assert!(sender.answers_until > receiver.began, "a dead node is heard by one that started later");
        let answered = receiver.answered[&origin];
        assert!(said + 5_000 + 100 >= answered, "said at {said}, before what was fresh at {answered}");
        assert!(now - said <= 45_000, "said at {said}, heard at {now}");
        let is_new = self.runs[to].delivered.insert((origin, number));
        assert!(is_new, "number {number} is heard twice");
    }

    /// Checks that every message reached the runs that were there, whatever was replayed.
    fn check_due(&mut self) {
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(at, ..)| *at <= self.now);
        self.due = later;
        let due: Vec<(u64, usize, Origin, u64)> = due;
        for (at, to, origin, number) in due {
            let sender = self.runs.iter().find(|run| run.origin == origin).unwrap();
            let receiver = &self.runs[to];
            if sender.answers_until >= at && receiver.ends >= at {
                assert!(receiver.delivered.contains(&(origin, number)), "number {number} is lost at {at}");
            }
        }
    }

    fn run(&mut self) {
        for name in 0..NAMES {
            self.begin(name);
        }
        while self.now < LENGTH {
            // Includes long pauses, in which origins are forgotten.
            self.now += match self.random.below(400) {
                0 => 35_000,
                n if n < 20 => self.random.below(3_000),
                _ => self.random.below(200),
            };
            let until = self.now;
            while let Some(Reverse((at, _, to, index, is_genuine))) = self.on_the_way.peek().copied() {
                if at > until {
                    break;
                }
                self.on_the_way.pop();
                self.now = at;
                self.take(to, index, is_genuine);
                self.check_due();
            }
            self.now = until;
            self.check_due();
            let alive: Vec<usize> =
                (0..self.runs.len()).filter(|run| self.now < self.runs[*run].ends).collect();
            for run in &alive {
                let time = self.time();
                self.runs[*run].guard.tidy(time);
            }
            let some = (!alive.is_empty()).then(|| alive[self.random.below(alive.len() as u64) as usize]);
            match (self.random.below(100), some) {
                (0..=1, Some(run)) => self.end(run),
                // A restart, or a twin.
                (2..=4, _) if alive.len() < 6 => {
                    let name = self.random.below(NAMES);
                    self.begin(name);
                }
                (5..=25, _) => self.replay(),
                (_, Some(run)) => self.say(run),
                (_, None) => {}
            }
        }
        for run in &self.runs {
            assert!(run.guard.admitted.len() + run.guard.unknown.len() <= self.runs.len());
        }
    }
}

#[test]
fn a_recording_that_is_replayed_is_heard_by_nobody() {
    let number = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seed = number("ADSUM_SIM_SEED");
    let schedules = number("ADSUM_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let (mut heard, mut replayed) = (0, 0);
    for seed in seed.map_or(0..schedules, |seed| seed..seed + 1) {
        let mut world = World::new(seed);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
        assert!(ran.is_ok(), "reproduce it with ADSUM_SIM_SEED={seed}");
        heard += world.runs.iter().map(|run| run.delivered.len() as u64).sum::<u64>();
        replayed += world.replayed;
    }
    // Checks that the schedules exercise what they are for.
    let is_enough = heard > 100 * schedules && replayed > 100 * schedules;
    assert!(seed.is_some() || is_enough, "{heard} messages heard, {replayed} replayed");
}
