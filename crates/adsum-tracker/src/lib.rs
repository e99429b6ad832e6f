//! The replicated presence set, kept as a pure state machine, and the owners of presences.
//!
//! A presence is one tracked thing: an owner, a topic and a key, with a small meta. This crate keeps presences
//! ([`Shard`], [`TopicSet`]), returns what changed ([`Diff`]), and ends the presences of a [`RawOwner`] when it is
//! dropped. It knows nothing of channels or HTTP: the crate `adsum` builds its `Presence` on it.
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
//! # Ok::<(), adsum_tracker::RawTrackError>(())
//! ```
//!
//! [`Shard`] and its parts do no I/O and read no clock and no randomness: refs and metas come in as arguments, changes
//! go out as values. [`Tracker`] is the thin shell around them: locks, owners, refs. [`Cluster`] keeps nodes in step,
//! as a state machine of the same kind.

mod cluster;
mod counts;
mod departing;
mod diff;
mod group;
mod groups;
mod layer;
mod leave_reason;
mod limits;
mod locked;
mod log;
mod meta;
mod raw_owner;
mod reference;
mod replica;
mod row;
mod shard;
mod sharding;
mod time;
mod topic_change;
mod topic_set;
mod topics;
mod tracker;
mod untold;
mod window;
mod wire;

#[cfg(feature = "simulation")]
#[doc(hidden)]
pub use self::locked::between_holds;
#[doc(inline)]
pub use self::{
    cluster::{
        Cluster, ClusterOptions, Effect, HeldPresence, NodeInfo, NodeState, PresenceOrigin, Report, Usage,
    },
    counts::{ClusterCounts, Counts, LimitCounts},
    diff::{Diff, JoinedRow, LeftRow},
    group::{Group, Rows},
    layer::{Bare, KeyLayer, Layer, TopicLayer},
    leave_reason::LeaveReason,
    limits::{Limits, MAX_KEY_BYTES, MAX_META_BYTES, MAX_TOPIC_BYTES, OverLimit},
    locked::{Locked, drop_unlocked},
    meta::{Key, Meta},
    raw_owner::{RawOwner, RawTrackError, RawUpdateError},
    reference::Ref,
    replica::{Incarnation, Region, Replica},
    row::{OwnerId, Row},
    shard::{Shard, WindowsOf},
    sharding::{SHARDS, shard_of},
    time::Time,
    topic_set::TopicSet,
    tracker::{OwnerExit, Tracker},
    window::Windows,
    wire::{
        Batch, ClusterMessage, DepartedSet, MAX_GRACE, MAX_STARTED, MAX_VERSION, MessageError, PROTOCOL,
        PresenceRow, RowChange, Versions,
    },
};
