//! How adsum grows: millions of presences on one node, a node that takes them over, many nodes over one NATS server.
//!
//! Each node is a process of its own (`scale node`), which is told what to do by lines on its standard input. A
//! scenario prints one line of JSON.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures are for people: they are far below 2^52, and none is negative"
)]

mod cluster;
mod latencies;
mod newcomers;
mod node;
mod one;
mod processes;
mod takeover;

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};

#[path = "../../process.rs"]
mod process;

#[derive(Parser)]
#[command(about = "How adsum grows with presences and nodes")]
struct Options {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// One node: time to fill, memory, and the times of calls, also while changes go on
    One(one::Options),
    /// A second node takes all presences over by NATS, while both are used, and hides them once the first is killed
    Takeover(takeover::Options),
    /// Many nodes over one NATS server: idle, busy, and restarted one after the other
    Cluster(cluster::Options),
    /// Nodes that speak for the first time, all at once: what it costs that each challenges each
    Newcomers(newcomers::Options),
    /// One node, told what to do by its standard input
    #[command(hide = true)]
    Node(node::Options),
}

/// How the presences are spread.
#[derive(Args, Clone)]
struct Spread {
    /// How many presences each node has
    #[arg(long, default_value_t = 1_000_000)]
    presences: usize,
    /// How many of them are in a topic
    #[arg(long, default_value_t = 100)]
    topic_size: usize,
}

impl Spread {
    /// The arguments of a node.
    fn args(&self) -> Vec<String> {
        let (presences, topic_size) = (self.presences.to_string(), self.topic_size.to_string());
        ["--presences", &presences, "--topic-size", &topic_size].map(str::to_owned).into()
    }
}

type Failure = Box<dyn Error + Send + Sync>;

/// Asks until it holds.
fn wait_for(
    what: &str,
    patience: Duration,
    mut holds: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let end = Instant::now() + patience;
    while !holds()? {
        if Instant::now() > end {
            return Err(format!("waited for {patience:?} in vain: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn main() -> Result<ExitCode, Failure> {
    let result = match Options::parse().scenario {
        Scenario::One(options) => options.run()?,
        Scenario::Takeover(options) => options.run()?,
        Scenario::Cluster(options) => options.run()?,
        Scenario::Newcomers(options) => options.run()?,
        Scenario::Node(options) => {
            options.run()?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    println!("{result}");
    Ok(if result["correct"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
