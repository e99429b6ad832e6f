//! The events of a run: made from a seed, and short enough to read when it fails.

use std::time::Duration;

use adsum_tracker::{ClusterOptions, Windows};

use super::random::Random;

/// Owners of a node, maximum number of topics and of keys in a topic, clients of a topic on a node.
pub(super) const OWNERS: usize = 3;
pub(super) const TOPICS: usize = 3;
pub(super) const KEYS: usize = 3;
pub(super) const CLIENTS: usize = 3;
/// In this many of a hundred runs, one node has most of the trouble: its runs displace, outbid and yield to each other.
const FOCUSED: usize = 20;
/// In this many of a hundred runs, messages are lost while presences change, and each loss needs a snapshot, which is read
/// meanwhile.
const BURSTS: usize = 10;

/// The settings of a whole run.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(super) struct Config {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) topics: usize,
    pub(super) keys: usize,
    /// How the changes of topics are put together.
    pub(super) windows: [Windows; TOPICS],
    /// The number of regions. 0: no node has a region.
    pub(super) regions: usize,
    /// Whether messages are numbered against replays, while a recorder replays them.
    pub(super) sealed: bool,
    /// Whether a node's own presences may change whenever a lock is released.
    pub(super) interleaved: bool,
    /// Whether most of the trouble is that of one node and its twin.
    pub(super) focused: bool,
    /// Whether messages pass through their form on the wire.
    pub(super) encoded: bool,
    /// How many of a hundred messages are lost, and how many are duplicated.
    pub(super) lost: usize,
    pub(super) doubled: usize,
    /// The longest that a message is under way, in milliseconds.
    pub(super) delay: usize,
    /// Maximum number of messages that wait for a node; further ones are dropped.
    pub(super) inbox: usize,
    /// Whether nodes of one name are all left running in the end.
    pub(super) keep_twins: bool,
    /// Whether the time for forgetting passes in the end.
    pub(super) forgets: bool,
    /// The largest meta, in bytes. If metas are large, logs are short and snapshots have several chunks.
    pub(super) meta: usize,
    /// Whether what was published is forgotten soon, so that a node that missed some of it needs a snapshot.
    pub(super) forgets_published: bool,
    /// Whether presences come, are updated and leave in quick succession.
    pub(super) bursts: bool,
    pub(super) options: ClusterOptions,
    /// How many rows of another node are shown, hidden, marked or read in one turn, and are in one chunk.
    pub(super) turn: usize,
    /// How long it takes from one turn to the next, in which messages come.
    pub(super) turn_time: Duration,
}

/// One event. Nodes are positions: one beyond the configured number runs a twin.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Pass(Duration),
    Track {
        node: usize,
        owner: usize,
        topic: usize,
        key: usize,
    },
    Update {
        node: usize,
        owner: usize,
        topic: usize,
        key: usize,
    },
    Untrack {
        node: usize,
        owner: usize,
        topic: usize,
        key: usize,
    },
    /// The owner is dropped, and another takes its number.
    End {
        node: usize,
        owner: usize,
    },
    /// From now on, presences of ended owners stay for this grace. `None`: they leave at once.
    Linger {
        node: usize,
        grace: Option<Duration>,
    },
    Flush {
        node: usize,
        topic: usize,
    },
    /// A new client gets the list.
    State {
        node: usize,
        topic: usize,
        client: usize,
    },
    /// No message from one reaches the other.
    Cut {
        from: usize,
        to: usize,
    },
    /// Nodes on the two sides don't hear each other: the side of each is a bit.
    Split {
        sides: u32,
    },
    /// The link between the regions is cut.
    CutRegions,
    /// Recorded messages are replayed to all nodes, in order or shuffled.
    Replay {
        count: usize,
        shuffled: bool,
    },
    /// All links are whole.
    Mend,
    Crash {
        node: usize,
    },
    /// A node starts, if none runs there, with a wall clock this far behind.
    Start {
        node: usize,
        behind: Duration,
    },
    Sleep {
        node: usize,
        time: Duration,
    },
    /// The network, or one node's connection to it, is lost or back.
    Engine {
        node: Option<usize>,
        up: bool,
    },
    /// The node leaves, and its presences stay for a grace, or leave at once without one.
    Leave {
        node: usize,
        grace: Option<Duration>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) config: Config,
    pub(super) steps: Vec<Step>,
}

impl Schedule {
    /// Whether all nodes learn why each presence left, since no snapshot is ever needed.
    pub(super) fn tells_reasons(&self) -> bool {
        let nodes = self.config.nodes;
        self.config.meta == 0
            && !self.config.forgets_published
            && !self.steps.iter().any(|step| match *step {
                Step::Leave { .. } => true,
                Step::Start { node, behind } => node >= nodes || !behind.is_zero(),
                _ => false,
            })
    }

    /// Whether messages arrive at once, so that graces end everywhere when they should.
    pub(super) fn is_prompt(&self) -> bool {
        self.are_all_up() && self.config.lost == 0 && self.config.delay <= 60
    }

    /// Whether all that may differ between nodes in the end is what was lost or is late, so that the next heartbeats
    /// make up for it. If much is lost, nodes wait longer each time before they ask again.
    pub(super) fn only_loses(&self) -> bool {
        let stays =
            |step: &Step| matches!(step, Step::Crash { .. } | Step::Leave { .. } | Step::Linger { .. });
        self.are_all_up() && self.config.lost <= 5 && !self.steps.iter().any(stays)
    }

    /// Whether all nodes have started before anything else, and are neither cut off nor asleep.
    fn are_all_up(&self) -> bool {
        let is_trouble = |step: &Step| {
            matches!(
                step,
                Step::Cut { .. }
                    | Step::Split { .. }
                    | Step::CutRegions
                    | Step::Sleep { .. }
                    | Step::Engine { .. }
                    | Step::Start { .. }
            )
        };
        // A node that isn't up yet publishes graces once it is.
        let are_up = matches!(self.steps.first(), Some(Step::Pass(time)) if *time >= Duration::from_secs(3));
        are_up && !self.steps.iter().any(is_trouble)
    }

    /// Makes a schedule of at most this many steps, with this many times the usual nodes.
    pub(super) fn generate(seed: u64, longest: usize, times: usize) -> Self {
        let mut random = Random::new(seed);
        let mut config = Config::generate(seed, &mut random);
        config.nodes *= times;
        let count = longest / 4 + random.below(longest - longest / 4);
        // A run has some kinds of trouble, seldom all.
        let about = Trouble::some(&mut random, &config);
        // By numbers of their own, so that a seed's schedule stays what it was.
        let mut bursts = Random::new(seed.reverse_bits());
        let mut steps = Vec::with_capacity(count + 1);
        if random.percent(80) {
            steps.push(Step::Pass(Duration::from_secs(3)));
        }
        while steps.len() < count {
            if config.focused && random.percent(20) {
                steps.extend(restart(&mut random, &config));
            }
            if config.bursts && bursts.percent(30) {
                steps.extend(burst(&mut bursts, &config));
            }
            steps.push(step(&mut random, &config, &about));
        }
        Self { config, steps }
    }
}

impl Config {
    fn generate(seed: u64, random: &mut Random) -> Self {
        let windows = [Windows::Net, Windows::Each];
        let options = ClusterOptions::default()
            .forget_after(Duration::from_secs(random.pick(&[12, 40])))
            .engine_grace(Duration::from_secs(random.pick(&[0, 8, 15])))
            .batch_interval(Duration::from_millis(random.pick(&[0, 5, 50])));
        let large = random.percent(10);
        let focused = random.percent(FOCUSED);
        let regions = random.pick(&[0, 0, 2, 3]);
        // By numbers of its own, so that a seed's schedule stays what it was.
        let mut turns = Random::new(!seed);
        let turn = turns.pick(&[1, 2, usize::MAX, usize::MAX]);
        let turn_time = Duration::from_millis(if turn < usize::MAX { turns.pick(&[0, 1, 10]) } else { 0 });
        let config = Self {
            seed,
            nodes: if focused { 3 } else { random.pick(&[3, 3, 3, 4, 5, 7]) },
            regions,
            sealed: random.percent(40),
            interleaved: random.percent(40),
            focused,
            topics: if large { 1 } else { random.pick(&[1, 2, TOPICS]) },
            keys: random.pick(&[1, 2, KEYS]),
            windows: std::array::from_fn(|_| random.pick(&windows)),
            encoded: random.percent(25),
            lost: random.pick(&[0, 0, 5, 30]),
            doubled: random.pick(&[0, 5, 30]),
            delay: random.pick(&[2, 2, 10, 10, 60, 1500, 5000]),
            inbox: random.pick(&[8, 64, 1000]),
            keep_twins: random.percent(50),
            forgets: random.percent(25),
            meta: if large { 60_000 } else { 0 },
            forgets_published: turns.percent(30),
            bursts: turns.percent(BURSTS),
            options,
            turn,
            turn_time,
        };
        if !config.bursts {
            return config;
        }
        let delay = config.delay.min(10);
        let turn_time = turns.millis(1, 10);
        let options = config.options.batch_interval(Duration::ZERO);
        Self { forgets_published: true, lost: 20, delay, turn: 1, turn_time, options, ..config }
    }
}

/// A kind of trouble.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Partitions,
    Crashes,
    ClocksSetBack,
    Sleep,
    Outages,
    Twins,
    Leaving,
    Linger,
    Replays,
}

impl Trouble {
    fn some(random: &mut Random, config: &Config) -> Vec<Self> {
        let often = |percent| if config.focused { 80 } else { percent };
        let all = [
            (Self::Partitions, often(50)),
            (Self::Crashes, 50),
            (Self::ClocksSetBack, often(15)),
            (Self::Sleep, 30),
            (Self::Outages, 20),
            (Self::Twins, if config.focused { 50 } else { 20 }),
            (Self::Leaving, 40),
            (Self::Linger, 40),
            (Self::Replays, if config.sealed { 60 } else { 0 }),
        ];
        all.into_iter().filter(|(_, percent)| random.percent(*percent)).map(|(trouble, _)| trouble).collect()
    }
}

/// A run of the first node, or of its twin, that begins with some of the others cut off, and lasts until it is live: so
/// that each of the others knows of other runs. Some hear it and aren't heard: they know of a set that they can't get.
fn restart(random: &mut Random, config: &Config) -> Vec<Step> {
    let node = if random.percent(30) { config.nodes } else { 0 };
    let mut steps = vec![Step::Mend];
    for other in (0..config.nodes).chain([config.nodes]).filter(|other| *other != node) {
        if random.percent(50) {
            steps.push(Step::Cut { from: other, to: node });
            if random.percent(50) {
                steps.push(Step::Cut { from: node, to: other });
            }
        }
    }
    if random.percent(80) {
        steps.push(Step::Crash { node });
    }
    let behind = if random.percent(70) { Duration::from_mins(10) } else { Duration::ZERO };
    let (owner, topic, key) = (random.below(OWNERS), random.below(config.topics), random.below(config.keys));
    steps.extend([
        Step::Start { node, behind },
        Step::Pass(random.millis(500, 4500)),
        Step::Track { node, owner, topic, key },
    ]);
    if random.percent(30) {
        steps.extend([Step::Mend, Step::Pass(random.millis(100, 3000))]);
    }
    if random.percent(20) {
        let grace = Some(random.millis(100, 6000));
        let other = random.below(config.nodes);
        steps.extend([
            Step::Leave { node, grace },
            Step::Pass(random.millis(10, 500)),
            Step::Track { node: other, owner, topic, key },
        ]);
    }
    steps
}

/// Presences of one node leave, come and are updated in about the time that a snapshot takes: some of it is in the snapshot,
/// and some in the batches after it.
fn burst(random: &mut Random, config: &Config) -> Vec<Step> {
    let node = random.below(config.nodes);
    let mut steps = Vec::new();
    for _ in 0..2 + random.below(6) {
        let (owner, topic, key) =
            (random.below(OWNERS), random.below(config.topics), random.below(config.keys));
        steps.extend([
            Step::Untrack { node, owner, topic, key },
            Step::Pass(random.millis(0, 10)),
            Step::Track { node, owner, topic, key },
        ]);
        for _ in 0..=random.below(3) {
            if random.percent(80) {
                steps.push(Step::Pass(random.millis(0, 10)));
            }
            steps.push(Step::Update { node, owner, topic, key });
        }
    }
    steps
}

fn step(random: &mut Random, config: &Config, about: &[Trouble]) -> Step {
    let places = if about.contains(&Trouble::Twins) { 2 * config.nodes } else { config.nodes };
    // With large metas, one node publishes more than its log keeps.
    let node = match (config.focused && random.percent(60), config.meta > 0 && random.percent(50)) {
        (true, _) if places > config.nodes && random.percent(50) => config.nodes,
        (true, _) | (_, true) => 0,
        _ => random.below(places),
    };
    let (owner, topic, key) = (random.below(OWNERS), random.below(config.topics), random.below(config.keys));
    match random.below(100) {
        0..25 => Step::Pass(pause(random)),
        25..49 => Step::Track { node, owner, topic, key },
        49..58 => Step::Update { node, owner, topic, key },
        58..63 => Step::Untrack { node, owner, topic, key },
        63..70 => Step::End { node, owner },
        70..77 => Step::Flush { node, topic },
        77..83 => Step::State { node, topic, client: random.below(CLIENTS) },
        _ if about.is_empty() => Step::Pass(pause(random)),
        _ => {
            let kind = random.pick(about);
            trouble(random, config, kind, node)
        }
    }
}

fn trouble(random: &mut Random, config: &Config, about: Trouble, node: usize) -> Step {
    let grace = random.percent(75).then(|| random.millis(100, 6000));
    match about {
        Trouble::Partitions => match random.below(5) {
            4 if config.regions > 0 => Step::CutRegions,
            0 => Step::Cut { from: node, to: random.below(config.nodes) },
            1 => Step::Split { sides: random.below(1 << (2 * config.nodes)) as u32 },
            _ => Step::Mend,
        },
        Trouble::Crashes if random.percent(50) => Step::Crash { node },
        Trouble::ClocksSetBack if random.percent(30) => Step::Crash { node },
        Trouble::ClocksSetBack => Step::Start { node, behind: Duration::from_mins(10) },
        Trouble::Sleep => Step::Sleep { node, time: random.millis(50, 10_000) },
        Trouble::Outages => {
            let node = random.percent(50).then_some(node);
            Step::Engine { node, up: random.percent(50) }
        }
        Trouble::Leaving if random.percent(60) => Step::Leave { node, grace },
        Trouble::Crashes | Trouble::Twins | Trouble::Leaving => Step::Start { node, behind: Duration::ZERO },
        Trouble::Linger => Step::Linger { node, grace },
        Trouble::Replays => Step::Replay { count: 1 + random.below(60), shuffled: random.percent(50) },
    }
}

fn pause(random: &mut Random) -> Duration {
    match random.below(20) {
        0..8 => random.millis(0, 20),
        8..15 => random.millis(20, 300),
        15..19 => random.millis(300, 2000),
        _ => random.millis(2000, 7000),
    }
}
