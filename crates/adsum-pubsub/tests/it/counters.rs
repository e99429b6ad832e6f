//! The counters of nodes.

use std::{sync::Arc, time::Duration};

use adsum_pubsub::{
    PubSub,
    metrics::{Metrics, Sample, Value},
};

/// The value of a counter with a label.
pub(crate) fn value(samples: &[Sample], name: &str, label: &str) -> u64 {
    let of = |sample: &Sample| match sample.value {
        Value::Count(count)
            if sample.metric.name == name && sample.labels.iter().any(|is| **is == *label) =>
        {
            Some(count)
        }
        _ => None,
    };
    samples.iter().filter_map(of).sum()
}

/// The panics of subscribers in this process, which all its nodes count together.
pub(crate) fn panics(node: &PubSub) -> u64 {
    value(&node.read_metrics(), "adsum_task_panics_total", "subscriber")
}

/// Waits until a counter has come to a value, over some nodes.
pub(crate) async fn reaches(nodes: &[&Arc<Metrics>], name: &'static str, label: &'static str, expected: u64) {
    let count = || nodes.iter().map(|node| value(&node.read(), name, label)).sum::<u64>();
    let reached = async {
        while count() < expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), reached).await.is_ok();
    assert!(in_time, "{name} for {label} should come to {expected} and is {}", count());
}
