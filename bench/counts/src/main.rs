//! Counts the instructions of hot functions under callgrind, and compares them with what was recorded: a slip is
//! seen without a stopwatch, on a busy machine too.
//!
//! The counts depend on the compiler, so each version has a file of its own. A part that needs more than
//! [`TOLERANCE`] fails; one that needs less is told, to be recorded.

#![allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]

mod parts;
mod state;
mod timed;

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use clap::Parser;

use crate::parts::PARTS;

/// How far a count may be from the recorded one. Hash tables have random seeds, which move a count by 1 % or so.
const TOLERANCE: f64 = 0.05;

/// Callgrind's option for what is counted: from the call of this function on, until it returns.
const COUNTED: &str = "--toggle-collect=counts::parts::measured*";

/// How to record.
const RECORD: &str = "make counts-record";

#[derive(Parser)]
#[command(
    about = "Counts the instructions of hot functions, and compares them with those that were recorded"
)]
struct Options {
    /// The directory of the recorded counts
    #[arg(long, default_value = "bench/counts/recorded")]
    recorded: PathBuf,
    /// Record the counts instead
    #[arg(long)]
    record: bool,
    /// Do the work of one part, which is what callgrind runs
    #[arg(long, hide = true)]
    part: Option<usize>,
    /// Print the microseconds that 100 changes take where they come to a set of so many
    #[arg(long)]
    merge: Option<usize>,
    /// Print the nanoseconds that a broadcast to so many subscribers takes for each
    #[arg(long)]
    broadcast: Option<u32>,
}

/// The instructions of one part, each time that it does its work.
fn count(part: usize) -> Result<u64, Box<dyn Error>> {
    let out = env::temp_dir().join(format!("counts-{}-{part}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--collect-atstart=no", COUNTED]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    valgrind.arg(env::current_exe()?).args(["--part", &part.to_string()]);
    let done = valgrind.stdout(Stdio::null()).output().map_err(|error| format!("valgrind: {error}"))?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into());
    }
    let text = fs::read_to_string(&out)?;
    fs::remove_file(&out)?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind gave no totals")?;
    match total.trim().parse::<u64>()? {
        0 => Err("nothing was counted: callgrind doesn't find the function".into()),
        total => Ok(total / PARTS[part].1),
    }
}

/// Lines of a name, a tab and a count.
fn read(file: &Path) -> Option<BTreeMap<String, u64>> {
    let line = |line: &str| {
        let (name, count) = line.rsplit_once('\t')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    fs::read_to_string(file).ok()?.lines().map(line).collect()
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    if let Some(part) = options.part {
        let (_, _, work) = PARTS.get(part).ok_or("no such part")?;
        work();
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(size) = options.merge {
        println!("{}", timed::merge_micros(size));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(subscribers) = options.broadcast {
        println!("{}", timed::broadcast_nanos(subscribers));
        return Ok(ExitCode::SUCCESS);
    }
    let file = options.recorded.join(concat!(env!("COMPILER"), ".txt"));
    if options.record {
        let mut lines = String::new();
        for (part, (name, ..)) in PARTS.iter().enumerate() {
            writeln!(lines, "{name}\t{}", count(part)?)?;
        }
        fs::create_dir_all(&options.recorded)?;
        fs::write(&file, &lines)?;
        print!("{lines}");
        return Ok(ExitCode::SUCCESS);
    }
    if !file.exists() {
        // Instructions differ by compiler and architecture, so there is nothing to compare with.
        println!(
            "no counts are recorded for {}, so none are compared; {RECORD} records them",
            env!("COMPILER")
        );
        return Ok(ExitCode::SUCCESS);
    }
    let recorded = read(&file).ok_or_else(|| format!("{} can't be read: {RECORD}", file.display()))?;
    let mut slipped = false;
    for (part, (name, ..)) in PARTS.iter().enumerate() {
        let count = count(part)?;
        let before = *recorded.get(*name).ok_or_else(|| format!("{name} is not recorded: {RECORD}"))?;
        let ratio = count as f64 / before as f64;
        let verdict = match ratio {
            _ if ratio < 1.0 - TOLERANCE => "fewer: record it",
            _ if ratio <= 1.0 + TOLERANCE => "",
            _ => "MORE",
        };
        slipped |= ratio > 1.0 + TOLERANCE;
        println!("{count:>10} instructions, {:+.1} %: {name} {verdict}", (ratio - 1.0) * 100.0);
    }
    if slipped {
        eprintln!("counts: something takes more instructions than it did; if it has to: {RECORD}");
    }
    Ok(if slipped { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
