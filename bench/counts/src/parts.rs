//! The parts that are counted. Each part gets ready first; only what it hands to [`measured`] counts.

use std::{hint::black_box, time::Duration};

use adsum::{Json, Owner, Presence, PubSub};
use adsum_channels::{Serializer, V1, V2};
use adsum_pubsub::Message;
use adsum_tracker::{Bare, ClusterMessage as Said, Key, Meta, Time};
use bench::{LIVE, Node, talk};
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use crate::state::state;

const META: &str = r#"{"online_at":1795520148,"device":"phone"}"#;
/// In which changes gather, whatever the budget says.
const INTERVAL: Duration = Duration::from_millis(50);
const MOMENT: Duration = Duration::from_millis(10);
pub(crate) const SET: usize = 1000;

/// The parts by name, each with how many times it does its work. Without `--cfg fuzzing` these are only the parts that
/// need no private items.
pub(crate) const PARTS: &[(&str, u64, fn())] = &[
    ("track and untrack in a set of 1,000", 100, track),
    ("a diff of 50 changes, gathered and sent", 1, diff),
    ("the state of 1,000 pushed, after a change of one", 10, state),
    ("a broadcast's frame, version 1", 100, || broadcast(V1)),
    ("a broadcast's frame, version 2", 100, || broadcast(V2)),
    #[cfg(fuzzing)]
    ("read 100 WebSocket frames", 1, read),
    ("merge a batch of 100 changes into 1,000", 1, merge),
    #[cfg(fuzzing)]
    ("write and open an envelope", 100, envelope),
];

/// The function whose instructions are counted, with all that it calls.
#[inline(never)]
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

pub(crate) fn meta() -> Map<String, Value> {
    Map::from_iter([("online_at".to_owned(), "1795520148".into())])
}

/// A runtime whose time stands still, so that nothing depends on how slow this is.
pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime starts")
}

pub(crate) fn full(presence: &Presence) -> Vec<Owner<adsum::NoFetch>> {
    let tracked = |n: usize| {
        let mut owner = presence.owner();
        owner.track("room", format!("{n:08}"), meta()).expect("it is new");
        owner
    };
    (0..SET).map(tracked).collect()
}

fn track() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let presence = Presence::builder(PubSub::local()).diff_interval(Duration::ZERO).start();
    let _others = full(&presence);
    let mut owner = presence.owner();
    measured(|| {
        for _ in 0..100 {
            owner.track("room", "key", meta()).expect("it is not tracked");
            owner.untrack("room", "key");
        }
    });
}

fn diff() {
    let runtime = runtime();
    let pubsub = PubSub::local();
    let (_others, mut owner, inbox) = runtime.block_on(async {
        let presence = Presence::builder(pubsub.clone()).diff_interval(INTERVAL).start();
        let others = full(&presence);
        let mut owner = presence.owner();
        // The presences tracked so far go out before; after that the first change goes at once.
        pass().await;
        let mut inbox = pubsub.inbox(16);
        inbox.subscribe("room");
        owner.track("room", "first", meta()).expect("it is new");
        inbox.recv().await.expect("it is the only one");
        (others, owner, inbox)
    });
    let told = measured(|| {
        runtime.block_on(async {
            for n in 0..50 {
                owner.track("room", format!("new{n}"), meta()).expect("it is new");
            }
            pass().await;
            inbox.len()
        })
    });
    assert_eq!(told, 1, "50 changes are one diff");
}

/// More than the interval in which changes gather.
pub(crate) async fn pass() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn broadcast(version: impl Serializer) {
    let payload = Json::encode(&serde_json::json!({"text": "x".repeat(64)})).expect("it is JSON");
    let message = Message::new("room:lobby", "shout", payload.into());
    measured(|| {
        for _ in 0..100 {
            let frame = version.broadcast(black_box(&message)).expect("both versions have a form for it");
            black_box(frame);
        }
    });
}

/// Frames as a browser sends them: masked, 100 bytes of text.
#[cfg(fuzzing)]
fn read() {
    let text = format!(r#"["1","2","room:lobby","shout",{{"text":"{}"}}]"#, "x".repeat(58));
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frames = Vec::new();
    for _ in 0..100 {
        frames.extend_from_slice(&[0x81, 0x80 | u8::try_from(text.len()).expect("it is short")]);
        frames.extend_from_slice(&mask);
        frames.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
    let read = measured(|| adsum_channels::fuzzing::count_messages(&frames));
    assert_eq!(read, 100);
}

/// Two nodes that both have so many presences, all of the first one's; and batches of 100 that the second lacks.
pub(crate) struct Pair {
    a: Node,
    pub(crate) b: Node,
    size: usize,
    _crowd: adsum_tracker::RawOwner<Bare>,
    others: adsum_tracker::RawOwner<Bare>,
    now: Time,
}

impl Pair {
    pub(crate) fn of(size: usize) -> Self {
        let (mut a, mut b) = (Node::live("a", 1), Node::live("b", 2));
        let (mut crowd, others) = (a.tracker.owner(), a.tracker.owner());
        (0..size).for_each(|n| come(&mut crowd, &format!("{n:08}")));
        let mut now = LIVE;
        while b.cluster.usage().rows < size {
            now += MOMENT;
            talk(&mut a, &mut b, now);
        }
        Self { a, b, size, _crowd: crowd, others, now }
    }

    /// 100 presences come, as they are said, with keys all over the set; or go, if they are there.
    pub(crate) fn batch(&mut self, comes: bool) -> Vec<Vec<u8>> {
        for n in 0..100 {
            let key = format!("{:08}+{n}", n * self.size / 100);
            if comes {
                come(&mut self.others, &key);
            } else {
                self.others.untrack("room", &key);
            }
        }
        self.now += MOMENT;
        self.a.cluster.tick(self.now);
        self.a.messages().iter().map(Said::encode).collect()
    }

    pub(crate) fn merge(&mut self, batch: &[Vec<u8>]) {
        for said in batch {
            self.b.cluster.handle(self.now, Said::decode(said).expect("it was just encoded"));
        }
    }
}

fn come(owner: &mut adsum_tracker::RawOwner<Bare>, key: &str) {
    owner.track(&"room".into(), &Key::from(key), Meta::from_encoded(META)).expect("it is new");
}

fn merge() {
    let mut pair = Pair::of(SET);
    let batch = pair.batch(true);
    measured(|| pair.merge(&batch));
    assert_eq!(pair.b.cluster.usage().rows, SET + 100, "the batch is merged");
}

#[cfg(fuzzing)]
fn envelope() {
    let round_trip = adsum_pubsub::fuzzing::envelope_round_trip(b"a secret that all the nodes have");
    let payload = Json::encode(&serde_json::json!({"text": "x".repeat(64)})).expect("it is JSON");
    let message = Message::new("room:lobby", "shout", payload.into());
    measured(|| {
        for _ in 0..100 {
            round_trip(&message);
        }
    });
}
