//! The site through its public face.
#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod bots;
mod claims;
mod client;
mod db;
mod limits;
mod offers;
mod pages;
mod play;
mod postgres;
mod presence;
mod program;
mod races;
mod rules;
mod sessions;
mod site;
mod socket;
mod statements;
