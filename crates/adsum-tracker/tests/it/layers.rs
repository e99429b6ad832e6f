//! What the layer above keeps beside a key goes with the key's leave, and stays with a key that comes back.

use std::sync::Arc;

use adsum_pubsub::Topic;
use adsum_tracker::{Key, KeyLayer, Layer, Limits, Replica, TopicLayer, Tracker, Windows};

use crate::{key, meta, topics_held};

struct Noting;

impl Layer for Noting {
    type Key = Note;
    type Topic = Kept;
}

/// A text, and the number of times that the key's rows have changed.
#[derive(Clone, Debug, Default, PartialEq)]
struct Note(&'static str, usize);

impl KeyLayer for Note {
    fn rows_changed(&mut self) {
        self.1 += 1;
    }
}

/// Whether the topic is to stay.
#[derive(Default)]
struct Kept(bool);

impl TopicLayer for Kept {
    fn is_idle(&self) -> bool {
        !self.0
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
fn it_hears_of_every_change_of_the_rows() {
    let (tracker, topic, user) = noting(Windows::Net);
    let (mut first, mut second) = (tracker.owner(), tracker.owner());
    first.track(&topic, &user, meta()).unwrap();
    second.track(&topic, &user, meta()).unwrap();
    second.track(&topic, &key("8"), meta()).unwrap();
    first.update(&topic, &user, |meta| Ok::<_, ()>(meta.clone())).unwrap();
    second.untrack(&topic, &user);
    assert_eq!(note(&tracker, &topic, &user), Note("", 4));
    assert_eq!(note(&tracker, &topic, "8"), Note("", 1));
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
    shard.entry(&topic).layer = Kept(true);
    shard.tidy(&topic);
    assert!(shard.topic(&topic).is_some());
    shard.entry(&topic).layer = Kept(false);
    shard.tidy(&topic);
    drop(shard);
    assert_eq!(topics_held(&tracker), 0);
}
