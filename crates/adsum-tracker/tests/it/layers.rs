//! The layer of a key goes with the key's leave, and comes back with the key.

use std::sync::Arc;

use adsum_pubsub::Topic;
use adsum_tracker::{Key, KeyLayer, Layer, Limits, Replica, TopicLayer, Tracker, Windows};

use crate::{key, meta, topics_held};

struct Noting;

impl Layer for Noting {
    type Key = Note;
    type Topic = Kept;
}

/// A text.
#[derive(Clone, Debug, Default, PartialEq)]
struct Note(&'static str);

impl KeyLayer for Note {}

/// Whether the topic is to stay, and the keys whose told rows changed.
#[derive(Default)]
struct Kept(bool, Vec<Key>);

impl TopicLayer for Kept {
    fn is_idle(&self) -> bool {
        !self.0
    }

    fn told_changed(&mut self, key: &Key) {
        self.1.push(key.clone());
    }
}

fn noting(windows: Windows) -> (Arc<Tracker<Noting>>, Topic, Key) {
    let limits = Limits::default();
    let tracker = Tracker::new(Replica::start("node"), limits, move |_| windows, |_| {});
    (tracker, "room:1".into(), key("7"))
}

fn note(tracker: &Tracker<Noting>, topic: &str, user: &str) -> Note {
    tracker.lock(topic).topic(topic).unwrap().group(user).unwrap().layer().clone()
}

fn write(tracker: &Tracker<Noting>, topic: &str, user: &str, text: &'static str) {
    tracker.lock(topic).topic_mut(topic).unwrap().group_mut(user).unwrap().layer_mut().0.0 = text;
}

#[test]
fn the_layer_hears_of_sent_diffs_and_without_diffs_of_every_change() {
    for windows in [Windows::Net, Windows::Each, Windows::Left, Windows::Off] {
        let (tracker, topic, user) = noting(windows);
        let (mut first, mut second) = (tracker.owner(), tracker.owner());
        first.track(&topic, &user, meta()).unwrap();
        second.track(&topic, &key("8"), meta()).unwrap();
        first.update(&topic, &user, |meta| Ok::<_, ()>(meta.clone())).unwrap();
        let mut shard = tracker.lock(&topic);
        let set = shard.topic_mut(&topic).unwrap();
        if matches!(windows, Windows::Left | Windows::Off) {
            assert_eq!(set.layer.1, [key("7"), key("8"), key("7")]);
            continue;
        }
        assert_eq!(set.take_diffs().len(), if windows == Windows::Net { 1 } else { 3 });
        assert!(set.layer.1.is_empty(), "taken isn't sent");
        set.told();
        assert_eq!(set.layer.1, [key("7"), key("8")]);
        set.told();
        assert_eq!(set.layer.1.len(), 2);
    }
}

#[test]
fn a_leave_carries_what_was_last_written() {
    for windows in [Windows::Net, Windows::Each] {
        let (tracker, topic, user) = noting(windows);
        let (mut first, mut second) = (tracker.owner(), tracker.owner());
        let take = || tracker.lock(&topic).topic_mut(&topic).unwrap().take_diffs();
        first.track(&topic, &user, meta()).unwrap();
        second.track(&topic, &user, meta()).unwrap();
        take();

        write(&tracker, &topic, &user, "both");
        first.untrack(&topic, &user);
        assert_eq!(take()[0].leaves[0].layer.0, "both");
        write(&tracker, &topic, &user, "second");
        second.untrack(&topic, &user);
        assert_eq!(take()[0].leaves[0].layer.0, "second");
    }
}

#[test]
fn a_key_that_comes_back_before_the_diff_finds_it_again() {
    let (tracker, topic, user) = noting(Windows::Net);
    let mut owner = tracker.owner();
    let take = || tracker.lock(&topic).topic_mut(&topic).unwrap().take_diffs();
    owner.track(&topic, &user, meta()).unwrap();
    take();

    write(&tracker, &topic, &user, "old");
    owner.untrack(&topic, &user);
    owner.track(&topic, &user, meta()).unwrap();
    assert_eq!(note(&tracker, &topic, &user).0, "old");
    write(&tracker, &topic, &user, "new");
    assert_eq!(take()[0].leaves[0].layer.0, "new");

    owner.untrack(&topic, &user);
    take();
    owner.track(&topic, &user, meta()).unwrap();
    assert_eq!(note(&tracker, &topic, &user).0, "", "the diff has told that it left");
}

#[test]
fn a_topic_stays_as_long_as_the_layer_wants() {
    let (tracker, topic, _) = noting(Windows::Net);
    let mut shard = tracker.lock(&topic);
    shard.entry(&topic).layer = Kept(true, Vec::new());
    shard.tidy(&topic);
    assert!(shard.topic(&topic).is_some());
    shard.entry(&topic).layer = Kept(false, Vec::new());
    shard.tidy(&topic);
    drop(shard);
    assert_eq!(topics_held(&tracker), 0);
}
