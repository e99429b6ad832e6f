//! A presence at a limit is taken, and one above it is refused by name and changes nothing.

use std::{sync::Arc, time::Duration};

use adsum_tracker::{
    Bare, LeaveReason, Limits, MAX_KEY_BYTES, MAX_META_BYTES, MAX_TOPIC_BYTES, Meta, OverLimit, OwnerExit,
    RawTrackError, RawUpdateError, Replica, Tracker, Windows,
};

use crate::{key, meta};

fn limited() -> Arc<Tracker<Bare>> {
    let limits = Limits::default().topic_bytes(8).key_bytes(4).meta_bytes(16).presences_per_owner(2);
    Tracker::new(Replica::start("node"), limits, |_| Windows::Net, |_| {})
}

fn over(error: RawTrackError) -> OverLimit {
    match error {
        RawTrackError::OverLimit(over) => over,
        other @ RawTrackError::AlreadyTracked { .. } => panic!("{other}"),
    }
}

/// Returns a JSON object of this many bytes.
fn meta_of(bytes: usize) -> Meta {
    Meta::from_encoded(format!("{{{}}}", " ".repeat(bytes - 2)))
}

#[test]
fn a_topic_s_name() {
    let tracker = limited();
    let mut owner = tracker.owner();
    owner.track(&"12345678".into(), &key("7"), meta()).unwrap();
    let error = owner.track(&"123456789".into(), &key("7"), meta()).unwrap_err();
    assert_eq!(
        over(error).to_string(),
        "the topic's name is 9 bytes, and the limit is 8; see `Limits::topic_bytes`"
    );
    assert_eq!(crate::topics_held(&tracker), 1);
}

#[test]
fn a_key() {
    let tracker = limited();
    let mut owner = tracker.owner();
    // Two characters, four bytes.
    owner.track(&"room".into(), &key("éé"), meta()).unwrap();
    let error = owner.track(&"room".into(), &key("ééa"), meta()).unwrap_err();
    assert_eq!(over(error).to_string(), "the key is 5 bytes, and the limit is 4; see `Limits::key_bytes`");
    assert_eq!(tracker.count("room"), 1);
}

#[test]
fn a_meta_when_tracked_and_when_updated() {
    let tracker = limited();
    let mut owner = tracker.owner();
    let (topic, user) = ("room".into(), key("7"));
    let error = owner.track(&topic, &user, meta_of(17)).unwrap_err();
    let said = "the meta is 17 bytes of JSON, and the limit is 16; see `Limits::meta_bytes`";
    assert_eq!(over(error).to_string(), said);
    assert_eq!(owner.presences(), []);
    owner.track(&topic, &user, meta_of(16)).unwrap();

    let kept = owner.update(&topic, &user, |_| Ok::<_, ()>(meta_of(16))).unwrap();
    let error = owner.update(&topic, &user, |_| Ok::<_, ()>(meta_of(17))).unwrap_err();
    assert!(matches!(error, RawUpdateError::OverLimit(over) if over.to_string() == said));
    assert_eq!(tracker.get_by_key(&topic, &user)[0].reference, kept);
}

#[test]
fn presences_of_an_owner() {
    let tracker = limited();
    let mut owner = tracker.owner();
    owner.track(&"room".into(), &key("7"), meta()).unwrap();
    owner.track(&"room".into(), &key("8"), meta()).unwrap();
    let error = owner.track(&"hall".into(), &key("7"), meta()).unwrap_err();
    let said = "the owner's total is 3 presences, and the limit is 2; see `Limits::presences_per_owner`";
    assert_eq!(over(error).to_string(), said);
    assert_eq!(tracker.count("hall"), 0);

    tracker.owner().track(&"hall".into(), &key("7"), meta()).expect("another owner has its own");
    assert!(owner.untrack("room", "7"));
    owner.track(&"hall".into(), &key("7"), meta()).expect("what was untracked counts no more");
}

#[test]
fn presences_of_a_key() {
    let limits = Limits::default().presences_per_key(2);
    let tracker = Tracker::<Bare>::new(Replica::start("node"), limits, |_| Windows::Net, |_| {});
    let track = || {
        let mut owner = tracker.owner();
        owner.track(&"room".into(), &key("guest"), meta()).map(|_| owner)
    };
    let (mut first, _second) = (track().unwrap(), track().unwrap());
    let said =
        "the key's total in the topic is 3 presences, and the limit is 2; see `Limits::presences_per_key`";
    assert_eq!(over(track().unwrap_err()).to_string(), said);
    assert!(matches!(
        first.track(&"room".into(), &key("guest"), meta()),
        Err(RawTrackError::AlreadyTracked { .. })
    ));
    first.update(&"room".into(), &key("guest"), |_| Ok::<_, ()>(meta())).expect("an update adds none");
    first.track(&"hall".into(), &key("guest"), meta()).expect("another topic has its own");
    first.track(&"room".into(), &key("8"), meta()).expect("and so has another key");

    // A presence that is about to leave makes room for another.
    first.end(OwnerExit::Depart(LeaveReason::Gone, Duration::from_secs(10)));
    let _third = track().unwrap();
    assert!(track().is_err());
    assert_eq!(tracker.get_by_key("room", "guest").len(), 2);
}

#[test]
fn limits_are_held_against_what_a_message_carries() {
    let default = Limits::default;
    assert_eq!((default().check(true), default().check(false)), (Ok(()), Ok(())));
    let largest = default().topic_bytes(MAX_TOPIC_BYTES).key_bytes(MAX_KEY_BYTES).meta_bytes(MAX_META_BYTES);
    assert_eq!(largest.check(true), Ok(()));
    for (limits, option) in [
        (default().topic_bytes(MAX_TOPIC_BYTES + 1), "Limits::topic_bytes"),
        (default().key_bytes(MAX_KEY_BYTES + 1), "Limits::key_bytes"),
        (default().meta_bytes(MAX_META_BYTES + 1), "Limits::meta_bytes"),
    ] {
        let error = limits.check(true).unwrap_err();
        assert_eq!(error.option(), option);
        assert!(error.to_string().contains("must be between"), "{error}");
        assert_eq!(limits.check(false), Ok(()), "a node by itself may have more");
    }
    for limits in [
        default().presences_per_key(0),
        default().presences_per_owner(usize::MAX),
        default().meta_bytes(usize::MAX),
    ] {
        assert!(limits.check(false).is_err());
    }
}
