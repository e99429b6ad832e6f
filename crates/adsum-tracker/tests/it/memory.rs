//! Memory is freed when many presences have left.
//!
//! Bytes are counted for the measuring thread alone, so other tests don't disturb the figures.

use std::sync::Arc;

use adsum_tracker::{Bare, Key, RawOwner, Tracker, Windows};

use crate::{key, meta, topics_held, tracker};

const CROWD: usize = 100_000;

/// Returns how many more bytes are live after `churn` than before.
fn left_behind(churn: impl FnOnce()) -> i64 {
    allocation_counter::measure(churn).bytes_current
}

fn flush(tracker: &Tracker<Bare>, topic: &str) {
    let mut shard = tracker.lock(topic);
    let set = shard.topic_mut(topic).unwrap();
    set.take_diffs();
    set.told();
    shard.tidy(topic);
}

fn user(number: usize) -> Key {
    key(&format!("user-{number}"))
}

fn enter(tracker: &Arc<Tracker<Bare>>, topic: &str, user: &Key) -> RawOwner<Bare> {
    let mut owner = tracker.owner();
    owner.track(&topic.into(), user, meta()).unwrap();
    owner
}

#[test]
fn the_count_sees_what_is_kept() {
    let tracker = tracker(Windows::Net);
    let mut owner = None;
    assert!(left_behind(|| owner = Some(enter(&tracker, "room:1", &user(7)))) > 100);
}

#[test]
fn a_crowd_in_a_topic_that_lives_on() {
    let tracker = tracker(Windows::Net);
    let _stays = enter(&tracker, "room:1", &user(CROWD));
    flush(&tracker, "room:1");
    let bytes = left_behind(|| {
        let crowd: Vec<_> = (0..CROWD).map(|number| enter(&tracker, "room:1", &user(number))).collect();
        flush(&tracker, "room:1");
        assert_eq!(tracker.count("room:1"), CROWD + 1);
        drop(crowd);
        flush(&tracker, "room:1");
        assert_eq!(tracker.count("room:1"), 1);
    });
    assert!(bytes < 2048, "{bytes} bytes stay");
}

#[test]
fn one_after_the_other_in_a_topic_that_lives_on() {
    let tracker = tracker(Windows::Net);
    let _stays = enter(&tracker, "room:1", &user(CROWD));
    flush(&tracker, "room:1");
    let bytes = left_behind(|| {
        for number in 0..CROWD {
            drop(enter(&tracker, "room:1", &user(number)));
            if number % 50 == 0 {
                flush(&tracker, "room:1");
            }
        }
        flush(&tracker, "room:1");
    });
    assert!(bytes < 2048, "{bytes} bytes stay");
}

#[test]
fn many_of_one_key() {
    let tracker = tracker(Windows::Net);
    let _stays = enter(&tracker, "room:1", &user(7));
    flush(&tracker, "room:1");
    let bytes = left_behind(|| {
        let tabs: Vec<_> = (0..2000).map(|_| enter(&tracker, "room:1", &user(7))).collect();
        drop(tabs);
        flush(&tracker, "room:1");
    });
    assert!(bytes < 1024, "{bytes} bytes stay");
}

#[test]
fn a_crowd_of_topics() {
    let tracker = tracker(Windows::Net);
    let topics: Vec<_> = (0..CROWD).map(|number| format!("room:{number}")).collect();
    let bytes = left_behind(|| {
        let owners: Vec<_> = topics.iter().map(|topic| enter(&tracker, topic, &user(7))).collect();
        drop(owners);
        for topic in &topics {
            flush(&tracker, topic);
        }
        assert_eq!(topics_held(&tracker), 0);
    });
    // Each shard keeps a small table.
    assert!(bytes < 64 * 8 * 1024, "{bytes} bytes stay");
}

#[test]
fn a_crowd_of_topics_of_which_nobody_takes_diffs() {
    let tracker = tracker(Windows::Off);
    let bytes = left_behind(|| {
        for number in 0..CROWD {
            drop(enter(&tracker, &format!("room:{number}"), &user(7)));
        }
    });
    assert!(bytes < 64 * 8 * 1024, "{bytes} bytes stay");
}
