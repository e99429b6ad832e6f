//! Presence, by its public face: what subscribers of a topic get, what lists and watches say.

#![allow(clippy::unwrap_used, reason = "a test may panic; clippy spares test functions, not their helpers")]

mod channels;
mod cluster;
mod counted;
mod dropping;
mod failing;
mod fetching;
mod following;
mod hearing;
mod large;
mod options;
mod owners;
mod reading;
mod refreshing;
mod replays;
mod resting;
mod slow;
mod support;
mod told;
mod windows;
mod wire;
