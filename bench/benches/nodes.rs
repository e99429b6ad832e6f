//! The cost of seeing a presence on another node: time against the size of the set, the locks while a node
//! catches up, bytes on the wire, memory.

#![allow(missing_docs, reason = "the program prints what it measures")]

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use adsum_tracker::{Bare, ClusterMessage, Key, Meta, RawOwner, shard_of};
use bench::{LIVE, Node, talk};

const META: &str = r#"{"online_at":1795520148,"device":"phone"}"#;
const MOMENT: Duration = Duration::from_millis(10);

/// Two nodes, the first with so many presences, which the second has too.
fn pair(owner: &mut Option<RawOwner<Bare>>, size: usize, topic_of: impl Fn(usize) -> String) -> (Node, Node) {
    let (mut a, mut b) = (Node::live("a", 1), Node::live("b", 2));
    let owner = owner.insert(a.tracker.owner());
    for n in 0..size {
        owner.track(&topic_of(n).as_str().into(), &key(n), Meta::from_encoded(META)).expect("it is new");
    }
    let mut now = LIVE;
    while b.cluster.usage().rows < size {
        now += Duration::from_secs(1);
        talk(&mut a, &mut b, now);
        for step in 1..100 {
            talk(&mut a, &mut b, now + step * MOMENT);
        }
    }
    (a, b)
}

fn key(n: usize) -> Key {
    Key::from(format!("{n:08}"))
}

fn same(_: usize) -> String {
    "room".to_owned()
}

/// Which rows a batch updates, beside those that it adds.
#[derive(Clone, Copy, Debug)]
enum Touch {
    /// All over the set: no cache has them.
    Scattered,
    /// All over the set, and the same in each batch: the caches have them.
    Same,
    /// Those that stand side by side.
    Neighbours,
}

impl Touch {
    fn of(self, turn: usize, n: usize, size: usize) -> usize {
        match self {
            Self::Scattered => (turn * 50 + n) * 7919 % size,
            Self::Same => n * 7919 % size,
            Self::Neighbours => (turn * 50 + n) % size,
        }
    }
}

fn merge(touch: Touch) {
    println!(
        "a batch of 100 changes, half of them of rows that are there ({touch:?}), applied to a topic of:"
    );
    for size in [1_000, 10_000, 100_000, 1_000_000] {
        let mut owner = None;
        let (mut a, mut b) = pair(&mut owner, size, same);
        let mut other = a.tracker.owner();
        let mut now = LIVE + Duration::from_hours(1);
        talk(&mut a, &mut b, now);
        let mut times = Vec::new();
        for turn in 0..200 {
            for n in 0..50 {
                let key = key(10_000_000 + n);
                if turn % 2 == 0 {
                    other.track(&"room".into(), &key, Meta::from_encoded(META)).expect("it is new");
                } else {
                    other.untrack("room", &key);
                }
                let old = Key::from(format!("{:08}", touch.of(turn, n, size)));
                let meta = Meta::from_encoded(META);
                let owner = owner.as_mut().expect("the pair was made with one");
                owner.update(&"room".into(), &old, |_| Ok::<_, ()>(meta)).expect("it is tracked");
            }
            now += MOMENT;
            for message in a.say(now) {
                let message = ClusterMessage::decode(&message.encode()).expect("it was just encoded");
                let started = Instant::now();
                b.cluster.handle(now, message);
                times.push(started.elapsed());
            }
            b.messages();
        }
        times.sort();
        println!("{size:>10}: {:?} (median of {})", times[times.len() / 2], times.len());
    }
}

fn resync() {
    println!("a node that starts takes over 100,000 presences:");
    let mut a = Node::live("a", 1);
    let mut owner = a.tracker.owner();
    for n in 0..100_000 {
        owner.track(&"room".into(), &key(n), Meta::from_encoded(META)).expect("it is new");
    }
    // Another topic of the same shard: the worst place to be.
    let other = (0..10_000).map(|n| format!("other:{n}")).find(|topic| shard_of(topic) == shard_of("room"));
    let other = adsum_pubsub::Topic::from(other.expect("there are 64 shards"));
    for (name, size) in [("with a topic of all", 1), ("with topics of ten", 0)] {
        if size == 0 {
            drop(owner);
            owner = a.tracker.owner();
            for n in 0..100_000 {
                let topic = format!("room:{}", n / 10);
                owner.track(&topic.into(), &key(n), Meta::from_encoded(META)).expect("it is new");
            }
        }
        let mut b = Node::live("b", 2);
        let stop = AtomicBool::new(false);
        let trackers = [a.tracker.clone(), b.tracker.clone()];
        let (mut waits, mut longest, mut bytes) = ([Duration::ZERO; 2], Duration::ZERO, 0);
        let mut took = Duration::ZERO;
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let mut waits = [Duration::ZERO; 2];
                while !stop.load(Ordering::Relaxed) {
                    for (tracker, longest) in trackers.iter().zip(&mut waits) {
                        let started = Instant::now();
                        black_box(tracker.lock(&other).topic(&other).is_some());
                        *longest = started.elapsed().max(*longest);
                    }
                    std::thread::sleep(Duration::from_micros(50));
                }
                waits
            });
            let started = Instant::now();
            let mut now = LIVE + Duration::from_mins(1);
            while b.cluster.usage().rows < 100_000 || b.tracker.count("room") + b.tracker.count("room:1") == 0
            {
                let (slow, more) = talk(&mut a, &mut b, now);
                longest = longest.max(slow);
                bytes += more;
                now += MOMENT;
            }
            took = started.elapsed();
            stop.store(true, Ordering::Relaxed);
            waits = waiter.join().expect("it only waits");
        });
        println!(
            "  {name}: {took:?}, {} MB; a message {longest:?} at most; another topic of the shard waited {waits:?} at most, there and here",
            bytes / 1_000_000
        );
    }
}

fn wire() {
    println!("bytes on the wire, with a key of 8 bytes and a meta of {}:", META.len());
    for count in [1, 100] {
        let mut a = Node::live("a", 1);
        let mut owner = a.tracker.owner();
        let mut now = LIVE;
        let mut bytes_of = |a: &mut Node| {
            now += MOMENT;
            let bytes: usize = a.say(now).iter().map(|message| message.encode().len()).sum();
            bytes / count
        };
        for n in 0..count {
            owner.track(&"room".into(), &key(n), Meta::from_encoded(META)).expect("it is new");
        }
        let track = bytes_of(&mut a);
        for n in 0..count {
            owner.update(&"room".into(), &key(n), |meta| Ok::<_, ()>(meta.clone())).expect("it is tracked");
        }
        let update = bytes_of(&mut a);
        for n in 0..count {
            owner.untrack("room", &key(n));
        }
        let untrack = bytes_of(&mut a);
        println!("  {count} together: {track} for a track, {update} for an update, {untrack} for an untrack");
    }
}

/// The bytes that are kept beyond those before.
fn kept<T>(make: impl FnOnce() -> T) -> (i64, T) {
    let mut result = None;
    let bytes = allocation_counter::measure(|| result = Some(make())).bytes_current;
    (bytes, result.expect("it was just made"))
}

fn memory() {
    println!("memory for a presence, between 100,000 and 1,000,000 of them:");
    let one: fn(usize) -> String = same;
    let each: fn(usize) -> String = |n| format!("room:{n}");
    for (name, topic_of) in [("in one topic", one), ("in topics of one", each)] {
        let measure = |size: usize| {
            // The owner has a list of its own: what it has is counted with the node.
            let (own, (mut a, mut owners)) = kept(|| {
                let a = Node::live("a", 1);
                let owners: Vec<_> = (0..size)
                    .map(|n| {
                        let mut owner = a.tracker.owner();
                        let topic = topic_of(n).as_str().into();
                        owner.track(&topic, &key(n), Meta::from_encoded(META)).expect("it is new");
                        owner
                    })
                    .collect();
                let mut a = a;
                a.say(LIVE + MOMENT);
                (a, owners)
            });
            let (other, b) = kept(|| {
                let mut b = Node::live("b", 2);
                let mut now = LIVE + Duration::from_secs(1);
                while b.cluster.usage().rows < size {
                    talk(&mut a, &mut b, now);
                    now += MOMENT;
                }
                // The snapshots that a keeps for b expire.
                a.cluster.tick(now + Duration::from_mins(1));
                a.messages();
                b
            });
            owners.clear();
            drop(b);
            (own, other)
        };
        let (own_few, other_few) = measure(100_000);
        let (own_many, other_many) = measure(1_000_000);
        println!(
            "  {name}: {} bytes on its owner's node (with the owner), {} on another",
            (own_many - own_few) / 900_000,
            (other_many - other_few) / 900_000
        );
    }
}

fn main() {
    wire();
    memory();
    for touch in [Touch::Scattered, Touch::Same, Touch::Neighbours] {
        merge(touch);
    }
    resync();
}
