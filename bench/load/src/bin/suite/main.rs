//! The suite: a short run of all scenarios of `load`, each against servers of its own, and one table of what they took.

mod beside;
mod plots;
mod processes;
mod profiles;
mod rows;
mod svg;
mod table;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use serde_json::Value;

use crate::{
    processes::{Recording, Running, Workers, output},
    rows::{ROWS, Row, Server},
};

#[derive(Parser)]
#[command(about = "The suite: a short run of all scenarios, and one table of what they took")]
struct Options {
    /// The programs `rooms`, `load`, `large_server` and `scale` are in this directory
    #[arg(long)]
    programs: PathBuf,
    #[arg(long, default_value = "nats-server")]
    nats_server: PathBuf,
    /// Only the rows that have this text in their work or arguments, or the charts that have it in their names
    #[arg(long, default_value = "")]
    only: String,
    /// Compress messages of more than 512 bytes in `rooms`, and have clients accept that
    #[arg(long)]
    compress: bool,
    /// Print the results of `load` too, as they come
    #[arg(long)]
    json: bool,
    /// Write charts to this directory instead, of how costs grow
    #[arg(long, requires = "counts")]
    plots: Option<PathBuf>,
    /// The program `counts`, which measures what needs no server
    #[arg(long)]
    counts: Option<PathBuf>,
    /// Print a table of rooms of all sizes at all loads instead
    #[arg(long)]
    table: bool,
    /// Compare with the `rooms` of this directory instead, in turn, with one worker and with two
    #[arg(long)]
    beside: Option<PathBuf>,
    /// How often each is measured with `--beside`
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Have `perf` record the servers of some scenarios instead, each into a file of this directory
    #[arg(long)]
    profiles: Option<PathBuf>,
}

impl Options {
    /// The rows that were asked for.
    fn rows(&self) -> impl Iterator<Item = &'static Row> {
        let chosen = |row: &&Row| row.work.contains(&self.only) || row.args.contains(&&*self.only);
        ROWS.iter().filter(chosen)
    }

    /// The result of a scenario against a server of its own, which `perf` watches where a file for it is named.
    fn run(&self, server: Server, args: &[&str], profile: Option<&Path>) -> Result<Value, Box<dyn Error>> {
        let program = |name| self.programs.join(name);
        let load = |addr: &str, pids: &str, more: &[&str]| {
            let recording = profile.map(|file| Recording::start(file, pids)).transpose()?;
            let line = self.load(addr, pids, &[args, more].concat())?;
            recording.map(Recording::finish).transpose()?;
            Ok(line)
        };
        let alone = |name, args: &[&str]| {
            let server = Running::server(&program(name), Workers::One, args)?;
            load(&server.addr, &server.pid(), self.accept())
        };
        let line = match server {
            Server::Rooms(args) => alone("rooms", &[args, self.compress()].concat()),
            Server::Large => alone("large_server", &[]),
            Server::Watched => output(&program("large_server"), true, args),
            Server::Scale => output(&program("scale"), true, args),
            Server::Reader => alone("load", &["write-floor"]),
            Server::Cluster { diff_interval, kill } => {
                let nats = Running::nats(&self.nats_server)?;
                let pubsub = format!("nats://{}", nats.addr);
                let node = |name| {
                    let mut args = vec!["--node", name, "--pubsub", &pubsub];
                    args.extend(diff_interval.into_iter().flat_map(|interval| ["--diff-interval", interval]));
                    Running::server(&program("rooms"), Workers::One, &args)
                };
                let (a, b) = (node("a")?, node("b")?);
                let pid = a.pid();
                let kill: &[&str] = if kill { &["--kill-pid", &pid] } else { &[] };
                load(&a.addr, &format!("{pid},{}", b.pid()), &[&["--addr-b", &b.addr], kill].concat())
            }
        }?;
        Ok(serde_json::from_str(&line)?)
    }

    /// The line that `load` prints.
    fn load(&self, addr: &str, pids: &str, args: &[&str]) -> Result<String, Box<dyn Error>> {
        let program = self.programs.join("load");
        output(&program, false, &[args, &["--addr", addr, "--server-pid", pids]].concat())
    }

    /// The arguments of `rooms` for compression.
    fn compress(&self) -> &'static [&'static str] {
        if self.compress { &["--compress", "512"] } else { &[] }
    }

    /// The arguments of `load` for it.
    fn accept(&self) -> &'static [&'static str] {
        if self.compress { &["--compress"] } else { &[] }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    if let (Some(directory), Some(counts)) = (&options.plots, &options.counts) {
        plots::plot(&options.programs, counts, directory, &options.only)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(directory) = &options.profiles {
        return profiles::record(&options, directory);
    }
    if options.table {
        let all_correct = table::print(&options)?;
        return Ok(if all_correct { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if let Some(other) = &options.beside {
        let all_correct = beside::print(&options, other)?;
        return Ok(if all_correct { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let mut all_correct = true;
    // Of the first row, if it is among those that are chosen.
    let mut micros_per_write = None;
    println!("| work | adsum | goal | reached | correct |\n| --- | --- | --- | --- | --- |");
    for row in options.rows() {
        let result =
            options.run(row.server, row.args, None).map_err(|error| format!("{}: {error}", row.work))?;
        if options.json {
            eprintln!("{result}");
        }
        micros_per_write = result["cpu_us_per_write"].as_f64().or(micros_per_write);
        let correct = result["correct"] == true;
        all_correct &= correct;
        let reached = match row.reaches_goal(&result) {
            None => "",
            Some(true) => "yes",
            Some(false) => "no",
        };
        let (Row { work, goal, .. }, told) = (row, row.told(&result, micros_per_write));
        println!("| {work} | {told} | {goal} | {reached} | {} |", if correct { "yes" } else { "NO" });
    }
    if !all_correct {
        eprintln!("suite: not all results are correct; the errors are above");
    }
    Ok(if all_correct { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
