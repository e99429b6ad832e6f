//! The presence set, by its public API.

// For helpers outside test functions.
#![allow(clippy::unwrap_used)]

mod client;
mod cluster;
mod departing;
mod extremes;
mod folding;
mod history;
mod incidents;
mod layers;
mod limits;
mod linear;
mod memory;
mod nodes;
mod owners;
mod reasons;
mod regions;
mod runs;
mod set;
mod shards;
mod simulation;
mod slices;
mod snapshots;
mod stranger;
mod threads;
mod turns;
mod world;

use std::sync::Arc;

use adsum_tracker::{Bare, Key, Layer, Limits, Meta, Replica, Tracker, Windows};

/// Makes a tracker whose topics all have these windows, and that ignores the ends of owners.
fn tracker(windows: Windows) -> Arc<Tracker<Bare>> {
    Tracker::new(Replica::start("node"), Limits::default(), move |_| windows, |_| {})
}

fn key(text: &str) -> Key {
    Key::from(text)
}

fn meta() -> Meta {
    Meta::from_encoded("{}")
}

/// Returns the number of topics that the shards keep.
fn topics_held<X: Layer>(tracker: &Tracker<X>) -> usize {
    tracker.shards().map(|shard| shard.topics().count()).sum()
}
