//! Sockets as a client sees them, over TCP and over another stream.

// A test that can't continue fails.
#![allow(clippy::unwrap_used)]

mod client;
mod deflating;
mod frames;
mod raw;
mod room;
mod server;

/// Runs each of these tests over both kinds of streams: a bare TCP stream, written by the pushing tasks, and another
/// stream, written only by the socket's task.
macro_rules! over_both {
    ($($test:ident),* $(,)?) => {
        mod tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $test() { super::$test(crate::server::Transport::Tcp).await; })*
        }
        mod duplex {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $test() { super::$test(crate::server::Transport::Duplex).await; })*
        }
    };
}

/// Runs each of these tests over both kinds of streams, and with all messages compressed.
macro_rules! over_all {
    ($($test:ident),* $(,)?) => {
        over_both!($($test),*);
        mod compressed {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $test() { super::$test(crate::server::Transport::Compressed).await; })*
        }
    };
}

mod autobahn;
mod bad_input;
mod compression;
mod connecting;
mod draining;
mod dropping;
mod ending;
mod events;
mod flood;
mod joining;
mod limits;
mod longpoll;
mod narrow;
mod nodes;
mod observing;
mod pinging;
mod program;
mod quotas;
mod reading;
mod recorded;
mod serializers;
mod serving;
mod transport;
mod views;
