//! Loads a server that speaks version 2 of Phoenix Channels over WebSocket, checks that every client ends with the
//! right view, and prints what it took as one line of JSON.
//!
//! The server has channels like those of `examples/rooms`: `room:*` with presence and the event `update`, `plain:*`
//! without, and the events `shout` and `echo` in both. It is another process, whose CPU time and memory are read
//! from `/proc`. All clients share one thread, so nothing here waits for a lock.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures are for people: they are far below 2^52, and none is negative"
)]

mod client;
mod connection;
mod inflated;
mod process;
mod scenario;
mod server;
mod view;
mod wire;
mod world;

use std::net::SocketAddr;

use clap::{Args, Parser};

use crate::{
    scenario::{Scenario, Stage},
    world::World,
};

#[derive(Parser)]
#[command(about = "Loads a server of Phoenix Channels, checks what clients see, and measures")]
struct Options {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: Common,
}

/// Options of all scenarios.
#[derive(Args, Clone)]
struct Common {
    /// The address of the server
    #[arg(long, global = true, default_value = "127.0.0.1:4100")]
    addr: SocketAddr,
    /// The path of its WebSocket endpoint
    #[arg(long, global = true, default_value = "/socket/websocket")]
    path: String,
    /// The processes whose CPU time and memory are measured
    #[arg(long, global = true, value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// How many clients connect and join at a time
    #[arg(long, global = true, default_value_t = 50)]
    concurrency: usize,
    /// How long the clients may take to have all seen everything, in seconds
    #[arg(long, global = true, default_value_t = 120.0)]
    timeout: f64,
    /// Accept compressed messages, as browsers do
    #[arg(long, global = true)]
    compress: bool,
    /// Part of the names of the rooms, so that runs don't meet in them
    #[arg(long, global = true, default_value_t = std::process::id().to_string())]
    run: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stage = Stage { world: World::new(), common: options.common };
    let result = tokio::task::LocalSet::new().block_on(&runtime, async {
        let _heartbeats = connection::heartbeats(&stage.world);
        options.scenario.run(&stage).await
    });
    println!("{result}");
    // The clients needn't be taken apart one by one; the kernel closes their sockets.
    std::process::exit(i32::from(result["correct"] != true));
}
