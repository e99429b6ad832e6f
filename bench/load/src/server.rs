//! The CPU time and memory of the server's processes during a scenario.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    process::{cpu, memory},
    world::World,
};

pub(crate) struct Usage {
    at: Instant,
    cpu: f64,
    /// KB, of all.
    pub(crate) memory: u64,
    own_cpu: f64,
    bytes: u64,
    frames: u64,
}

impl Usage {
    pub(crate) fn now(world: &World, servers: &[u32]) -> Self {
        Self {
            at: Instant::now(),
            cpu: servers.iter().map(|&pid| cpu(pid)).sum(),
            memory: servers.iter().map(|&pid| memory(pid)).sum(),
            own_cpu: cpu(std::process::id()),
            bytes: world.bytes.get(),
            frames: world.frames.get(),
        }
    }

    pub(crate) fn seconds_since(&self, before: &Self) -> f64 {
        (self.at - before.at).as_secs_f64()
    }

    /// Microseconds of the servers' CPU for each of so many events.
    pub(crate) fn cpu_per(&self, before: &Self, events: usize) -> f64 {
        rounded((self.cpu - before.cpu) / events.max(1) as f64 * 1e6)
    }

    /// How many frames came to the clients for each of so many events.
    pub(crate) fn frames_per(&self, before: &Self, events: usize) -> f64 {
        rounded((self.frames - before.frames) as f64 / events.max(1) as f64)
    }

    pub(crate) fn json(&self, before: &Self) -> Value {
        let seconds = self.seconds_since(before);
        json!({
            "secs": rounded(seconds),
            "server_cpu_s": rounded(self.cpu - before.cpu),
            "load_cpu_s": rounded(self.own_cpu - before.own_cpu),
            "server_rss_kb": self.memory,
            "bytes_in": self.bytes - before.bytes,
            "frames_in": self.frames - before.frames,
            "frames_per_s": ((self.frames - before.frames) as f64 / seconds).round(),
        })
    }
}

pub(crate) fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}
