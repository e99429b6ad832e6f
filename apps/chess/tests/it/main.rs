//! The site through its public face.
#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod accounts;
mod pages;
mod program;
mod socket;
mod statements;
