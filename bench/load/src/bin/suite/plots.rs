//! How costs grow: a chart for each, of the same scenario at several sizes.

use std::{error::Error, fs, path::Path};

use serde_json::Value;

use crate::{
    processes::{Running, Workers, output},
    svg::{Chart, Scale},
};

struct Plot {
    file: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    x_scale: Scale,
    sizes: &'static [u32],
    /// The scenario of `load`, whose `--users` is the size.
    args: &'static [&'static str],
    /// The figure that is shown, from a result of this size.
    value: fn(&Value, f64) -> Option<f64>,
}

const PLOTS: &[Plot] = &[
    Plot {
        file: "join.svg",
        title: "People join one room until all see all: the cost of each join",
        x: "people in the room at the end",
        y: "us of CPU a join",
        x_scale: Scale::FromZero,
        sizes: &[10, 100, 200, 500, 1000, 1500, 2000],
        args: &["join"],
        value: |result, _| result["cpu_us_per_join"].as_f64(),
    },
    Plot {
        file: "diff.svg",
        title: "A meta updated 5 times a second, told to all members: the cost of each update",
        x: "members, of whom 10 are present",
        y: "us of CPU an update",
        x_scale: Scale::FromZero,
        sizes: &[10, 100, 500, 1000, 2000, 4000, 6000, 9000],
        args: &["update", "--present", "10", "--rate", "5", "--secs", "8"],
        value: |result, _| result["cpu_us_per_update"].as_f64(),
    },
    Plot {
        file: "memory.svg",
        title: "Idle connections, each present in a room of its own: the server's memory",
        x: "connections",
        y: "MB more than without any",
        x_scale: Scale::FromZero,
        sizes: &[10, 1000, 2000, 4000, 6000, 9000],
        args: &["idle", "--secs", "1"],
        value: |result, size| Some(result["kb_per_connection"].as_f64()? * size / 1000.0),
    },
];

/// Of so many runs the least is shown: what else the machine does only adds.
const RUNS: usize = 2;

/// A part that `counts` measures, without sockets and so to larger sizes.
struct Timed {
    file: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    sizes: &'static [u32],
    /// The option of `counts` that takes the size.
    option: &'static str,
}

const TIMED: &[Timed] = &[
    Timed {
        file: "merge.svg",
        title: "A node hears of 100 changes at once: the time it takes",
        x: "presences in the topic",
        y: "us, the median of 100 batches",
        sizes: &[10, 100, 1000, 10_000, 100_000, 1_000_000],
        option: "--merge",
    },
    Timed {
        file: "broadcast.svg",
        title: "A broadcast to subscribers in the same program: the time for each of them",
        x: "subscribers",
        y: "ns a subscriber",
        sizes: &[10, 100, 1000, 10_000, 100_000, 1_000_000],
        option: "--broadcast",
    },
];

/// Draws the plots whose files have `only` in their names.
pub(crate) fn plot(
    programs: &Path,
    counts: &Path,
    directory: &Path,
    only: &str,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    for plot in PLOTS.iter().filter(|plot| plot.file.contains(only)) {
        let mut points = Vec::new();
        for &size in plot.sizes {
            let size_arg = size.to_string();
            let mut least = f64::MAX;
            for _ in 0..RUNS {
                let server = Running::server(&programs.join("rooms"), Workers::One, &[])?;
                let pid = server.pid();
                let common = ["--users", &size_arg, "--addr", &server.addr, "--server-pid", &pid];
                let line = output(&programs.join("load"), false, &[plot.args, &common].concat())?;
                let result: Value = serde_json::from_str(&line)?;
                if result["correct"] != true {
                    return Err(format!("not correct: {line}").into());
                }
                let value = (plot.value)(&result, f64::from(size)).ok_or("a result lacks its figure")?;
                least = least.min(value);
            }
            points.push((f64::from(size), least));
        }
        let Plot { title, x, y, x_scale, .. } = *plot;
        write(directory, plot.file, &Chart { title, x, y, x_scale, points: &points })?;
    }
    for &Timed { file, title, x, y, sizes, option } in TIMED.iter().filter(|plot| plot.file.contains(only)) {
        let mut points = Vec::new();
        for size in sizes {
            let line = output(counts, true, &[option, &size.to_string()])?;
            points.push((f64::from(*size), line.parse()?));
        }
        write(directory, file, &Chart { title, x, y, x_scale: Scale::Logarithmic, points: &points })?;
    }
    Ok(())
}

fn write(directory: &Path, file: &str, chart: &Chart<'_>) -> Result<(), Box<dyn Error>> {
    let path = directory.join(file);
    println!("{}: {:?}", path.display(), chart.points);
    Ok(fs::write(path, chart.draw())?)
}
