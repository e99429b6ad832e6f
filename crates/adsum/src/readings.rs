//! The gauges of a presence, read when somebody asks for its metrics.

use adsum_pubsub::metrics::{Readings, Source, table};
use adsum_tracker::{LeaveReason, PROTOCOL};

use crate::{core::Core, handler::PresenceHandler};

impl<H: PresenceHandler> Source for Core<H> {
    fn read(&self, readings: &mut Readings) {
        let metrics = &self.metrics;
        let name: &str = &metrics.name;
        readings.max(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION"), &PROTOCOL.to_string()], 1.0);
        readings.max(&table::READY, &[name], f64::from(u8::from(self.ready().is_ok())));
        let counts = self.tracker.counts();
        readings.add_count(&table::PRESENCES, &[name, "own"], counts.own);
        readings.add_count(&table::PRESENCES, &[name, "other"], counts.presences.saturating_sub(counts.own));
        readings.add_count(&table::PRESENCE_TOPICS, &[name], counts.topics);
        for (change, count) in
            [("joined", counts.joined), ("updated", counts.updated), ("left", counts.left.iter().sum())]
        {
            readings.count(&table::PRESENCE_CHANGES, &[name, change], count);
        }
        for (reason, count) in LeaveReason::ALL.into_iter().zip(counts.left) {
            readings.count(&table::PRESENCE_LEAVES, &[name, reason.as_str()], count);
        }
        for most in self.tracker.limit_counts().highest() {
            most.read(readings);
        }
        for (limit, count) in self.tracker.limit_counts().refused() {
            readings.count(&table::LIMITS_HIT, &[limit], count);
        }
        metrics.most_inbox_bytes.read(readings);
        metrics.read_nodes(readings);
    }
}
