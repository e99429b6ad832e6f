//! The counters of nodes.

use std::{sync::Arc, time::Duration};

use adsum_pubsub::metrics::{Metrics, Sample, Value};

/// Waits until a counter has come to a value, over some nodes.
pub(crate) async fn reaches(nodes: &[&Arc<Metrics>], name: &'static str, reason: &'static str, value: u64) {
    let of = |sample: &Sample| match sample.value {
        Value::Count(count)
            if sample.metric.name == name && sample.labels.iter().any(|label| **label == *reason) =>
        {
            Some(count)
        }
        _ => None,
    };
    let count = || nodes.iter().flat_map(|node| node.read()).filter_map(|sample| of(&sample)).sum::<u64>();
    let reached = async {
        while count() < value {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), reached).await.is_ok();
    assert!(in_time, "{name} for {reason} should come to {value} and is {}", count());
}
