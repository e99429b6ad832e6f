//! The presence set: who is in a topic, kept as a pure state machine, and the owners whose end ends presences.
//!
//! A presence is one tracked thing: an owner, a topic and a key, with a small meta. This crate keeps presences
//! ([`Shard`], [`TopicSet`]), says what changed ([`Diff`]), and ends what an [`RawOwner`] tracked when the owner
//! is dropped. It knows nothing of channels or HTTP: the crate `adsum` builds its `Presence` upon it.
//!
//! ```
//! use adsum_tracker::{Bare, Key, Limits, Meta, Replica, Tracker, Windows};
//!
//! let tracker = Tracker::<Bare>::new(Replica::start("node-1"), Limits::default(), |_| Windows::Off, |_| {});
//! let mut owner = tracker.owner();
//! owner.track(&"room:1".into(), &Key::from("7"), Meta::from_encoded(r#"{"status":"here"}"#))?;
//! assert_eq!(tracker.count("room:1"), 1);
//!
//! drop(owner);
//! assert_eq!(tracker.count("room:1"), 0);
//! # Ok::<(), adsum_tracker::TrackError>(())
//! ```
//!
//! [`Shard`] and what is in it do no I/O and read no clock and no randomness: refs and metas come in as
//! arguments, changes go out as values. [`Tracker`] is the thin shell around it: locks, owners, refs.

mod cluster;
mod departing;
mod diff;
mod group;
mod groups;
mod limits;
mod locked;
mod log;
mod meta;
mod raw_owner;
mod reference;
mod replica;
mod shard;
mod topic_set;
mod topics;
mod tracker;
mod untold;
mod window;

#[cfg(feature = "simulation")]
#[doc(hidden)]
pub use self::locked::between_holds;
#[doc(inline)]
pub use self::{
    cluster::{
        Batch, RowChange, Cluster, ClusterOptions, DepartedSet, Effect, MAX_GRACE, MAX_STARTED, MAX_VERSION,
        ClusterMessage, MessageError, NodeInfo, NodeState, PROTOCOL, PresenceRow, Region, Report, Time, Usage,
        Versions,
    },
    diff::{Diff, JoinedRow, LeaveReason, LeftRow},
    group::{Group, Rows},
    limits::{Limits, MAX_KEY_BYTES, MAX_META_BYTES, MAX_TOPIC_BYTES, OverLimit},
    locked::{Locked, drop_unlocked},
    meta::{Key, Meta, Row},
    raw_owner::{RawOwner, OwnerId, TrackError, UpdateError},
    reference::Ref,
    replica::{Incarnation, Replica},
    shard::{SHARDS, Shard, WindowsOf, shard_of},
    topic_set::{Bare, KeyLayer, Layer, TopicLayer, TopicSet},
    tracker::{OwnerExit, Tracker},
    window::Windows,
};
