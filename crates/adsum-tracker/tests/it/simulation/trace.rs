//! The events of a run, for people to read.

use std::sync::{Arc, Mutex};

use adsum_tracker::{Batch, ClusterMessage, RowChange, Time, Versions};

/// Collects lines, if they are to be read. They outlive a panic.
#[derive(Clone, Default)]
pub(super) struct Trace(Option<Arc<Mutex<Vec<String>>>>);

impl Trace {
    pub(super) fn kept() -> Self {
        Self(Some(Arc::default()))
    }

    pub(super) fn note(&self, now: Time, line: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            lines.lock().unwrap().push(format!("{:>9.3} {}", now.since_zero().as_secs_f64(), line()));
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.as_ref().map_or_else(Vec::new, |lines| lines.lock().unwrap().clone())
    }
}

/// Describes a message in one line.
pub(super) fn short(message: &ClusterMessage) -> String {
    match message {
        ClusterMessage::Hello { from } => format!("hello, {from}"),
        ClusterMessage::Welcome { from, to, versions, departed, .. } => {
            let departed: Vec<_> = departed.iter().map(|set| set.replica.to_string()).collect();
            format!("welcome, {to}, from {from} at {}, departed {departed:?}", moved(versions))
        }
        ClusterMessage::Heartbeat { from, versions, .. } => format!("{from} is at {}", moved(versions)),
        ClusterMessage::Batches { from, batches } => format!("{from} has {}", all(batches)),
        ClusterMessage::Run { of, batches } => format!("{of} had {}", all(batches)),
        ClusterMessage::Pull { from, of, shard, have, chunk } => {
            format!("{from} has {have} of {shard} of {of}, wants chunk {chunk:?}")
        }
        ClusterMessage::Leaving { from, versions, grace } => {
            format!("{from} leaves at {} in {grace:?}", moved(versions))
        }
        other => format!("{other:?}"),
    }
}

/// Describes the versions that aren't zero.
fn moved(versions: &Versions) -> String {
    let text = format!("{versions:?}");
    let numbers = text.trim_start_matches("Versions([").trim_end_matches("])").split(", ");
    let moved: Vec<_> =
        numbers.enumerate().filter(|(_, v)| *v != "0").map(|(shard, v)| format!("{shard}:{v}")).collect();
    format!("[{}]", moved.join(" "))
}

fn all(batches: &[Arc<Batch>]) -> String {
    let all: Vec<_> = batches.iter().map(|batch| one(batch)).collect();
    all.join("; ")
}

fn one(batch: &Batch) -> String {
    let mut parts = vec![format!("{}:{}", batch.shard, batch.version)];
    for (topic, changes) in &batch.topics {
        parts.push(topic.to_string());
        parts.extend(changes.iter().map(|change| match change {
            RowChange::Join(row) => {
                let previous = row.previous.map_or_else(String::new, |previous| format!(" after {previous}"));
                let replaces = row.replaces.map_or_else(String::new, |replaced| format!(" for {replaced}"));
                format!("+{} {}{previous}{replaces}", row.key, row.reference)
            }
            RowChange::Leave { reference, reason, .. } => format!("-{reference} {reason:?}"),
            RowChange::Depart { reference, grace, .. } => format!("{reference} departs in {grace:?}"),
        }));
    }
    parts.join(" ")
}
