//! Two builds of `rooms` beside each other, in turn, so that both have the machine of the same minutes.

use std::{error::Error, path::Path};

use serde_json::Value;

use crate::{
    Options,
    processes::{Running, Workers},
    rows::{Row, Server, short},
};

const WORKERS: [Workers; 2] = [Workers::One, Workers::Two];

/// One figure of a row, smaller is better: its name, and what it was in each run, of the other build and of this one.
struct Figure {
    name: String,
    other: Vec<f64>,
    this: Vec<f64>,
}

/// Prints the rows that are measured on `rooms`. Whether all was correct.
pub(crate) fn print(options: &Options, other: &Path) -> Result<bool, Box<dyn Error>> {
    let mut all_correct = true;
    println!(
        "Each of {} runs: the other build, this one; the median and the range of their ratios.\n",
        options.runs
    );
    println!(
        "| work | figure | 1 worker | ratio | 2 workers | ratio |\n| --- | --- | --- | --- | --- | --- |"
    );
    for row in options.rows() {
        let Server::Rooms(args) = row.server else { continue };
        let mut of_workers = Vec::new();
        for workers in WORKERS {
            let mut figures: Vec<Figure> = Vec::new();
            for _ in 0..options.runs {
                for programs in [other, &options.programs] {
                    let result = run(options, programs, workers, args, row)?;
                    if result["correct"] != true {
                        eprintln!("suite: not correct: {}, {}: {result}", row.work, programs.display());
                        all_correct = false;
                    }
                    note(&mut figures, &result, programs == other);
                }
            }
            of_workers.push(figures);
        }
        let [one, two] = [&of_workers[0], &of_workers[1]];
        for (one, two) in one.iter().zip(two) {
            println!("| {} | {} | {} | {} |", row.work, one.name, one.told(), two.told());
        }
    }
    Ok(all_correct)
}

fn run(
    options: &Options,
    programs: &Path,
    workers: Workers,
    args: &[&str],
    row: &Row,
) -> Result<Value, Box<dyn Error>> {
    let args = [args, options.compress()].concat();
    let server = Running::server(&programs.join("rooms"), workers, &args)?;
    let line = options.load(&server.addr, &server.pid(), &[row.args, options.accept()].concat())?;
    Ok(serde_json::from_str(&line)?)
}

/// Notes the costs of a result: CPU and memory of an event, the whole time, and latencies.
fn note(figures: &mut Vec<Figure>, result: &Value, is_other: bool) {
    let Some(fields) = result.as_object() else { return };
    let costs = fields.iter().filter_map(|(name, value)| {
        let is_cost = name.starts_with("cpu_us_per_") || matches!(&**name, "kb_per_connection" | "total_ms");
        let of_latency = name.ends_with("_us").then(|| Some((format!("{name} p99"), value["p99"].as_f64()?)));
        if is_cost { Some((name.clone(), value.as_f64()?)) } else { of_latency? }
    });
    for (name, value) in costs {
        let place = figures.iter().position(|figure| figure.name == name).unwrap_or_else(|| {
            figures.push(Figure { name, other: Vec::new(), this: Vec::new() });
            figures.len() - 1
        });
        let figure = &mut figures[place];
        if is_other { &mut figure.other } else { &mut figure.this }.push(value);
    }
}

impl Figure {
    fn told(&self) -> String {
        let mut ratios: Vec<f64> =
            self.this.iter().zip(&self.other).map(|(this, other)| this / other).collect();
        ratios.sort_by(f64::total_cmp);
        let [other, this, ratio] = [&self.other, &self.this, &ratios].map(|values| median(values));
        let (Some(least), Some(most)) = (ratios.first(), ratios.last()) else { return " | ".to_owned() };
        format!("{}, {} | {ratio:.2} ({least:.2} to {most:.2})", short(other), short(this))
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
