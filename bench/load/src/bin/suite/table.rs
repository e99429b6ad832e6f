//! The cost of changes, and how soon they are seen, in rooms of all sizes at all loads.

use std::error::Error;

use serde_json::Value;

use crate::{
    Options,
    rows::{MILLI, Server, short},
};

struct Rooms {
    /// How the table describes the rooms.
    rooms: &'static str,
    /// The arguments of `load mix`.
    args: &'static [&'static str],
}

/// From one change in 10 s on. The last rate is where the search for saturation begins.
const ROOMS: &[Rooms] = &[
    Rooms {
        rooms: "250 of 2",
        args: &["--users", "2", "--rooms", "250", "--rates", "0.1,100,400", "--saturate"],
    },
    Rooms {
        rooms: "50 of 20",
        args: &["--users", "20", "--rooms", "50", "--rates", "0.1,100,400", "--saturate"],
    },
    Rooms {
        rooms: "10 of 100",
        args: &["--users", "100", "--rooms", "10", "--rates", "0.1,50,200", "--saturate"],
    },
    Rooms { rooms: "1 of 500", args: &["--users", "500", "--rates", "0.1,10,50", "--saturate"] },
    Rooms { rooms: "1 of 2,000", args: &["--users", "2000", "--rates", "0.1,5,20", "--saturate"] },
    Rooms {
        rooms: "1 of 9,000, of whom 10 are present",
        args: &["--users", "9000", "--present", "10", "--rates", "0.1,1,4", "--saturate"],
    },
];

const INTERVALS: &[(&str, Server)] = &[
    ("the default", Server::Rooms(&[])),
    ("50 ms", Server::Rooms(&["--diff-interval", "50"])),
    ("0", Server::Rooms(&["--diff-interval", "0"])),
];

/// Prints the rows of the rooms that have `only` in their names. Whether all was correct.
pub(crate) fn print(options: &Options) -> Result<bool, Box<dyn Error>> {
    let mut all_correct = true;
    println!(
        "| rooms | changes a second | interval | join p50, p99 | leave | update | CPU a change | frames a change |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for Rooms { rooms, args } in ROOMS.iter().filter(|rooms| rooms.rooms.contains(&options.only)) {
        let mut results = Vec::new();
        for (interval, server) in INTERVALS {
            let result = options.run(*server, &[&["mix"], *args].concat(), None)?;
            if options.json {
                eprintln!("{result}");
            }
            if result["correct"] != true {
                eprintln!("suite: not correct: {rooms} at {interval}");
                all_correct = false;
            }
            results.push((interval, result));
        }
        let loads = results[0].1["loads"].as_array().map_or(0, Vec::len);
        for load in 0..loads {
            for (interval, result) in &results {
                println!("| {rooms} | {}", row(interval, &result["loads"][load]));
            }
        }
        for (interval, result) in &results {
            let most = result["saturated_at"].as_f64().map_or("not reached".to_owned(), short);
            println!("| {rooms} | {most}, until a p99 passes 100 ms | {interval} | | | | | |");
        }
    }
    Ok(all_correct)
}

fn row(interval: &str, load: &Value) -> String {
    let figure =
        |value: &Value, scale: f64| value.as_f64().map_or(String::new(), |value| short(value * scale));
    let seen = |kind: &str| {
        let kind = &load[kind];
        format!("{}, {} ms", figure(&kind["p50"], MILLI), figure(&kind["p99"], MILLI))
    };
    let changes = load["changes"].as_f64().unwrap_or(0.0);
    // CPU time comes in steps of 10 ms, which says nothing of a few changes.
    let cpu = if changes < 10.0 {
        String::new()
    } else {
        format!("{} ms", figure(&load["cpu_us_per_change"], MILLI))
    };
    format!(
        "{} | {interval} | {} | {} | {} | {cpu} | {} |",
        figure(&load["rate"], 1.0),
        seen("join"),
        seen("leave"),
        seen("update"),
        figure(&load["frames_per_change"], 1.0),
    )
}
