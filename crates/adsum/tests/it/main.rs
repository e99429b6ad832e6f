//! Presence by its public API: the messages to subscribers of a topic, lists and watches.

#![allow(clippy::unwrap_used, reason = "a test may panic; clippy spares test functions, not their helpers")]

mod channels;
mod cluster;
mod compressed;
mod counted;
#[path = "../../../adsum-pubsub/tests/it/counters.rs"]
#[allow(dead_code, reason = "the tests of adsum-pubsub look at counts")]
mod counters;
mod dashboard;
#[path = "../../../adsum-channels/tests/it/deflating.rs"]
#[allow(dead_code, reason = "the tests of adsum-channels use all of it")]
mod deflating;
mod docs;
mod dropping;
mod explaining;
mod failing;
mod fetching;
mod following;
#[path = "../../../adsum-channels/tests/it/frames.rs"]
#[allow(dead_code, reason = "the tests of adsum-channels use all of it")]
mod frames;
mod hearing;
mod kit;
mod large;
mod metrics;
mod nodes;
mod options;
mod owners;
mod pieces;
mod reading;
mod refreshing;
mod regions;
mod replays;
mod resting;
#[path = "../../../adsum-pubsub/tests/it/server.rs"]
#[allow(dead_code, reason = "the tests of adsum-pubsub use all of it")]
mod server;
mod shutdown;
mod slow;
#[path = "../../../adsum-pubsub/tests/it/spy.rs"]
#[allow(dead_code, reason = "the tests of adsum-pubsub use all of it")]
mod spy;
mod support;
mod told;
mod typescript;
mod windows;
mod wire;
