//! Messages that no node of ours would send: complete, and with any value that fits its field. Also a part of the fuzz
//! target `clusters`.

use std::time::Duration;

use adsum_tracker::{Replica, shard_of};
use serde::Serialize;

type Name = [u8; 12];
type Row = (String, Name, Option<Name>, Option<Name>, Option<(u8, Duration)>, String);

/// As `Replica` is on the wire.
type Node = (String, u64, u64);

/// As [`adsum_tracker::ClusterMessage`] is on the wire, without its rules. The variants are in the same order.
#[derive(Serialize)]
enum Said {
    Hello {
        from: Node,
    },
    Welcome {
        from: Node,
        to: Node,
        region: Option<String>,
        versions: Vec<u64>,
        departed: Vec<(Node, Vec<u64>, Duration)>,
    },
    Heartbeat {
        from: Node,
        region: Option<String>,
        versions: Vec<u64>,
    },
    Batches {
        from: Node,
        batches: Vec<Batch>,
    },
    Pull {
        from: Node,
        of: Node,
        shard: u8,
        have: u64,
        chunk: Option<(u64, u32)>,
    },
    Run {
        of: Node,
        batches: Vec<Batch>,
    },
    Chunk {
        from: Node,
        of: Node,
        shard: u8,
        version: u64,
        index: u32,
        count: u32,
        topics: Vec<(String, Vec<Row>)>,
    },
    Leaving {
        from: Node,
        versions: Vec<u64>,
        grace: Duration,
    },
    SetHeld {
        from: Node,
        of: Node,
    },
    Stale {
        of: Node,
        highest: (u64, u64),
    },
    Goodbye {
        from: Node,
    },
}

#[derive(Serialize)]
struct Batch {
    shard: u8,
    version: u64,
    topics: Vec<(String, Vec<RowChange>)>,
}

#[derive(Serialize)]
enum RowChange {
    Join(Row),
    Leave { reference: Name, reason: Option<u8>, replaces: Option<Name> },
    Depart { reference: Name, reason: u8, grace: Duration },
}

/// Makes messages from bytes, each of which makes a choice. After the last byte, each choice is the first option.
pub(crate) struct Stranger<'a> {
    pub(crate) choices: &'a [u8],
    /// Nodes whose names it uses where that does no lasting damage.
    pub(crate) nodes: &'a [Replica],
    /// The names of presences that it has heard of.
    pub(crate) names: &'a [Name],
}

impl Stranger<'_> {
    fn choice(&mut self, of: usize) -> usize {
        let Some((first, rest)) = self.choices.split_first() else { return 0 };
        self.choices = rest;
        usize::from(*first) % of
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.choice(from.len())].clone()
    }

    fn number(&mut self) -> u64 {
        let most = adsum_tracker::MAX_VERSION;
        self.pick(&[1, 2, 0, 3, 4, 5, 64, 1 << 32, most - 1, most, most + 1, u64::MAX - 1, u64::MAX])
    }

    fn index(&mut self) -> u32 {
        self.pick(&[0, 1, 2, u32::MAX - 1, u32::MAX])
    }

    fn time(&mut self) -> Duration {
        let hour = Duration::from_hours(1);
        let times = [
            Duration::from_secs(1),
            Duration::ZERO,
            hour,
            hour * 2,
            Duration::from_secs(u64::MAX),
            Duration::MAX,
        ];
        self.pick(&times)
    }

    fn versions(&mut self) -> Vec<u64> {
        let (version, count) = (self.number(), self.pick(&[64, 64, 64, 64, 0, 65]));
        vec![version; count]
    }

    /// Returns a node that doesn't exist.
    fn me(&mut self) -> Node {
        let name = self.pick(&["evil", "", "mean"]);
        let started =
            self.pick(&[1, 2, 0, adsum_tracker::MAX_STARTED, adsum_tracker::MAX_STARTED + 1, u64::MAX]);
        (name.to_owned(), started, self.pick(&[1, 0, u64::MAX]))
    }

    /// Returns any node.
    fn node(&mut self) -> Node {
        match self.choice(2) {
            0 if !self.nodes.is_empty() => {
                let node = self.nodes[self.choice(self.nodes.len())].clone();
                (node.name.to_string(), node.incarnation.started, node.incarnation.random)
            }
            _ => self.me(),
        }
    }

    fn name(&mut self) -> Name {
        let kind = self.choice(3);
        if kind == 0 || self.names.is_empty() {
            return [self.choice(4) as u8; 12];
        }
        self.names[self.choice(self.names.len())]
    }

    fn maybe_name(&mut self) -> Option<Name> {
        (self.choice(3) == 0).then(|| self.name())
    }

    fn reason(&mut self) -> u8 {
        self.choice(4) as u8
    }

    fn key(&mut self) -> String {
        let long = "k".repeat(adsum_tracker::MAX_KEY_BYTES);
        self.pick(&["7", "", "guest", &long, &format!("{long}k")]).to_owned()
    }

    fn topic(&mut self) -> String {
        let long = "t".repeat(adsum_tracker::MAX_TOPIC_BYTES);
        self.pick(&["room", "", "hall", &long, &format!("{long}t")]).to_owned()
    }

    fn row(&mut self) -> Row {
        let (key, name, previous, replaces) = (self.key(), self.name(), self.maybe_name(), self.maybe_name());
        let departing = (self.choice(3) == 0).then(|| (self.reason(), self.time()));
        let meta = match self.choice(8) {
            1 => r#"{"phx_ref":"x"}"#.to_owned(),
            2 => format!("{{{}}}", " ".repeat(adsum_tracker::MAX_META_BYTES - 2)),
            3 => format!("{{{}}}", " ".repeat(adsum_tracker::MAX_META_BYTES)),
            _ => "{}".to_owned(),
        };
        (key, name, previous, replaces, departing, meta)
    }

    fn change(&mut self) -> RowChange {
        match self.choice(5) {
            0..3 => RowChange::Join(self.row()),
            3 => {
                let reason = (self.choice(2) == 0).then(|| self.reason());
                RowChange::Leave { reference: self.name(), reason, replaces: self.maybe_name() }
            }
            _ => RowChange::Depart { reference: self.name(), reason: self.reason(), grace: self.time() },
        }
    }

    /// Mostly the topic's own.
    fn shard(&mut self, topic: &str) -> u8 {
        match self.choice(16) {
            15 => self.pick(&[0, 63, 64, 255]),
            _ => shard_of(topic) as u8,
        }
    }

    fn region(&mut self) -> Option<String> {
        let long = "r".repeat(adsum_pubsub::MAX_REGION_BYTES);
        let regions = [None, Some("eu"), Some(""), Some(&long), Some(&format!("{long}r"))];
        self.pick(&regions).map(str::to_owned)
    }

    fn batch(&mut self) -> Batch {
        let topic = self.topic();
        let (shard, version) = (self.shard(&topic), self.number());
        let changes = (0..self.choice(4)).map(|_| self.change()).collect();
        Batch { shard, version, topics: vec![(topic, changes)] }
    }

    fn said(&mut self) -> Said {
        match self.choice(14) {
            0 => Said::Hello { from: self.node() },
            1 => {
                let departed =
                    (0..self.choice(3)).map(|_| (self.me(), self.versions(), self.time())).collect();
                let (from, to, region) = (self.me(), self.node(), self.region());
                Said::Welcome { from, to, region, versions: self.versions(), departed }
            }
            2 | 3 => {
                let (from, region) = (self.me(), self.region());
                Said::Heartbeat { from, region, versions: self.versions() }
            }
            4..=6 => Said::Batches {
                from: self.me(),
                batches: (0..=self.choice(2)).map(|_| self.batch()).collect(),
            },
            7 => {
                let (from, of, topic) = (self.node(), self.node(), self.topic());
                let chunk = (self.choice(2) == 0).then(|| (self.number(), self.index()));
                Said::Pull { from, of, shard: self.shard(&topic), have: self.number(), chunk }
            }
            8 => Said::Run { of: self.me(), batches: (0..=self.choice(2)).map(|_| self.batch()).collect() },
            9 => {
                let (from, of, topic) = (self.node(), self.me(), self.topic());
                let (shard, version) = (self.shard(&topic), self.number());
                let (index, count) = (self.index(), self.index());
                let rows = (0..self.choice(4)).map(|_| self.row()).collect();
                Said::Chunk { from, of, shard, version, index, count, topics: vec![(topic, rows)] }
            }
            10 => Said::Leaving { from: self.me(), versions: self.versions(), grace: self.time() },
            11 => Said::SetHeld { from: self.node(), of: self.node() },
            12 => {
                let (_, started, random) = self.me();
                Said::Stale { of: self.node(), highest: (started, random) }
            }
            _ => Said::Goodbye { from: self.node() },
        }
    }

    /// Returns the next message, encoded. `None` after the last choice.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        if self.choices.is_empty() {
            return None;
        }
        let mut wire = vec![adsum_tracker::PROTOCOL];
        wire.extend(postcard::to_allocvec(&self.said()).expect("it is encodable"));
        Some(wire)
    }
}
