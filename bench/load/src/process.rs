//! The CPU time and memory of a process, from `/proc`.

use std::fs;

/// The clock ticks of `/proc/PID/stat`, on every Linux.
const TICKS: f64 = 100.0;

/// Seconds, of the process and of the kernel for it; 0 for a process that is gone.
pub(crate) fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program, in brackets, may have blanks.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// Resident memory in KB; 0 for a process that is gone.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    resident.and_then(|kb| kb.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
