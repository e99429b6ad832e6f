//! The presences that the set shows, and the contents of its diffs.

use adsum_pubsub::Topic;
use adsum_tracker::{Bare, Diff, Key, LeaveReason, Meta, RawOwner, Ref, TopicSet, Tracker, Windows};

use crate::{key, meta, tracker};

fn refs(tracker: &Tracker<Bare>, topic: &str, key: &str) -> Vec<Ref> {
    tracker.get_by_key(topic, key).iter().map(|row| row.reference).collect()
}

fn take(tracker: &Tracker<Bare>, topic: &str) -> Vec<Diff<Bare>> {
    tracker.lock(topic).topic_mut(topic).map_or_else(Vec::new, TopicSet::take_diffs)
}

fn joins(diff: &Diff<Bare>) -> Vec<Ref> {
    diff.joins.iter().map(|joined| joined.reference).collect()
}

fn leaves(diff: &Diff<Bare>) -> Vec<(Ref, Option<LeaveReason>)> {
    diff.leaves.iter().map(|left| (left.row.reference, left.reason)).collect()
}

fn update(owner: &mut RawOwner<Bare>, topic: &Topic, key: &Key) -> Ref {
    owner.update(topic, key, |_| Ok::<_, ()>(meta())).unwrap()
}

fn room() -> (Topic, Key) {
    ("room:1".into(), key("7"))
}

#[test]
fn an_update_moves_its_meta_to_the_end_and_names_the_version_before() {
    let tracker = tracker(Windows::Net);
    let (topic, user) = room();
    let (mut first, mut second, mut third) = (tracker.owner(), tracker.owner(), tracker.owner());
    let r1 = first.track(&topic, &user, meta()).unwrap();
    let r2 = second.track(&topic, &user, meta()).unwrap();
    let r3 = third.track(&topic, &user, meta()).unwrap();
    assert_eq!(refs(&tracker, &topic, &user), [r1, r2, r3]);

    let r4 = first.update(&topic, &user, |_| Ok::<_, ()>(Meta::from_encoded(r#"{"n":1}"#))).unwrap();
    assert_eq!(refs(&tracker, &topic, &user), [r2, r3, r4]);
    let r5 = update(&mut second, &topic, &user);
    let r6 = first
        .update(&topic, &user, |old| {
            assert_eq!(old.as_str(), r#"{"n":1}"#);
            Ok::<_, ()>(Meta::from_encoded(r#"{"n":2}"#))
        })
        .unwrap();
    assert_eq!(refs(&tracker, &topic, &user), [r3, r5, r6]);

    let rows = tracker.get_by_key(&topic, &user);
    assert_eq!(rows.iter().map(|row| row.previous()).collect::<Vec<_>>(), [None, Some(r2), Some(r4)]);
    assert_eq!(rows.iter().map(|row| row.owner).collect::<Vec<_>>(), [third.id(), second.id(), first.id()]);
    assert_eq!(rows[2].meta.as_str(), r#"{"n":2}"#);
    assert!([r1, r2, r3, r4, r5, r6].is_sorted());
}

#[test]
fn topics_and_keys_are_apart() {
    let tracker = tracker(Windows::Net);
    let mut owner = tracker.owner();
    let mut other = tracker.owner();
    for user in ["7", "8"] {
        owner.track(&"room:1".into(), &key(user), meta()).unwrap();
        owner.track(&"room:2".into(), &key(user), meta()).unwrap();
    }
    other.track(&"room:1".into(), &key("7"), meta()).unwrap();

    assert_eq!((tracker.count("room:1"), tracker.key_count("room:1")), (3, 2));
    assert_eq!((tracker.count("room:2"), tracker.key_count("room:2")), (2, 2));
    assert_eq!((tracker.count("room:3"), tracker.key_count("room:3")), (0, 0));
    let mut listed: Vec<_> =
        tracker.list("room:1").into_iter().map(|(key, rows)| (key.to_string(), rows.len())).collect();
    listed.sort();
    assert_eq!(listed, [("7".to_owned(), 2), ("8".to_owned(), 1)]);
    assert_eq!(tracker.list("room:3").len(), 0);
    assert_eq!(tracker.get_by_key("room:1", "9").len(), 0);
    assert_eq!(tracker.get_by_key("room:3", "7").len(), 0);

    assert!(owner.untrack("room:1", "7"));
    assert!(!owner.untrack("room:1", "7"));
    assert_eq!((tracker.count("room:1"), tracker.count("room:2")), (2, 2));
}

#[test]
fn versions_that_nobody_saw_are_left_out() {
    let tracker = tracker(Windows::Net);
    let (topic, user) = room();
    let mut owner = tracker.owner();
    let r1 = owner.track(&topic, &user, meta()).unwrap();
    assert_eq!(joins(&take(&tracker, &topic)[0]), [r1]);

    let r2 = update(&mut owner, &topic, &user);
    let r3 = update(&mut owner, &topic, &user);
    let diffs = take(&tracker, &topic);
    assert_eq!(diffs.len(), 1);
    assert_eq!(joins(&diffs[0]), [r3]);
    assert_eq!(diffs[0].joins[0].previous, Some(r1), "that is the one that leaves");
    assert_eq!(diffs[0].joins[0].row.previous(), Some(r2));
    assert_eq!(leaves(&diffs[0]), [(r1, None)]);
}

#[test]
fn a_version_that_a_state_showed_leaves() {
    let tracker = tracker(Windows::Net);
    let (topic, user) = room();
    let mut owner = tracker.owner();
    let r1 = owner.track(&topic, &user, meta()).unwrap();
    take(&tracker, &topic);

    let r2 = update(&mut owner, &topic, &user);
    tracker.lock(&topic).topic_mut(&topic).unwrap().mark_shown();
    let r3 = update(&mut owner, &topic, &user);
    let diffs = take(&tracker, &topic);
    assert_eq!(joins(&diffs[0]), [r3]);
    assert_eq!(leaves(&diffs[0]), [(r1, None), (r2, None)]);
}

#[test]
fn a_row_that_came_and_went_unseen_is_in_no_diff() {
    let tracker = tracker(Windows::Net);
    let (topic, user) = room();
    let mut owner = tracker.owner();
    owner.track(&topic, &user, meta()).unwrap();
    update(&mut owner, &topic, &user);
    owner.untrack(&topic, &user);
    assert!(take(&tracker, &topic).is_empty());
}

#[test]
fn a_presence_that_ends_after_an_unseen_update_says_why() {
    let tracker = tracker(Windows::Net);
    let (topic, user) = room();
    let mut owner = tracker.owner();
    let r1 = owner.track(&topic, &user, meta()).unwrap();
    take(&tracker, &topic);

    update(&mut owner, &topic, &user);
    update(&mut owner, &topic, &user);
    drop(owner);
    let diffs = take(&tracker, &topic);
    assert!(diffs[0].joins.is_empty());
    assert_eq!(leaves(&diffs[0]), [(r1, Some(LeaveReason::Gone))]);
}

#[test]
fn each_change_is_a_diff_if_configured() {
    let tracker = tracker(Windows::Each);
    let (topic, user) = room();
    let mut owner = tracker.owner();
    let r1 = owner.track(&topic, &user, meta()).unwrap();
    let r2 = update(&mut owner, &topic, &user);
    let r3 = owner.track(&topic, &key("8"), meta()).unwrap();
    drop(owner);
    let diffs = take(&tracker, &topic);
    assert_eq!(diffs.iter().map(joins).collect::<Vec<_>>(), [vec![r1], vec![r2], vec![r3], vec![]]);
    let gone = Some(LeaveReason::Gone);
    assert_eq!(diffs[1].leaves[0].reason, None);
    assert_eq!(leaves(&diffs[3]), [(r2, gone), (r3, gone)]);
}

#[test]
fn the_rows_that_join_again_keep_their_order() {
    let tracker = tracker(Windows::Net);
    let (topic, user) = room();
    let (mut first, mut second) = (tracker.owner(), tracker.owner());
    let r1 = first.track(&topic, &user, meta()).unwrap();
    take(&tracker, &topic);

    let r2 = second.track(&topic, &user, meta()).unwrap();
    tracker.lock(&topic).topic_mut(&topic).unwrap().join_again(&user);
    let diffs = take(&tracker, &topic);
    assert_eq!(joins(&diffs[0]), [r1, r2]);
}

#[test]
fn rows_that_join_again_wait_for_a_diff_of_their_own() {
    for windows in [Windows::Net, Windows::Each] {
        let tracker = tracker(windows);
        let (topic, user) = room();
        let mut owner = tracker.owner();
        let r1 = owner.track(&topic, &user, meta()).unwrap();
        take(&tracker, &topic);
        let mut shard = tracker.lock(&topic);
        let set = shard.topic_mut(&topic).unwrap();
        set.join_again("8");
        assert!(!set.has_changes(), "nobody is there under that key");
        set.join_again(&user);
        assert!(set.has_changes());
        let diffs = set.take_diffs();
        assert_eq!(diffs.iter().map(joins).collect::<Vec<_>>(), [[r1]]);
        assert!(diffs[0].leaves.is_empty());
        assert!(!set.has_changes());
    }
}

#[test]
fn leaves_alone_wait_to_be_taken_where_nothing_else_is_noted() {
    let tracker = tracker(Windows::Left);
    let (topic, user) = room();
    let mut owner = tracker.owner();
    owner.track(&topic, &user, meta()).unwrap();
    update(&mut owner, &topic, &user);
    assert!(!tracker.lock(&topic).topic(&topic).unwrap().has_changes(), "an update is no leave");
    owner.untrack(&topic, &user);
    owner.track(&topic, &user, meta()).unwrap();
    drop(owner);
    assert!(take(&tracker, &topic).is_empty(), "there are no diffs");
    let mut shard = tracker.lock(&topic);
    let set = shard.topic_mut(&topic).unwrap();
    assert!(set.has_changes());
    let left = set.take_left();
    let reasons: Vec<_> = left.iter().map(|(row, reason)| (row.key.clone(), *reason)).collect();
    assert_eq!(reasons, [(user.clone(), LeaveReason::Left), (user, LeaveReason::Gone)]);
    assert!(!set.has_changes() && set.take_left().is_empty());
    shard.tidy(&topic);
    drop(shard);
    assert_eq!(crate::topics_held(&tracker), 0);
}

#[test]
fn without_diffs_nothing_waits() {
    let tracker = tracker(Windows::Off);
    let (topic, user) = room();
    let mut owner = tracker.owner();
    owner.track(&topic, &user, meta()).unwrap();
    update(&mut owner, &topic, &user);
    assert!(!tracker.lock(&topic).topic(&topic).unwrap().has_changes());
    assert!(take(&tracker, &topic).is_empty());
    drop(owner);
    assert_eq!(crate::topics_held(&tracker), 0);
}
