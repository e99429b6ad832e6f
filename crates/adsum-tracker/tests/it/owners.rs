//! The presences of an owner end, however it ends.

use std::{future::pending, panic, sync::Arc};

use adsum_pubsub::Topic;
use adsum_tracker::{
    Bare, LeaveReason, Limits, OwnerExit, RawOwner, RawTrackError, RawUpdateError, Replica, TopicSet,
    Tracker, Windows,
};
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::{runtime, sync::oneshot};

use crate::{key, meta, tracker};

type Told = Arc<Mutex<Vec<Topic>>>;

/// Makes a tracker, and the list of topics that ends of owners reported.
fn watched() -> (Arc<Tracker<Bare>>, Told) {
    let told = Told::default();
    let tell = told.clone();
    let owner_dropped = move |topic: &Topic| tell.lock().push(topic.clone());
    (Tracker::new(Replica::start("node"), Limits::default(), |_| Windows::Net, owner_dropped), told)
}

/// Makes an owner in two topics, twice in the first.
fn owner_in_two_topics(tracker: &Arc<Tracker<Bare>>) -> RawOwner<Bare> {
    let mut owner = tracker.owner();
    for (topic, user) in [("room:1", "7"), ("room:2", "7"), ("room:1", "8")] {
        owner.track(&topic.into(), &key(user), meta()).unwrap();
    }
    assert_eq!((tracker.count("room:1"), tracker.count("room:2")), (2, 1));
    owner
}

/// Checks that there are no presences, each topic was reported once, and nothing is kept after diffs and tidying.
fn assert_ended(tracker: &Tracker<Bare>, told: &Told) {
    assert_eq!((tracker.count("room:1"), tracker.count("room:2")), (0, 0));
    let mut told = std::mem::take(&mut *told.lock());
    told.sort();
    assert_eq!(told, ["room:1".into(), "room:2".into()]);
    for topic in told {
        let mut shard = tracker.lock(&topic);
        shard.topic_mut(&topic).unwrap().take_diffs();
        shard.tidy(&topic);
    }
    assert_eq!(crate::topics_held(tracker), 0);
}

#[test]
fn dropped() {
    let (tracker, told) = watched();
    drop(owner_in_two_topics(&tracker));
    assert_ended(&tracker, &told);
}

#[test]
fn unwound_by_a_panic() {
    let (tracker, told) = watched();
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let _owner = owner_in_two_topics(&tracker);
        panic::resume_unwind(Box::new("as a bug would"));
    }));
    assert!(result.is_err());
    assert_ended(&tracker, &told);
}

#[tokio::test]
async fn in_a_task_that_panics() {
    let (tracker, told) = watched();
    let owner = owner_in_two_topics(&tracker);
    let task = tokio::spawn(async move {
        let _owner = owner;
        panic::resume_unwind(Box::new("as a bug would"));
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_ended(&tracker, &told);
}

#[tokio::test]
async fn in_a_task_that_is_aborted() {
    let (tracker, told) = watched();
    let (started, has_started) = oneshot::channel();
    let task = tokio::spawn({
        let tracker = tracker.clone();
        async move {
            let _owner = owner_in_two_topics(&tracker);
            started.send(()).unwrap();
            pending::<()>().await;
        }
    });
    has_started.await.unwrap();
    assert_eq!(tracker.count("room:1"), 2);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_ended(&tracker, &told);
}

#[test]
fn in_a_task_that_was_aborted_before_it_ran() {
    let (tracker, told) = watched();
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    let owner = owner_in_two_topics(&tracker);
    let task = runtime.spawn(async move {
        let _owner = owner;
        pending::<()>().await;
    });
    task.abort();
    assert!(runtime.block_on(task).unwrap_err().is_cancelled());
    assert_ended(&tracker, &told);
}

#[test]
fn with_their_runtime() {
    for workers in [None, Some(2)] {
        let (tracker, told) = watched();
        let runtime = match workers {
            None => runtime::Builder::new_current_thread().build(),
            Some(workers) => runtime::Builder::new_multi_thread().worker_threads(workers).build(),
        }
        .unwrap();
        let owners: Vec<_> = (0..10)
            .map(|_| {
                let mut owner = tracker.owner();
                owner.track(&"room:1".into(), &key("7"), meta()).unwrap();
                let (started, has_started) = oneshot::channel();
                runtime.spawn(async move {
                    let _owner = owner;
                    started.send(()).unwrap();
                    pending::<()>().await;
                });
                has_started
            })
            .collect();
        for has_started in owners {
            runtime.block_on(has_started).unwrap();
        }
        assert_eq!(tracker.count("room:1"), 10);
        drop(runtime);
        assert_eq!(tracker.count("room:1"), 0);
        assert_eq!(*told.lock(), vec!["room:1".into(); 10]);
    }
}

#[test]
fn one_without_presences_tells_nothing() {
    let (tracker, told) = watched();
    drop(tracker.owner());
    let mut owner = owner_in_two_topics(&tracker);
    assert_eq!(owner.end(OwnerExit::Leave(LeaveReason::Left)), ["room:1".into(), "room:2".into()]);
    assert_eq!(owner.presences(), []);
    drop(owner);
    assert!(told.lock().is_empty());
    assert_eq!(tracker.count("room:1"), 0);
}

#[test]
fn ends_as_one_change_of_a_topic() {
    let tracker = tracker(Windows::Each);
    let owner = owner_in_two_topics(&tracker);
    let take = |topic: &str| tracker.lock(topic).topic_mut(topic).unwrap().take_diffs();
    assert_eq!(take("room:1").len(), 2);
    drop(owner);
    let diffs = take("room:1");
    assert_eq!(diffs.len(), 1);
    assert_eq!(diffs[0].leaves.len(), 2);
    assert!(diffs[0].leaves.iter().all(|left| left.reason == Some(LeaveReason::Gone)));
}

#[test]
fn the_same_twice_is_refused_by_name() {
    let (tracker, _) = watched();
    let mut owner = tracker.owner();
    let (topic, user) = ("room:1".into(), key("7"));
    let first = owner.track(&topic, &user, meta()).unwrap();
    let error = owner.track(&topic, &user, meta()).unwrap_err();
    let said = format!(
        "already tracked: {} is in topic \"room:1\" under key \"7\"; update it, or untrack it first",
        owner.id()
    );
    assert_eq!(error.to_string(), said);
    assert_eq!(
        error,
        RawTrackError::AlreadyTracked { owner: owner.id(), topic: topic.clone(), key: user.clone() }
    );
    assert_eq!(owner.presences().len(), 1);
    assert_eq!(tracker.get_by_key(&topic, &user)[0].reference, first);

    let mut other = tracker.owner();
    other.track(&topic, &user, meta()).expect("another owner may have the same key");
    assert_eq!(tracker.count(&topic), 2);
    drop(other);
    assert_eq!(tracker.get_by_key(&topic, &user)[0].reference, first);

    owner.untrack(&topic, &user);
    owner.track(&topic, &user, meta()).expect("it was untracked");
}

#[test]
fn an_update_of_an_absent_presence_is_refused_by_name() {
    let (tracker, _) = watched();
    let mut owner = tracker.owner();
    let mut other = tracker.owner();
    let (topic, user) = ("room:1".into(), key("7"));
    other.track(&topic, &user, meta()).unwrap();
    for user in [&user, &key("8")] {
        let error = owner.update(&topic, user, |meta| Ok::<_, RawTrackError>(meta.clone())).unwrap_err();
        let said = format!(
            "not tracked: {} isn't in topic \"room:1\" under key \"{user}\"; track it first",
            owner.id()
        );
        assert_eq!(error.to_string(), said);
    }
    let error = owner.update(&"room:2".into(), &user, |meta| Ok::<_, ()>(meta.clone())).unwrap_err();
    assert!(matches!(error, RawUpdateError::NotTracked { topic, .. } if &*topic == "room:2"));
    assert_eq!(crate::topics_held(&tracker), 1);
}

#[test]
fn an_update_that_fails_changes_nothing() {
    let (tracker, _) = watched();
    let mut owner = tracker.owner();
    let (topic, user) = ("room:1".into(), key("7"));
    let first = owner.track(&topic, &user, meta()).unwrap();
    assert_eq!(owner.update(&topic, &user, |_| Err("no")).unwrap_err(), RawUpdateError::Change("no"));
    let update = panic::AssertUnwindSafe(|| {
        owner.update(&topic, &user, |_| -> Result<_, ()> { panic::resume_unwind(Box::new("as a bug would")) })
    });
    assert!(panic::catch_unwind(update).is_err());
    assert_eq!(tracker.get_by_key(&topic, &user)[0].reference, first);
    owner.update(&topic, &user, |meta| Ok::<_, ()>(meta.clone())).expect("the presence is still there");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The topics that the ends of owners report suffice to leave nothing behind, in whatever order they come.
    #[test]
    fn no_order_of_ends_leaves_something_behind(
        tracked in prop::collection::vec((0_usize..6, 0_usize..5, 0_usize..3), 0..60),
        order in Just((0_usize..6).collect::<Vec<_>>()).prop_shuffle(),
        flushed in prop::collection::vec(any::<bool>(), 6),
    ) {
        let (tracker, told) = watched();
        let flush = |topic: &str| {
            let mut shard = tracker.lock(topic);
            shard.topic_mut(topic).map(TopicSet::take_diffs);
            shard.tidy(topic);
        };
        let mut owners: Vec<_> = (0..6).map(|_| Some(tracker.owner())).collect();
        for (owner, topic, user) in tracked {
            let topic = format!("room:{topic}").into();
            // The same key may be drawn twice. Another test checks that it is refused.
            let _ = owners[owner].as_mut().unwrap().track(&topic, &key(&user.to_string()), meta());
        }
        for (owner, flushed) in order.into_iter().zip(flushed) {
            let held: std::collections::BTreeSet<_> =
                owners[owner].as_ref().unwrap().presences().iter().map(|(topic, _)| topic.clone()).collect();
            let before = told.lock().len();
            owners[owner] = None;
            prop_assert_eq!(told.lock()[before..].to_vec(), held.into_iter().collect::<Vec<_>>());
            if flushed {
                told.lock().drain(..).for_each(|topic| flush(&topic));
            }
        }
        told.lock().drain(..).for_each(|topic| flush(&topic));
        prop_assert_eq!(crate::topics_held(&tracker), 0);
    }
}
