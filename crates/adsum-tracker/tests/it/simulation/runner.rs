//! Runs schedules, and shortens one that fails.

use std::{
    cell::Cell,
    ops::Range,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    schedule::{Schedule, Step},
    trace::Trace,
    world::World,
};

const THREADS: usize = 2;
/// The maximum number of runs, and the maximum time, for finding a shorter schedule that fails.
const ATTEMPTS: usize = 2000;
const SHRINK_TIME: Duration = Duration::from_mins(2);
/// Maximum number of lines shown of what happened; all are shown of a schedule that was asked for by its seed.
const LINES: usize = 400;

/// Runs the schedules of these seeds, with this many times the usual nodes, until a time if one is set.
///
/// # Panics
/// A schedule has failed: with the shortest one found, and what happened in it.
pub(super) fn run_all(seeds: Range<u64>, longest: usize, times: usize, until: Option<Instant>) {
    let next = AtomicU64::new(seeds.start);
    let started = Instant::now();
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = until.is_some_and(|until| Instant::now() >= until);
                    if seed >= seeds.end || is_over || failed.lock().unwrap().is_some() {
                        break;
                    }
                    let schedule = Schedule::generate(seed, longest, times);
                    if let Some(failure) = failure(&schedule, &Trace::default()) {
                        // Printed at once, as shortening it takes a while.
                        println!("ADSUM_SIM_SEED={seed} fails: {failure}");
                        failed.lock().unwrap().get_or_insert(schedule);
                    }
                }
            });
        }
    });
    let runs = (next.load(Ordering::Relaxed) - seeds.start).saturating_sub(THREADS as u64);
    println!("{runs} schedules in {:.0?}", started.elapsed());
    if let Some(schedule) = failed.into_inner().unwrap() {
        tell(schedule, if seeds.end == seeds.start + 1 { usize::MAX } else { LINES });
    }
}

fn tell(schedule: Schedule, most: usize) {
    let seed = schedule.config.seed;
    let shortest = shrink(schedule);
    let trace = Trace::kept();
    let failure = failure(&shortest, &trace);
    let lines = trace.lines();
    let lines = lines[lines.len().saturating_sub(most)..].join("\n");
    let steps: Vec<_> = shortest.steps.iter().map(|step| format!("  {step:?}")).collect();
    panic!(
        "{lines}\n\nADSUM_SIM_SEED={seed} fails: {}\n{:?}\n{}",
        failure.unwrap_or_else(|| "not when it is run again".into()),
        shortest.config,
        steps.join("\n"),
    );
}

/// Returns why a schedule fails, if it does.
fn failure(schedule: &Schedule, trace: &Trace) -> Option<String> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                told(info);
            }
        }));
    });
    QUIET.set(true);
    let trace = trace.clone();
    let run = panic::catch_unwind(AssertUnwindSafe(|| World::run(schedule, trace)));
    QUIET.set(false);
    let payload = run.err()?;
    let text = payload.downcast_ref::<String>().cloned();
    Some(text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

/// Drops steps, many at a time and then fewer, for as long as it still fails.
fn shrink(mut schedule: Schedule) -> Schedule {
    let end = Instant::now() + SHRINK_TIME;
    let mut attempts = 0;
    let mut size = schedule.steps.len() / 2;
    while size > 0 && attempts < ATTEMPTS && Instant::now() < end {
        let mut start = 0;
        let before = schedule.steps.len();
        while start < schedule.steps.len() && attempts < ATTEMPTS && Instant::now() < end {
            let after = (start + size).min(schedule.steps.len());
            let mut steps: Vec<Step> = schedule.steps[..start].to_vec();
            steps.extend_from_slice(&schedule.steps[after..]);
            let shorter = Schedule { config: schedule.config.clone(), steps };
            attempts += 1;
            if failure(&shorter, &Trace::default()).is_some() {
                schedule = shorter;
            } else {
                start = after;
            }
        }
        if schedule.steps.len() == before || size > 1 {
            size /= 2;
        }
    }
    schedule
}
