//! Presence, by its public face: what subscribers of a topic get, what lists and watches say.

mod channels;
mod fetching;
mod following;
mod owners;
mod refreshing;
mod support;
mod windows;
mod wire;
