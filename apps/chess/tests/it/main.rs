//! The site through its public face.
#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod accounts;
mod bots;
mod claims;
mod client;
mod db;
mod http;
mod limits;
mod lost;
mod network;
mod nodes;
mod offers;
mod pages;
mod past;
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
