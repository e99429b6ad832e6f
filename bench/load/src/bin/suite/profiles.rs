//! Which scenarios are profiled; `scripts/profiles` draws what this records.

use std::{error::Error, fs, path::Path, process::ExitCode};

use crate::{Options, rows::Server};

const PROFILES: &[(&str, Server, &[&str])] = &[
    ("join", Server::Rooms(&[]), &["join", "--users", "1000"]),
    ("churn", Server::Rooms(&[]), &["churn", "--rate", "50", "--secs", "10"]),
    ("update", Server::Rooms(&[]), &["update", "--secs", "20"]),
    ("broadcast", Server::Rooms(&[]), &["broadcast", "--secs", "3"]),
    ("echo", Server::Rooms(&[]), &["echo", "--secs", "2"]),
    ("idle", Server::Rooms(&[]), &["idle", "--secs", "1"]),
    ("cluster", Server::Cluster { diff_interval: Some("0"), kill: false }, &["cluster"]),
];

/// Prints of each profile its name and the arguments of `load`.
pub(crate) fn record(options: &Options, directory: &Path) -> Result<ExitCode, Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    for (name, server, args) in PROFILES {
        let result = options.run(*server, args, Some(&directory.join(format!("{name}.data"))))?;
        if result["correct"] != true {
            return Err(format!("{name} is not correct: {result}").into());
        }
        println!("{name}\t{}", args.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}
