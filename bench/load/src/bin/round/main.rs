//! A short round of all scenarios of `load`, each against servers of its own, and one table of what they took.

mod plots;
mod processes;
mod rows;
mod svg;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::Parser;
use serde_json::Value;

use crate::{
    processes::{Running, output},
    rows::{ROWS, Row, Server},
};

#[derive(Parser)]
#[command(about = "A short round of all scenarios, and one table of what they took")]
struct Options {
    /// The programs `rooms`, `load` and `hall` are in this directory
    #[arg(long)]
    programs: PathBuf,
    #[arg(long, default_value = "nats-server")]
    nats_server: PathBuf,
    /// Only the rows that have this text in their work or arguments
    #[arg(long, default_value = "")]
    only: String,
    /// Print the results of `load` too, as they come
    #[arg(long)]
    json: bool,
    /// Write charts to this directory instead, of how costs grow
    #[arg(long, requires = "counts")]
    plots: Option<PathBuf>,
    /// The program `counts`, which measures merges
    #[arg(long)]
    counts: Option<PathBuf>,
}

impl Options {
    fn run(&self, row: &Row) -> Result<Value, Box<dyn Error>> {
        let program = |name| self.programs.join(name);
        let load = |addr: &str, pids: &str, more: &[&str]| {
            let args = [row.args, more, &["--addr", addr, "--server-pid", pids]].concat();
            output(&program("load"), false, &args)
        };
        let line = match row.server {
            Server::Rooms => {
                let server = Running::server(&program("rooms"), &[])?;
                load(&server.addr, &server.pid(), &[])
            }
            Server::Hall => {
                let server = Running::server(&program("hall"), &[])?;
                load(&server.addr, &server.pid(), &[])
            }
            Server::Watched => output(&program("hall"), true, row.args),
            Server::Cluster { diff_interval, kill } => {
                let nats = Running::nats(&self.nats_server)?;
                let pubsub = format!("nats://{}", nats.addr);
                let node = |name| {
                    let args = ["--node", name, "--pubsub", &pubsub, "--diff-interval", diff_interval];
                    Running::server(&program("rooms"), &args)
                };
                let (a, b) = (node("a")?, node("b")?);
                let pid = a.pid();
                let kill: &[&str] = if kill { &["--kill-pid", &pid] } else { &[] };
                load(&a.addr, &format!("{pid},{}", b.pid()), &[&["--addr-b", &b.addr], kill].concat())
            }
        }?;
        Ok(serde_json::from_str(&line)?)
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    if let (Some(directory), Some(counts)) = (&options.plots, &options.counts) {
        plots::plot(&options.programs, counts, directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = |row: &&Row| row.work.contains(&options.only) || row.args.contains(&&*options.only);
    let mut all_correct = true;
    println!("| work | Phoenix | adsum | goal | reached | correct |\n| --- | --- | --- | --- | --- | --- |");
    for row in ROWS.iter().filter(chosen) {
        let result = options.run(row).map_err(|error| format!("{}: {error}", row.work))?;
        if options.json {
            eprintln!("{result}");
        }
        let correct = result["correct"] == true;
        all_correct &= correct;
        let reached = match row.reaches_goal(&result) {
            None => "",
            Some(true) => "yes",
            Some(false) => "no",
        };
        let (Row { work, phoenix, goal, .. }, told) = (row, row.told(&result));
        println!(
            "| {work} | {phoenix} | {told} | {goal} | {reached} | {} |",
            if correct { "yes" } else { "NO" }
        );
    }
    if !all_correct {
        eprintln!("round: not all was correct; what was wrong is told above");
    }
    Ok(if all_correct { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
