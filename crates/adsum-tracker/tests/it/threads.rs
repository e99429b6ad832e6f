//! Owners on several threads in the same topics.

use std::{
    collections::BTreeSet,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use adsum_tracker::{Meta, RawOwner, Windows};

use crate::{
    key, meta, tracker,
    world::{START, World},
};

const THREADS: usize = 4;
const ROUNDS: usize = 500;

#[test]
fn the_list_is_right_after_a_crowd_of_threads() {
    let tracker = tracker(Windows::Net);
    let start = Barrier::new(THREADS);
    let kept: Vec<(RawOwner<_>, String)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (tracker, start) = (&tracker, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut kept = Vec::new();
                    for round in 0..ROUNDS {
                        let topic = format!("room:{}", round % 3).into();
                        let user = key(&format!("user-{}", round % 7));
                        let mut owner = tracker.owner();
                        owner.track(&topic, &user, meta()).unwrap();
                        let text = format!(r#"{{"by":"{thread}-{round}"}}"#);
                        let new = Meta::from_encoded(text.as_str());
                        owner.update(&topic, &user, |_| Ok::<_, ()>(new)).unwrap();
                        if round % 5 == 0 {
                            owner.untrack(&topic, &user);
                        } else if round % 2 == 0 {
                            kept.push((owner, text));
                        }
                    }
                    kept
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });

    let expected: BTreeSet<&str> = kept.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        expected.len(),
        THREADS * (0..ROUNDS).filter(|round| round % 5 != 0 && round % 2 == 0).count()
    );
    let rows: Vec<_> =
        (0..3).flat_map(|room| tracker.list(&format!("room:{room}"))).flat_map(|(_, rows)| rows).collect();
    let listed: BTreeSet<&str> = rows.iter().map(|row| row.meta.as_str()).collect();
    assert_eq!(listed, expected);
    assert_eq!(rows.len(), expected.len());
    let refs: BTreeSet<_> = rows.iter().map(|row| row.reference).collect();
    assert_eq!(refs.len(), rows.len());

    // Other threads than those that tracked them end them, all at once.
    let mut shares: Vec<Vec<_>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (index, owner) in kept.into_iter().map(|(owner, _)| owner).enumerate() {
        shares[index % THREADS].push(owner);
    }
    thread::scope(|scope| {
        for share in shares {
            scope.spawn(move || drop(share));
        }
    });
    for room in 0..3 {
        let topic = format!("room:{room}");
        assert_eq!(tracker.count(&topic), 0);
        let mut shard = tracker.lock(&topic);
        let diffs = shard.topic_mut(&topic).unwrap().take_diffs();
        assert!(diffs.is_empty(), "nobody was shown anything");
        shard.tidy(&topic);
    }
    assert_eq!(crate::topics_held(&tracker), 0);
}

#[test]
fn a_node_that_starts_while_the_others_change_arrives_at_what_they_have() {
    let (mut world, [a]) = World::of(["a"]);
    // More than the log keeps, so that the rest is a snapshot, and more than one slice of it.
    let topic = adsum_pubsub::Topic::from("room");
    let mut crowd = world.owner(a);
    for n in 0..5000 {
        crowd.track(&topic, &key(&format!("{n:04}")), Meta::from_encoded("{\"n\":\"many enough\"}")).unwrap();
    }
    world.pass(Duration::from_millis(50));
    let tracker = world.node(a).tracker.clone();
    let stop = AtomicBool::new(false);
    let rounds = AtomicUsize::new(0);
    let others: Vec<usize> = thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                // Some are in the topic already, before and after where the snapshot is being read.
                let user = key(&format!("{:04}", round * 7919 % 6000));
                let mut owner = tracker.owner();
                owner.track(&topic, &user, meta()).unwrap();
                crowd.untrack(&topic, &user);
                if round % 3 == 0 {
                    crowd.track(&topic, &user, meta()).unwrap();
                }
                round += 1;
                rounds.store(round, Ordering::Relaxed);
            }
        });
        while rounds.load(Ordering::Relaxed) < 100 {
            thread::yield_now();
        }
        let others = (2..10).map(|n| {
            let other = world.start(&n.to_string(), n);
            // Longer than a snapshot is kept, so that each node gets a new one.
            world.pass(4 * START);
            other
        });
        let others = others.collect();
        stop.store(true, Ordering::Relaxed);
        others
    });
    world.pass(2 * START);
    let refs = |node: usize| -> BTreeSet<_> {
        let list = world.node(node).tracker.list("room");
        list.into_iter().flat_map(|(_, rows)| rows).map(|row| row.reference).collect()
    };
    assert!(refs(a).len() > 1000);
    for other in others {
        assert_eq!(refs(a), refs(other));
    }
}
