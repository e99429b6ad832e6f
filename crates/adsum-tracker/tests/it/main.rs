//! The presence set through its public face.

// Helpers are outside of test functions, where the workspace allows it.
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
mod world;

use std::sync::Arc;

use adsum_tracker::{Bare, Key, Layer, Limits, Meta, Replica, Tracker, Windows};

/// A tracker with one way of putting changes together, whose owners' ends nobody hears of.
fn tracker(windows: Windows) -> Arc<Tracker<Bare>> {
    Tracker::new(Replica::start("node"), Limits::default(), move |_| windows, |_| {})
}

fn key(text: &str) -> Key {
    Key::from(text)
}

fn meta() -> Meta {
    Meta::from_encoded("{}")
}

/// The number of topics that the shards hold.
fn topics_held<X: Layer>(tracker: &Tracker<X>) -> usize {
    tracker.shards().map(|shard| shard.topics().count()).sum()
}
